//! `pc-ha upgrade` from end to end: pacemaker's own programs on a CIB in a file, and an ssh that stands for a node which upgrades
//! itself, goes down and comes back. node3 runs no VM: nobody has to move one, which nobody would in a file.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use std::process::Output;

use stage::{Stage, said};

/// The other nodes, by files below peer/NODE: `boot` (b1, b2, ...), `run`, `state`, `active`. A file `kill-before-VERB` or
/// `kill-after-VERB` has it kill -9 whoever asks, once.
const SSH: &str = r#"#!/bin/sh
node=$4 verb=${5##* } here=@ROOT@/peer/$4
echo "$node $verb" >> @ROOT@/ssh.log
killed() { if [ -e "@ROOT@/$1" ]; then rm "@ROOT@/$1"; kill -9 $PPID; exit 255; fi; }
[ -e "$here" ] || { echo "ssh: connect to host $node port 22: No route to host" >&2; exit 255; }
killed "kill-before-$verb"
case $verb in
report)
    now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    sed -i "s/\"measured_at\":\"[^\"]*\"/\"measured_at\":\"$now\"/" @ROOT@/run/personal-cluster/storage.json
    last=null active=false
    [ ! -e "$here/active" ] || active=true
    [ ! -e "$here/run" ] || last="{\"run\":\"$(cat "$here/run")\",\"boot_id\":\"b1\",\"state\":\"$(cat "$here/state")\",\"reason\":\"apt-get: exit status: 100\",\"kept_back\":[\"linux-image-amd64\"]}"
    echo "{\"schema\":\"pc.ha.upgrade.node/1\",\"boot_id\":\"$(cat "$here/boot")\",\"state\":\"running\",\"failed_units\":[],\"memory_bytes\":8589934592,\"commands\":[[\"apt-get\",\"upgrade\"]],\"active\":$active,\"last\":$last}"
    ;;
upgrade) cat > "$here/run"; echo "$(cat "$here/run")" >> "$here/runs" ;;
reboot) echo reboot >> "$here/reboots"; echo b2 > "$here/boot" ;;
esac
killed "kill-after-$verb"
"#;

/// Kills whoever calls it, once, when the mark of a drain has been taken away.
const CRM_ATTRIBUTE: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin crm_attribute "$@" || exit
case "$*" in *--update\ on*) exit ;; esac
if [ -e "@ROOT@/kill-after-undrain" ]; then rm "@ROOT@/kill-after-undrain"; kill -9 $PPID; fi
"#;

/// The same when it has been set.
const CIBADMIN: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin cibadmin "$@" || exit
grep -q 'name="standby" value="on"' @ROOT@/cib.xml || exit 0
case "$*" in *--patch*) if [ -e "@ROOT@/kill-after-drain" ]; then rm "@ROOT@/kill-after-drain"; kill -9 $PPID; fi ;; esac
"#;

