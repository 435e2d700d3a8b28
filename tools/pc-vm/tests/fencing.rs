//! What pacemaker's start makes of fencing: of that of others, and of this node's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;
use std::process::Stdio;

use scene::{NODES, Scene, UUID, owner, running, set_owner};

fn start(scene: &Scene, root: &std::path::Path) -> (i32, String) {
    scene.pc_vm("n1", root, &["start", "mail", "--by-pacemaker"])
}

/// Pacemaker forgets a failed move after two minutes, and takes the VM to be where it was; it may have arrived, and the libvirt
/// there be silent.
#[test]
fn after_a_move_that_nobody_saw_end_a_silent_member_of_the_cluster_is_not_dead() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    scene.libvirt("n1", Some(""));
    scene.libvirt("n3", Some(""));
    let moving = serde_json::json!({"node": "n1", "moving_to": "n2", "pacemaker": true});
    set_owner(&root, &moving);
    for members in ["echo n1 n2 n3", "echo 'Connection to cluster failed' >&2; exit 102"] {
        scene.program("crm_node", members);
        let (exit, said) = start(&scene, &root);
        assert_eq!((exit, said.contains("n2 owns it and does not answer")), (75, true), "{said}");
    }
    // Its kernel shows it, by whichever way that is heard.
    let other = scene.root("n2");
    scene::qemu(&other);
    scene.kernel("n2", Some(&other));
    scene.program("crm_node", "[ \"$*\" = --partition ] && echo n1 n3");
    let (exit, said) = start(&scene, &root);
    assert_eq!((exit, said.contains("vm mail: runs on n2")), (2, true), "{said}");
    // Fenced in the middle of the move.
    scene.kernel("n2", Some(std::path::Path::new("/nowhere")));
    let (exit, said) = start(&scene, &root);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    // Without a move pacemaker's word is enough.
    set_owner(&root, &serde_json::json!({"node": "n2", "pacemaker": true}));
    scene.program("crm_node", "exit 102");
    let (exit, said) = start(&scene, &root);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
}

/// The record is what others rely on when this node is silent.
#[test]
fn a_vm_is_noted_as_pacemaker_s_where_the_node_would_be_reset_only() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let watchdog = root.join("sys/class/watchdog/watchdog0");
    for (file, text, reason) in [
        // mei_wdt: it tells a management controller, and resets nothing.
        (watchdog.join("options"), "0x8480\n", "no watchdog that resets it is armed"),
        (watchdog.join("identity"), "iamt_wdt\n", "no watchdog that resets it is armed"),
        (watchdog.join("state"), "inactive\n", "no watchdog that resets it is armed"),
        (root.join("proc/9/comm"), "bash\n", "sbd does not run"),
    ] {
        let before = fs::read_to_string(&file).unwrap();
        fs::write(&file, text).unwrap();
        let (exit, said) = start(&scene, &root);
        assert_eq!(
            (exit, said.contains(&format!("nothing resets this node ({reason})"))),
            (0, true),
            "{said}"
        );
        assert_eq!(owner(&root).get("pacemaker"), None);
        fs::write(&file, before).unwrap();
    }
    let (exit, said) = start(&scene, &root);
    assert_eq!((exit, said.contains("nothing resets")), (0, false), "{said}");
    assert_eq!(owner(&root)["pacemaker"], true);
}

/// A libvirtd that reads a new certificate is away for a moment: no reason for a move to fail.
#[test]
fn a_move_waits_for_a_libvirt_that_is_being_restarted() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    scene.libvirt("n1", Some(&running("mail", UUID)));
    scene.libvirt("n3", Some(""));
    let says = |said: &str| said.contains("moving vm mail from n1 to n2: libvirt of ");
    let (exit, said) = scene.pc_vm("n1", &root, &["migrate", "mail", "n2"]);
    assert_eq!((exit, says(&said)), (75, false), "{said}");
    let mut command = scene.command("n1", &root, &["-v", "migrate", "mail", "n2", "--by-pacemaker"]);
    let mut moving = command.stderr(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(moving.stderr.take().unwrap());
    let mut said = std::io::BufRead::lines(lines).map(Result::unwrap);
    assert!(said.any(|line| line.contains("waiting for libvirt of n2: ")));
    scene.libvirt("n2", Some(""));
    // The test driver moves no guest: the order has reached it.
    let rest: Vec<String> = said.collect();
    assert!(rest.iter().any(|line| says(line)), "{rest:?}");
    moving.wait().unwrap();
}
