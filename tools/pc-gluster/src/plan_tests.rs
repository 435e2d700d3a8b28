use std::collections::BTreeMap;

use super::*;
use crate::foreign::foreign;
use crate::have::{Mark, Mount, OwnBrick};
use crate::want::{Member, path_of};
use crate::xml::Peer;
use cluster::Use;

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

pub(crate) fn brick(node: &str, volume: &str, disk: usize) -> String {
    format!("{node}:/srv/bricks/{volume}/{node}-{disk}/brick")
}

/// `nodes` nodes with `disks` disks each for one volume `vms` of `set_size` copies, seen from `own`.
pub(crate) fn want(own: &str, nodes: usize, disks: usize, set_size: usize) -> Want {
    let members = NODES[..nodes].iter().enumerate();
    let members: Vec<Member> = members
        .map(|(at, name)| Member { name: (*name).into(), address: format!("10.0.0.{}", at + 1) })
        .collect();
    let bricks: Vec<String> =
        NODES[..nodes].iter().flat_map(|node| (0..disks).map(|disk| brick(node, "vms", disk))).collect();
    let sets = cluster::sets::group(bricks, set_size, |brick| node_of(brick)).unwrap();
    let options = options::wanted(Use::Vm, set_size, None);
    let volume = Volume { name: "vms".into(), set_size, arbiter: false, sets, options, purpose: Use::Vm };
    Want { node: own.into(), members, volumes: vec![volume], local: Vec::new() }
}

/// A node with mounted, unused bricks that belongs to no pool.
pub(crate) fn blank(want: &Want) -> Have {
    let own = want.volumes.iter().flat_map(|volume| volume.sets.iter().flatten()).filter(|b| want.is_own(b));
    let bricks = own
        .map(|b| OwnBrick {
            address: b.clone(),
            mounted: true,
            running: false,
            lost: false,
            marked: None,
            unmarked: None,
        })
        .collect();
    Have {
        peers: Vec::new(),
        volumes: BTreeMap::new(),
        bricks,
        healed: std::collections::BTreeSet::new(),
        online: std::collections::BTreeSet::new(),
        mounts: want.volumes.iter().map(|v| (v.name.clone(), Mount::Unprepared)).collect(),
        storage_target: false,
    }
}

pub(crate) fn peer(name: &str) -> Peer {
    let uuid = format!("uuid-{name}");
    Peer { uuid, names: vec![name.into()], connected: true, member: true, rejected: false }
}

/// What the world looks like after an action: by hand, from Gluster's manual, not from the planner.
pub(crate) fn done(want: &Want, have: &mut Have, action: &Action) {
    match action.clone() {
        Action::PeerProbe { node } => have.peers.push(peer(&node)),
        Action::PeerRename { node } => {
            let member = want.members.iter().find(|member| member.name == node).unwrap();
            let at = have.peers.iter().position(|peer| peer.names.contains(&member.address)).unwrap();
            have.peers[at].names.insert(0, node);
        }
        Action::BrickUnmark { brick } => {
            let own = own(have, &brick);
            own.unmarked = own.marked.take().map(|mark| mark.volume_id);
        }
        Action::BrickMark { brick, volume_id } => {
            own(have, &brick).marked = Some(Mark { volume_id, empty: true, settled: false });
        }
        Action::VolumeCreate { volume, set_size, bricks, .. } => {
            let info = VolumeInfo {
                id: "id".into(),
                started: false,
                replica: set_size,
                arbiter: 0,
                bricks,
                options: BTreeMap::new(),
            };
            have.volumes.insert(volume, info);
        }
        Action::VolumeSet { volume, options } => {
            have.volumes.get_mut(&volume).unwrap().options.extend(options);
        }
        Action::VolumeStart { volume } => {
            let info = have.volumes.get_mut(&volume).unwrap();
            info.started = true;
            have.healed.insert(volume);
            have.online.extend(info.bricks.clone());
            have.bricks.iter_mut().for_each(|own| own.running = true);
        }
        Action::BrickAdd { volume, set_size, new_sets, bricks, .. } => {
            let info = have.volumes.get_mut(&volume).unwrap();
            have.online.extend(bricks.clone());
            have.bricks
                .iter_mut()
                .filter(|own| bricks.contains(&own.address))
                .for_each(|own| own.running = true);
            if new_sets {
                info.bricks.extend(bricks);
            } else {
                let each = set_size - info.replica;
                let sets = sets_of(info).into_iter().zip(bricks.chunks(each));
                info.bricks = sets.flat_map(|(set, more)| [set, more.to_vec()].concat()).collect();
                info.replica = set_size;
                have.healed.insert(volume);
            }
        }
        Action::BrickStart { volume, bricks } => {
            have.healed.insert(volume);
            for brick in bricks {
                own(have, &brick).running = true;
                have.online.insert(brick);
            }
        }
        Action::BrickRestart { bricks, .. } => {
            for brick in bricks {
                own(have, &brick).lost = false;
                have.online.insert(brick);
            }
        }
        Action::HealerStart { volume } => {
            have.healed.insert(volume);
        }
        Action::MountPoint { volume } => have.mounts.extend([(volume, Mount::Prepared)]),
        Action::Mount { volume } | Action::Remount { volume } => {
            have.mounts.extend([(volume, Mount::Mounted)]);
        }
        Action::StorageTarget => have.storage_target = true,
    }
}

