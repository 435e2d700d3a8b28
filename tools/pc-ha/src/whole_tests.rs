use super::*;
use crate::engine::{NodeState, Resource};

#[test]
fn the_end_of_maintenance_waits_for_everyone_but_the_dead() {
    let file = "schema = \"personal-cluster/1\"\nname = \"home\"\nha = {}\n\
        [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\n\
        [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\n\
        [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\n";
    let cluster = cluster::parse("test", file).unwrap();
    let want = crate::want::want(&cluster.view("n1").unwrap()).unwrap();
    let state = |name: &str, online| NodeState { name: name.into(), online, drained: false, unclean: false };
    let engine = Members { nodes: vec![state("n1", true), state("n2", false)], ..Members::default() };
    assert_eq!(missing(&want, &engine, &[]), ["n2", "n3"]);
    assert_eq!(missing(&want, &engine, &["n3".into()]), ["n2"]);
    assert_eq!(missing(&want, &engine, &["n3".into(), "n2".into()]), Vec::<String>::new());
}

#[test]
fn a_claim_is_noted_of_vms_that_run_on_nobody_but_the_dead() {
    let file = "schema = \"personal-cluster/1\"\nname = \"home\"\nha = {}\n\
        [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\ndisks.vms = [\"/dev/disk/by-id/a\"]\ndisks.own = [\"/dev/disk/by-id/d\"]\n\
        [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\ndisks.vms = [\"/dev/disk/by-id/b\"]\n\
        [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\ndisks.vms = [\"/dev/disk/by-id/c\"]\n\
        [volume.vms]\nuse = \"vm\"\nreplicas = 3\n[volume.own]\nuse = \"local\"\n\
        [vm.lab]\nmemory = \"1GiB\"\ndisk = \"9GiB\"\nvolume = \"own\"\nhome = \"n1\"\n\
        [vm.mail]\nmemory = \"1GiB\"\ndisk = \"9GiB\"\nvolume = \"vms\"\nhome = \"n2\"\n\
        [vm.web]\nmemory = \"1GiB\"\ndisk = \"9GiB\"\nvolume = \"vms\"\nhome = \"n3\"\n";
    let cluster = cluster::parse("test", file).unwrap();
    let want = crate::want::want(&cluster.view("n1").unwrap()).unwrap();
    let vm = |name: &str, at: &[&str]| Resource {
        id: vm_resource(name),
        role: "Started".into(),
        managed: false,
        failed: false,
        told_to_stop: false,
        nodes: at.iter().map(ToString::to_string).collect(),
    };
    let engine =
        |mail: &[&str]| Members { vms: vec![vm("mail", mail), vm("web", &["n3"])], ..Members::default() };
    let dead = ["n2".to_string()];
    // lab is tied to its home, which is there.
    assert_eq!(lost(&want, &engine(&[]), &dead), ["mail"]);
    assert_eq!(lost(&want, &engine(&["n2"]), &dead), ["mail"]);
    assert_eq!(lost(&want, &engine(&["n1"]), &dead), Vec::<&str>::new());
    assert_eq!(lost(&want, &engine(&["n2", "n1"]), &dead), Vec::<&str>::new());
}

#[test]
fn nodes_that_are_away_are_named_with_what_that_means() {
    let told = out_of_reach(&["n2".into(), "n3".into()]);
    assert!(told.starts_with("n2, n3 are away: maintenance would not reach"), "{told}");
    assert!(told.ends_with("for certain: pc-ha maintenance on --dead n2 --dead n3"), "{told}");
}
