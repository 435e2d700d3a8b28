//! A libvirt that has lost a guest which runs on: the kernel still shows it, here or on another node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;
use std::path::Path;

use scene::{NODES, Scene, UUID, qemu, running, set_owner};

/// libvirt has forgotten it, and the kernel has not.
#[test]
fn what_the_kernel_shows_here_is_not_started_again() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    qemu(&root);
    let start = || scene.pc_vm("n1", &root, &["start", "mail"]);
    let (exit, said) = start();
    assert_eq!(exit, 2, "{said}");
    let says =
        "vm mail: runs here, process 4711, and libvirt does not know it\n  systemctl restart libvirtd ";
    assert!(said.contains(says), "{said}");
    let directory = root.join("mnt/vms/vms/mail");
    assert!(!directory.join("disk.img").exists() && !directory.join("owner.json").exists());
    // Nobody can tell whose it is.
    fs::remove_file(root.join("proc/4711/cmdline")).unwrap();
    fs::create_dir(root.join("proc/4711/cmdline")).unwrap();
    let (exit, said) = start();
    assert_eq!(exit, 75, "{said}");
    assert!(
        said.contains(
            "vm mail: whether it runs here is not known: reading the command line of process 4711: "
        ),
        "{said}"
    );
    // libvirt has found it again.
    scene.libvirt("n1", Some(&running("mail", UUID)));
    assert_eq!(start(), (0, String::new()));
    scene.libvirt("n1", Some(""));
    fs::remove_dir_all(root.join("proc/4711")).unwrap();
    let (exit, said) = start();
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
}

/// n2's libvirt was restarted and has lost what runs on: nobody starts it again, replaces its disk, or calls it stopped, by its word.
#[test]
fn a_neighbour_s_libvirt_that_forgot_a_guest_is_not_believed() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let (root, other) = (scene.root("shared"), scene.root("n2"));
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    qemu(&other);
    scene.kernel("n2", Some(&other));
    fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 << 20]).unwrap();
    let refused = |verb: &[&str], code, says: &str| {
        let (exit, said) = scene.pc_vm("n1", &root, verb);
        assert_eq!((exit, said.contains(says)), (code, true), "{verb:?}: {said}");
    };
    let record = root.join("mnt/vms/vms/mail/owner.json");
    // By its record, or by none.
    for named in [true, false] {
        if named {
            set_owner(&root, &serde_json::json!({"node": "n2"}));
        } else {
            fs::remove_file(&record).unwrap();
        }
        refused(&["start", "mail"], 2, "vm mail: runs on n2\n");
        refused(&["start", "mail", "--owner-is-dead", "n2"], 2, "vm mail: runs on n2\n");
        refused(&["start", "mail", "--by-pacemaker"], 2, "vm mail: runs on n2\n");
        refused(&["resize", "mail"], 2, "vm mail: runs on n2\n");
        refused(&["disown", "mail", "--owner-is-dead", "n3"], 2, "vm mail: runs on n2\n");
    }
    set_owner(&root, &serde_json::json!({"node": "n2"}));
    let lost =
        "vm mail: runs on n2, and libvirt there does not know it\n  on n2: systemctl restart libvirtd\n";
    refused(&["stop", "mail"], 2, lost);
    // Its kernel cannot be asked, or cannot tell.
    scene.kernel("n2", Some(Path::new("/nowhere")));
    let unknown = "its libvirt does not know the VM, its kernel was not to be asked: ";
    refused(&["start", "mail"], 75, unknown);
    refused(
        &["stop", "mail"],
        75,
        "vm mail: may run on n2, which its record names: its libvirt does not know",
    );
    scene.kernel("n2", Some(&other));
    fs::remove_file(other.join("proc/4711/cmdline")).unwrap();
    fs::create_dir(other.join("proc/4711/cmdline")).unwrap();
    refused(&["start", "mail"], 75, "reading the command line of process 4711");
    // Where pacemaker started it, its agent has looked at /proc there; a node that the record does not name is not asked.
    let started = |flags: &[&str], record: &serde_json::Value| {
        set_owner(&root, record);
        let (exit, said) = scene.pc_vm("n1", &root, &[&["start", "mail"], flags].concat());
        assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    };
    started(&["--by-pacemaker"], &serde_json::json!({"node": "n2", "pacemaker": true}));
    started(&[], &serde_json::json!({"node": "n1"}));
    fs::remove_dir_all(other.join("proc/4711")).unwrap();
    started(&[], &serde_json::json!({"node": "n2"}));
}

/// This node's own libvirt has lost it: `status` says so, and nobody calls it stopped.
#[test]
fn what_libvirt_has_lost_here_is_told_and_is_not_stopped() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let status = || {
        let (_, said) = scene.pc_vm("n1", &root, &["status", "--json"]);
        let json = said.lines().skip_while(|line| !line.starts_with('{'));
        let status: serde_json::Value = serde_json::from_str(&json.collect::<String>()).unwrap();
        (status["vms"][0]["here"].as_bool().unwrap(), status["problems"].to_string())
    };
    let lost = "vm mail: runs here, process 4711, and libvirt does not know it";
    let (here, problems) = status();
    assert!(!here && !problems.contains(lost) && problems.contains("vm mail should run here"), "{problems}");
    qemu(&root);
    let (here, problems) = status();
    assert!(here && problems.contains(lost) && !problems.contains("should run here"), "{problems}");
    for flags in [&[][..], &["--here"]] {
        let (exit, said) = scene.pc_vm("n1", &root, &[&["stop", "mail"], flags].concat());
        assert_eq!((exit, said.contains(lost)), (2, true), "{said}");
    }
    // Pacemaker's agent asks the kernel itself, and fences.
    assert_eq!(scene.pc_vm("n1", &root, &["stop", "mail", "--here", "--by-pacemaker"]).0, 0);
    let (exit, said) = scene.pc_vm("n1", &root, &["probe", "--all"]);
    assert_eq!((exit, said), (0, format!("process 4711: {UUID}\n")));
    scene.libvirt("n1", None);
    let (here, problems) = status();
    assert!(here && problems.contains("libvirt does not answer") && !problems.contains(lost), "{problems}");
}
