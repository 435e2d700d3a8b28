//! A volume gets more bricks than it has: new disks or nodes in whole sets, or one copy that becomes three.

use cluster::sets::group;

use crate::action::Action;
use crate::marks;
use crate::plan::{Draft, sets_of};
use crate::want::{Volume, node_of};
use crate::xml::VolumeInfo;

/// Plans the bricks that the file names and the volume lacks. Bricks are only ever added.
pub(crate) fn grow(draft: &mut Draft<'_>, volume: &Volume, info: &VolumeInfo) {
    let name = &volume.name;
    let wanted: Vec<&String> = volume.sets.iter().flatten().collect();
    let surplus: Vec<&String> = info.bricks.iter().filter(|brick| !wanted.contains(brick)).collect();
    let missing: Vec<String> =
        wanted.iter().filter(|brick| !info.bricks.contains(brick)).map(|brick| (*brick).clone()).collect();
    let same_shape = info.replica == volume.set_size && (info.arbiter > 0) == volume.arbiter;
    if missing.is_empty() && same_shape {
        return;
    }
    if !surplus.is_empty() && !missing.is_empty() {
        let hint = match (surplus.as_slice(), missing.as_slice()) {
            ([old], [new]) => format!("\n  pc-gluster replace-brick {name} {old} {new}"),
            _ => String::new(),
        };
        let (has, named) = (listed(&surplus), missing.join(" "));
        let fault =
            format!("volume {name}: has {has} but the file names {named}: apply replaces no brick{hint}");
        return draft.faults.push(fault);
    }
    if !draft.is_leader() {
        return;
    }
    let (bricks, new_sets) =
        match if same_shape { more_sets(draft, volume, &missing) } else { more_copies(volume, info) } {
            Ok(bricks) => (bricks, same_shape),
            Err(fault) => return draft.faults.push(format!("volume {name}: {fault}")),
        };
    let Some(mut needs) = draft.members_for(name, &bricks) else { return };
    let Some(clean) = marks::clean(draft, name, &bricks) else { return };
    needs.extend(clean);
    let action = Action::BrickAdd {
        volume: name.clone(),
        set_size: volume.set_size,
        arbiter: volume.arbiter,
        new_sets,
        bricks,
    };
    draft.step(format!("brick-add/{name}"), needs, action);
}

/// Whole new sets out of the bricks that are missing; the sets there are stay as they are.
fn more_sets(draft: &Draft<'_>, volume: &Volume, missing: &[String]) -> Result<Vec<String>, String> {
    let position =
        |brick: &String| draft.want.members.iter().position(|member| member.name == node_of(brick));
    let mut bricks = missing.to_vec();
    bricks.sort_by_key(position);
    let sets = group(bricks, volume.set_size, |brick| node_of(brick))
        .map_err(|fault| format!("new bricks: {fault}"))?;
    Ok(sets.into_iter().flatten().collect())
}

/// More copies for every set there is, in the order of the sets; every set must lie within one of the file's.
fn more_copies(volume: &Volume, info: &VolumeInfo) -> Result<Vec<String>, String> {
    let sets = sets_of(info);
    if info.replica >= volume.set_size || info.arbiter > 0 || sets.len() != volume.sets.len() {
        let have = format!("{} sets of {}", sets.len(), info.replica);
        return Err(format!("has {have}, the file asks for {} of {}", volume.sets.len(), volume.set_size));
    }
    let mut bricks = Vec::new();
    for set in &sets {
        let within = volume.sets.iter().find(|wanted| wanted.iter().zip(set).all(|(a, b)| a == b));
        let wanted =
            within.ok_or_else(|| format!("its set {} does not begin one of the file's", set.join(" ")))?;
        bricks.extend(wanted.iter().skip(set.len()).cloned());
    }
    Ok(bricks)
}

fn listed(bricks: &[&String]) -> String {
    bricks.iter().map(|brick| brick.as_str()).collect::<Vec<_>>().join(" ")
}
