use super::*;
use crate::engine::NodeState;

fn node(name: &str) -> NodeState {
    NodeState { name: name.into(), online: true, drained: false, unclean: false }
}

fn three() -> Engine {
    Engine { nodes: ["n1", "n2", "n3"].map(node).to_vec(), ..Engine::default() }
}

fn quorum(votes: u32) -> Quorum {
    Quorum { quorate: votes >= 2, votes, expected: 3, needed: 2 }
}

#[allow(clippy::unnecessary_wraps, reason = "it is what the gate takes")]
fn storage(heal: Option<u64>, age: u64) -> Known {
    Ok((Storage { measured_at: String::new(), healthy: true, quorum: true, heal_pending: heal }, age))
}

fn why(engine: &Engine, votes: u32, storage: &Known) -> String {
    reasons("n2", engine, Some(&quorum(votes)), storage).join("; ")
}

#[test]
fn a_node_of_three_can_be_missed_when_all_is_well() {
    assert_eq!(why(&three(), 3, &storage(Some(0), 20)), "");
}

#[test]
fn not_when_the_quorum_would_go() {
    let mut engine = three();
    engine.nodes[2].online = false;
    let told = why(&engine, 2, &storage(Some(0), 20));
    assert_eq!(told, "without n2 the cluster would lose its quorum: 2 of 3 votes are there, 2 are needed");
    assert!(why(&engine, 1, &storage(Some(0), 20)).contains("has no quorum"));
    assert_eq!(reasons("n2", &three(), None, &storage(Some(0), 20)), ["corosync does not tell its quorum"]);
    // Whoever is away takes no vote along.
    assert!(reasons("n3", &engine, Some(&quorum(2)), &storage(Some(0), 20)).is_empty());
}

#[test]
fn not_while_anything_heals_or_nobody_knows() {
    assert!(
        why(&three(), 3, &storage(Some(7), 20)).starts_with("7 entries wait for healing (measured 20 s ago)")
    );
    assert!(why(&three(), 3, &storage(None, 20)).contains("nobody knows what waits"));
    assert!(why(&three(), 3, &storage(Some(0), 301)).contains("301 s old"));
    assert!(why(&three(), 3, &Err("storage.json: not there".into())).contains("storage.json: not there"));
    let mut known = storage(Some(0), 1);
    if let Ok((storage, _)) = &mut known {
        storage.quorum = false;
        storage.healthy = false;
    }
    assert_eq!(
        why(&three(), 3, &known),
        "a volume has no quorum; the storage is not healthy\n  pc-gluster status"
    );
}

/// It votes and holds its bricks until it is switched off, which may be in the next moment.
#[test]
fn not_while_another_one_is_drained() {
    let mut engine = three();
    engine.nodes[0].drained = true;
    let told = why(&engine, 3, &storage(Some(0), 1));
    assert_eq!(told, "n1 is drained: one node at a time\n  pc-ha undrain n1");
    assert!(reasons("n1", &engine, Some(&quorum(3)), &storage(Some(0), 1)).is_empty(), "asked for again");
    engine.nodes[0].online = false;
    let told = why(&engine, 2, &storage(Some(0), 1));
    assert_eq!(told, "without n2 the cluster would lose its quorum: 2 of 3 votes are there, 2 are needed");
}

/// 20 s of age are 20.0 to 20.9.
#[test]
fn a_report_from_before_says_nothing_of_now() {
    assert!(measured_within(storage(Some(0), 20), 21).is_ok());
    let stale = measured_within(storage(Some(0), 20), 20);
    let told = "nobody knows how the storage is: it is measured every minute, and was not yet";
    assert_eq!(storage_reasons(&stale), [told]);
    assert_eq!(measured_within(Err("not there".into()), 20), Err("not there".into()));
}

#[test]
fn not_when_nobody_could_take_over() {
    let mut engine = three();
    engine.nodes[0].online = false;
    engine.nodes[2].online = false;
    assert!(
        why(&engine, 3, &storage(Some(0), 1)).ends_with("no other node is there to take the VMs of n2 over")
    );
    let mut lost = three();
    lost.nodes[2].unclean = true;
    assert!(why(&lost, 3, &storage(Some(0), 1)).contains("n3 was lost"));
    let maintenance = Engine { maintenance: true, ..three() };
    assert!(why(&maintenance, 3, &storage(Some(0), 1)).contains("maintenance mode is on"));
}
