//! The wait of the others: longer by itself, shorter by somebody's word and that of every node's watchdog and corosync.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use stage::{Stage, said};

#[test]
fn fencing_gets_no_faster_by_itself() {
    let stage = Stage::new();
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", "[ha]\nprofile = \"patient\""));
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    assert!(stage.read("cib.xml").contains(r#"value="51s""#));
    stage.write("cluster.toml", stage::FILE);
    let output = stage.pc_ha(&["apply"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("stonith-watchdog-timeout stays 51 s, the file asks for 23 s"),
        "{}",
        said(&output)
    );
    assert!(stage.read("cib.xml").contains(r#"value="51s""#));
    // Somebody says that all were restarted; the watchdogs do not.
    let lower = || stage.pc_ha(&["apply", "--lower"]);
    let output = lower();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("nobody knows how long the watchdog of node1 waits"), "{}", said(&output));
    stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    for (node, seconds, token) in [("node2", "5", "3000"), ("node3", "15", "10000")] {
        for (name, value) in [("pc-watchdog-seconds", seconds), ("pc-token-ms", token)] {
            let told = ["--name", name, "--lifetime", "reboot", "--update", value];
            stage.pacemaker("crm_attribute", &[&["--node", node][..], &told].concat());
        }
    }
    stage.corosync();
    // This node's own one: the step that tells of it is taken in the same run, and counts in the next.
    stage.write("sys/class/watchdog/watchdog0/state", "active\n");
    stage.write("sys/class/watchdog/watchdog0/timeout", "5\n");
    let output = lower();
    for told in [
        "the watchdog of node3 waits 15 s",
        "nobody knows the token of node1",
        "the token of node3 is 10000 ms",
    ] {
        assert!(said(&output).contains(told), "{told}: {}", said(&output));
    }
    assert!(stage.read("cib.xml").contains(r#"value="51s""#));
    let output = lower();
    assert!(!said(&output).contains("of node1"), "{}", said(&output));
    let told = stage
        .read("cib.xml")
        .replace(r#"name="pc-watchdog-seconds" value="15""#, r#"name="pc-watchdog-seconds" value="5""#);
    stage.write("cib.xml", &told);
    assert!(said(&lower()).contains("23 s: the token of node3 is 10000 ms, not 3000\n"));
    let told = told.replace(r#"name="pc-token-ms" value="10000""#, r#"name="pc-token-ms" value="3000""#);
    stage.write("cib.xml", &told);
    let output = lower();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stage.read("cib.xml").contains(r#"value="23s""#));
    assert_eq!(stage.steps(), Vec::<String>::new());
}

/// A reload that failed leaves the file right and corosync as it was: the next apply asks again, and until it is done nothing gets
/// faster.
#[test]
fn a_token_counts_when_it_runs_and_not_when_it_is_written() {
    let stage = Stage::new();
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", "[ha]\ntoken_ms = 10000"));
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    stage.corosync();
    assert_eq!(stage.json(&["apply"])["done"], serde_json::json!(["token"]));
    for node in ["node1", "node2", "node3"] {
        for (name, value) in [("pc-watchdog-seconds", "5"), ("pc-token-ms", "3000")] {
            if (node, name) != ("node1", "pc-token-ms") {
                let told = ["--node", node, "--name", name, "--lifetime", "reboot", "--update", value];
                stage.pacemaker("crm_attribute", &told);
            }
        }
    }
    let fencing = |stage: &Stage| {
        let cib = stage.read("cib.xml");
        let at = cib.find(r#"name="stonith-watchdog-timeout" value=""#).unwrap();
        cib[at..].split('"').nth(3).unwrap().to_string()
    };
    let long = fencing(&stage);
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", "[ha]\ntoken_ms = 3000"));
    stage.write("reload-fails", "");
    let output = stage.pc_ha(&["apply"]);
    assert!(said(&output).contains("CS_ERR_INVALID_PARAM"), "{}", said(&output));
    assert_eq!(stage.steps(), ["corosync-reload"]);
    let output = stage.pc_ha(&["apply", "--lower"]);
    assert!(said(&output).contains("CS_ERR_INVALID_PARAM"), "it is asked again: {}", said(&output));
    assert_eq!(fencing(&stage), long);
    std::fs::remove_file(stage.at("reload-fails")).unwrap();
    let output = stage.pc_ha(&["apply", "--lower"]);
    assert!(said(&output).contains("the token of node1 is 10000 ms, not 3000"), "{}", said(&output));
    assert_eq!(fencing(&stage), long);
    // Now it runs, and the others are told.
    assert_eq!(stage.steps(), ["token"]);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(2));
    assert_eq!(stage.pc_ha(&["apply", "--lower"]).status.code(), Some(0));
    assert_eq!(fencing(&stage), "23s");
    // One that does nothing and calls it done.
    stage.program("corosync-cfgtool", "#!/bin/sh\n");
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", "[ha]\ntoken_ms = 2000"));
    let output = stage.pc_ha(&["apply"]);
    let told = "runs on with token 3000 ms, not 2000; consensus 3600 ms, not 2400\n  restart this node: pc-ha drain node1";
    assert!(said(&output).contains(told), "{}", said(&output));
}

/// Pacemaker's units, and what nobody understands: what is not known to be shorter is not made shorter.
#[test]
fn a_fencing_time_in_any_unit_gets_no_shorter_by_itself() {
    for (now, stays, told) in [
        ("60s", "60s", "stays 60 s"),
        ("1min", "60s", "stays 60 s"),
        ("1m", "60s", "stays 60 s"),
        ("60000ms", "60s", "stays 60 s"),
        ("PT60S", "60s", "stays 60 s"),
        ("23001ms", "24s", "stays 24 s"),
        ("-1", "-1", "stays \"-1\", no time that could be compared"),
        ("soon", "soon", "stays \"soon\", no time that could be compared"),
    ] {
        let stage = Stage::new();
        assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
        let named = |value: &str| format!(r#"name="stonith-watchdog-timeout" value="{value}""#);
        stage.write("cib.xml", &stage.read("cib.xml").replace(&named("23s"), &named(now)));
        let output = stage.pc_ha(&["apply"]);
        assert_eq!(output.status.code(), Some(2), "{now}: {}", said(&output));
        let told = format!("stonith-watchdog-timeout {told}, the file asks for 23 s");
        assert!(said(&output).contains(&told), "{now}: {}", said(&output));
        assert!(stage.read("cib.xml").contains(&named(stays)), "{now}");
    }
    let stage = Stage::new();
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let shorter = stage.read("cib.xml").replace(r#"value="23s""#, r#"value="10000ms""#);
    stage.write("cib.xml", &shorter);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    assert!(stage.read("cib.xml").contains(r#"name="stonith-watchdog-timeout" value="23s""#));
}