fn own<'a>(have: &'a mut Have, address: &str) -> &'a mut OwnBrick {
    have.bricks.iter_mut().find(|brick| brick.address == address).unwrap()
}

pub(crate) fn apply(want: &Want, have: &mut Have) -> Vec<String> {
    let outcome = plan(want, have);
    let mut seen = Vec::new();
    for step in &outcome.plan.steps {
        assert!(step.needs.iter().all(|need| seen.contains(need)), "{} comes before what it needs", step.id);
        seen.push(step.id.clone());
        done(want, have, &step.action);
    }
    seen
}

#[test]
fn the_first_node_founds_everything_and_the_second_run_has_nothing_to_do() {
    let want = want("n1", 3, 1, 3);
    let mut have = blank(&want);
    assert_eq!(
        apply(&want, &mut have),
        [
            "peer-probe/n2",
            "peer-probe/n3",
            "volume-create/vms",
            "volume-set/vms",
            "volume-start/vms",
            "mount-point/vms",
            "mount/vms",
            "storage-target"
        ]
    );
    assert_eq!(have.volumes["vms"].bricks, ["n1", "n2", "n3"].map(|node| brick(node, "vms", 0)));
    let again = plan(&want, &have);
    assert_eq!((again.plan.steps, again.waiting, again.faults), (vec![], vec![], vec![]));
}

#[test]
fn one_node_alone_needs_nobody() {
    let want = want("n1", 1, 1, 1);
    let mut have = blank(&want);
    let steps = apply(&want, &mut have);
    assert_eq!(steps[0], "volume-create/vms");
    assert_eq!(steps.last().unwrap(), "storage-target");
    assert!(plan(&want, &have).plan.steps.is_empty());
}

#[test]
fn a_node_without_a_pool_waits_for_the_first_of_the_file() {
    let want = want("n2", 3, 1, 3);
    let outcome = plan(&want, &blank(&want));
    assert_eq!(outcome.plan.steps, []);
    assert_eq!(outcome.waiting, ["volume vms: waiting for n1 to create it"]);
}

#[test]
fn the_next_node_leads_when_the_first_is_gone() {
    let want = want("n2", 3, 1, 3);
    let mut have = blank(&want);
    have.peers = vec![Peer { connected: false, ..peer("n1") }, peer("n3")];
    assert_eq!(have.leader(&want), Some("n2"));
    let outcome = plan(&want, &have);
    assert_eq!(outcome.plan.steps, [], "nothing is created while a brick's node is away");
    assert_eq!(outcome.waiting, ["volume vms: waiting for n1, which the pool cannot reach"]);
}

