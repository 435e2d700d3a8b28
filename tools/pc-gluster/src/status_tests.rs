use super::*;
use crate::gate::gate;
use crate::heal::{Heal, VolumeHeal};
use crate::plan::tests::{blank, brick, peer, running, want};
use crate::storage::Storage;
use crate::xml;

/// Compares with the sample of this output that docs/json is checked against; `UPDATE_GOLDEN=1` rewrites it.
fn golden(name: &str, value: &impl Serialize) {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{path}");
}

fn answered(counts: [Option<u64>; 3]) -> Vec<BrickHeal> {
    let bricks = ["n1", "n2", "n3"].iter().zip(counts);
    let answer = |(node, pending): (&&str, Option<u64>)| BrickHeal {
        brick: brick(node, "vms", 0),
        connected: pending.is_some(),
        pending,
        split_brain: pending.map(|_| 0),
    };
    bricks.map(answer).collect()
}

fn backlog(own: &str, count: u64, all: Option<[Option<u64>; 3]>) -> Backlog {
    Backlog {
        own: [(brick(own, "vms", 0), Some(count))].into(),
        all: all.map(|counts| ("vms".to_string(), Some(answered(counts)))).into_iter().collect(),
    }
}

/// Three nodes with everything in order, seen from n1, every brick asked.
fn healthy() -> Status {
    let (want, have) = running("n1");
    Status::new(&want, &have, true, &backlog("n1", 0, Some([Some(0); 3])))
}

/// n3 has died: its peer and its brick are gone, 7 entries wait for it.
fn degraded() -> Status {
    let (want, mut have) = running("n1");
    have.peers[1].connected = false;
    have.online.remove(&brick("n3", "vms", 0));
    Status::new(&want, &have, true, &backlog("n1", 7, Some([Some(7), Some(7), None])))
}

#[test]
fn a_heal_that_its_daemons_forgot_is_started_again() {
    let before = |pending| vec![("vms".to_string(), pending)];
    let (want, have) = running("n1");
    let waiting = Status::new(&want, &have, true, &backlog("n1", 7, Some([Some(7); 3])));
    assert_eq!(crate::heal::stuck(&waiting, &before(Some(9))), ["vms"]);
    // New since the last look: the daemons are at it. A brick is away: what waits for it cannot be healed.
    assert!(crate::heal::stuck(&waiting, &before(Some(0))).is_empty());
    assert!(crate::heal::stuck(&waiting, &[]).is_empty());
    assert!(crate::heal::stuck(&degraded(), &before(Some(7))).is_empty());
    assert!(crate::heal::stuck(&healthy(), &before(Some(7))).is_empty());
}

#[test]
fn everything_in_order() {
    let status = healthy();
    assert!(status.healthy, "{status:#?}");
    golden("status-healthy", &status);
    assert_eq!(
        status.to_string(),
        "n1: healthy\npeers: 3 of 3 connected\n\
         volume vms: started, mounted, 3 of 3 bricks online, quorum, no TLS, nothing to heal\n"
    );
    golden("storage", &Storage::new(&status, &[("local".into(), true)], "2026-01-02T03:04:05Z".into()));
    let answer = gate(&status, "n1");
    assert!(answer.open);
    golden("gate-open", &answer);
}

#[test]
fn a_dead_node_costs_health_but_not_quorum_and_closes_the_gate_for_the_others() {
    let status = degraded();
    assert_eq!((status.healthy, status.volumes[0].quorum), (false, true));
    assert_eq!(status.volumes[0].heal_pending, Some(14), "as far as bricks could be asked");
    golden("status-degraded", &status);
    assert!(status.to_string().contains("peers: 2 of 3 connected, not n3\n"));
    assert!(status.to_string().contains("\n  offline: n3-0 on n3\n"), "{status}");
    let answer = gate(&status, "n1");
    assert_eq!(
        answer.reasons,
        [
            "without n1 only 1 of 3 peers are connected: no server quorum",
            "volume vms: loses its quorum without n1",
            "volume vms: 14 entries to heal",
            &format!("volume vms: what is left to heal on {} is not known", brick("n3", "vms", 0)),
        ]
    );
    golden("gate-closed", &answer);
}

