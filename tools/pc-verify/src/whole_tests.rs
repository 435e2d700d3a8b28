//! Nodes held side by side.

use time::macros::datetime;

use super::*;
use crate::there;
use crate::verdict::{Check, State};

const ASKED: OffsetDateTime = datetime!(2026-01-02 03:04:00 UTC);
const ANSWERED: OffsetDateTime = datetime!(2026-01-02 03:04:04 UTC);

fn verdict(node: &str, found: Vec<Finding>) -> Verdict {
    let measured_at = "2026-01-02T03:04:02Z".to_string();
    let looked = Looked {
        reachable: true,
        measured_at: Some(measured_at.clone()),
        version: Some("0.1.0".into()),
        generation: Some(4),
        sha256: Some("ab".into()),
        seconds: 1.5,
        checks: vec![Check { name: "config".into(), state: State::Well, seconds: 0.5 }],
        ..Looked::unreachable(node.into())
    };
    Verdict::new("home", node, measured_at, vec![looked], found)
}

fn other(node: &str, verdict: Result<Verdict, String>) -> Other {
    Other { node: node.into(), verdict, asked: (ASKED, ANSWERED) }
}

fn problem(node: &str, fault: &str) -> Finding {
    Finding {
        severity: Severity::Problem,
        check: "ha".into(),
        nodes: vec![node.into()],
        fault: fault.into(),
        remedy: "pc-ha status".into(),
    }
}

/// Of one look.
fn merge(own: Verdict, others: Vec<Other>) -> Verdict {
    super::merge(own, others, &BTreeSet::new())
}

fn three(change: impl FnOnce(&mut Verdict)) -> Verdict {
    let mut second = verdict("node2", Vec::new());
    change(&mut second);
    merge(
        verdict("node1", Vec::new()),
        vec![other("node2", Ok(second)), other("node3", Ok(verdict("node3", Vec::new())))],
    )
}

/// The only finding.
fn only(verdict: &Verdict) -> (&str, &str, &[String]) {
    assert_eq!(verdict.findings.len(), 1, "{:?}", verdict.findings);
    let finding = &verdict.findings[0];
    (&finding.fault, &finding.remedy, &finding.nodes)
}

#[test]
fn three_that_agree_are_healthy() {
    let whole = three(|_| {});
    assert_eq!(whole.findings, []);
    assert!(whole.healthy);
    assert_eq!(whole.to_string(), "home: healthy, 3 of 3 nodes looked at\n");
}

#[test]
fn another_file_generation() {
    let whole = three(|node| node.nodes[0].generation = Some(3));
    let fault = "the nodes have different files in force: node2 has generation 3, node3 has 4";
    assert_eq!(only(&whole), (fault, "pc-config push, on node3", &["node2".to_string()][..]));
    // Two made the same number.
    let whole = three(|node| node.nodes[0].sha256 = Some("cd".into()));
    assert!(only(&whole).0.contains("generation 4, another one"), "{whole}");
    let whole = three(|node| node.nodes[0].generation = None);
    assert!(only(&whole).0.contains("node2 has generation none"), "{whole}");
}

#[test]
fn another_version() {
    let whole = three(|node| node.nodes[0].version = Some("0.2.0".into()));
    let fault = "the nodes have different versions: node1 0.1.0, node2 0.2.0, node3 0.1.0";
    assert_eq!(only(&whole).0, fault);
    assert!(whole.healthy, "in the middle of an upgrade nothing is wrong");
}

#[test]
fn a_drifted_clock() {
    let whole = three(|node| node.measured_at = "2026-01-02T03:05:00Z".into());
    let expected = ("the clock of node2 is 56 s ahead of this one", "timedatectl timesync-status, on node2");
    assert_eq!((only(&whole).0, only(&whole).1), expected);
    let whole = three(|node| node.measured_at = "2026-01-02T03:03:50Z".into());
    assert_eq!(only(&whole).0, "the clock of node2 is 10 s behind this one");
    // Within what the question took, and the tolerance.
    for time in ["2026-01-02T03:03:58.1Z", "2026-01-02T03:04:05.9Z"] {
        assert_eq!(three(|node| node.measured_at = time.into()).findings, []);
    }
}

#[test]
fn a_dead_node_and_what_the_others_say_of_it() {
    let say = |node: &str| verdict(node, vec![problem(node, "node node3 is away")]);
    let dead = "node3 cannot be reached: No route to host".to_string();
    let whole = merge(say("node1"), vec![other("node2", Ok(say("node2"))), other("node3", Err(dead))]);
    assert!(!whole.healthy);
    crate::golden("cluster.json", &(serde_json::to_string_pretty(&whole).unwrap() + "\n"));
    crate::golden("cluster.txt", &whole.to_string());
    let refused = "node3 refuses: gate\n  compare `pc-trust status` of both".to_string();
    let whole = merge(verdict("node1", Vec::new()), vec![other("node3", Err(refused))]);
    assert_eq!(only(&whole).1, "compare `pc-trust status` of both");
}

#[test]
fn a_node_speaks_for_itself_only() {
    let mut liar = verdict("node2", vec![problem("node1", "x")]);
    liar.nodes.push(liar.nodes[0].clone());
    let whole = merge(verdict("node1", Vec::new()), vec![other("node2", Ok(liar))]);
    assert_eq!(whole.nodes.len(), 2);
    assert_eq!(only(&whole).2, ["node2".to_string()]);
}

#[test]
fn a_vm_that_runs_twice() {
    let vm = |state: &str| there::Vm {
        name: "mail".into(),
        state: state.into(),
        reason: None,
        here: true,
        should_run_here: None,
    };
    let look = |ours: &[&str], theirs: &[&str]| {
        let mut own = verdict("node1", Vec::new());
        own.nodes[0].vms = ours.iter().map(|state| vm(state)).collect();
        let mut second = verdict("node2", Vec::new());
        second.nodes[0].vms = theirs.iter().map(|state| vm(state)).collect();
        (own, vec![other("node2", Ok(second)), other("node3", Err("No route to host".into()))])
    };
    let (own, others) = look(&["running"], &["running"]);
    let twice = doubtful(&own, &others);
    let at = |node: &str| ("mail".to_string(), node.to_string());
    assert_eq!(twice, BTreeSet::from([at("node1"), at("node2")]));
    let whole = super::merge(own.clone(), others[..1].to_vec(), &twice);
    let fault = "vm mail runs on node1 and on node2 at once: each writes to its disk";
    let remedy = "pc-vm list; if it is still so: virsh destroy mail, on the node that is not its owner and whose QEMU has lost the disk's lock, by `pc-vm status` of both";
    assert_eq!(only(&whole), (fault, remedy, &["node1".to_string(), "node2".to_string()][..]));
    assert!(!whole.healthy);
    // A second look has found it on one of them only.
    let gone = BTreeSet::from([at("node2")]);
    assert_eq!(super::merge(own, others[..1].to_vec(), &gone).findings, []);
    // Where it is moved to, it stands still until it has left.
    for (ours, theirs) in [(&["running"][..], &["paused"][..]), (&["running"], &[]), (&[], &["running"])] {
        let (own, others) = look(ours, theirs);
        assert_eq!(doubtful(&own, &others), BTreeSet::new());
    }
}
