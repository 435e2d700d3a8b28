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
    assert!(!stage.read("cib.xml").contains("pc-move"), "no constraint is left behind");
}

/// A ban of somebody's, of another node; and a row that sent the VM away and that nobody took away.
#[test]
fn a_move_leaves_what_others_wrote_and_what_it_left_goes() {
    let stage = Stage::running();
    let root = stage.at("").display().to_string();
    let resource = ["--resource", "pc-vm-mail"];
    stage.pacemaker("crm_resource", &[&resource[..], &["--ban", "--node", "node3"]].concat());
    // Killed when it has sent the VM; pacemaker moves it all the same.
    let kill = format!(
        "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin cibadmin \"$@\" || exit\n! grep -q pc-move-mail {root}cib.xml || kill -9 $PPID\n"
    );
    stage.program("cibadmin", &kill);
    assert_eq!(stage.pc_ha(&["move", "mail", "node1"]).status.code(), None);
    std::fs::remove_file(stage.at("bin/cibadmin")).unwrap();
    assert_eq!(stage.steps(), [""; 0], "it may be under way");
    let moved = stage.simulate(&[]);
    assert!(line(&moved, "pc-vm-mail").contains("Started node1"), "{moved}");
    assert_eq!(stage.steps(), ["cib/pc-move-mail"]);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    // The next one takes the place of the one before.
    let output = stage.pc_ha(&["move", "mail", "node2"]);
    assert!(said(&output).contains("vm mail is on node1, not on node2"), "{}", said(&output));
    stage.pc_ha(&["undrain", "node2"]);
    let cib = stage.read("cib.xml");
    assert!(!cib.contains("pc-move") && cib.contains("cli-ban-pc-vm-mail-on-node3"), "{cib}");
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

/// Another one is at work between our look and our mark, or between our mark and our answer, once: there is a file `before`, or
/// `after`, with what it does.
const CIBADMIN: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
other() { if [ -e "@ROOT@/$1" ]; then mv "@ROOT@/$1" "@ROOT@/other"; CIB_file=@ROOT@/cib.xml sh "@ROOT@/other"; fi; }
case "$*" in *--patch*) ;; *) exec cibadmin "$@" ;; esac
other before
cibadmin "$@" || exit
other after
"#;

fn marks(stage: &Stage) -> Vec<String> {
    let cib = stage.read("cib.xml");
    let nodes = cib.split("<node ").skip(1).map(|node| node.split("</node>").next().unwrap());
    let marked = nodes.filter(|node| node.contains(r#"name="standby" value="on""#));
    marked.map(|node| node.split("uname=\"").nth(1).unwrap().split('"').next().unwrap().into()).collect()
}

fn busy(stage: &Stage) {
    let root = stage.at("").display().to_string();
    stage.program("cibadmin", &CIBADMIN.replace("@ROOT@", root.trim_end_matches('/')));
}

#[test]
fn of_two_drains_at_once_one_is_told() {
    let stage = Stage::running();
    busy(&stage);
    let told = "node3 cannot be missed now: node2 is drained: one node at a time\n  pc-ha undrain node2\n";
    // The other one was faster.
    stage.write("before", "crm_attribute --node node2 --name standby --update on");
    let output = stage.pc_ha(&["drain", "node3"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).ends_with(told), "{}", said(&output));
    assert_eq!(marks(&stage), ["node2"]);
    // Something else was: that is no reason.
    stage.pacemaker("crm_attribute", &["--node", "node2", "--name", "standby", "--delete"]);
    stage.write("before", "crm_attribute --node node1 --name something --update else");
    let answer = stage.json(&["drain", "node3"]);
    assert_eq!((&answer["drained"], marks(&stage)), (&true.into(), vec!["node3".to_string()]));
    stage.json(&["undrain", "node3", "--stay"]);
    // One that goes down without asking anybody: the mark of this one is taken back.
    stage.write("after", "crm_attribute --node node2 --name standby --lifetime reboot --update on");
    let output = stage.pc_ha(&["drain", "node3"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).ends_with(told), "{}", said(&output));
    assert_eq!(marks(&stage), [""; 0]);
    // Or its own is taken away meanwhile.
    stage.json(&["undrain", "node2", "--stay"]);
    stage.write("after", "crm_attribute --node node3 --name standby --delete");
    let output = stage.pc_ha(&["drain", "node3"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(
        said(&output).contains("node3 takes VMs again: somebody has undrained it\n"),
        "{}",
        said(&output)
    );
}

/// The migration failed, and the starts on both others.
#[test]
fn a_node_whose_vm_runs_nowhere_is_not_drained() {
    let stage = Stage::running();
    busy(&stage);
    let ban = |node: &str| format!("crm_resource --resource pc-vm-mail --ban --node {node}\n");
    let settle = format!(
        "env -u CIB_file crm_simulate --xml-file $CIB_file --quorum 1 --watchdog 1 --simulate --save-output {0} >&2; mv {0} $CIB_file\n",
        stage.at("new.xml").display()
    );
    let falls = ban("node1") + &ban("node3") + &settle;
    stage.write("after", &falls);
    let output = stage.measured(true, || stage.pc_ha(&["drain", "node2"]));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let told = "node2 has no VM any more, but vm mail runs nowhere\n  crm_resource --resource pc-vm-mail --why; to give up: pc-ha undrain node2\n";
    assert!(said(&output).ends_with(told), "{}", said(&output));
    // Asked for again it knows no more what left.
    let output = stage.measured(true, || stage.pc_ha(&["drain", "node2"]));
    assert!(said(&output).ends_with(told), "{}", said(&output));
    // Somebody wants it so.
    let stop = ["--meta", "--set-parameter", "target-role", "--parameter-value", "Stopped"];
    stage.pacemaker("crm_resource", &[&["--resource", "pc-vm-mail"][..], &stop].concat());
    let answer = stage.measured(true, || stage.json(&["drain", "node2"]));
    assert_eq!(answer["drained"], true);
}
