//! What each table says, for each way in which a thing can be.

use super::*;
use crate::verdict::Finding;

pub fn volume(name: &str) -> Volume {
    Volume {
        name: name.into(),
        started: true,
        mounted: true,
        quorum: true,
        bricks: 3,
        bricks_online: 3,
        heal_pending: Some(0),
        split_brain: None,
    }
}

fn vm(name: &str, state: &str, here: bool, should: Option<bool>) -> Vm {
    Vm { name: name.into(), state: state.into(), reason: None, here, should_run_here: should }
}

fn backup(taken_at: Option<&str>, overdue: Option<bool>) -> Backup {
    Backup {
        vm: "mail".into(),
        policy: "daily".into(),
        taken_at: taken_at.map(Into::into),
        overdue,
        last_error: None,
        verified_at: None,
        drill_wanted: Some(true),
        drilled_at: None,
        drill_rto_seconds: None,
        drill_error: None,
    }
}

fn looked(name: &str) -> Looked {
    Looked {
        reachable: true,
        generation: Some(4),
        version: Some("0.1.0".into()),
        ..Looked::unreachable(name.into())
    }
}

fn verdict(nodes: Vec<Looked>, found: Vec<Finding>) -> Verdict {
    Verdict::new("home", "node1", "2026-01-02T03:04:05Z".into(), nodes, found)
}

/// The rows of a table as `Tone: cell | cell`.
fn rows(verdict: &Verdict, title: &str) -> Vec<String> {
    let tables = tables(verdict);
    let table = tables.iter().find(|table| table.title == title);
    let line = |row: &Row| format!("{:?}: {}", row.tone, row.cells.join(" | "));
    table.map(|table| table.rows.iter().map(line).collect()).unwrap_or_default()
}

#[test]
fn nodes_and_what_is_told_of_them() {
    let finding = |severity, nodes: &[&str]| Finding {
        severity,
        check: "ha".into(),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        fault: "x".into(),
        remedy: "y".into(),
    };
    let nodes = vec![looked("node1"), looked("node2"), looked("node3"), Looked::unreachable("node4".into())];
    let found = vec![
        finding(Severity::Problem, &["node2"]),
        finding(Severity::Warning, &["node2"]),
        Finding { check: "ovs".into(), ..finding(Severity::Warning, &["node3"]) },
    ];
    let verdict = verdict(nodes, found);
    let expected = [
        "Well: node1 | well | generation 4 | 0.1.0",
        "Bad: node2 | 1 problem, 1 warning | generation 4 | 0.1.0",
        "Weak: node3 | 1 warning | generation 4 | 0.1.0",
        "Bad: node4 | gives no verdict |  | ",
    ];
    assert_eq!(rows(&verdict, "Nodes"), expected);
    assert_eq!(tables(&verdict).len(), 1, "of what there is nothing, there is no table");
}

#[test]
fn a_volume_is_what_the_worst_placed_node_sees() {
    let seen = |change: fn(&mut Volume)| {
        let mut nodes = [looked("node1"), looked("node2")];
        for node in &mut nodes {
            node.volumes = vec![volume("vms")];
        }
        change(&mut nodes[1].volumes[0]);
        rows(&verdict(nodes.to_vec(), Vec::new()), "Volumes").join("\n")
    };
    assert_eq!(seen(|_| {}), "Well: vms | well | 3 of 3 | nothing | node1, node2");
    assert_eq!(
        seen(|one| one.bricks_online = 2),
        "Weak: vms | works without a brick | 2 of 3 | nothing | node1, node2"
    );
    assert_eq!(seen(|one| one.heal_pending = Some(1)), "Weak: vms | heals | 3 of 3 | 1 entry | node1, node2");
    assert_eq!(seen(|one| one.mounted = false), "Bad: vms | not mounted on node2 | 3 of 3 | nothing | node1");
    assert_eq!(
        seen(|one| one.split_brain = Some(7)),
        "Bad: vms | split-brain: 7 | 3 of 3 | nothing | node1, node2"
    );
    assert_eq!(
        seen(|one| (one.quorum, one.bricks_online) = (false, 1)),
        "Bad: vms | no quorum on node2 | 1 of 3 | nothing | node1, node2"
    );
    assert!(seen(|one| one.started = false).starts_with("Bad: vms | not started"));
    let mut alone = looked("node1");
    alone.volumes = vec![Volume { heal_pending: None, ..volume("vms") }];
    assert_eq!(
        rows(&verdict(vec![alone], Vec::new()), "Volumes"),
        ["Unknown: vms | healing not known | 3 of 3 | not known | node1"]
    );
}

