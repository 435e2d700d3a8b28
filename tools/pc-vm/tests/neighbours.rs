//! VMs that have to do with each other: kept apart, or started one after the other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use scene::{NODES, Scene, UUID, running};

/// Beside `mail` a VM that it is kept apart from; its home is n2.
fn scene(of_mail: &str, of_other: &str) -> (Scene, String) {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let path = scene.path("cluster.toml");
    let other = format!(
        "[vm.other]\nmemory = \"64MiB\"\ndisk = \"8MiB\"\nvolume = \"vms\"\n{of_other}\n[vm.mail]\n{of_mail}\n"
    );
    let file = std::fs::read_to_string(&path).unwrap().replace("[vm.mail]\n", &other);
    std::fs::write(&path, file).unwrap();
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let name = |text: &str| cluster::Name::try_from(text.to_string()).unwrap();
    let uuid = cluster::identity::uuid(&name("home"), &name("other"));
    (scene, running("other", &uuid))
}

#[test]
fn who_brings_two_of_a_group_together_is_told() {
    let (scene, other) = scene("apart = \"mx\"", "apart = \"mx\"\nhome = \"n2\"");
    let root = scene.root("shared");
    // The test driver moves nothing; what is told comes before.
    scene.libvirt("n1", Some(&running("mail", UUID)));
    scene.libvirt("n2", Some(&other));
    let (exit, said) = scene.pc_vm("n1", &root, &["migrate", "mail", "n2"]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("vm mail: n2 runs other too, group mx keeps them apart\n"), "{said}");
    let (_, said) = scene.pc_vm("n1", &root, &["migrate", "mail", "n3"]);
    assert!(!said.contains("apart"), "{said}");
    // It is wanted on this node, and starts.
    scene.libvirt("n1", Some(""));
    let (exit, said) = scene.pc_vm("n2", &scene.root("started"), &["start", "mail", "--here"]);
    assert_eq!((exit, said.contains("vm mail: n2 runs other too")), (0, true), "{said}");
    let (_, said) = scene.pc_vm("n2", &root, &["status"]);
    assert!(!said.contains("run here together"), "{said}");
    scene.libvirt("n2", Some(&(running("mail", UUID) + &other)));
    let (_, said) = scene.pc_vm("n2", &root, &["status"]);
    assert!(said.contains("note: mail and other run here together, group mx keeps them apart\n"), "{said}");
}

/// An order that nobody can tell keeps no VM down.
#[test]
fn without_systemd_a_vm_does_not_wait() {
    let (scene, _) = scene("after = [\"other\"]", "home = \"n1\"");
    let root = scene.root("shared");
    let mut start = scene.command("n1", &root, &["start", "mail", "--in-order"]);
    let output = start.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("vm mail: its order is not known: asking systemd"), "{said}");
    assert!(said.contains("started vm mail\n"), "{said}");
}

#[test]
fn a_vm_with_a_device_stays_where_that_is() {
    let (scene, _) = scene("usb = [\"10c4:ea60\"]", "");
    let root = scene.root("shared");
    for here in [&[][..], &["--here"], &["--by-pacemaker"]] {
        let (exit, said) = scene.pc_vm("n2", &root, &[&["start", "mail"], here].concat());
        let says = "vm mail: has devices of n1, and this is n2\n  on n1: pc-vm start mail\n";
        assert_eq!((exit, said.ends_with(says)), (2, true), "{said}");
    }
    scene.libvirt("n1", Some(&running("mail", UUID)));
    let (exit, said) = scene.pc_vm("n1", &root, &["migrate", "mail", "n2"]);
    assert_eq!((exit, said.contains("vm mail: has devices of n1 (usb, pci)")), (2, true), "{said}");
}
