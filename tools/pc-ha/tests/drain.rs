//! A node is drained, and taken back: what is in the way, and by whose word it can be missed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use stage::{Stage, line, said};

#[test]
fn a_node_that_is_drained_gives_its_vms_away_and_gets_them_back() {
    let stage = Stage::running();
    // With a CIB in a file nobody moves anything: the mark is set, and 75 says that the VM is still there.
    let output = stage.pc_ha(&["drain", "node2"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("mail still on node2"), "{}", said(&output));
    let drained = stage.simulate(&[]);
    assert!(!line(&drained, "pc-vm-mail").contains("node2"), "{drained}");
    // What the guests wrote while they moved: the report of before knows nothing of it.
    let output = stage.pc_ha(&["drain", "node2", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let told = "node2 has no VM any more, but: nobody knows how the storage is: it is measured every minute, and was not yet\n";
    assert!(said(&output).contains(told), "{}", said(&output));
    let answer = stage.measured(true, || stage.json(&["drain", "node2"]));
    assert_eq!((&answer["drained"], &answer["moved"]), (&true.into(), &serde_json::json!([])));
    let output = stage.measured(false, || stage.pc_ha(&["drain", "node2", "--timeout", "6"]));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(
        said(&output).contains("node2 cannot be missed now: the storage is not healthy\n"),
        "{}",
        said(&output)
    );
    stage.storage(0, true);
    let output = stage.pc_ha(&["drain", "node3"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let told = "node3 cannot be missed now: node2 is drained: one node at a time\n  pc-ha undrain node2\n";
    assert!(said(&output).ends_with(told), "{}", said(&output));
    // Standing by for a reboot that never came, besides.
    let until_boot = ["--node", "node2", "--name", "standby", "--lifetime", "reboot", "--update", "on"];
    stage.pacemaker("crm_attribute", &until_boot);
    let answer = stage.json(&["undrain", "node2", "--stay"]);
    assert_eq!(answer["drained"], false);
    assert!(!stage.read("cib.xml").contains(r#"name="standby""#), "{}", stage.read("cib.xml"));
    // It takes VMs again, and is asked for this one: the constraint that sends it is gone when the verb ends.
    let output = stage.pc_ha(&["move", "mail", "node2"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(!stage.read("cib.xml").contains("cli-prefer"), "no constraint is left behind");
}

#[test]
fn a_drain_that_would_hurt_is_refused() {
    let stage = Stage::running();
    let why = || {
        let output = stage.pc_ha(&["drain", "node2"]);
        assert_eq!(output.status.code(), Some(75), "{}", said(&output));
        assert!(!stage.read("cib.xml").contains("standby"), "nothing was touched");
        said(&output)
    };
    stage.storage(12, true);
    assert!(why().contains("12 entries wait for healing"));
    stage.storage(0, true);
    stage.quorum(2);
    assert!(why().contains("would lose its quorum: 2 of 3 votes are there, 2 are needed"));
    stage.quorum(1);
    assert!(why().contains("has no quorum"));
    std::fs::remove_file(stage.at("run/personal-cluster/storage.json")).unwrap();
    assert!(why().contains("nobody knows how the storage is"));
    let output = stage.pc_ha(&["drain", "node9"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
