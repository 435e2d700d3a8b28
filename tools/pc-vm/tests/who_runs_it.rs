//! What start and stop make of the owner's record and of what other nodes say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use scene::{NODES, Scene, UUID, owner, qemu, running, set_owner};

/// libvirt carries a move to its end when `pc-vm migrate` has died: a guest that is gone from one end has not stopped.
#[test]
fn what_arrived_on_the_other_end_has_not_stopped() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let mail = running("mail", UUID);
    let moving = serde_json::json!({"node": "n1", "moving_to": "n2"});
    for (n2, flags, code, says) in [
        (Some(mail.as_str()), &[][..], 75, "vm mail: gone from n1, and runs on n2\n  pc-vm stop mail\n"),
        (
            None,
            &[],
            75,
            "vm mail: gone from n1, and may run on n2, which its record names and which does not",
        ),
        (Some(mail.as_str()), &["--here"], 0, "vm mail: gone from n1, and runs on n2\n"),
        (Some(""), &["--here", "--by-pacemaker"], 0, "vm mail: gone from n1\n"),
        (Some(""), &[], 0, "stopped vm mail\n"),
    ] {
        scene.libvirt("n1", Some(&mail));
        scene.libvirt("n2", n2);
        scene.libvirt("n3", Some(""));
        set_owner(&root, &moving);
        let before = owner(&root);
        let (exit, said) = scene.pc_vm("n1", &root, &[&["stop", "mail", "--timeout", "1"], flags].concat());
        assert_eq!(exit, code, "{said}");
        assert!(said.contains(says), "{said}");
        if says.starts_with("stopped") {
            assert_eq!(
                (owner(&root)["stopped"].as_bool(), owner(&root).get("moving_to")),
                (Some(true), None)
            );
        } else {
            assert_eq!(owner(&root), before);
            assert!(!said.contains("stopped vm"), "{said}");
        }
    }
}

