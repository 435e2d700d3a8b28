use super::tests::*;
use super::*;
use crate::have::{Mount, OwnBrick};

#[test]
fn a_self_heal_daemon_that_has_crashed_is_started_again() {
    let (want, mut have) = running("n3");
    have.healed.clear();
    let crashed = have.clone();
    assert_eq!(apply(&want, &mut have), ["healer-start/vms"]);
    let info = |have: &mut Have| have.volumes.get_mut("vms").unwrap().clone();
    let none = |change: &dyn Fn(&mut Have)| {
        let mut have = crashed.clone();
        change(&mut have);
        assert_eq!(plan(&want, &have).plan.steps, []);
    };
    none(&|have| have.bricks.clear());
    none(&|have| have.peers.iter_mut().for_each(|peer| peer.connected = false));
    none(&|have| {
        let mut vms = info(have);
        vms.options.insert("cluster.self-heal-daemon".into(), "off".into());
        have.volumes.insert("vms".into(), vms);
    });
}

#[test]
fn nothing_waits_for_a_self_heal_daemon() {
    let (want, mut have) = running("n3");
    have.healed.clear();
    have.mounts.insert("vms".into(), Mount::Prepared);
    have.storage_target = false;
    assert_eq!(apply(&want, &mut have), ["mount/vms", "storage-target", "healer-start/vms"]);
    have.healed.clear();
    have.bricks[0].running = false;
    assert_eq!(apply(&want, &mut have), ["brick-start/vms"], "which starts it");
}

#[test]
fn a_self_heal_daemon_is_started_for_every_volume() {
    let (mut want, mut have) = running("n3");
    let other = |brick: &String| brick.replace("vms", "backup");
    let mut backup = want.volumes[0].clone();
    backup.name = "backup".into();
    backup.sets.iter_mut().flatten().for_each(|brick| *brick = other(brick));
    let mut info = have.volumes["vms"].clone();
    info.bricks.iter_mut().for_each(|brick| *brick = other(brick));
    have.bricks.push(OwnBrick { address: other(&have.bricks[0].address), ..have.bricks[0].clone() });
    have.volumes.insert("backup".into(), info);
    have.mounts.insert("backup".into(), Mount::Mounted);
    have.healed.insert("backup".into());
    want.volumes.push(backup);
    assert_eq!(plan(&want, &have).plan.steps, []);
    have.healed.clear();
    assert_eq!(apply(&want, &mut have), ["healer-start/vms", "healer-start/backup"]);
    have.healed.remove("backup");
    assert_eq!(apply(&want, &mut have), ["healer-start/backup"], "an apply that ended between the two");
}