#[test]
fn a_machine_runs_once_or_it_is_said() {
    let of = |first: &Vm, second: Option<&Vm>| {
        let mut nodes = vec![looked("node1"), Looked::unreachable("node2".into())];
        nodes[0].vms = vec![first.clone()];
        if let Some(second) = second {
            nodes[1] = Looked { vms: vec![second.clone()], ..looked("node2") };
        }
        rows(&verdict(nodes, Vec::new()), "Virtual machines").join("\n")
    };
    let (runs, off) = (vm("mail", "running", true, Some(true)), vm("mail", "shut off", false, Some(false)));
    assert_eq!(of(&runs, Some(&off)), "Well: mail | running | node1");
    assert_eq!(of(&runs, Some(&runs)), "Bad: mail | in several places at once | node1, node2");
    let should = vm("mail", "shut off", false, Some(true));
    assert_eq!(of(&off, Some(&should)), "Bad: mail | does not run, and should | ");
    let stranger = vm("mail", "running", true, Some(false));
    assert_eq!(of(&stranger, Some(&should)), "Weak: mail | running, and should on node2 | node1");
    // Pacemaker decides, and has not.
    let undecided = vm("mail", "shut off", false, None);
    assert_eq!(of(&undecided, Some(&undecided)), "Unknown: mail | does not run | ");
    // A node that says nothing may run it, and so may one whose libvirt does not answer.
    assert_eq!(of(&off, None), "Unknown: mail | may run on node2 | ");
    let deaf = vm("mail", "unknown", false, Some(false));
    assert_eq!(of(&deaf, Some(&off)), "Unknown: mail | may run on node1 | ");
    let paused = Vm { state: "paused".into(), reason: Some("I/O error".into()), ..runs };
    assert_eq!(of(&paused, None), "Bad: mail | paused: I/O error | node1");
    let mut alone = looked("node1");
    alone.vms = vec![off];
    assert_eq!(
        rows(&verdict(vec![alone], Vec::new()), "Virtual machines"),
        ["Unknown: mail | not on this node | "]
    );
}

#[test]
fn a_backup_and_who_knows_of_it() {
    let of = |told: &[Backup]| {
        let nodes = told.iter().map(|one| Looked { backups: vec![one.clone()], ..looked("node1") }).collect();
        rows(&verdict(nodes, Vec::new()), "Backups").join("\n")
    };
    let taken = Some("2026-01-02T00:04:05Z");
    assert_eq!(
        of(&[backup(taken, Some(false))]),
        "Well: mail | daily | 2026-01-02 00:04 UTC, 3 h old | in time | never | never"
    );
    // A node without the volume, and one that has not looked again since.
    let verified = Backup { verified_at: Some("2025-12-30T03:04:05Z".into()), ..backup(taken, Some(false)) };
    assert_eq!(
        of(&[backup(None, None), verified, backup(Some("2026-01-01T00:04:05Z"), Some(true))]),
        "Well: mail | daily | 2026-01-02 00:04 UTC, 3 h old | in time | 3 d ago | never"
    );
    assert_eq!(of(&[backup(None, None)]), "Unknown: mail | daily | not known | not known | never | never");
    assert_eq!(of(&[backup(None, Some(true))]), "Bad: mail | daily | none | overdue | never | never");
    let failed = Backup { last_error: Some("no space\nmore".into()), ..backup(taken, Some(false)) };
    assert!(of(&[failed]).contains(" | the last attempt failed: no space | "));
    // Rehearsals.
    let rehearsed = |change: fn(&mut Backup)| {
        let mut one = backup(taken, Some(false));
        change(&mut one);
        let line = of(&[one, backup(None, None)]);
        (line.split(':').next().unwrap().to_string(), line.rsplit(" | ").next().unwrap().to_string())
    };
    let came_up = |one: &mut Backup| {
        (one.drilled_at, one.drill_rto_seconds) = (Some("2025-12-31T03:04:05Z".into()), Some(240));
    };
    assert_eq!(rehearsed(came_up), ("Well".into(), "2 d ago, up after 4 min".into()));
    assert_eq!(rehearsed(|one| one.drill_wanted = Some(false)), ("Well".into(), "not wanted".into()));
    let failed = |one: &mut Backup| one.drill_error = Some("no sign of life\nmore".into());
    assert_eq!(rehearsed(failed), ("Weak".into(), "failed: no sign of life".into()));
}

#[test]
fn spans_of_time() {
    let of = |seconds| span(Duration::seconds(seconds));
    assert_eq!([of(-5), of(119), of(120), of(7_199)], ["0 s", "119 s", "2 min", "119 min"]);
    assert_eq!([of(7_200), of(172_799), of(172_800)], ["2 h", "47 h", "2 d"]);
}
