//! What a person says of a node that is gone, against what shows it to be alive.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use stage::{Stage, line, said};

const START: [&str; 4] = ["start", "mail", "--owner-is-dead", "node2"];

/// `mail` is stopped, and node2, its home, has left in order: switched off.
fn without_node2() -> Stage {
    let stage = Stage::running();
    stage.pc_vm();
    stage.pc_ha(&["stop", "mail"]);
    stage.simulate(&["--node-down", "node2"]);
    stage
}

#[test]
fn a_node_that_is_alive_is_not_called_dead() {
    let stage = Stage::running();
    stage.pc_vm();
    stage.pc_ha(&["stop", "mail"]);
    stage.simulate(&[]);
    let refusal = |arguments: &[&str], address: &str, told: &str| {
        let output = stage.pc_ha_in_network(address, arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(told), "{}", said(&output));
        assert_eq!(stage.pc_vm_log(), "", "pc-vm was not even asked");
    };
    refusal(&START, "", "--owner-is-dead node2: node2 is alive: pacemaker runs there");
    refusal(&["start", "mail", "--owner-is-dead", "node1"], "", "node1 is alive: this is it");
    stage.simulate(&["--node-down", "node2"]);
    refusal(&START, "192.168.0.51/32", "node2 is alive: it answers at 192.168.0.51");
    let listed = stage::QUORUM.replace("1 node1 (local)", "1 node1 (local)\n         2          1 node2");
    stage.program("corosync-quorumtool", &format!("#!/bin/sh\ncat <<'E'\n{listed}E\n"));
    refusal(&START, "", "node2 is alive: it is a member of corosync's");
}

#[test]
fn a_vm_that_a_dead_node_might_run_is_started_by_a_claim() {
    let stage = without_node2();
    let output = stage.pc_ha_in_network("", &["start", "mail"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let remedy =
        "node2 is away\n  when node2 is switched off for certain: pc-ha start mail --owner-is-dead node2";
    assert!(said(&output).contains(remedy), "{}", said(&output));
    assert_eq!(stage.pc_vm_log(), "");
    // pc-vm asks the others, and one of them runs it.
    stage.write("refuse", "");
    let output = stage.pc_ha_in_network("", &START);
    assert_eq!((output.status.code(), said(&output).contains("vm mail: runs on node3")), (Some(2), true));
    std::fs::remove_file(stage.at("refuse")).unwrap();
    let output = stage.pc_ha_in_network("", &START);
    assert_eq!(output.status.code(), Some(75), "nobody carries it out: {}", said(&output));
    assert!(stage.pc_vm_log().ends_with("--applied disown mail --owner-is-dead node2\n"));
    let started = stage.simulate(&[]);
    assert!(line(&started, "pc-vm-mail").contains("Started node"), "{started}");
    // It runs: nothing is to be claimed of anybody.
    let calls = stage.pc_vm_log();
    let answer = stage.json(&START);
    assert_eq!((&answer["vm"], stage.pc_vm_log() == calls), (&"mail".into(), true), "{answer}");
}

/// Their records say so only when the watchdog is armed, sbd feeds it, and the cluster has a quorum.
#[test]
fn the_vms_of_a_node_become_pacemaker_s_when_it_can_be_fenced() {
    let stage = Stage::running();
    stage.pc_vm();
    let apply = || {
        let output = stage.pc_ha(&["apply"]);
        // The file of the stage says nothing of its nodes' memory.
        let told = said(&output);
        let note = told.find("warning: pacemaker does not count the memory").into_iter();
        let rest = note.fold(told.clone(), |_, at| {
            told[..at].to_string() + told[at..].splitn(3, '\n').nth(2).unwrap_or_default()
        });
        (output.status.code(), rest, stage.pc_vm_log())
    };
    assert_eq!(apply(), (Some(0), String::new(), String::new()), "not enabled: nothing of it");
    stage.write("var/lib/personal-cluster/ha-enabled", "");
    let waits = |reason: &str| {
        let (code, told, calls) = apply();
        assert_eq!((code, calls.as_str()), (Some(75), ""), "{told}");
        assert!(told.contains(&format!("are not pacemaker's yet: {reason}\n")), "{told}");
    };
    waits("sbd does not run");
    stage.write("proc/77/comm", "sbd\n");
    waits("the watchdog is not armed");
    stage.write("sys/class/watchdog/watchdog0/state", "active\n");
    stage.quorum(1);
    waits("the cluster has no quorum");
    stage.quorum(3);
    assert_eq!(apply(), (Some(0), String::new(), "--applied adopt\n".into()));
    // What pc-vm says is what apply says: its unit asks again.
    stage.program("pc-vm", "#!/bin/sh\necho 'error: vm mail: n2 owns it' >&2; exit 75\n");
    let (code, told, _) = apply();
    assert_eq!((code, told.as_str()), (Some(75), "error: vm mail: n2 owns it\n"));
}

#[test]
fn maintenance_neither_begins_nor_ends_without_a_node_that_is_alive() {
    let stage = Stage::running();
    stage.simulate(&["--node-down", "node2"]);
    for (address, arguments, told) in [
        (
            "192.168.0.51/32",
            ["maintenance", "off", "--dead", "node2"],
            "--dead node2: node2 is alive: it answers at 192.168.0.51",
        ),
        ("", ["maintenance", "off", "--dead", "node3"], "node3 is alive: pacemaker runs there"),
        ("", ["maintenance", "off", "--dead", "node9"], "no [[node]] is called \"node9\""),
        ("", ["maintenance", "on", "--dead", "node3"], "node3 is alive: pacemaker runs there"),
        ("", ["maintenance", "on", "--dead", "node9"], "no [[node]] is called \"node9\""),
    ] {
        let before = stage.read("cib.xml");
        let output = stage.pc_ha_in_network(address, &arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(told), "{}", said(&output));
        assert_eq!(stage.read("cib.xml"), before, "nothing was touched");
    }
}