/// Every node has its own disk, lock and record on a local volume: none of them keeps another node from starting the VM.
#[test]
fn a_vm_on_a_local_volume_starts_at_home_once_all_have_answered() {
    let scene = Scene::new("use = \"local\"");
    let (home, other) = (scene.root("n1"), scene.root("n2"));
    let mail = running("mail", UUID);
    let all = |n2: Option<&str>| {
        for node in NODES {
            scene.libvirt(node, if node == "n2" { n2 } else { Some("") });
        }
    };
    all(Some(""));
    for here in [&[][..], &["--here"], &["--by-pacemaker"]] {
        let (exit, said) = scene.pc_vm("n2", &other, &[&["start", "mail"], here].concat());
        assert_eq!(exit, 2, "{said}");
        let says = "vm mail: its disk is on n1, for every node has a volume vms of its own, and this is n2\n  \
                    on n1: pc-vm start mail\n";
        assert!(said.ends_with(says), "{said}");
        assert!(!other.join("mnt/vms/vms/mail/disk.img").exists());
    }
    // Its record says that n1 saw it stop: that was on this node's volume.
    set_owner(&home, &serde_json::json!({"node": "n1", "stopped": true}));
    all(None);
    let (exit, said) = scene.pc_vm("n1", &home, &["start", "mail"]);
    assert_eq!(exit, 75, "{said}");
    let what = "vm mail: every node has its volume for itself, and n2 does not answer, it may run there: ";
    assert!(said.contains(what), "{said}");
    assert!(said.ends_with("certain: pc-vm start mail --owner-is-dead n2\n"), "{said}");
    // Pacemaker keeps it at home, and knows where it started it.
    let (exit, said) = scene.pc_vm("n1", &home, &["start", "mail", "--by-pacemaker"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    // Its disk is here now, and its record names this node: a neighbour that is off does not keep it down.
    let (exit, said) = scene.pc_vm("n1", &home, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    // As if it had never been there.
    fs::remove_file(home.join("mnt/vms/vms/mail/disk.img")).unwrap();
    fs::remove_file(home.join("var/lib/personal-cluster/vm/mail.had-disk")).unwrap();
    all(Some(&mail));
    let (exit, said) = scene.pc_vm("n1", &home, &["start", "mail"]);
    assert_eq!((exit, said.contains("vm mail: runs on n2\n  on n2: pc-vm stop mail\n")), (2, true), "{said}");
    let (exit, said) = scene.pc_vm("n1", &home, &["migrate", "mail", "n2"]);
    assert_eq!((exit, said.contains("vm mail: its disk is on n1, ")), (2, true), "{said}");
    assert!(!home.join("mnt/vms/vms/mail/disk.img").exists());
    all(Some(""));
    let (exit, said) = scene.pc_vm("n1", &home, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    assert_eq!(owner(&home)["node"], "n1");
}

/// `systemctl start pc-vm@mail` would do nothing: the unit is still active from the start before.
#[test]
fn the_remedy_for_a_vm_that_should_run_starts_it() {
    let scene = Scene::new("use = \"local\"");
    let root = scene.root("n1");
    scene.libvirt("n1", Some(""));
    let (_, said) = scene.pc_vm("n1", &root, &["status"]);
    assert!(said.contains("problem: vm mail should run here\n  pc-vm start mail\n"), "{said}");
}

/// No record, and a node is off: whoever knows that it is says so once, by name, and pacemaker starts the VM anywhere.
#[test]
fn a_claim_by_name_is_recorded_and_an_answer_counts_more() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let record = root.join("mnt/vms/vms/mail/owner.json");
    let mail = running("mail", UUID);
    let disown =
        |node: &str, dead: &str| scene.pc_vm(node, &root, &["disown", "mail", "--owner-is-dead", dead]);
    scene.libvirt("n1", Some(""));
    scene.libvirt("n2", None);
    scene.libvirt("n3", Some(""));
    let start = || scene.pc_vm("n3", &root, &["start", "mail", "--by-pacemaker"]);
    let (exit, said) = start();
    assert_eq!(exit, 75, "{said}");
    let remedy = "when n2 is switched off for certain: pc-ha start mail --owner-is-dead n2\n";
    assert!(
        said.contains("no owner.json beside its disk, and n2 does not answer") && said.ends_with(remedy),
        "{said}"
    );
    // Another node than the silent one; this node; a VM that runs after all, elsewhere or here.
    let (exit, said) = disown("n1", "n3");
    assert_eq!((exit, said.ends_with(remedy)), (75, true), "{said}");
    let (exit, said) = disown("n1", "n1");
    assert_eq!((exit, said.contains("this is n1, and it is alive")), (2, true), "{said}");
    scene.libvirt("n3", Some(&mail));
    let (exit, said) = disown("n1", "n2");
    assert_eq!((exit, said.contains("vm mail: runs on n3\n  pc-ha status\n")), (2, true), "{said}");
    let (exit, said) = disown("n3", "n2");
    assert_eq!((exit, said.contains("vm mail: runs on n3\n")), (2, true), "{said}");
    assert!(!record.exists(), "nothing was noted");
    scene.libvirt("n3", Some(""));
    let (exit, said) = disown("n1", "n2");
    assert_eq!(
        (exit, said.contains("noted that it runs nowhere, for n2 is switched off")),
        (0, true),
        "{said}"
    );
    assert_eq!(owner(&root)["stopped"], true);
    // The claim said nothing of a node that answers.
    scene.libvirt("n2", Some(&mail));
    let (exit, said) = start();
    assert_eq!((exit, said.contains("vm mail: runs on n2")), (2, true), "{said}");
    scene.libvirt("n2", None);
    let (exit, said) = start();
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    assert_eq!((&owner(&root)["node"], &owner(&root)["pacemaker"]), (&"n3".into(), &true.into()));
    // A move that was cut short before pacemaker took over: both ends have to be named.
    set_owner(&root, &serde_json::json!({"node": "n2", "moving_to": "n3"}));
    scene.libvirt("n3", None);
    let (exit, said) = disown("n1", "n2");
    assert_eq!((exit, said.contains("n3 owns it and does not answer")), (75, true), "{said}");
    let (exit, said) =
        scene.pc_vm("n1", &root, &["disown", "mail", "--owner-is-dead", "n2", "--owner-is-dead", "n3"]);
    assert_eq!(exit, 0, "{said}");
}

/// The record of a VM on a local volume lies where its disk does.
#[test]
fn a_claim_for_a_local_volume_is_made_at_home() {
    let scene = Scene::new("use = \"local\"");
    let root = scene.root("n2");
    scene.libvirt("n2", Some(""));
    let (exit, said) = scene.pc_vm("n2", &root, &["disown", "mail", "--owner-is-dead", "n3"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.ends_with("on n1: pc-ha start mail --owner-is-dead n3\n"), "{said}");
}

/// Installed anew, restored, or its marker lost: the file says [ha], and pacemaker does not run here.
#[test]
fn what_pacemaker_started_is_left_to_it_where_it_has_not_taken_over() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let file = fs::read_to_string(scene.path("cluster.toml")).unwrap();
    let with_ha = file.replace("[volume.vms]", "[ha]\n[volume.vms]");
    fs::write(scene.path("cluster.toml"), &with_ha).unwrap();
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let says = "vm mail: pacemaker started it last, and has not taken over on this node\n  pc-ha enable ";
    for node in ["n1", "n2"] {
        let record = serde_json::json!({"node": node, "pacemaker": true});
        set_owner(&root, &record);
        let before = owner(&root);
        let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
        assert_eq!((exit, said.contains(says)), (2, true), "{said}");
        assert_eq!(owner(&root), before);
    }
    scene.libvirt("n2", Some(&running("mail", UUID)));
    let (exit, said) = scene.pc_vm("n1", &root, &["migrate", "mail", "n1"]);
    assert_eq!((exit, said.contains(says)), (2, true), "{said}");
    scene.libvirt("n2", Some(""));
    // Pacemaker itself; a first evening, before anybody enabled it; and where [ha] is no more.
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail", "--by-pacemaker"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    set_owner(&root, &serde_json::json!({"node": "n1"}));
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    set_owner(&root, &serde_json::json!({"node": "n1", "pacemaker": true}));
    fs::write(scene.path("cluster.toml"), &file).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
}

/// Pacemaker's are the VMs that the kernel shows here, whatever the record says, unless another node may run them too.
#[test]
fn what_runs_here_becomes_pacemaker_s_when_nobody_else_runs_it() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let record = root.join("mnt/vms/vms/mail/owner.json");
    let mail = running("mail", UUID);
    let adopt = || scene.pc_vm("n1", &root, &["adopt"]);
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    // It runs elsewhere, or nowhere: nothing is noted, whatever the record says.
    set_owner(&root, &serde_json::json!({"node": "n1"}));
    let before = owner(&root);
    assert_eq!(adopt(), (0, String::new()));
    assert_eq!(owner(&root), before);
    qemu(&root);
    let (exit, said) = adopt();
    assert_eq!((exit, said.contains("vm mail is pacemaker's from now on\n")), (0, true), "{said}");
    assert_eq!((&owner(&root)["node"], &owner(&root)["pacemaker"]), (&"n1".into(), &true.into()));
    assert_eq!(adopt(), (0, String::new()), "a second time there is nothing to do, and nobody is asked");
    // Moved here by hand with virsh: the old owner has to answer.
    let by_hand = serde_json::json!({"node": "n2"});
    set_owner(&root, &by_hand);
    scene.libvirt("n2", None);
    let (exit, said) = adopt();
    assert_eq!(
        (exit, said.contains("mail is not noted as pacemaker's: vm mail: n2 owns it and does not answer")),
        (75, true),
        "{said}"
    );
    scene.libvirt("n2", Some(&mail));
    let (exit, said) = adopt();
    assert_eq!((exit, said.contains("vm mail: runs on n2")), (2, true), "{said}");
    assert_eq!(owner(&root)["node"], "n2");
    scene.libvirt("n2", Some(""));
    assert_eq!(adopt().0, 0);
    assert_eq!((&owner(&root)["node"], &owner(&root)["pacemaker"]), (&"n1".into(), &true.into()));
    // Never recorded: all nodes have to answer.
    fs::remove_file(&record).unwrap();
    scene.libvirt("n3", None);
    let (exit, said) = adopt();
    assert_eq!((exit, said.contains("no owner.json beside its disk, and n3")), (75, true), "{said}");
    assert!(!record.exists());
    scene.libvirt("n3", Some(""));
    assert_eq!((adopt().0, record.exists()), (0, true));
}

/// In maintenance nobody is fenced: whoever a record names has to answer again, and nobody is asked for that.
#[test]
fn in_maintenance_no_vm_is_pacemaker_s() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let release = || scene.pc_vm("n1", &root, &["release"]);
    assert_eq!(release(), (0, String::new()), "there is no record");
    let moving = serde_json::json!({"node": "n2", "moving_to": "n3", "boot_id": "b1", "pacemaker": true});
    set_owner(&root, &moving);
    let mut expected = owner(&root);
    expected.as_object_mut().unwrap().remove("pacemaker");
    // No libvirt answers, and it runs on another node.
    assert_eq!(release(), (0, "vm mail is not pacemaker's any more\n".into()));
    assert_eq!(owner(&root), expected);
    assert_eq!(release(), (0, String::new()));
    scene.libvirt("n1", Some(""));
    let start = || scene.pc_vm("n1", &root, &["start", "mail", "--by-pacemaker"]);
    let (exit, said) = start();
    assert_eq!((exit, said.contains("n2 owns it and does not answer")), (75, true), "{said}");
    // Whoever has not got its volume sees no record, unless it runs there.
    set_owner(&root, &moving);
    fs::write(root.join("proc/self/mountinfo"), "").unwrap();
    assert_eq!(release(), (0, String::new()));
    qemu(&root);
    let (exit, said) = release();
    let says = "vm mail is still noted as pacemaker's: vm mail: /mnt/vms is not mounted\n";
    assert_eq!((exit, said.contains(says)), (75, true), "{said}");
    assert_eq!(owner(&root)["pacemaker"], true);
}

#[test]
fn where_pacemaker_is_the_starter_its_verb_is_named() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let file = fs::read_to_string(scene.path("cluster.toml")).unwrap();
    fs::write(scene.path("cluster.toml"), file + "[ha]\n").unwrap();
    let root = scene.root("shared");
    fs::create_dir_all(root.join("var/lib/personal-cluster")).unwrap();
    fs::write(root.join("var/lib/personal-cluster/ha-enabled"), "").unwrap();
    for (n1, verb) in [(running("mail", UUID), "stop"), (String::new(), "stop"), (String::new(), "start")] {
        scene.libvirt("n1", Some(&n1));
        let (exit, said) = scene.pc_vm("n1", &root, &[verb, "mail"]);
        let says = format!("[ha] is enabled: pacemaker is the only starter\n  pc-ha {verb} mail\n");
        assert_eq!((exit, said.ends_with(&says)), (2, true), "{said}");
    }
}

/// A disk that grows, or a snapshot that goes, has the VM's lock while it runs: a move that gave up at once would be made by
/// pacemaker as a stop and a start.
#[test]
fn a_move_waits_for_what_is_soon_over() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    for node in ["n1", "n3"] {
        scene.libvirt(node, Some(""));
    }
    scene.libvirt("n2", Some(&running("mail", UUID)));
    let root = scene.root("shared");
    // POSIX locks belong to a process, so another one has to hold it, until its standard input is closed.
    let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); \
                  print('held',flush=True); sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(root.join("mnt/vms/vms/mail/lock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let mut moving =
        scene.command("n2", &root, &["migrate", "mail", "n1"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(moving.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = "vm mail: waiting for another pc-vm that is at work on it";
    assert!(said.any(|line| line == waits), "{:?}", moving.wait());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // The test driver moves no guest: the order has reached it.
    let rest: Vec<String> = said.collect();
    let ordered = |line: &String| line.contains("moving vm mail from n2 to n1: libvirt of ");
    assert!(rest.iter().any(ordered), "{rest:?}");
    assert_eq!(moving.wait().unwrap().code(), Some(1), "{rest:?}");
}
