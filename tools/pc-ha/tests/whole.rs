//! `pc-ha shutdown --all`: what it leaves behind when it fails, is killed, or somebody applies meanwhile; and the like of
//! `pc-ha maintenance`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod engines;
mod stage;

use engines::scene;
use stage::{Stage, said};

#[test]
fn a_shutdown_that_fails_says_where_that_leaves_the_cluster() {
    let scene = scene(true);
    let told = scene.ends(75, &["shutdown", "--all", "--timeout", "1"]);
    let stays = "did not stop: nothing is switched off, and all guests may run again\n  \
                 pc-ha status; when it is known why: pc-ha shutdown --all\n";
    assert!(told.ends_with(stays), "{told}");
    assert_eq!(scene.asked(), Vec::<String>::new());
    // Nobody stops anything in a file.
    for vm in ["lab", "mail"] {
        scene.pc_ha(&["stop", vm]);
    }
    scene.stage.simulate(&[]);
    scene.stage.write("refuse-node3", "");
    let told = scene.ends(75, &["shutdown", "--all"]);
    assert!(
        told.contains(
            "\n  every guest has stopped, and some engines: on every node systemctl start pacemaker"
        ),
        "{told}"
    );
    assert_eq!(scene.asked(), ["node2 stop", "node3 stop"]);
    // This node's engine is stopped last, and the fault is another one's.
    std::fs::remove_file(scene.stage.at("refuse-node3")).unwrap();
    scene.stage.write("refuse-power-off", "");
    let told = scene.ends(75, &["shutdown", "--all"]);
    assert!(
        told.ends_with("\n  every guest has stopped: switch off by hand what is still on, this node last\n"),
        "{told}"
    );
}

/// Says something else than pacemaker once the CIB has it, while there is a file `during`: what is in it, or what it does.
const CRM_MON: &str = r#"#!/bin/sh
if [ -e "@ROOT@/during" ] && grep -q '@MARK@' "@ROOT@/cib.xml"; then
    mv "@ROOT@/during" "@ROOT@/doing"
    sh "@ROOT@/doing" || exit
fi
PATH=/usr/sbin:/usr/bin:/sbin:/bin exec crm_mon "$@"
"#;

fn during(stage: &Stage, mark: &str, does: &str) {
    let root = stage.at("").display().to_string();
    let script = CRM_MON.replace("@ROOT@", root.trim_end_matches('/')).replace("@MARK@", mark);
    stage.program("crm_mon", &script);
    stage.write("during", does);
}

const STOPS: &str = r#"id="pc-shutdown""#;
const SHUTS_DOWN: &str = r#"name="pc-shutting-down" value="1""#;

/// Each node's pc-ha.service applies whenever it likes.
#[test]
fn an_apply_leaves_a_shutdown_that_is_under_way_alone() {
    let scene = scene(true);
    let stage = &scene.stage;
    let root = stage.at(".").display().to_string();
    let apply = |node: &str| {
        format!(
            "{} --root {root} --file {root}/cluster.toml --node {node} apply 2>> {root}/said; grep -c '{STOPS}' {root}/cib.xml >> {root}/count\n",
            env!("CARGO_BIN_EXE_pc-ha")
        )
    };
    during(stage, STOPS, &(apply("node1") + &apply("node2") + "true"));
    let told = scene.ends(75, &["shutdown", "--all", "--timeout", "1"]);
    assert!(told.contains("did not stop: nothing is switched off, and all guests may run again"), "{told}");
    assert_eq!(stage.read("count"), "1\n1\n", "{}", stage.read("said"));
    let note = "a shutdown of the cluster is under way on node1: guests stay stopped\n  on node1, when it has ended: pc-ha apply";
    assert_eq!(stage.read("said").matches(note).count(), 2, "{}", stage.read("said"));
    let cib = stage.read("cib.xml");
    assert!(!cib.contains(STOPS) && !cib.contains(SHUTS_DOWN), "{cib}");
}

