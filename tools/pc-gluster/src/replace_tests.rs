use super::*;
use crate::have::{Mark, OwnBrick};
use crate::plan::tests::{brick, running};

/// n3's disk died; the file names another one in its place, which is mounted.
fn broken() -> (Want, Have, String, String) {
    let (mut want, mut have) = running("n3");
    let (old, new) = (brick("n3", "vms", 0), brick("n3", "vms", 1));
    want.volumes[0].sets[0][2].clone_from(&new);
    have.online.remove(&old);
    have.bricks[0] = OwnBrick {
        address: new.clone(),
        mounted: true,
        running: false,
        lost: false,
        marked: None,
        unmarked: None,
    };
    (want, have, old, new)
}

#[test]
fn an_empty_brick_takes_the_place_of_a_dead_one() {
    let (want, have, old, new) = broken();
    assert_eq!(check(&want, &have, "vms", &old, &new), Ok(&have.volumes["vms"]));
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

#[test]
fn a_brick_directory_that_holds_anything_is_refused() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
    assert_eq!(empty("n3:/b", &[]), Ok(()));
    assert_eq!(
        empty("n3:/b", &names(&[".glusterfs", "disk.img"])).unwrap_err(),
        "brick n3:/b: is not empty, it holds .glusterfs disk.img"
    );
    let many = empty("n3:/b", &names(&["1", "2", "3", "4", "5", "6"])).unwrap_err();
    assert!(many.ends_with("1 2 3 4 5 ..."), "{many}");
}

/// What `healed` says when the bricks of a set hold back `counts` and the one at `old` shall go.
fn judged(
    counts: &[Option<u64>],
    old: usize,
    arbiter: usize,
    online: bool,
    lossy: bool,
) -> Result<(), Stays> {
    let bricks: Vec<String> = (0..counts.len()).map(|at| format!("n{}:/b", at + 1)).collect();
    let (_, mut have) = running("n3");
    let mut info = have.volumes.remove("vms").unwrap();
    (info.bricks, info.replica, info.arbiter) = (bricks.clone(), counts.len(), arbiter);
    let answer = |(brick, pending): (&String, &Option<u64>)| BrickHeal {
        brick: brick.clone(),
        connected: pending.is_some(),
        pending: *pending,
        split_brain: pending.map(|_| 0),
    };
    let backlog: Vec<BrickHeal> = bricks.iter().zip(counts).map(answer).collect();
    healed(&info, "vms", &bricks[old], &backlog, online, lossy)
}

#[test]
fn a_brick_that_others_still_heal_from_keeps_its_place() {
    let waits = |judged: Result<(), Stays>| matches!(judged, Err(Stays::Wait(_)));
    let refuses = |judged: Result<(), Stays>| matches!(judged, Err(Stays::Refused(_)));
    // Alive, merely taken out of the file.
    assert_eq!(judged(&[Some(0), Some(0), Some(0)], 0, 1, true, false), Ok(()));
    assert!(
        waits(judged(&[Some(7), Some(0), Some(7)], 0, 1, true, false)),
        "the arbiter blames the second copy"
    );
    assert!(
        waits(judged(&[Some(7), Some(0)], 0, 0, true, false)),
        "only the old one knows what the other missed"
    );
    assert!(
        waits(judged(&[None, Some(0), Some(0)], 0, 1, true, false)),
        "a backlog that is not known is not zero"
    );
    assert!(waits(judged(&[Some(0), None, Some(0)], 0, 0, true, false)));
    assert!(
        waits(judged(&[Some(7), Some(0), Some(7)], 0, 1, true, true)),
        "what lives is healed from, not given up"
    );
    assert!(waits(judged(&[Some(7), Some(0), Some(7)], 0, 1, false, true)), "it answers, so it lives");
    // Dead, with two data copies left.
    assert_eq!(judged(&[Some(0), Some(0), None], 2, 0, false, false), Ok(()));
    assert_eq!(
        judged(&[Some(4), Some(4), None], 2, 0, false, false),
        Ok(()),
        "both know what the dead one missed"
    );
    assert!(
        refuses(judged(&[Some(9), Some(4), None], 2, 0, false, false)),
        "the second copy is behind the first"
    );
    assert_eq!(judged(&[Some(9), Some(4), None], 2, 0, false, true), Ok(()));
    assert!(waits(judged(&[Some(4), None, None], 2, 0, false, false)));
    assert!(waits(judged(&[Some(4), None, None], 2, 0, false, true)), "nor is what cannot be asked given up");
    // Dead, with one data copy and the arbiter.
    assert_eq!(judged(&[None, Some(0), Some(0)], 0, 1, false, false), Ok(()));
    assert!(
        refuses(judged(&[None, Some(0), Some(7)], 0, 1, false, false)),
        "the arbiter blames the only copy"
    );
    assert!(refuses(judged(&[None, Some(7), Some(7)], 0, 1, false, false)), "whom it blames is not said");
    assert_eq!(judged(&[None, Some(7), Some(7)], 0, 1, false, true), Ok(()));
    assert_eq!(
        judged(&[Some(7), Some(7), None], 2, 1, false, false),
        Ok(()),
        "an arbiter that died held no data"
    );
    // Dead, with one copy and no witness.
    assert!(refuses(judged(&[None, Some(0)], 0, 0, false, false)));
    assert_eq!(judged(&[None, Some(0)], 0, 0, false, true), Ok(()));
}

#[test]
fn a_split_brain_among_the_survivors_is_a_persons_to_decide() {
    let (_, mut have) = running("n3");
    let info = have.volumes.remove("vms").unwrap();
    let answer = |brick: &String| BrickHeal {
        brick: brick.clone(),
        connected: true,
        pending: Some(1),
        split_brain: Some(1),
    };
    let (old, others) = info.bricks.split_last().unwrap();
    let backlog: Vec<BrickHeal> = others.iter().map(answer).collect();
    let Err(Stays::Refused(said)) = healed(&info, "vms", old, &backlog, false, false) else {
        panic!("agreed")
    };
    assert_eq!(
        said,
        format!(
            "brick {old}: is offline, and other copies are in split-brain\n  bring it back and heal; when it is gone for good, give up what only it has: --lose-unhealed"
        )
    );
}