#[test]
fn a_brick_that_was_not_asked_closes_the_gate_and_is_no_zero() {
    let recorded = format!("{}/fixtures/10.3/heal-brick-unreachable.xml", env!("CARGO_MANIFEST_DIR"));
    let mut answers = xml::heal(&std::fs::read_to_string(recorded).unwrap()).unwrap();
    for (answer, node) in answers.iter_mut().zip(["n1", "n2", "n3"]) {
        answer.brick = brick(node, "vms", 0);
    }
    let (want, mut have) = running("n1");
    let asked = |have: &Have, answers: &[BrickHeal]| {
        let all = [("vms".to_string(), Some(answers.to_vec()))].into();
        Status::new(&want, have, true, &Backlog { all, ..backlog("n1", 0, None) })
    };
    let status = asked(&have, &answers);
    let unknown = brick("n3", "vms", 0);
    let volume = &status.volumes[0];
    assert_eq!((volume.heal_pending, volume.split_brain), (None, None));
    assert_eq!(volume.heal_scope, "all");
    assert_eq!(volume.heal_unknown, [unknown.as_str()]);
    assert!(status.to_string().contains(", heal backlog unknown"), "{status}");
    let storage = Storage::new(&status, &[], String::new());
    assert_eq!((storage.healthy, storage.heal_pending, storage.volumes[0].heal_pending), (false, None, None));
    let reason = format!("volume vms: what is left to heal on {unknown} is not known");
    assert_eq!(gate(&status, "n1").reasons, [reason.as_str()]);
    // The brick runs: it may be the only one that knows what others miss, also when it is its node that leaves.
    assert_eq!(gate(&status, "n3").reasons, [reason.as_str()]);
    have.online.remove(&unknown);
    assert_eq!(gate(&asked(&have, &answers), "n3").reasons, Vec::<String>::new(), "it is missed already");
    assert!(gate(&asked(&have, &answers), "n1").reasons.contains(&reason));
    // An answer that leaves a brick out altogether is none.
    assert_eq!(gate(&asked(&have, &answers[..2]), "n2").reasons.last(), Some(&reason));
}

#[test]
fn nothing_on_the_own_bricks_is_no_zero_when_the_others_should_have_answered() {
    let (want, have) = running("n1");
    let failed = |count| {
        let all = [("vms".to_string(), None)].into();
        Status::new(&want, &have, true, &Backlog { all, ..backlog("n1", count, None) }).volumes[0]
            .heal_pending
    };
    assert_eq!((failed(0), failed(3)), (None, Some(3)));
    let status = Status::new(&want, &have, false, &backlog("n1", 0, None));
    assert_eq!(status.volumes[0].heal_pending, None, "without glusterd nobody could be asked");
    let (want, mut have) = running("n1");
    let info = have.volumes.get_mut("vms").unwrap();
    info.replica = 1;
    let status = Status::new(&want, &have, false, &backlog("n1", 0, None));
    assert_eq!(status.volumes[0].heal_pending, Some(0), "single copies never heal");
}

#[test]
fn members_that_the_file_does_not_name_count_for_server_quorum() {
    let (want, mut have) = running("n1");
    have.peers.push(Peer { connected: false, ..peer("n4") });
    let asked = backlog("n1", 0, Some([Some(0); 3]));
    let status = Status::new(&want, &have, true, &asked);
    let text = status.to_string();
    assert!(text.contains("peers: 3 of 4 connected, not n4\n"), "{text}");
    assert!(text.contains("not in the file: peers n4\n"), "{text}");
    let fault =
        "peer n4: is away and not in the file, and still counts for server quorum\n  gluster peer detach n4";
    assert_eq!((status.healthy, status.faults.clone()), (false, vec![fault.to_string()]));
    golden("status-stranger", &status);
    // Two of four would be left: glusterd ends every brick.
    let answer = gate(&status, "n3");
    let reason = "without n3 only 2 of 4 peers are connected: no server quorum (not in the file: n4)";
    assert_eq!(answer.reasons, [format!("{reason}\n  gluster peer detach n4")]);
    assert_eq!(answer.to_string(), format!("n3: must stay\n  {reason}\n    gluster peer detach n4\n"));
    // Connected it helps: three of four are left.
    have.peers[2].connected = true;
    let status = Status::new(&want, &have, true, &asked);
    assert!(status.healthy && gate(&status, "n3").open, "{status:#?}");
    // One that does not lead leaves the pool to the leader, but its gate counts the same.
    let (want, mut have) = running("n2");
    have.peers.push(Peer { connected: false, ..peer("n4") });
    let status = Status::new(&want, &have, true, &backlog("n2", 0, Some([Some(0); 3])));
    assert_eq!((status.faults.len(), gate(&status, "n2").open), (0, false));
}

