use super::tests::*;
use super::*;
use crate::have::{Mount, OwnBrick};

#[test]
fn a_brick_that_comes_late_is_started_by_its_own_node() {
    let (want, mut have) = running("n3");
    assert_eq!(plan(&want, &have).plan.steps, []);
    have.bricks[0].running = false;
    assert_eq!(apply(&want, &mut have), ["brick-start/vms"]);
    have.bricks[0] = OwnBrick { running: false, mounted: false, ..have.bricks[0].clone() };
    assert_eq!(plan(&want, &have).plan.steps, [], "a dead disk is not started");
    have.bricks[0].mounted = true;
    have.peers.iter_mut().for_each(|peer| peer.connected = false);
    assert_eq!(plan(&want, &have).plan.steps, [], "glusterd refuses without server quorum");
}

#[test]
fn a_brick_whose_port_is_lost_is_started_anew() {
    let (want, mut have) = running("n3");
    have.bricks[0].lost = true;
    have.online.remove(&have.bricks[0].address);
    let lost = have.clone();
    assert_eq!(apply(&want, &mut have), ["brick-restart/vms"]);
    have = lost.clone();
    have.mounts.insert("vms".into(), Mount::Prepared);
    have.storage_target = false;
    assert_eq!(apply(&want, &mut have), ["brick-restart/vms", "mount/vms", "storage-target"]);
    have = lost;
    have.peers.iter_mut().for_each(|peer| peer.connected = false);
    assert_eq!(plan(&want, &have).plan.steps, [], "without server quorum it would not come back");
}
