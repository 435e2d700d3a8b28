//! What pacemaker's own programs make of the rows: `CIB_file` is their way to work on a file instead of a cluster.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use stage::{Stage, line, said};

#[test]
fn the_rows_are_valid_and_the_second_apply_does_nothing() {
    let stage = Stage::new();
    let first = stage.json(&["apply"]);
    let done: Vec<&str> = first["done"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(
        done,
        [
            "cib/cib-bootstrap-options",
            "cib/pc-clone-local",
            "cib/pc-not-clone-local.node2",
            "cib/pc-not-clone-local.node3",
            "cib/pc-clone-vms",
            "cib/pc-vm-lab",
            "cib/pc-order-lab",
            "cib/pc-with-lab",
            "cib/pc-home-lab",
            "cib/pc-not-vm-lab.node2",
            "cib/pc-not-vm-lab.node3",
            "cib/pc-vm-mail",
            "cib/pc-order-mail",
            "cib/pc-with-mail",
            "cib/pc-home-mail",
            "sbd",
            "corosync",
            "corosync-reload",
        ]
    );
    // xmllint knows pacemaker's schema as well as pacemaker does; cibadmin refused an invalid one already.
    stage.pacemaker("cibadmin", &["--query", "--scope", "resources"]);
    let before = stage.read("cib.xml");
    assert!(stage.steps().is_empty(), "{:?}", stage.steps());
    let second = stage.json(&["apply"]);
    assert_eq!(second["done"], serde_json::json!([]));
    assert_eq!(stage.read("cib.xml"), before, "not even a new epoch");
    let options = stage.read("cib.xml");
    for wanted in [
        r#"name="stonith-enabled" value="true""#,
        r#"name="no-quorum-policy" value="stop""#,
        r#"name="stonith-watchdog-timeout" value="23s""#,
        r#"name="dc-version" value="2.1.5""#,
        // Twice Gluster's ping-timeout of 10 s, and more.
        r#"name="deadline" value="30""#,
        r#"id="pc-volume-vms.monitor" name="monitor" interval="10s" timeout="50s""#,
        r#"id="pc-volume-vms.start" name="start" interval="0" timeout="50s""#,
    ] {
        assert!(options.contains(wanted), "{wanted}");
    }
}

#[test]
fn what_others_made_stays_byte_for_byte() {
    let stage = Stage::new();
    let theirs = |stage: &Stage| {
        ["front-ip", "old-vm", "front-ip-home"]
            .map(|id| stage.pacemaker("cibadmin", &["--query", "--xpath", &format!("//*[@id='{id}']")]))
    };
    let before = theirs(&stage);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    assert_eq!(theirs(&stage), before);
    // A VM of ours that somebody stopped, and moved, and an agent that notes what it found (as VirtualDomain does): no
    // difference, and nothing of it is undone by a change of something else.
    let resource = ["--resource", "pc-vm-mail"];
    stage.pacemaker(
        "crm_resource",
        &[&resource[..], &["--meta", "--set-parameter", "target-role", "--parameter-value", "Stopped"]]
            .concat(),
    );
    stage.pacemaker(
        "crm_resource",
        &[&resource[..], &["--utilization", "--set-parameter", "cpu", "--parameter-value", "2"]].concat(),
    );
    stage.pacemaker("crm_resource", &[&resource[..], &["--move", "--node", "node3"]].concat());
    assert!(stage.steps().is_empty(), "{:?}", stage.steps());
    stage.write("cluster.toml", &stage::FILE.replace("priority = 100", "priority = 7"));
    assert_eq!(stage.steps(), ["cib/pc-vm-mail"]);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let cib = stage.read("cib.xml");
    for kept in [r#"name="target-role" value="Stopped""#, "cli-prefer-pc-vm-mail", r#"name="cpu" value="2""#]
    {
        assert!(cib.contains(kept), "{kept}");
    }
    assert!(cib.contains(r#"name="priority" value="7""#));
    assert_eq!(theirs(&stage), before);
}

#[test]
fn an_option_that_another_tool_named_otherwise_is_changed_in_place() {
    let stage = Stage::new();
    let named = stage.read("cib.xml").replace(
        "</cluster_property_set>",
        r#"<nvpair id="by-hand" name="stonith-enabled" value="false"/></cluster_property_set>"#,
    );
    stage.write("cib.xml", &named);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let cib = stage.read("cib.xml");
    assert!(cib.contains(r#"<nvpair id="by-hand" name="stonith-enabled" value="true"/>"#));
    assert_eq!(cib.matches(r#"name="stonith-enabled""#).count(), 1);
}

#[test]
fn vms_start_at_home_and_a_lost_node_s_move_to_the_others() {
    let stage = Stage::new();
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let up = stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    assert!(line(&up, "pc-vm-mail").contains("Started node2"), "{up}");
    assert!(line(&up, "pc-vm-lab").contains("Started node1"), "{up}");
    let lost = stage.simulate(&["--node-fail", "node2"]);
    assert!(
        ["Started node1", "Started node3"].iter().any(|at| line(&lost, "pc-vm-mail").contains(at)),
        "{lost}"
    );
    // Back again, and it stays where it is: a fail-over is followed by no second one.
    let back = stage.simulate(&["--node-up", "node2"]);
    assert!(!line(&back, "pc-vm-mail").contains("node2"), "{back}");
    // A disk that is on one node only: nobody else can start it.
    let lost = stage.simulate(&["--node-fail", "node1"]);
    assert!(line(&lost, "pc-vm-lab").contains("Stopped"), "{lost}");
}

/// The file of the stage and two name servers that are kept apart, at home on the first two nodes.
fn name_servers() -> String {
    let server = |name: &str, home: &str| {
        format!(
            "[vm.{name}]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\nhome = \"{home}\"\napart = \"dns\"\n"
        )
    };
    stage::FILE.replace("[ha]", &format!("{}{}[ha]", server("ns1", "node1"), server("ns2", "node2")))
}

#[test]
fn vms_of_a_group_run_apart_while_there_are_two_nodes() {
    let stage = Stage::new();
    stage.write("cluster.toml", &name_servers());
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    assert!(stage.steps().is_empty(), "{:?}", stage.steps());
    let node = |state: &str, vm: &str| {
        let line = line(state, vm);
        ["node1", "node2", "node3"].into_iter().find(|node| line.contains(&format!("Started {node}")))
    };
    let up = stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    assert_eq!((node(&up, "pc-vm-ns1"), node(&up, "pc-vm-ns2")), (Some("node1"), Some("node2")), "{up}");
    let lost = stage.simulate(&["--node-fail", "node2"]);
    assert_eq!(
        (node(&lost, "pc-vm-ns1"), node(&lost, "pc-vm-ns2")),
        (Some("node1"), Some("node3")),
        "{lost}"
    );
    // One node that takes VMs: better together than down. The other one comes back: they part.
    stage.pacemaker("crm_attribute", &["--node", "node1", "--name", "standby", "--update", "on"]);
    let one = stage.simulate(&[]);
    assert_eq!((node(&one, "pc-vm-ns1"), node(&one, "pc-vm-ns2")), (Some("node3"), Some("node3")), "{one}");
    stage.pacemaker("crm_attribute", &["--node", "node1", "--name", "standby", "--update", "off"]);
    let two = stage.simulate(&[]);
    assert_ne!(node(&two, "pc-vm-ns1"), node(&two, "pc-vm-ns2"), "{two}");
    // Out of the group again: the row goes, somebody else's stays.
    stage.write("cluster.toml", &name_servers().replace("apart = \"dns\"\n", ""));
    assert_eq!(stage.steps(), ["cib/pc-apart-ns2.ns1"]);
}

/// In one transition: what is started first, by the order in which the simulator executes it.
#[test]
fn vms_start_in_their_order_and_one_that_cannot_keeps_nobody_down() {
    let stage = Stage::new();
    let ordered = stage::FILE.replace("[vm.lab]\n", "[vm.lab]\nafter = [\"mail\"]\n");
    stage.write("cluster.toml", &ordered);
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let (up, _) = stage.simulated(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    let place = |of: &str| {
        let wanted =
            |line: &str| line.contains("Resource action") && line.contains(of) && line.contains(" start ");
        up.lines().position(wanted).unwrap_or_else(|| panic!("{of}: {up}"))
    };
    assert!(place("pc-vm-mail") < place("pc-vm-lab"), "{up}");
    // Stopped by hand, it takes the other one not along.
    let resource = ["--resource", "pc-vm-mail"];
    let stop = ["--meta", "--set-parameter", "target-role", "--parameter-value", "Stopped"];
    stage.pacemaker("crm_resource", &[&resource[..], &stop].concat());
    let stopped = stage.simulate(&[]);
    assert!(line(&stopped, "pc-vm-mail").contains("Stopped"), "{stopped}");
    assert!(line(&stopped, "pc-vm-lab").contains("Started"), "{stopped}");
    stage.write("cluster.toml", stage::FILE);
    assert_eq!(stage.steps(), ["cib/pc-after-lab.mail"]);
}

#[test]
fn a_vm_leaves_a_node_whose_volume_fails() {
    let stage = Stage::running();
    let failed = stage.simulate(&[
        "--op-inject",
        "pc-volume-vms_monitor_10000@node2=1",
        "--op-fail",
        "pc-volume-vms_start_0@node2=1",
    ]);
    // Pacemaker has stopped the VM, tried the volume once more, and failed: the simulation ends there.
    assert!(line(&failed, "pc-vm-mail").contains("Stopped"), "{failed}");
    // The controller notes a start that failed as INFINITY (start-failure-is-fatal); the simulator counts.
    let count = "name=\"fail-count-pc-volume-vms#start_0\" value=\"";
    let noted = stage.read("cib.xml").replace(&format!("{count}1"), &format!("{count}INFINITY"));
    assert!(noted.contains(&format!("{count}INFINITY")));
    stage.write("cib.xml", &noted);
    let after = stage.simulate(&[]);
    let mail = line(&after, "pc-vm-mail");
    assert!(mail.contains("Started node1") || mail.contains("Started node3"), "{after}");
}

/// The libvirt of the survivor hangs: the start fails, the stop succeeds (`silent_libvirt.rs` of pc-vm), and nobody is fenced.
#[test]
fn a_survivor_that_cannot_start_a_vm_passes_it_on() {
    let stage = Stage::running();
    let lost = ["--node-fail", "node2", "--op-fail", "pc-vm-mail_start_0@node1=1"];
    let (did, is) = stage.simulated(&[&lost[..], &["--op-fail", "pc-vm-mail_start_0@node3=1"]].concat());
    assert!(did.contains("pc-vm-mail      start on node"), "{did}");
    let failed = if line(&is, "pc-vm-mail").contains("node1") { "node1" } else { "node3" };
    // The controller notes a start that failed as INFINITY (start-failure-is-fatal); the simulator counts.
    let count = "name=\"fail-count-pc-vm-mail#start_0\" value=\"";
    let noted = stage.read("cib.xml").replace(&format!("{count}1"), &format!("{count}INFINITY"));
    stage.write("cib.xml", &noted);
    let (did, is) = stage.simulated(&[]);
    assert!(did.contains(&format!("pc-vm-mail      stop on {failed}")) && !did.contains("Fence"), "{did}");
    let mail = line(&is, "pc-vm-mail");
    assert!(mail.contains("Started node") && !mail.contains(failed), "{is}");
}

/// So many seconds from now, as `crm_simulate` takes it.
fn later(seconds: u32) -> String {
    let ahead = format!("+{seconds} sec");
    let date = std::process::Command::new("date").args(["-u", "-d", &ahead, "+%Y-%m-%d %H:%M:%SZ"]).output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().into()
}

/// Its home comes back and cannot say that it does not have it. Nobody knows which copy is the one that is well.
#[test]
fn a_vm_that_a_node_cannot_tell_of_runs_on_and_is_asked_for_again() {
    let stage = Stage::running();
    let lost = stage.simulate(&["--node-fail", "node2"]);
    let at = if line(&lost, "pc-vm-mail").contains("node1") { "node1" } else { "node3" };
    stage.simulate(&["--node-up", "node2", "--op-fail", "pc-vm-mail_monitor_0@node2=1"]);
    let (did, is) = stage.simulated(&[]);
    assert!(!did.contains("pc-vm-mail      st"), "neither stopped nor started: {did}");
    assert!(line(&is, "pc-vm-mail").contains("FAILED (blocked)"), "{is}");
    let known = stage.read("cib.xml");
    let (did, is) = stage.simulated(&["--set-datetime", &later(200)]);
    assert!(did.contains("pc-vm-mail      monitor on node2") && !did.contains("pc-vm-mail      st"), "{did}");
    assert!(line(&is, "pc-vm-mail").contains(&format!("Started {at}")), "{is}");
    // The node that runs it dies meanwhile: the other one has to stop it first, whatever it has.
    stage.write("cib.xml", &known);
    let (first, _) = stage.blocked(&["--node-fail", at]);
    let (then, is) = stage.simulated(&[]);
    let did = first + &then;
    let place = |what: &str| did.find(what).unwrap_or_else(|| panic!("{what}: {did}"));
    assert!(place("pc-vm-mail      stop on node2") < place("pc-vm-mail      start on node"), "{did}");
    assert!(line(&is, "pc-vm-mail").contains("Started node"), "{is}");
}

/// The libvirt of the destination is away, or the VM's lock is held for too long.
#[test]
fn a_vm_that_could_not_be_moved_runs_on_and_is_moved_later() {
    let failed = || {
        let stage = Stage::running();
        stage.pacemaker("crm_attribute", &["--node", "node2", "--name", "standby", "--update", "on"]);
        stage.simulate(&["--op-fail", "pc-vm-mail_migrate_to_0@node2=1"]);
        stage
    };
    let stage = failed();
    let (did, is) = stage.blocked(&[]);
    assert!(!did.contains("pc-vm-mail "), "{did}");
    assert!(line(&is, "pc-vm-mail").contains("FAILED (blocked)"), "{is}");
    let (did, is) = stage.simulated(&["--set-datetime", &later(200)]);
    assert!(did.contains("pc-vm-mail      migrate_to on node2") && !did.contains("start on"), "{did}");
    assert!(line(&is, "pc-vm-mail").contains("Started node"), "{is}");
    // Where it runs dies meanwhile, or where it was to go.
    for lost in ["node2", "node1"] {
        let stage = failed();
        let (first, _) = stage.blocked(&["--node-fail", lost]);
        let (then, is) = stage.simulated(&[]);
        assert!((first + &then).contains("pc-vm-mail      start on node"), "{lost}: {is}");
        let mail = line(&is, "pc-vm-mail");
        assert!(mail.contains("Started node") && !mail.contains(lost), "{is}");
    }
}

/// What must not be, seen all the same: nothing is killed, and it is told.
#[test]
fn a_vm_that_two_nodes_have_is_told() {
    let stage = Stage::running();
    stage.write("var/lib/personal-cluster/ha-enabled", "");
    stage.simulate(&["--node-fail", "node2"]);
    stage.simulate(&["--node-up", "node2", "--op-fail", "pc-vm-mail_monitor_0@node2=0"]);
    let (did, is) = stage.simulated(&[]);
    assert!(!did.contains("pc-vm-mail "), "{did}");
    assert!(line(&is, "pc-vm-mail").contains("Started (blocked)"), "{is}");
    let problems = stage.json(&["status"])["problems"].to_string();
    assert!(problems.contains("vm mail: is on node1 or node2, as far as pacemaker knows"), "{problems}");
}

#[test]
fn without_quorum_everything_stops() {
    let stage = Stage::running();
    let alone = stage.simulate(&["--quorum", "0"]);
    assert!(line(&alone, "pc-vm-mail").contains("Stopped"), "{alone}");
}

#[test]
fn a_vm_is_moved_where_it_can_run_only() {
    let stage = Stage::running();
    for (arguments, code, told) in [
        (["move", "lab", "node2"], 2, "its disk is on node1 only"),
        (["move", "mail", "node9"], 2, "no [[node]] is called"),
        (["move", "post", "node1"], 2, "no [vm] is called"),
    ] {
        let output = stage.pc_ha(&arguments);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(told), "{}", said(&output));
    }
    assert_eq!(stage.json(&["move", "mail", "node2"])["to"], "node2", "it is there already");
}

/// Its disk is on every node, its stick on one.
#[test]
fn a_vm_with_a_device_of_its_home_runs_there_only() {
    let stage = Stage::new();
    stage.write("cluster.toml", &stage::FILE.replace("[vm.mail]\n", "[vm.mail]\nusb = [\"10c4:ea60\"]\n"));
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let up = stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    assert!(line(&up, "pc-vm-mail").contains("Started node2"), "{up}");
    let output = stage.pc_ha(&["move", "mail", "node1"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("has devices of node2"), "{}", said(&output));
    let lost = stage.simulate(&["--node-fail", "node2"]);
    assert!(line(&lost, "pc-vm-mail").contains("Stopped"), "{lost}");
}

#[test]
fn a_watchdog_that_still_waits_as_before_is_a_problem() {
    let stage = Stage::running();
    stage.write("sys/class/watchdog/watchdog0/state", "active\n");
    stage.write("sys/class/watchdog/watchdog0/timeout", "15\n");
    let status = stage.json(&["status"]);
    assert_eq!((&status["watchdog"]["seconds"], &status["watchdog"]["armed"]), (&15.into(), &true.into()));
    let problems = status["problems"].to_string();
    assert!(problems.contains("the watchdog waits 15 s, the file asks for 5 s"), "{problems}");
}

#[test]
fn a_vm_that_left_the_file_goes_when_it_is_stopped_and_not_before() {
    let stage = Stage::running();
    let without = stage::FILE.split("[vm.mail]").next().unwrap().to_string()
        + "[vm.lab]"
        + stage::FILE.split("[vm.lab]").nth(1).unwrap();
    stage.write("cluster.toml", &without);
    let output = stage.pc_ha(&["apply"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("vm mail runs and the file does not name it"), "{}", said(&output));
    assert!(stage.read("cib.xml").contains("pc-vm-mail"), "nobody asked to stop it");
    stage.write("cluster.toml", stage::FILE);
    assert_eq!(stage.pc_ha(&["stop", "mail"]).status.code(), Some(75), "nobody carries it out");
    let stopped = stage.simulate(&[]);
    assert!(line(&stopped, "pc-vm-mail").contains("Stopped"), "{stopped}");
    stage.write("cluster.toml", &without);
    let output = stage.pc_ha(&["apply"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let cib = stage.read("cib.xml");
    let configuration = cib.split("<status>").next().unwrap();
    assert!(!configuration.contains("mail") && configuration.contains("pc-vm-lab"), "{configuration}");
}

/// The daemon that fences is another one than the one that knows what runs where.
#[test]
fn a_fencer_that_hangs_or_has_died_costs_what_it_knows_and_nothing_else() {
    let stage = Stage::new();
    stage.pc_ha(&["apply"]);
    stage.write("var/lib/personal-cluster/ha-enabled", "");
    let real = "exec /usr/sbin/crm_mon \"$@\"\n";
    for fencer in ["exec sleep 600", "echo 'Connection to the fencer failed' >&2; exit 102"] {
        let script = format!("#!/bin/sh\ncase $* in *--fence-history*) {fencer} ;; esac\n{real}");
        stage.program("crm_mon", &script);
        let status = stage.json(&["status"]);
        assert_eq!(status["nodes"].as_array().unwrap().len(), 3, "{fencer}: {status}");
        let problems = status["problems"].to_string();
        assert!(!problems.contains("asking pacemaker"), "{fencer}: {problems}");
    }
    stage.program("crm_mon", "#!/bin/sh\necho 'cluster is not available on this node' >&2; exit 102\n");
    let status = stage.json(&["status"]);
    assert!(status["problems"][0].as_str().unwrap().contains("cluster is not available"), "{status}");
}
