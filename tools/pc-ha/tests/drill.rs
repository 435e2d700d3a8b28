//! `pc-ha drill`: what is in the way, and what is made of a node that resets itself. pacemaker's answers are its own, of a CIB in a
//! file; once an ssh has told node2 to reset itself, they are changed as a cluster that loses it changes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use stage::{Stage, said};

/// node2: `boot` and what it does with the order to reset itself (`mode`: reset, refuse, or ignore).
const SSH: &str = r#"#!/bin/sh
node=$4 verb=${5##* }
echo "$node $verb" >> @ROOT@/ssh.log
case $verb in
report)
    echo "{\"schema\":\"pc.ha.upgrade.node/1\",\"boot_id\":\"$(cat @ROOT@/boot)\",\"state\":\"running\",\"failed_units\":[],\"memory_bytes\":8589934592,\"commands\":[],\"active\":$(cat @ROOT@/active),\"last\":null}"
    ;;
power-cut)
    case $(cat @ROOT@/mode) in
    reset) echo 0 > @ROOT@/looks; echo b2 > @ROOT@/boot; echo 'Connection to node2 closed by remote host.' >&2; exit 255 ;;
    same) echo 0 > @ROOT@/looks; exit 255 ;;
    refuse) echo 'error: gate: "pc-ha engine power-cut" is not among the verbs' >&2; exit 2 ;;
    esac
    ;;
esac
"#;

/// After the order: lost at the third look, dead from the sixth on, its VM elsewhere from the eighth, back at the tenth.
const CRM_MON: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
looks=$(cat @ROOT@/looks 2>/dev/null) || exec crm_mon "$@"
looks=$((looks + 1))
echo $looks > @ROOT@/looks
state=
[ $looks -lt 3 ] || state='/<node name="node2"/s/online="true"/online="false"/;/<node name="node2"/s/unclean="false"/unclean="true"/'
[ $looks -lt 6 ] || state='/<node name="node2"/s/online="true"/online="false"/'
moved='/<resource id="pc-vm-mail"/,/<\/resource>/s/node name="node2"/node name="node3"/'
[ $looks -lt 8 ] || state="$state;$moved"
[ $looks -lt 10 ] || state=$moved
crm_mon "$@" | sed -e "$state"
"#;

fn stage() -> Stage {
    let stage = Stage::running();
    let root = stage.at("").display().to_string();
    let root = root.trim_end_matches('/');
    for (name, script) in [("ssh", SSH), ("crm_mon", CRM_MON)] {
        stage.program(name, &script.replace("@ROOT@", root));
    }
    for (path, text) in [
        ("boot", "b1"),
        ("active", "false"),
        ("mode", "reset"),
        ("etc/personal-cluster/trust/ssh_config", ""),
        ("run/personal-cluster/secrets/ssh-user.key", ""),
    ] {
        stage.write(path, text);
    }
    stage
}

const LAST: &str = "var/lib/personal-cluster/ha/drill.json";

/// Whether node2 was told to reset itself.
fn was_told(stage: &Stage) -> bool {
    std::fs::read_to_string(stage.at("ssh.log")).is_ok_and(|log| log.contains("power-cut"))
}