#[test]
fn a_member_known_by_address_is_made_known_by_name_from_any_other_node() {
    let want = want("n2", 2, 1, 1);
    let mut have = blank(&want);
    have.peers = vec![peer("10.0.0.1")];
    assert_eq!(have.leader(&want), Some("n1"));
    assert_eq!(apply(&want, &mut have), ["peer-rename/n1"]);
    assert_eq!(plan(&want, &have).plan.steps, []);
}

#[test]
fn an_unmounted_brick_holds_the_creation_back() {
    let want = want("n1", 1, 1, 1);
    let mut have = blank(&want);
    have.bricks[0].mounted = false;
    let outcome = plan(&want, &have);
    assert_eq!(outcome.plan.steps, []);
    let brick = brick("n1", "vms", 0);
    assert_eq!(outcome.waiting, [format!("volume vms: waiting for brick {brick}, which is not mounted")]);
}

/// A pool of three with everything running, seen from `own`.
pub(crate) fn running(own: &str) -> (Want, Have) {
    let first = want("n1", 3, 1, 3);
    let mut have = blank(&first);
    apply(&first, &mut have);
    let want = Want { node: own.into(), ..first };
    have.peers = ["n1", "n2", "n3"].iter().filter(|name| **name != own).map(|name| peer(name)).collect();
    have.bricks = vec![OwnBrick {
        address: brick(own, "vms", 0),
        mounted: true,
        running: true,
        lost: false,
        marked: Some(Mark { volume_id: "id".into(), empty: false, settled: true }),
        unmarked: None,
    }];
    (want, have)
}

#[test]
fn mounts_wait_for_quorum_and_dead_ones_are_made_anew() {
    let (want, mut have) = running("n2");
    have.mounts.insert("vms".into(), Mount::Prepared);
    have.storage_target = false;
    have.online = [brick("n2", "vms", 0)].into();
    let outcome = plan(&want, &have);
    assert_eq!(outcome.plan.steps, []);
    assert_eq!(outcome.waiting, ["volume vms: waiting for a quorum of its bricks"]);
    have.online.insert(brick("n3", "vms", 0));
    assert_eq!(apply(&want, &mut have), ["mount/vms", "storage-target"]);
    have.mounts.insert("vms".into(), Mount::Dead);
    assert_eq!(apply(&want, &mut have), ["remount/vms"]);
    have.mounts.insert("vms".into(), Mount::Silent);
    let outcome = plan(&want, &have);
    assert_eq!((outcome.plan.steps, outcome.waiting.len()), (vec![], 1), "guests may still wait for it");
}

#[test]
fn options_that_differ_are_set_in_one_call_by_the_leader_only() {
    for (own, expected) in [("n1", 1), ("n2", 0)] {
        let (want, mut have) = running(own);
        let options = &mut have.volumes.get_mut("vms").unwrap().options;
        options.insert("network.ping-timeout".into(), "42".into());
        options.remove("features.shard");
        options.insert("user.somebody".into(), "else".into());
        let steps = plan(&want, &have).plan.steps;
        assert_eq!(steps.len(), expected);
        if let Some(step) = steps.first() {
            let Action::VolumeSet { options, .. } = &step.action else { panic!("{step:?}") };
            assert_eq!(options.keys().collect::<Vec<_>>(), ["features.shard", "network.ping-timeout"]);
        }
    }
}

#[test]
fn encryption_is_never_switched_under_a_running_volume() {
    let (mut want, mut have) = running("n1");
    want.volumes[0].options = options::wanted(Use::Vm, 3, Some(&["n1", "n2", "n3"]));
    let outcome = plan(&want, &have);
    let Action::VolumeSet { options, .. } = &outcome.plan.steps[0].action else { panic!() };
    assert_eq!(options.keys().collect::<Vec<_>>(), ["auth.ssl-allow"]);
    assert!(outcome.faults[0].contains("runs without client.ssl, server.ssl\n  stop its guests"));
    have.volumes.get_mut("vms").unwrap().started = false;
    assert_eq!(apply(&want, &mut have), ["volume-set/vms", "volume-start/vms"]);
}