#[test]
fn a_shutdown_is_over_when_its_node_has_left_or_nobody_is_at_it() {
    let scene = scene(true);
    let stage = &scene.stage;
    let stops = r#"<cluster_property_set id="cib-bootstrap-options"><nvpair id="pc-shutdown" name="stop-all-resources" value="true"/></cluster_property_set>"#;
    let stop = || {
        stage.pacemaker(
            "cibadmin",
            &["--modify", "--allow-create", "--scope", "crm_config", "--xml-text", stops],
        );
    };
    let on = |node: &str, what: [&str; 2]| {
        let told = ["--node", node, "--name", "pc-shutting-down", "--lifetime", "reboot"];
        stage.pacemaker(
            "crm_attribute",
            &[&told[..], &what[..1], if what[1].is_empty() { &[] } else { &what[1..] }].concat(),
        );
    };
    stop();
    on("node2", ["--update", "1"]);
    let told = said(&scene.pc_ha(&["apply"]));
    assert!(told.contains("under way on node2") && stage.read("cib.xml").contains(STOPS), "{told}");
    let told = scene.ends(75, &["start", "mail"]);
    let waits = "all guests are told to stop (pc-ha shutdown): pacemaker starts nothing\n  to have them run again: pc-ha apply\n";
    assert!(told.ends_with(waits), "{told}");
    // All of them were off.
    on("node2", ["--delete", ""]);
    assert_eq!(stage.steps(), ["cib/shutdown-over"]);
    // Killed in the middle: its node knows.
    on("node1", ["--update", "1"]);
    scene.pc_ha(&["apply"]);
    let cib = stage.read("cib.xml");
    assert!(!cib.contains(STOPS) && !cib.contains(SHUTS_DOWN), "{cib}");
}

/// Pacemaker falls silent in the middle.
#[test]
fn what_was_begun_and_cannot_go_on_is_taken_back() {
    let scene = scene(true);
    during(&scene.stage, STOPS, "echo 'Connection refused' >&2; exit 102");
    let told = scene.ends(75, &["shutdown", "--all"]);
    assert!(
        told.contains("nothing is switched off, and all guests may run again: asking pacemaker"),
        "{told}"
    );
    assert!(told.ends_with("\n  pc-ha status; when it is known why: pc-ha shutdown --all\n"), "{told}");
    let cib = scene.stage.read("cib.xml");
    assert!(!cib.contains(STOPS) && !cib.contains(SHUTS_DOWN), "{cib}");
    // Nor can that be taken back.
    let root = scene.stage.at("").display().to_string();
    let fails = "echo 'Connection refused' >&2; exit 102";
    let cibadmin = format!(
        "#!/bin/sh\nif [ -e {root}broken ]; then {fails}; fi\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec cibadmin \"$@\"\n"
    );
    scene.stage.program("cibadmin", &cibadmin);
    let breaks = format!("touch {root}broken; {fails}");
    during(&scene.stage, STOPS, &breaks);
    let told = scene.ends(75, &["shutdown", "--all"]);
    assert!(
        told.contains("nothing is switched off, and all guests are told to stop still: asking"),
        "{told}"
    );
    assert!(told.ends_with("\n  to have them run again: pc-ha apply\n"), "{told}");
    std::fs::remove_file(scene.stage.at("broken")).unwrap();
    scene.pc_ha(&["apply"]);
    assert!(!scene.stage.read("cib.xml").contains(STOPS));
    // The same of maintenance, before anything was released.
    let on = r#"name="maintenance-mode" value="true""#;
    during(&scene.stage, on, fails);
    let told = scene.ends(75, &["maintenance", "on"]);
    assert!(told.contains("maintenance did not begin: asking pacemaker") && !scene.is_on(), "{told}");
    assert_eq!(scene.asked(), Vec::<String>::new());
    during(&scene.stage, on, &breaks);
    let told = scene.ends(75, &["maintenance", "on"]);
    assert!(told.ends_with("\n  pacemaker leaves everything alone still: pc-ha maintenance off\n"), "{told}");
    assert!(scene.is_on());
}