#[test]
fn the_gate_does_not_trust_a_count_of_the_own_bricks() {
    let (want, have) = running("n2");
    let status = Status::new(&want, &have, true, &backlog("n2", 0, None));
    assert!(status.healthy);
    let reasons = gate(&status, "n2").reasons;
    assert_eq!(reasons, ["volume vms: its bricks could not be asked what is left to heal"]);
}

#[test]
fn one_copy_may_leave_and_says_what_stops() {
    let want = want("n1", 1, 1, 1);
    let mut have = blank(&want);
    for step in crate::plan::plan(&want, &have).plan.steps {
        crate::plan::tests::done(&want, &mut have, &step.action);
    }
    let status = Status::new(&want, &have, true, &Backlog::default());
    let answer = gate(&status, "n1");
    assert!(answer.open, "{answer:#?}");
    assert_eq!(answer.stops, ["volume vms: keeps one copy, which is on n1"]);
}

#[test]
fn a_dead_disk_is_named() {
    let (want, mut have) = running("n1");
    have.bricks[0].mounted = false;
    have.online.remove(&brick("n1", "vms", 0));
    let status = Status::new(&want, &have, true, &Backlog::default());
    assert_eq!(status.faults, [format!("brick {}: is not mounted (disk n1-0)", brick("n1", "vms", 0))]);
    assert_eq!(
        (status.healthy, status.volumes[0].quorum, status.volumes[0].heal_pending),
        (false, true, None)
    );
}

#[test]
fn without_glusterd_nothing_is_claimed() {
    let want = want("n1", 3, 1, 3);
    let status = Status::new(&want, &blank(&want), false, &Backlog::default());
    assert_eq!((status.healthy, status.glusterd, status.leader.clone()), (false, false, None));
    assert_eq!((status.waiting.len(), status.faults.len()), (0, 1));
    let storage = Storage::new(&status, &[], String::new());
    assert_eq!((storage.healthy, storage.quorum, storage.heal_pending), (false, false, None));
}

#[test]
fn printed_plans_and_heals_have_their_shape() {
    let want = want("n1", 3, 1, 3);
    golden("plan-first", &crate::plan::plan(&want, &blank(&want)));
    let want = Want { node: "n2".into(), ..want };
    golden("plan-waiting", &crate::plan::plan(&want, &blank(&want)));
    let cost = pc_run::Cost { seconds: 21.5, external_calls: 31, external_seconds: 19.25 };
    let done = vec!["volume-create/vms".into(), "volume-start/vms".into()];
    golden("apply", &pc_plan::Applied::new(crate::APPLIED, "n1", done, cost));
    let recorded = format!("{}/fixtures/11.1/heal-brick-offline.xml", env!("CARGO_MANIFEST_DIR"));
    let bricks = xml::heal(&std::fs::read_to_string(recorded).unwrap()).unwrap();
    let heal = Heal { schema: "pc.gluster.heal/1", volumes: vec![VolumeHeal { name: "vms".into(), bricks }] };
    assert_eq!((heal.is_done(), heal.pending()), (false, 16));
    golden("heal", &heal);
    assert!(heal.to_string().contains("  node2:/srv/bricks/vms/a2/brick: cannot be asked\n"));
}
