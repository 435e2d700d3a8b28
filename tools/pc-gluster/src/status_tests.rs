use super::*;
use crate::gate::gate;
use crate::heal::{Heal, VolumeHeal};
use crate::plan::tests::{blank, brick, running, want};
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
        all: all.map(|counts| ("vms".to_string(), answered(counts))).into_iter().collect(),
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
        ]
    );
    golden("gate-closed", &answer);
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
