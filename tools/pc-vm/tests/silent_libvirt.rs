//! Pacemaker's stop on a node whose libvirt hangs, or is down: it costs the node only where a QEMU may be, or may still come.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;

use scene::{NODES, Scene, qemu, set_owner};

#[test]
fn a_node_that_was_only_offered_a_vm_has_stopped_it_without_libvirt() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let note = root.join("run/personal-cluster/vm-starting/mail");
    fs::create_dir_all(note.parent().unwrap()).unwrap();
    let stop = || scene.pc_vm("n1", &root, &["stop", "mail", "--here", "--by-pacemaker", "--timeout", "1"]);
    let probe = || scene.pc_vm("n1", &root, &["probe", "mail", "--libvirt", "--exit-code"]);
    let is = |stopped: i32, probed: i32, says: &str| {
        let (exit, said) = stop();
        assert_eq!((exit, said.contains(says)), (stopped, true), "{said}");
        let (exit, said) = probe();
        assert_eq!(exit, probed, "{said}");
    };
    // Its start has failed, for libvirt was silent then: nothing was told to it, and there may not even be a record.
    let nothing = "vm mail is not here, by /proc alone: ";
    assert_eq!(scene.pc_vm("n1", &root, &["start", "mail", "--by-pacemaker"]).0, 75);
    is(0, 3, nothing);
    for record in [serde_json::json!({"node": "n2"}), serde_json::json!({"node": "n1", "moving_to": "n2"})] {
        set_owner(&root, &record);
        is(0, 3, nothing);
    }
    // libvirt has a start in hand, and may come to it at any time.
    fs::write(&note, "").unwrap();
    is(75, 75, "only libvirt can tell that it is not here: libvirt was told to start it");
    fs::remove_file(&note).unwrap();
    // Another libvirt may be sending it.
    set_owner(&root, &serde_json::json!({"node": "n2", "moving_to": "n1"}));
    is(75, 75, "it may be on its way here, by its record");
    set_owner(&root, &serde_json::json!({"node": "n2"}));
    let table = root.join("proc/self/mountinfo");
    let mounted = fs::read_to_string(&table).unwrap();
    fs::write(&table, "").unwrap();
    is(75, 75, "whether it is being moved here: vm mail: /mnt/vms is not mounted");
    fs::write(&table, mounted).unwrap();
    // It is there, or nobody knows.
    qemu(&root);
    is(75, 0, "libvirt does not answer");
    fs::remove_file(root.join("proc/4711/cmdline")).unwrap();
    fs::create_dir(root.join("proc/4711/cmdline")).unwrap();
    is(75, 75, "libvirt does not answer");
    fs::remove_dir_all(root.join("proc/4711")).unwrap();
    is(0, 3, nothing);
    // A person's stop waits for libvirt, as ever.
    assert_eq!(scene.pc_vm("n1", &root, &["stop", "mail", "--here"]).0, 75);
}

/// A start that was killed has left its note; libvirt's word, and /proc's, end it.
#[test]
fn a_stop_that_libvirt_answers_ends_what_was_noted() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let note = root.join("run/personal-cluster/vm-starting/mail");
    fs::create_dir_all(note.parent().unwrap()).unwrap();
    fs::write(&note, "").unwrap();
    let stop = || scene.pc_vm("n1", &root, &["stop", "mail", "--here", "--by-pacemaker"]).0;
    // libvirt has lost what the kernel shows.
    qemu(&root);
    assert_eq!((stop(), note.exists()), (0, true));
    fs::remove_dir_all(root.join("proc/4711")).unwrap();
    assert_eq!((stop(), note.exists()), (0, false));
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, note.exists()), (0, false), "{said}");
}