fn fails(stage: &Stage, arguments: &[&str], code: i32, why: &str) {
    let output = stage.pc_ha(&[&["drill"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{why}: {}", said(&output));
    assert!(said(&output).contains(why), "{why}: {}", said(&output));
}

#[test]
fn a_node_that_resets_itself_is_measured_until_all_is_whole() {
    let stage = stage();
    let answer = stage.measured(true, || stage.json(&["drill", "node2", "--power-cut"]));
    stage::golden("drill.json", &without_times(&answer));
    assert_eq!(answer["vms"][0]["node"], "node3");
    let seconds = |key: &str| answer[key].as_f64().unwrap();
    let vm = answer["vms"][0]["seconds"].as_f64().unwrap();
    assert!(
        seconds("lost_seconds") < seconds("fenced_seconds") && seconds("fenced_seconds") < vm,
        "{answer}"
    );
    assert!(vm < seconds("back_seconds") && seconds("back_seconds") < seconds("whole_seconds"), "{answer}");
    let last: serde_json::Value = serde_json::from_str(&stage.read(LAST)).unwrap();
    assert_eq!(last, answer, "what was measured is kept");
}

/// What differs from run to run.
fn without_times(answer: &serde_json::Value) -> serde_json::Value {
    let mut answer = answer.clone();
    for key in ["lost_seconds", "fenced_seconds", "back_seconds", "whole_seconds"] {
        assert!(answer[key].is_number(), "{key}: {answer}");
        answer[key] = 1.5.into();
    }
    answer["vms"][0]["seconds"] = 1.5.into();
    answer["at"] = "2026-11-23T12:00:00Z".into();
    answer
}

#[test]
fn the_plan_says_what_happens_and_does_nothing() {
    let stage = stage();
    let output = stage.pc_ha(&["drill", "node2", "--plan"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "node2 resets itself, as if its power was cut: mail restarts on another node, within 44.6 s as computed\n"
    );
    let plan = stage.json(&["drill", "node3", "--plan"]);
    assert_eq!((&plan["restarts"], &plan["planned"]), (&serde_json::json!([]), &true.into()));
    stage.storage(3, true);
    let plan = stage.json(&["drill", "node2", "--plan"]);
    assert!(plan["in_the_way"][0].as_str().unwrap().starts_with("3 entries wait for healing"), "{plan}");
    assert!(!was_told(&stage) && !stage.at(LAST).exists());
}

#[test]
fn nothing_is_reset_without_a_word_for_it_or_while_anything_is_in_the_way() {
    let stage = stage();
    fails(
        &stage,
        &["node2"],
        2,
        "mail restarts on another node, within 44.6 s as computed\n  to do it: pc-ha drill node2 --power-cut",
    );
    fails(&stage, &["node1", "--power-cut"], 2, "node1 is this node: nobody would be left to measure");
    fails(&stage, &["node9", "--power-cut"], 2, "no [[node]] is called \"node9\"");
    fails(&stage, &["node2", "--power-cut", "--plan"], 2, "cannot be used with");
    stage.storage(3, true);
    fails(&stage, &["node2", "--power-cut"], 75, "nothing was done: 3 entries wait for healing");
    stage.storage(0, true);
    stage.quorum(2);
    fails(&stage, &["node2", "--power-cut"], 75, "without node2 the cluster would lose its quorum");
    stage.quorum(3);
    stage.write("active", "true");
    fails(&stage, &["node2", "--power-cut"], 75, "node2 still upgrades itself");
    stage.write("active", "false");
    let standby = ["--node", "node2", "--name", "standby", "--update", "on"];
    stage.pacemaker("crm_attribute", &standby);
    fails(
        &stage,
        &["node2", "--power-cut"],
        75,
        "node2 is drained: nothing runs there\n  pc-ha undrain node2",
    );
    assert!(!was_told(&stage) && !stage.at(LAST).exists());
}

#[test]
fn a_node_that_does_not_reset_itself_is_told() {
    let stage = stage();
    stage.write("mode", "refuse");
    fails(
        &stage,
        &["node2", "--power-cut"],
        2,
        "node2 was told to reset itself, and is a member still after",
    );
    assert!(!stage.at(LAST).exists(), "nothing was measured");
    // Cut off, and back without a restart: nothing of a power cut was shown.
    stage.write("mode", "same");
    fails(&stage, &["node2", "--power-cut"], 1, "is back without a restart");
    // It does not come back: what was seen of it is kept.
    for file in ["looks", "ssh.log"] {
        std::fs::remove_file(stage.at(file)).unwrap();
    }
    stage.write("mode", "reset");
    fails(&stage, &["node2", "--power-cut", "--timeout", "2"], 75, "after 2 s: ");
    assert!(stage.at(LAST).exists());
}
