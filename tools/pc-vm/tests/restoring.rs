//! A VM whose disk pc-borg is still copying out of an archive: nobody starts it but pc-borg, and nobody touches its disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;
use std::path::Path;

use scene::{NODES, Scene, UUID, owner, running, set_owner};

const NOTE: &str =
    r#"{"schema": "pc.borg.instant/1", "vm": "mail", "node": "n2", "archive": "mail.2026-01-01T00:00:00Z"}"#;

fn note(root: &Path, text: &str) {
    fs::write(root.join("mnt/vms/vms/mail/instant.json"), text).unwrap();
}

fn nobody_runs_it() -> (Scene, std::path::PathBuf) {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let root = scene.root("shared");
    (scene, root)
}

#[test]
fn nobody_starts_it_and_nobody_makes_it_another_disk() {
    let (scene, root) = nobody_runs_it();
    let disk = root.join("mnt/vms/vms/mail/disk.img");
    let image = scene.path("image");
    fs::write(&image, vec![7; 1 << 20]).unwrap();
    let image = image.display().to_string();
    let copy = scene.path("copy").display().to_string();
    let why = "its disk is not whole: it is being copied out of mail.2026-01-01T00:00:00Z, or that was cut off\n  \
               pc-borg instant mail";
    for (text, why) in [(NOTE, why), ("", "its disk is not whole: it is being copied out of an archive")] {
        note(&root, text);
        for verb in [
            &["start", "mail"][..],
            &["start", "mail", "--here", "--by-pacemaker"],
            &["import", "mail", &image],
        ] {
            let (exit, said) = scene.pc_vm("n1", &root, verb);
            assert_eq!(exit, 75, "{verb:?}: {said}");
            assert!(said.contains(why), "{verb:?}: {said}");
            assert!(!disk.exists() && !root.join("mnt/vms/vms/mail/owner.json").exists(), "{verb:?}");
        }
    }
    note(&root, NOTE);
    for half in [false, true] {
        // Half of one that got its name when the power failed is none.
        if half {
            fs::write(&disk, vec![0; 8 << 20]).unwrap();
        }
        for verb in [
            &["start", "mail"][..],
            &["resize", "mail"],
            &["export", "mail", &copy],
            &["snapshot", "create", "mail", "now"],
        ] {
            let (exit, said) = scene.pc_vm("n1", &root, verb);
            assert!(exit == 75 && said.contains(why), "{verb:?}, {half}: {said}");
        }
    }
    assert_eq!(fs::read(&disk).unwrap(), vec![0; 8 << 20]);
    // Whole, and its note not gone yet.
    note(&root, &NOTE.replace("\"node\"", "\"whole\": true, \"node\""));
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
}

#[test]
fn pc_borg_starts_it_under_the_rules_of_every_start() {
    let (scene, root) = nobody_runs_it();
    let start = ["start", "mail", "--here", "--over", "/run/archive/vda"];
    let (exit, said) = scene.pc_vm("n1", &root, &start);
    assert!(exit == 2 && said.ends_with("vm mail: its disk is not being restored\n"), "{said}");
    note(&root, NOTE);
    // Its owner may still run it.
    set_owner(&root, &serde_json::json!({"node": "n3"}));
    scene.libvirt("n3", None);
    let (exit, said) = scene.pc_vm("n1", &root, &start);
    assert!(exit == 75 && said.contains("n3 owns it and does not answer"), "{said}");
    let (exit, said) = scene.pc_vm("n1", &root, &[&start[..], &["--owner-is-dead", "n3"]].concat());
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    assert_eq!(owner(&root)["node"], "n1");
    assert!(!root.join("mnt/vms/vms/mail/disk.img").exists(), "that is made by whoever restores it");
    // One that runs has a disk.
    scene.libvirt("n1", Some(&running("mail", UUID)));
    let (exit, said) = scene.pc_vm("n1", &root, &start);
    assert!(exit == 2 && said.contains("vm mail: runs here already"), "{said}");
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!(exit, 0, "{said}");
    scene.libvirt("n3", Some(""));
    let (exit, said) = scene.pc_vm("n1", &root, &["migrate", "mail", "n2"]);
    assert!(exit == 75 && said.contains("its disk is not whole"), "{said}");
}
