//! `pc-ha maintenance`, and what waits for its end: who is asked for what, in which order.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod engines;
mod stage;

use engines::scene;

/// Without pacemaker a node feeds its watchdog whatever happens to it: no record may say that its fencing is proof.
#[test]
fn the_records_are_nobody_s_before_pacemaker_stops_and_its_own_again_after() {
    let scene = scene(true);
    let told = scene.ends(0, &["maintenance", "on"]);
    assert!(told.contains("nobody is fenced; end it with: pc-ha maintenance off\n"), "{told}");
    assert!(scene.is_on());
    let begun = [
        "node2 release",
        "node3 release",
        "systemd stop pc-ha.service",
        "pc-vm --applied release",
        "node2 stop",
        "node3 stop",
        "systemd stop pacemaker.service",
    ];
    assert_eq!(scene.asked(), begun);
    scene.ends(0, &["maintenance", "off"]);
    assert!(!scene.is_on());
    let ended = [
        "systemd start pacemaker.service",
        "node2 start",
        "node3 start",
        "node2 adopt",
        "node3 adopt",
        "systemd restart pc-ha.service",
    ];
    assert_eq!(scene.asked(), ended);
    // It has ended; that a node is not armed yet is said, and asked again by the unit.
    scene.stage.write("ends", "failed");
    let told = scene.ends(75, &["maintenance", "off"]);
    assert!(told.contains("the VMs are not all noted as pacemaker's yet: a node that dies keeps those down; pc-ha.service asks again: "), "{told}");
    assert!(
        told.ends_with("pc-ha.service: its job ended as failed\n  systemctl status pc-ha.service\n"),
        "{told}"
    );
}

#[test]
fn maintenance_does_not_begin_while_a_record_says_that_fencing_is_proof() {
    let scene = scene(true);
    scene.stage.write("refuse-node3", "");
    let told = scene.ends(75, &["maintenance", "on"]);
    assert!(told.contains("maintenance did not begin: "), "{told}");
    assert!(told.contains("vm mail is still noted as pacemaker's: /mnt/vms is not mounted"), "{told}");
    assert!(!scene.is_on());
    let asked = scene.asked();
    assert!(
        !asked.iter().any(|line| line.ends_with(" stop") || line.contains("pacemaker.service")),
        "{asked:?}"
    );
    assert!(asked.ends_with(&["systemd restart pc-ha.service".into()]), "{asked:?}");
}

/// It would come back in the middle, with a configuration of before.
#[test]
fn a_node_that_is_away_is_named() {
    let scene = scene(false);
    scene.stage.simulate(&["--node-down", "node2"]);
    let before = scene.stage.read("cib.xml");
    let told = scene.ends(75, &["maintenance", "on"]);
    assert!(told.contains("node2 is away: maintenance would not reach what is not there"), "{told}");
    assert!(
        told.ends_with(
            "\n  switched off until maintenance is over, for certain: pc-ha maintenance on --dead node2\n"
        ),
        "{told}"
    );
    assert_eq!((scene.stage.read("cib.xml"), scene.asked()), (before, Vec::new()));
    scene.ends(0, &["maintenance", "on", "--dead", "node2"]);
    assert!(!scene.asked().iter().any(|line| line.starts_with("node2")));
    // Its VMs start elsewhere by the word of whoever says that it is dead, which is noted before pacemaker is in charge.
    scene.ends(0, &["maintenance", "off", "--dead", "node2"]);
    let ended = [
        "systemd start pacemaker.service",
        "node3 start",
        "pc-vm --applied disown mail --owner-is-dead node2",
        "node3 adopt",
        "systemd restart pc-ha.service",
    ];
    assert_eq!(scene.asked(), ended);
}

#[test]
fn nobody_waits_for_a_node_that_was_lost_and_may_live() {
    let scene = scene(true);
    let before = scene.stage.read("cib.xml");
    let state = before.lines().find(|line| line.contains("<node_state") && line.contains("node2")).unwrap();
    let lost = state
        .replace(r#"crmd="online""#, r#"crmd="offline""#)
        .replace(r#"in_ccm="true""#, r#"in_ccm="false""#);
    scene.stage.write("cib.xml", &before.replace(state, &lost));
    let cib = scene.stage.read("cib.xml");
    let told = scene.ends(75, &["maintenance", "on", "--dead", "node2"]);
    let unclean = "node2 was lost and is not yet known to be dead\n  pc-ha status\n";
    assert!(told.ends_with(unclean) && scene.stage.read("cib.xml") == cib, "{told}");
}

#[test]
fn in_maintenance_nothing_starts_and_nothing_is_adopted() {
    let scene = scene(false);
    scene.stage.simulate(&["--node-down", "node2"]);
    scene.ends(0, &["maintenance", "on", "--dead", "node2"]);
    scene.asked();
    for arguments in [&["start", "mail", "--owner-is-dead", "node2"][..], &["start", "mail"]] {
        let told = scene.ends(75, arguments);
        let waits = "maintenance mode is on: pacemaker starts nothing, and has fenced nobody\n  pc-ha maintenance off\n";
        assert!(told.ends_with(waits), "{told}");
    }
    // All of it is in force, and still nobody would be fenced.
    scene.stage.write("var/lib/personal-cluster/ha-enabled", "");
    scene.stage.write("proc/77/comm", "sbd\n");
    scene.stage.write("sys/class/watchdog/watchdog0/state", "active\n");
    let told = scene.ends(75, &["apply"]);
    assert!(
        told.ends_with("are not pacemaker's yet: maintenance mode is on\n  pc-ha maintenance off\n"),
        "{told}"
    );
    assert_eq!(scene.asked(), Vec::<String>::new());
}

/// As it was switched off: maintenance is in the CIB that all nodes keep.
#[test]
fn enable_says_that_maintenance_is_on_from_before() {
    let scene = scene(true);
    scene.ends(0, &["maintenance", "on"]);
    let stage = &scene.stage;
    stage.write("cib.xml", &stage.read("cib.xml").replacen("<cib ", "<cib dc-uuid=\"15687\" ", 1));
    stage.write("run/personal-cluster/secrets/corosync.authkey", "");
    let nodes = ["node1", "node2", "node3"];
    let nodes: Vec<_> = (50..)
        .zip(nodes)
        .map(|(last, name)| serde_json::json!({"name": name, "address": format!("192.168.0.{last}/24")}))
        .collect();
    let applied =
        serde_json::json!({"schema": "personal-cluster/1", "name": "home", "ha": {}, "node": nodes});
    stage.write("var/lib/personal-cluster/applied.json", &applied.to_string());
    let told = scene.ends(75, &["enable"]);
    let waits = "pacemaker leaves everything alone: maintenance mode is on, from before\n  \
                 pc-ha enable on every node, then on one of them: pc-ha maintenance off\n";
    assert!(told.ends_with(waits), "{told}");
    assert!(stage.at("var/lib/personal-cluster/ha-enabled").exists(), "the rest of it is done");
    assert!(scene.asked().ends_with(&["systemd start pc-ha.service".into()]));
}
