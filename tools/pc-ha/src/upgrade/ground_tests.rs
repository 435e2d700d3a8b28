use super::*;
use crate::engine::{NodeState, Resource};
use crate::gate::Storage;

const FILE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\nha = {}\n\
    [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\ndisks.vms = [\"/dev/disk/by-id/a\"]\ndisks.own = [\"/dev/disk/by-id/d\"]\n\
    [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\ndisks.vms = [\"/dev/disk/by-id/b\"]\n\
    [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\ndisks.vms = [\"/dev/disk/by-id/c\"]\n\
    [volume.vms]\nuse = \"vm\"\nreplicas = 3\n[volume.own]\nuse = \"local\"\n\
    [vm.mail]\nmemory = \"2GiB\"\ndisk = \"9GiB\"\nvolume = \"vms\"\nhome = \"n1\"\n\
    [vm.web]\nmemory = \"1GiB\"\ndisk = \"9GiB\"\nvolume = \"vms\"\nhome = \"n2\"\n\
    [vm.lab]\nmemory = \"8GiB\"\ndisk = \"9GiB\"\nvolume = \"own\"\nhome = \"n1\"\n";

fn want() -> Want {
    let cluster = cluster::parse("test", FILE).unwrap();
    crate::want::want(&cluster.view("n1").unwrap()).unwrap()
}

fn vm(name: &str, at: &str) -> Resource {
    let (id, role) = (format!("pc-vm-{name}"), "Started".to_string());
    Resource { id, role, managed: true, failed: false, told_to_stop: false, nodes: vec![at.into()] }
}

fn engine() -> Engine {
    let node = |name: &str| NodeState { name: name.into(), online: true, drained: false, unclean: false };
    let vms = vec![vm("mail", "n1"), vm("web", "n2"), vm("lab", "n1")];
    Engine { nodes: ["n1", "n2", "n3"].map(node).to_vec(), vms, ..Engine::default() }
}

fn quorum(votes: u32) -> Quorum {
    Quorum { quorate: votes >= 2, votes, expected: 3, needed: 2 }
}

#[allow(clippy::unnecessary_wraps, reason = "as the gate has it")]
fn storage(heal_pending: Option<u64>, healthy: bool) -> Known {
    Ok((Storage { measured_at: "now".into(), healthy, quorum: true, heal_pending }, 10))
}

fn way(node: &str, change: impl FnOnce(&mut Engine)) -> Vec<String> {
    let mut engine = engine();
    change(&mut engine);
    in_the_way(&want(), node, &engine, Some(&quorum(3)), &storage(Some(0), true))
}

#[test]
fn one_node_at_a_time_whatever_the_quorum_says() {
    assert_eq!(way("n2", |_| {}), [""; 0]);
    assert_eq!(
        way("n2", |engine| engine.nodes[2].drained = true),
        ["n3 is drained: one node at a time\n  pc-ha undrain n3"]
    );
    assert_eq!(way("n3", |engine| engine.nodes[2].drained = true), [""; 0], "it is the one");
    assert!(
        way("n2", |engine| engine.nodes[2].online = false)
            .contains(&"n3 is away: one node at a time\n  pc-ha status".to_string())
    );
    assert!(way("n2", |engine| drop(engine.nodes.pop()))[0].starts_with("n3 is away"));
    let of = |votes: Option<u32>, storage| {
        in_the_way(&want(), "n2", &engine(), votes.map(quorum).as_ref(), &storage)
    };
    assert!(of(Some(3), storage(Some(12), true))[0].contains("12 entries wait for healing"));
    assert!(of(Some(1), storage(Some(0), true))[0].contains("no quorum"));
    assert!(of(None, storage(Some(0), true))[0].contains("does not tell its quorum"));
    assert!(of(Some(3), Err("gone".into()))[0].contains("nobody knows how the storage is: gone"));
}

#[test]
fn the_others_have_room_or_nothing_leaves() {
    let memory = |sizes: &[(&str, u64)]| {
        sizes.iter().map(|(name, mib)| ((*name).to_string(), mib << 20)).collect::<BTreeMap<_, _>>()
    };
    let room = |node: &str, sizes: &[(&str, u64)]| no_room(&want(), node, &engine(), &memory(sizes));
    // mail needs 2048 MiB; n2 has 512 reserved and 1024 of web, n3 512 reserved. lab is pinned and stops.
    assert_eq!(room("n1", &[("n2", 2048), ("n3", 2560)]), None);
    assert_eq!(room("n1", &[("n2", 3584), ("n3", 1024)]), None);
    let told = room("n1", &[("n2", 3583), ("n3", 2559)]).unwrap();
    assert_eq!(
        told,
        "vm mail of n1 needs 2048 MiB, and 2047 MiB are free on the node with the most, beside what runs there\n  pc-ha stop mail"
    );
    // A 16th of 32 GiB is more than 512 MiB.
    assert_eq!(room("n1", &[("n3", 2048 + 2048)]), None);
    assert_eq!(room("n3", &[("n1", 1), ("n2", 1)]), None, "it runs nothing");
    // Two that fit one by one, and not both.
    let mut both = engine();
    both.vms[1].nodes = vec!["n1".into()];
    assert_eq!(no_room(&want(), "n1", &both, &memory(&[("n2", 1536), ("n3", 2560)])), None);
    assert!(
        no_room(&want(), "n1", &both, &memory(&[("n2", 1535), ("n3", 2560)])).unwrap().contains("vm web")
    );
}

#[test]
fn whatever_is_not_whole_again_is_named() {
    let of = |engine: &Engine, quorum: Option<&Quorum>, storage: Known| {
        unsettled(&want(), "n2", engine, quorum, &storage)
    };
    let mut drained = engine();
    drained.nodes[1].drained = true;
    assert_eq!(of(&drained, Some(&quorum(3)), storage(Some(0), true)), [""; 0], "it is drained, and back");
    assert_eq!(of(&drained, Some(&quorum(2)), storage(Some(0), true)), ["2 of 3 votes are there"]);
    assert!(of(&drained, Some(&quorum(3)), storage(Some(1), true))[0].contains("1 entries wait"));
    assert!(of(&drained, Some(&quorum(3)), storage(None, true))[0].contains("nobody knows what waits"));
    assert!(of(&drained, Some(&quorum(3)), storage(Some(0), false))[0].contains("not healthy"));
    let mut away = drained.clone();
    away.nodes[1].online = false;
    assert!(of(&away, Some(&quorum(3)), storage(Some(0), true))[0].starts_with("n2 is not back"));
    away.nodes[1].unclean = true;
    assert!(of(&away, Some(&quorum(3)), storage(Some(0), true))[0].contains("not yet known to be dead"));
    let mut failed = drained;
    failed.probes = vec![Resource { id: "pc-volume-vms".into(), failed: true, ..vm("x", "n2") }];
    assert_eq!(
        of(&failed, Some(&quorum(3)), storage(Some(0), true)),
        ["volume vms does not work on n2\n  pc-gluster status"]
    );
}

#[test]
fn a_vm_that_ran_has_to_run() {
    let running = ["mail".to_string(), "web".to_string()];
    assert_eq!(fallen(&running, &engine()), [""; 0]);
    let mut engine = engine();
    engine.vms[0].role = "Stopped".into();
    engine.vms[0].nodes.clear();
    assert_eq!(fallen(&running, &engine), ["vm mail ran before and does not now\n  pc-ha start mail"]);
    engine.vms[1].nodes.push("n3".into());
    assert_eq!(fallen(&running, &engine).len(), 2, "it is still moving");
    engine.vms[0].told_to_stop = true;
    assert_eq!(fallen(&running, &engine).len(), 1, "somebody has stopped it");
    // lab is tied to n1, mail is not.
    let nowhere = |name: &str| Resource { nodes: Vec::new(), role: "Stopped".into(), ..vm(name, "n1") };
    engine.vms = vec![nowhere("mail"), vm("web", "n2"), nowhere("lab")];
    let running = ["mail", "web", "lab"].map(String::from);
    let elsewhere = |node| fallen_elsewhere(&want(), node, &running, &engine).len();
    assert_eq!((elsewhere("n1"), elsewhere("n3")), (1, 2));
}

#[test]
fn a_problem_that_was_there_is_not_new_and_numbers_do_not_make_it_so() {
    let verdict = |findings: &[(&str, &str, &str)]| {
        let findings: Vec<_> = findings
            .iter()
            .map(|(severity, check, fault)| {
                serde_json::json!({"severity": severity, "check": check, "nodes": ["n2"], "fault": fault, "remedy": "pc-x status"})
            })
            .collect();
        serde_json::from_value::<Verdict>(serde_json::json!({ "findings": findings })).unwrap()
    };
    let known = known(&verdict(&[
        ("problem", "borg", "vm mail in daily: 26 h without a backup"),
        ("warning", "machine", "swap is not encrypted"),
    ]));
    let new = |fault, check| new_problems(&verdict(&[("problem", check, fault)]), &known);
    assert_eq!(new("vm mail in daily: 27 h without a backup", "borg"), [""; 0]);
    assert_eq!(
        new("vm web in daily: 27 h without a backup", "borg"),
        ["pc-verify: n2: vm web in daily: 27 h without a backup\n  pc-x status"]
    );
    assert_eq!(new("swap is not encrypted", "machine").len(), 1, "it was a warning");
    assert_eq!(new("node n2 is drained", "ha"), [""; 0], "that is asked of pacemaker");
    assert_eq!(new_problems(&verdict(&[("warning", "ovs", "x")]), &known), [""; 0]);
    assert_ne!(plain("node2 is slow"), plain("node3 is slow"), "a name is no number");
}
