//! Memory as pacemaker's own scheduler counts it: whom a fail-over leaves out, and that counting stops nobody who runs.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use stage::{Stage, line, said};

/// MiB that the guests of each node may have.
const ROOM: u64 = 7680;

fn vm(name: &str, home: &str, gib: u32, priority: u32) -> String {
    format!(
        "[vm.{name}]\nmemory = \"{gib}GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\nhome = \"{home}\"\npriority = {priority}\n"
    )
}

/// Three nodes of 8 GiB and these VMs.
fn file(vms: &[String]) -> String {
    let nodes = stage::FILE.split("[vm.mail]").next().unwrap();
    let nodes = nodes.replace("disks.vms", "memory = \"8GiB\"\ndisks.vms");
    nodes + &vms.concat() + "[ha]\n"
}

/// Nothing of anybody else's needs what no node has.
fn stage(vms: &[String]) -> Stage {
    let stage = Stage::new();
    stage.write(
        "cib.xml",
        &stage.read("cib.xml").replace(r#"name="cpu" value="2""#, r#"name="cpu" value="0""#),
    );
    stage.write("cluster.toml", &file(vms));
    stage
}

const UP: [&str; 6] = ["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"];

fn apply(stage: &Stage) -> String {
    let output = stage.pc_ha(&["apply"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stage.steps().is_empty(), "{:?}", stage.steps());
    said(&output)
}

/// Where each of our VMs is.
fn places(state: &str, vms: &[&str]) -> Vec<String> {
    let at = |vm: &&str| line(state, &format!("pc-vm-{vm}")).rsplit('\t').next().unwrap().trim().to_string();
    vms.iter().map(at).collect()
}

fn strategy(stage: &Stage) -> Option<String> {
    let cib = stage.read("cib.xml");
    let at = cib.find(r#"name="placement-strategy" value=""#)?;
    cib[at..].split('"').nth(3).map(String::from)
}

#[test]
fn a_fail_over_starts_what_fits_by_priority_and_nothing_over_a_node_s_memory() {
    // 7680 MiB each. Beside c and d there are 2560 and 3584 MiB: not for big, for the others.
    let vms = [vm("big", "node1", 4, 0), vm("one", "node1", 2, 3), vm("two", "node1", 1, 2)];
    let others = [vm("c", "node2", 5, 9), vm("d", "node3", 4, 9)];
    let stage = stage(&[&vms[..], &others].concat());
    apply(&stage);
    assert_eq!(strategy(&stage).as_deref(), Some("balanced"));
    let all = ["big", "one", "two", "c", "d"];
    let up = stage.simulate(&UP);
    assert_eq!(
        places(&up, &all),
        ["node1", "node1", "node1", "node2", "node3"].map(|at| format!("Started {at}"))
    );
    let lost = stage.simulate(&["--node-fail", "node1"]);
    let at = places(&lost, &all);
    assert_eq!((&*at[0], &*at[3], &*at[4]), ("Stopped", "Started node2", "Started node3"), "{lost}");
    assert!(at[1].starts_with("Started") && at[2].starts_with("Started"), "{lost}");
    for node in ["node2", "node3"] {
        let gib = [4, 2, 1, 5, 4];
        let used: u64 =
            at.iter().zip(gib).filter(|(at, _)| at.ends_with(node)).map(|(_, gib)| gib << 10).sum();
        assert!(used <= ROOM, "{node}: {lost}");
    }
    // Its node is back.
    let back = stage.simulate(&["--node-up", "node1"]);
    assert_eq!(places(&back, &["big", "c", "d"]), ["Started node1", "Started node2", "Started node3"]);
}

/// `priority`: the important one gets the room, and who is less important gives way, also where it runs.
#[test]
fn when_memory_is_short_the_more_important_one_is_kept() {
    let stage = stage(&[vm("db", "node1", 6, 9), vm("play", "node2", 6, 0), vm("web", "node3", 6, 5)]);
    apply(&stage);
    stage.simulate(&UP);
    let lost = stage.simulate(&["--node-fail", "node1"]);
    let at = places(&lost, &["db", "play", "web"]);
    assert_eq!((&*at[1], &*at[2]), ("Stopped", "Started node3"), "{lost}");
    assert_eq!(at[0], "Started node2", "{lost}");
}

/// A cluster of before: its rows know nothing of memory, its VMs run.
#[test]
fn counting_begins_without_moving_or_stopping_anybody() {
    let vms =
        [vm("a", "node1", 4, 0), vm("b", "node1", 3, 9), vm("c", "node2", 7, 1), vm("d", "node3", 1, 5)];
    let stage = stage(&vms);
    apply(&stage);
    stage.simulate(&UP);
    let with = stage.read("cib.xml");
    let mut before = with.clone();
    for (from, to) in
        [("<utilization id=\"pc-vm-", "</utilization>"), ("<utilization id=\"nodes-", "</utilization>")]
    {
        while let Some(start) = before.find(from) {
            let end = before[start..].find(to).unwrap() + to.len();
            before.replace_range(start..start + end, "");
        }
    }
    let pair = before.find(r#"<nvpair id="cib-bootstrap-options-placement-strategy""#).unwrap();
    let end = before[pair..].find("/>").unwrap() + 2;
    before.replace_range(pair..pair + end, "");
    stage.write("cib.xml", &before);
    let said = apply(&stage);
    assert!(!said.contains("does not count"), "{said}");
    let (did, is) = stage.simulated(&[]);
    let acts =
        |text: &str| text.lines().any(|line| line.contains("pc-vm-") && line.contains("Resource action"));
    assert!(!acts(&did), "{did}");
    let home = ["Started node1", "Started node1", "Started node2", "Started node3"];
    assert_eq!(places(&is, &["a", "b", "c", "d"]), home, "{is}");
    // Now one of them grows in the file, while it runs, beyond what its node has: it runs on, and that is told.
    let grown = [vm("a", "node1", 6, 0), vms[1].clone(), vms[2].clone(), vms[3].clone()];
    stage.write("cluster.toml", &file(&grown));
    let said = apply(&stage);
    let note =
        "pacemaker does not count the memory of VMs: what runs on node1 needs 9216 MiB and may have 7680";
    assert!(said.contains(note), "{said}");
    assert_eq!(strategy(&stage).as_deref(), Some("default"));
    assert!(stage.json(&["status"])["warnings"].to_string().contains(note));
    let (did, is) = stage.simulated(&[]);
    assert!(!acts(&did), "{did}");
    assert_eq!(places(&is, &["a", "b", "c", "d"]), home, "{is}");
    // What pacemaker would have done otherwise.
    let forced = stage.read("cib.xml").replace(
        r#"name="placement-strategy" value="default""#,
        r#"name="placement-strategy" value="balanced""#,
    );
    stage.write("cib.xml", &forced);
    let (did, _) = stage.simulated(&[]);
    assert!(acts(&did), "{did}");
}

#[test]
fn what_others_made_does_not_stop_for_it() {
    let stage = Stage::new();
    stage.write("cluster.toml", &file(&[vm("a", "node1", 4, 0)]));
    let said = apply(&stage);
    assert!(said.contains("old-vm would stop, for its utilization cpu is more than node1 has"), "{said}");
    assert_eq!(strategy(&stage), None);
    for node in ["node1", "node2", "node3"] {
        stage
            .pacemaker("crm_attribute", &["--node", node, "--utilization", "--name", "cpu", "--update", "4"]);
    }
    apply(&stage);
    assert_eq!(strategy(&stage).as_deref(), Some("balanced"));
    let cib = stage.read("cib.xml");
    assert_eq!(cib.matches(r#"name="cpu" value="4""#).count(), 3, "theirs stays");
    assert_eq!(cib.matches(r#"name="memory" value="7680""#).count(), 3, "{cib}");
}

/// Where the file is silent every node tells of its own.
#[test]
fn a_node_tells_what_its_kernel_has() {
    let stage = stage(&[]);
    stage.write("cluster.toml", stage::FILE);
    stage.write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
    let said = apply(&stage);
    assert!(said.contains("nobody has said how much node2 has\n  on node2: pc-ha apply"), "{said}");
    assert_eq!(strategy(&stage), None);
    assert_eq!(stage.read("cib.xml").matches(r#"name="memory" value="7680""#).count(), 1);
}

#[test]
fn a_drain_that_would_stop_a_vm_is_refused() {
    let stage = stage(&[vm("a", "node1", 6, 0), vm("c", "node2", 3, 0), vm("d", "node3", 3, 0)]);
    apply(&stage);
    stage.simulate(&UP);
    let output = stage.pc_ha(&["drain", "node1"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let why = "without node1 there is no room for vm a (6144 MiB)\n  pc-ha stop a\n";
    assert!(said(&output).contains(why), "{}", said(&output));
    assert!(!stage.read("cib.xml").contains("standby"), "nothing was touched");
    // The others have room for what another one runs.
    let output = stage.pc_ha(&["drain", "node2"]);
    assert!(said(&output).contains("c still on node2"), "{}", said(&output));
    assert!(stage.read("cib.xml").contains("standby"));
}

/// Where pacemaker does not count it would put all of it on one node.
#[test]
fn a_drain_is_refused_for_memory_that_is_not_counted() {
    let stage = stage(&[vm("a", "node1", 6, 0), vm("b", "node3", 6, 0), vm("c", "node2", 6, 0)]);
    apply(&stage);
    stage.simulate(&UP);
    // Grown in the file beyond what its node has: what runs stays, and nothing is counted.
    stage.write(
        "cluster.toml",
        &file(&[vm("a", "node1", 8, 0), vm("b", "node3", 6, 0), vm("c", "node2", 6, 0)]),
    );
    apply(&stage);
    assert_eq!(strategy(&stage).as_deref(), Some("default"));
    let output = stage.pc_ha(&["drain", "node2"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("without node2 there is no room on node"), "{}", said(&output));
    assert!(said(&output).contains("and may have 7680; pacemaker does not count memory now (pc-ha plan)\n  pc-ha stop VM, or pc-ha move c NODE\n"), "{}", said(&output));
    assert!(!stage.read("cib.xml").contains("standby"), "nothing was touched");
    let plan = stage.json(&["drill", "node2", "--plan"]);
    assert!(plan["in_the_way"].to_string().contains("without node2 there is no room on node"), "{plan}");
    // A node that is too full already is no reason: nothing comes to it.
    stage.write(
        "cluster.toml",
        &file(&[vm("a", "node1", 8, 0), vm("b", "node3", 1, 0), vm("c", "node2", 6, 0)]),
    );
    apply(&stage);
    stage.pacemaker("crm_resource", &["--resource", "pc-vm-c", "--ban", "--node", "node1"]);
    let output = stage.pc_ha(&["drain", "node2"]);
    assert!(said(&output).contains("c still on node2"), "{}", said(&output));
}

#[test]
fn a_drain_to_a_node_of_unknown_memory_says_so() {
    let stage = stage(&[vm("c", "node2", 6, 0)]);
    stage.write("cluster.toml", &file(&[vm("c", "node2", 6, 0)]).replace("memory = \"8GiB\"\n", ""));
    stage.pc_ha(&["apply"]);
    stage.simulate(&UP);
    let output = stage.pc_ha(&["drain", "node2"]);
    assert!(
        said(&output).contains("has memory for what would come to it is not known\n"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("c still on node2"), "{}", said(&output));
    assert!(stage.read("cib.xml").contains("standby"));
}
