//! A brick gives its place to an empty one: what must hold first. Pure; the command itself is Gluster's
//! `replace-brick ... commit force`, which marks the new brick so that everything heals into it.

use crate::have::Have;
use crate::plan::sets_of;
use crate::want::{Want, node_of};

/// Refuses with the reason, or agrees. Without the old brick every other copy must be there: one of them is what
/// the new brick heals from.
pub fn check(want: &Want, have: &Have, volume: &str, old: &str, new: &str) -> Result<(), String> {
    let wanted = want.volumes.iter().find(|wanted| wanted.name == volume);
    let wanted = wanted.ok_or_else(|| format!("volume {volume}: is no replicated volume of the file"))?;
    let info = have.volumes.get(volume).filter(|info| info.started);
    let info = info.ok_or_else(|| format!("volume {volume}: is not started"))?;
    let named = |brick: &str| wanted.sets.iter().flatten().any(|known| known == brick);
    let sets = sets_of(info);
    let Some(set) = sets.iter().find(|set| set.iter().any(|brick| brick == old)) else {
        return Err(format!("brick {old}: volume {volume} has {}", info.bricks.join(" ")));
    };
    if named(old) {
        return Err(format!("brick {old}: is still in the file; name the new disk in its place first"));
    }
    if !named(new) {
        return Err(format!("brick {new}: is not in the file"));
    }
    if info.bricks.iter().any(|brick| brick == new) {
        return Err(format!("brick {new}: belongs to the volume already"));
    }
    if !want.is_own(new) {
        return Err(format!("brick {new}: is on {}\n  run this there", node_of(new)));
    }
    match have.own_brick(new) {
        Some(own) if own.mounted && own.marked.is_none() => {}
        Some(own) if own.mounted => return Err(format!("brick {new}: carries the mark of a volume")),
        _ => return Err(format!("brick {new}: is not mounted\n  pc-brick status")),
    }
    let others = set.iter().filter(|brick| *brick != old);
    if let Some(beside) = others.clone().find(|brick| node_of(brick) == node_of(new)) {
        return Err(format!("brick {new}: two copies would share one node with {beside}"));
    }
    if set.len() == 1 {
        return Err(format!("brick {old}: is the only copy, nothing could heal into {new}"));
    }
    match others.clone().find(|brick| !have.online.contains(*brick)) {
        Some(away) => Err(format!("brick {away}: is not online; with {old} gone too, copies are missing")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::have::{Mark, OwnBrick};
    use crate::plan::tests::{brick, running};

    /// n3's disk died; the file names another one in its place, which is mounted.
    fn broken() -> (Want, Have, String, String) {
        let (mut want, mut have) = running("n3");
        let (old, new) = (brick("n3", "vms", 0), brick("n3", "vms", 1));
        want.volumes[0].sets[0][2].clone_from(&new);
        have.online.remove(&old);
        have.bricks[0] =
            OwnBrick { address: new.clone(), mounted: true, running: false, marked: None, unmarked: None };
        (want, have, old, new)
    }

    #[test]
    fn an_empty_brick_takes_the_place_of_a_dead_one() {
        let (want, have, old, new) = broken();
        assert_eq!(check(&want, &have, "vms", &old, &new), Ok(()));
        let outcome = crate::plan::plan(&want, &have);
        assert_eq!(outcome.plan.steps, [], "apply never does it by itself");
        assert!(outcome.faults[0].ends_with(&format!("\n  pc-gluster replace-brick vms {old} {new}")));
    }

    #[test]
    fn everything_that_could_cost_a_copy_is_refused() {
        let refusal = |change: &dyn Fn(&mut Want, &mut Have, &mut String, &mut String)| {
            let (mut want, mut have, mut old, mut new) = broken();
            change(&mut want, &mut have, &mut old, &mut new);
            check(&want, &have, "vms", &old, &new).unwrap_err()
        };
        let (old, new) = (brick("n3", "vms", 0), brick("n3", "vms", 1));
        let one = brick("n1", "vms", 0);
        let away = refusal(&|_, have, _, _| have.online.retain(|brick| *brick != one));
        assert_eq!(away, format!("brick {one}: is not online; with {old} gone too, copies are missing"));
        let kept = refusal(&|want, _, old, _| want.volumes[0].sets[0][1].clone_from(old));
        assert!(kept.contains("is still in the file"), "{kept}");
        let unknown = refusal(&|_, _, _, new| *new = brick("n3", "vms", 7));
        assert!(unknown.contains("is not in the file"), "{unknown}");
        let elsewhere = refusal(&|want, _, _, _| want.node = "n1".into());
        assert!(elsewhere.ends_with("is on n3\n  run this there"), "{elsewhere}");
        let gone = refusal(&|_, have, _, _| have.bricks[0].mounted = false);
        assert!(gone.contains("is not mounted"), "{gone}");
        let mark = Mark { volume_id: "x".into(), empty: false, settled: true };
        let used = refusal(&|_, have, _, _| have.bricks[0].marked = Some(mark.clone()));
        assert_eq!(used, format!("brick {new}: carries the mark of a volume"));
        let doubled = refusal(&|_, _, old, _| old.clone_from(&one));
        assert!(doubled.contains("is still in the file"), "{doubled}");
    }
}