fn stage() -> Stage {
    let stage = Stage::running();
    let root = stage.at("").display().to_string();
    let root = root.trim_end_matches('/');
    for (name, script) in [("ssh", SSH), ("crm_attribute", CRM_ATTRIBUTE), ("cibadmin", CIBADMIN)] {
        stage.program(name, &script.replace("@ROOT@", root));
    }
    stage.program("pc-verify", &format!("#!/bin/sh\ncat {root}/verify.json\n"));
    stage.write("verify.json", r#"{"schema":"pc.verify/1","findings":[]}"#);
    for node in ["node2", "node3"] {
        stage.write(&format!("peer/{node}/boot"), "b1\n");
        stage.write(&format!("peer/{node}/state"), "done\n");
    }
    stage.write("proc/meminfo", "MemTotal:        8388608 kB\n");
    stage.write("proc/sys/kernel/random/boot_id", "w1\n");
    stage.write("etc/personal-cluster/trust/ssh_config", "");
    stage.write("run/personal-cluster/secrets/ssh-user.key", "");
    stage
}

fn upgrade(stage: &Stage, arguments: &[&str]) -> Output {
    stage.pc_ha(&[&["upgrade", "--timeout", "60"], arguments].concat())
}

fn count(stage: &Stage, path: &str) -> usize {
    std::fs::read_to_string(stage.at(path)).map_or(0, |text| text.lines().count())
}

const WALK: &str = "var/lib/personal-cluster/ha/upgrade.json";
const STANDBY: &str = r#"name="standby" value="on""#;

/// Nothing of it is left.
fn over(stage: &Stage) {
    assert!(!stage.at(WALK).exists());
    let cib = stage.read("cib.xml");
    assert!(!cib.contains("pc-upgrade-walk") && !cib.contains(STANDBY), "{cib}");
}

fn refused(stage: &Stage, arguments: &[&str], code: i32, why: &str) {
    let before = stage.read("cib.xml");
    let output = upgrade(stage, arguments);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    assert!(said(&output).contains(why), "{why}: {}", said(&output));
    assert_eq!(stage.read("cib.xml"), before, "nothing was touched");
}

#[test]
fn a_node_is_drained_upgraded_rebooted_and_takes_vms_again() {
    let stage = stage();
    let answer = stage.json(&["upgrade", "node3", "--timeout", "60"]);
    assert_eq!((&answer["schema"], &answer["finished"]), (&"pc.ha.upgrade/1".into(), &true.into()));
    assert_eq!(answer["nodes"][0]["state"], "done");
    assert_eq!(answer["nodes"][0]["kept_back"], serde_json::json!(["linux-image-amd64"]));
    assert_eq!((count(&stage, "peer/node3/runs"), count(&stage, "peer/node3/reboots")), (1, 1));
    let asked = stage.read("ssh.log");
    let acts: Vec<&str> = asked.lines().filter(|line| !line.ends_with("report")).collect();
    assert_eq!(acts, ["node3 upgrade", "node3 reboot"], "and node2 was only asked how it is");
    over(&stage);
}

#[test]
fn whoever_is_killed_goes_on_and_does_nothing_twice() {
    let stage = stage();
    for at in [
        "kill-after-drain",
        "kill-before-upgrade",
        "kill-after-upgrade",
        "kill-after-reboot",
        "kill-after-undrain",
    ] {
        for file in ["run", "runs", "reboots"] {
            let _ = std::fs::remove_file(stage.at(&format!("peer/node3/{file}")));
        }
        stage.write("peer/node3/boot", "b1\n");
        stage.write(at, "");
        let output = upgrade(&stage, &["node3"]);
        assert_eq!(output.status.code(), None, "{at}: it was killed: {}", said(&output));
        assert!(stage.at(WALK).exists() && !stage.at(at).exists(), "{at}");
        // Nobody else begins meanwhile, and --plan says what is left.
        refused(&stage, &["node2"], 2, "an upgrade of node3 is under way: node3 is under way");
        let plan = stage.json(&["upgrade", "--plan"]);
        assert_eq!(plan["nodes"][0]["node"], "node3", "{at}");
        // As the unit does it. Whether the drain had moved anything is forgotten: it waits for a new report.
        let output = stage.measured(true, || upgrade(&stage, &["--continue"]));
        assert_eq!(output.status.code(), Some(0), "{at}: {}", said(&output));
        assert_eq!((count(&stage, "peer/node3/runs"), count(&stage, "peer/node3/reboots")), (1, 1), "{at}");
        over(&stage);
    }
    assert_eq!(upgrade(&stage, &["--continue"]).status.code(), Some(0), "nothing to go on with");
}

/// It left node3, say, and started nowhere: nobody but node3 may be able to run it.
#[test]
fn a_node_is_not_upgraded_while_a_vm_has_fallen() {
    let stage = stage();
    stage.write("kill-before-upgrade", "");
    assert_eq!(upgrade(&stage, &["node3"]).status.code(), None);
    stage.runs_nowhere("pc-vm-mail");
    let asked = |node: &str| std::fs::read_to_string(stage.at(&format!("peer/{node}/runs"))).is_ok();
    let output = stage.measured(true, || stage.pc_ha(&["upgrade", "--timeout", "1"]));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(
        said(&output).contains("vm mail ran before and does not now\n  pc-ha start mail"),
        "{}",
        said(&output)
    );
    assert!(!asked("node3"), "{}", said(&output));
    // Somebody wants it so.
    stage.pacemaker(
        "crm_resource",
        &[
            "--resource",
            "pc-vm-mail",
            "--meta",
            "--set-parameter",
            "target-role",
            "--parameter-value",
            "Stopped",
        ],
    );
    let output = stage.measured(true, || upgrade(&stage, &[]));
    assert!(asked("node3"), "{}", said(&output));
}

#[test]
fn it_stops_at_a_doubt_and_goes_on_when_a_person_says_so() {
    let stage = stage();
    stage.write("peer/node3/state", "failed\n");
    let output = upgrade(&stage, &["node3", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = "stopped (node3 stays drained): the upgrade of node3 failed: apt-get: exit status: 100\n  \
                on node3: journalctl -u pc-ha-upgrade-node.service; then pc-ha upgrade goes on";
    assert!(said(&output).contains(told), "{}", said(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["finished"], &answer["nodes"][0]["state"]), (&false.into(), &"upgrade".into()));
    assert!(stage.read("cib.xml").contains(STANDBY));
    assert_eq!(count(&stage, "peer/node3/reboots"), 0, "half an upgrade is not booted into");
    // The unit at boot leaves it to a person.
    let output = upgrade(&stage, &["--continue"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("an upgrade has stopped"), "{}", said(&output));
    // Mended, and something else is wrong afterwards that was not before.
    stage.write("peer/node3/state", "done\n");
    let found = r#"{"severity":"problem","check":"ovs","nodes":["node3"],"fault":"br-lan is gone","remedy":"pc-ovs apply"}"#;
    stage.write("verify.json", &format!(r#"{{"schema":"pc.verify/1","findings":[{found}]}}"#));
    let output = stage.pc_ha(&["upgrade", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("pc-verify: node3: br-lan is gone\n  pc-ovs apply"), "{}", said(&output));
    assert_eq!((count(&stage, "peer/node3/runs"), count(&stage, "peer/node3/reboots")), (2, 1));
    assert!(stage.read("cib.xml").contains(STANDBY), "not undrained");
    stage.write("verify.json", r#"{"schema":"pc.verify/1","findings":[]}"#);
    let output = upgrade(&stage, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    over(&stage);
}

#[test]
fn nothing_begins_while_anything_is_in_the_way() {
    let stage = stage();
    stage.storage(12, true);
    refused(&stage, &["node3"], 75, "nothing was begun: 12 entries wait for healing");
    stage.storage(0, true);
    stage.quorum(2);
    refused(&stage, &["node3"], 75, "would lose its quorum: 2 of 3 votes are there");
    stage.quorum(1);
    refused(&stage, &["node3"], 75, "has no quorum");
    stage.quorum(3);
    stage.write("cluster.toml", &stage::FILE.replace("memory = \"1GiB\"", "memory = \"9GiB\""));
    refused(&stage, &["node2"], 75, "vm mail of node2 needs 9216 MiB");
    stage.write("cluster.toml", stage::FILE);
    std::fs::rename(stage.at("peer/node2"), stage.at("peer/off")).unwrap();
    refused(
        &stage,
        &["node3"],
        75,
        "node2 cannot be reached: ssh: connect to host node2 port 22: No route to host",
    );
    std::fs::rename(stage.at("peer/off"), stage.at("peer/node2")).unwrap();
    stage.pacemaker("crm_attribute", &["--node", "node2", "--name", "standby", "--update", "on"]);
    refused(&stage, &["node3"], 75, "node2 is drained: one node at a time\n  pc-ha undrain node2");
    stage.pacemaker("crm_attribute", &["--node", "node2", "--name", "standby", "--delete"]);
    refused(&stage, &["node9"], 2, "no [[node]] is called");
    refused(&stage, &["node3", "node3"], 2, "node3 is named twice");
    refused(&stage, &["node1", "node3"], 2, "node1 walks, so it is upgraded last");
    assert_eq!(count(&stage, "peer/node3/runs"), 0);
}

#[test]
fn one_upgrade_in_the_whole_cluster() {
    let stage = stage();
    let steps = stage.steps();
    let row = r#"<cluster_property_set id="pc-upgrade"><nvpair id="pc-upgrade-walk" name="pc-upgrade" value="node2-7"/></cluster_property_set>"#;
    stage.pacemaker("cibadmin", &["--modify", "--allow-create", "--scope", "crm_config", "--xml-text", row]);
    // It is no row that apply would mend.
    assert_eq!(stage.steps(), steps);
    refused(&stage, &["node3"], 2, "node2 is upgrading the cluster");
    let output = upgrade(&stage, &["--abandon"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    over(&stage);
    // Given up on another node while it is under way here.
    stage.write("kill-after-upgrade", "");
    assert_eq!(upgrade(&stage, &["node3"]).status.code(), None);
    stage.pacemaker("cibadmin", &["--delete", "--force", "--xpath", "//*[@id='pc-upgrade']"]);
    let output = upgrade(&stage, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("given up on another node"), "{}", said(&output));
    assert_eq!(count(&stage, "peer/node3/reboots"), 0);
    let output = upgrade(&stage, &["--abandon"]);
    assert!(said(&output).contains("node3 stays drained\n  pc-ha undrain node3"), "{}", said(&output));
    assert!(!stage.at(WALK).exists());
}

#[test]
fn a_node_that_is_still_in_its_package_manager_is_left_alone() {
    let stage = stage();
    stage.write("kill-after-upgrade", "");
    assert_eq!(upgrade(&stage, &["node3"]).status.code(), None);
    stage.write("peer/node3/active", "");
    let output = upgrade(&stage, &["--abandon"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = "node3 stays drained, and node3 still upgrades itself\n  \
                on node3: journalctl -fu pc-ha-upgrade-node.service; then: pc-ha undrain node3";
    assert!(said(&output).contains(told), "{}", said(&output));
    let output = stage.pc_ha(&["undrain", "node3"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("node3 still upgrades itself\n"), "{}", said(&output));
    assert!(stage.read("cib.xml").contains(STANDBY));
    // Somebody took the mark away by hand: no other node is touched all the same.
    stage.pacemaker("crm_attribute", &["--node", "node3", "--name", "standby", "--delete"]);
    refused(&stage, &["node2"], 75, "nothing was begun: node3 still upgrades itself\n");
    std::fs::remove_file(stage.at("peer/node3/active")).unwrap();
    assert_eq!(stage.json(&["upgrade", "node2", "--plan"])["in_the_way"], serde_json::json!([]));
}

#[test]
fn a_plan_says_what_moves_what_stops_and_what_is_in_the_way() {
    let stage = stage();
    let plan = stage.json(&["upgrade", "node2", "node3", "--plan"]);
    stage::golden("upgrade.json", &plan);
    stage.storage(12, true);
    std::fs::remove_dir_all(stage.at("peer/node3")).unwrap();
    let output = stage.pc_ha(&["upgrade", "node2", "node3", "--plan"]);
    assert_eq!(output.status.code(), Some(0), "it has answered: {}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("in the way: 12 entries wait for healing"), "{text}");
    assert!(text.contains("in the way: node3 cannot be reached"), "{text}");
    assert!(text.contains("node2        to do: drain, apt-get upgrade, reboot"), "{text}");
    assert!(text.contains("  move away: mail"), "{text}");
}
