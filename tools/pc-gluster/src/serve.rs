//! A volume is mounted on this node once its bricks have quorum; then storage is told to be there.

use crate::action::Action;
use crate::have::{Mount, set_has_quorum};
use crate::plan::{Draft, sets_of};
use crate::want::Volume;

/// Mounts the volume after `needs`, or waits for its quorum.
pub(crate) fn mount(draft: &mut Draft<'_>, volume: &Volume, mut needs: Vec<String>) {
    let name = &volume.name;
    let state = draft.have.mounts.get(name).copied().unwrap_or(Mount::Unprepared);
    if state == Mount::Mounted {
        return;
    }
    if state == Mount::Silent {
        // Mounting again would not help, and would take the disks from under guests that still wait.
        draft.waiting.push(format!("volume {name}: is mounted but does not answer, waiting for its bricks"));
        return;
    }
    if state == Mount::Dead {
        draft.step(format!("remount/{name}"), needs, Action::Remount { volume: name.clone() });
        return;
    }
    if needs.is_empty() && !has_quorum(draft, volume) {
        draft.waiting.push(format!("volume {name}: waiting for a quorum of its bricks"));
        return;
    }
    if state == Mount::Unprepared {
        let id = format!("mount-point/{name}");
        draft.step(id.clone(), Vec::new(), Action::MountPoint { volume: name.clone() });
        needs.push(id);
    }
    draft.step(format!("mount/{name}"), needs, Action::Mount { volume: name.clone() });
}

fn has_quorum(draft: &Draft<'_>, volume: &Volume) -> bool {
    let bricks = draft.have.volumes.get(&volume.name).map(sets_of).unwrap_or_default();
    let online = |brick: &str| draft.have.online.contains(brick);
    !bricks.is_empty() && bricks.iter().all(|set| set_has_quorum(set, &online))
}

pub(crate) fn storage_target(draft: &mut Draft<'_>) {
    if draft.have.storage_target {
        return;
    }
    let mut needs = Vec::new();
    for volume in &draft.want.volumes {
        let steps = ["mount", "remount"].map(|verb| format!("{verb}/{}", volume.name));
        if let Some(id) = steps.into_iter().find(|id| draft.planned(id)) {
            needs.push(id);
        } else if draft.have.mounts.get(&volume.name) != Some(&Mount::Mounted) {
            return;
        } else if !has_quorum(draft, volume) {
            draft.waiting.push(format!("volume {}: waiting for a quorum of its bricks", volume.name));
            return;
        }
    }
    draft.step("storage-target".into(), needs, Action::StorageTarget);
}