#[test]
fn what_the_file_does_not_name_is_reported_and_not_touched() {
    let (want, mut have) = running("n1");
    let info = have.volumes["vms"].clone();
    have.volumes.insert("photos".into(), VolumeInfo { started: false, ..info });
    have.peers.push(peer("stranger"));
    assert_eq!(plan(&want, &have).plan.steps, []);
    let found = foreign(&want, &have);
    assert_eq!(
        (found["peers"].clone(), found["volumes"].clone()),
        (vec!["stranger".to_string()], vec!["photos".to_string()])
    );
    have.volumes.get_mut("vms").unwrap().bricks = vec!["n1:/old/brick".into()];
    have.mounts.insert("vms".into(), Mount::Prepared);
    let outcome = plan(&want, &have);
    assert_eq!(outcome.plan.steps, []);
    assert!(outcome.faults.iter().any(|fault| fault.contains("exists with other bricks")));
}

#[test]
fn the_leader_says_which_peer_the_pool_rejects() {
    for (own, expected) in [("n1", 1), ("n2", 0)] {
        let (want, mut have) = running(own);
        let at = have.peers.iter().position(|peer| peer.names == ["n3"]).unwrap();
        have.peers[at] = Peer { member: false, rejected: true, ..peer("n3") };
        let outcome = plan(&want, &have);
        assert_eq!((outcome.plan.steps, outcome.faults.len()), (vec![], expected));
        if let Some(fault) = outcome.faults.first() {
            let said =
                "peer n3: the pool rejects it: what answers there is not uuid-n3, or has other volumes";
            assert_eq!(*fault, format!("{said}\n  docs/runbooks/nodes.md, \"A new machine for a dead one\""));
        }
        assert!(have.server_quorum());
        have.peers.iter_mut().for_each(|peer| peer.rejected = true);
        assert!(!have.server_quorum(), "a connection to a rejected peer is no vote");
    }
}

/// Not random, but all of it: every combination of these conditions converges in one run, and what is
/// planned twice is planned the same.
#[test]
fn every_reachable_state_converges() {
    let mut states = 0;
    for bits in 0_u32..1 << 9 {
        let is = |bit: u32| bits & (1 << bit) != 0;
        let (own, nodes) = (if is(0) { "n1" } else { "n2" }, if is(1) { 3 } else { 1 });
        if nodes == 1 && own == "n2" {
            continue;
        }
        let want = want(own, nodes, if is(2) { 2 } else { 1 }, nodes);
        let mut have = blank(&want);
        if is(3) {
            let leader = Want { node: "n1".into(), ..want.clone() };
            let mut founded = blank(&leader);
            apply(&leader, &mut founded);
            have.volumes = founded.volumes;
            have.online = founded.online;
            have.peers = NODES[..nodes].iter().filter(|n| **n != own).map(|n| peer(n)).collect();
        }
        if is(4) {
            have.bricks.iter_mut().for_each(|own| own.mounted = false);
        }
        if is(5) {
            let mark =
                Mark { volume_id: if is(3) { "id" } else { "old" }.into(), empty: is(6), settled: is(7) };
            have.bricks[0].marked = Some(mark);
        }
        if is(8) {
            have.peers.iter_mut().for_each(|peer| peer.connected = false);
            have.online.retain(|brick| node_of(brick) == own);
        }
        assert_eq!(plan(&want, &have), plan(&want, &have));
        apply(&want, &mut have);
        let again = plan(&want, &have);
        assert_eq!(again.plan.steps, [], "state {bits:09b}");
        let served = have.storage_target && have.mounts["vms"] == Mount::Mounted;
        assert!(
            served || !again.waiting.is_empty() || !again.faults.is_empty() || is(5),
            "silent in {bits:09b}"
        );
        states += 1;
    }
    assert!(states > 300);
    assert_eq!(path_of("n1:/a/b"), "/a/b");
}
