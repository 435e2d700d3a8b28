use super::tests::*;
use super::*;
use crate::foreign::foreign;
use crate::have::{Mark, OwnBrick};

#[test]
fn what_a_refused_create_left_is_cleaned_at_once_by_others_and_later_by_the_leader() {
    let leftover = |settled| Some(Mark { volume_id: "old".into(), empty: true, settled });
    let leader = want("n1", 1, 1, 1);
    let mut have = blank(&leader);
    have.bricks[0].marked = leftover(false);
    let outcome = plan(&leader, &have);
    assert_eq!(outcome.plan.steps, [], "another try now would mark the bricks of others again");
    assert_eq!(outcome.waiting, ["volume vms: was refused moments ago, waiting for the other nodes"]);
    have.bricks[0].marked = leftover(true);
    assert!(apply(&leader, &mut have)[0].starts_with("brick-unmark/n1:"));
    let other = want("n2", 3, 1, 3);
    let mut have = blank(&other);
    have.bricks[0].marked = leftover(false);
    assert_eq!(apply(&other, &mut have).len(), 1);
}

#[test]
fn a_mark_taken_off_while_the_create_went_through_is_put_back() {
    let (want, mut have) = running("n2");
    let own = brick("n2", "vms", 0);
    have.bricks[0] =
        OwnBrick { running: false, marked: None, unmarked: Some("id".into()), ..have.bricks[0].clone() };
    assert_eq!(apply(&want, &mut have), [format!("brick-mark/{own}"), "brick-start/vms".into()]);
    have.bricks[0] = OwnBrick { marked: None, unmarked: Some("older".into()), ..have.bricks[0].clone() };
    assert_eq!(plan(&want, &have).plan.steps, [], "a blank disk in the place of a dead one is not marked");
}

#[test]
fn a_brick_with_files_of_another_volume_is_a_fault_and_stays_as_it_is() {
    let want = want("n1", 1, 1, 1);
    let mut have = blank(&want);
    have.bricks[0].marked = Some(Mark { volume_id: "other".into(), empty: false, settled: true });
    let outcome = plan(&want, &have);
    assert_eq!(outcome.plan.steps, []);
    assert!(outcome.faults[0].contains("holds files of another volume (other)"));
}

#[test]
fn one_node_grows_to_three() {
    for disks in [1, 2] {
        let small = want("n1", 1, disks, 1);
        let mut have = blank(&small);
        apply(&small, &mut have);
        let large = want("n1", 3, disks, 3);
        assert_eq!(apply(&large, &mut have), ["peer-probe/n2", "peer-probe/n3", "brick-add/vms"]);
        assert_eq!(apply(&large, &mut have), ["volume-set/vms"], "what only replicated volumes may have");
        assert_eq!(sets_of(&have.volumes["vms"]), large.volumes[0].sets);
        assert_eq!(plan(&large, &have).plan.steps, []);
    }
}

#[test]
fn more_disks_become_sets_of_their_own() {
    let (_, mut have) = running("n1");
    let larger = want("n1", 3, 2, 3);
    have.bricks.push(OwnBrick {
        address: brick("n1", "vms", 1),
        mounted: true,
        running: false,
        lost: false,
        marked: None,
        unmarked: None,
    });
    assert_eq!(apply(&larger, &mut have), ["brick-add/vms"]);
    assert_eq!(sets_of(&have.volumes["vms"])[1], ["n1", "n2", "n3"].map(|node| brick(node, "vms", 1)));
    assert_eq!(plan(&larger, &have).plan.steps, []);
    let fewer = want("n1", 3, 1, 3);
    let outcome = plan(&fewer, &have);
    assert_eq!(
        (outcome.plan.steps, outcome.faults),
        (vec![], vec![]),
        "fewer disks in the file remove nothing"
    );
    assert_eq!(foreign(&fewer, &have)["bricks"].len(), 3);
}
