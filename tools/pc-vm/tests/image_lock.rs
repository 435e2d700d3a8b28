//! QEMU's lock on the disk of a VM that runs, and what status says when it is gone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use scene::{Scene, UUID, running};

#[test]
fn a_lost_lock_is_told_and_one_that_is_held_is_not() {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    let root = scene.root("shared");
    let disk = root.join("mnt/vms/vms/mail/disk.img");
    File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    let told = || {
        let (exit, said) = scene.pc_vm("n1", &root, &["status"]);
        assert_eq!(exit, 0, "{said}");
        said.contains("mail: running, without QEMU's lock on its disk")
    };
    scene.libvirt("n1", Some(&running("mail", UUID)));
    // libvirt's test driver has no QEMU; what has one has a process.
    assert!(!told());
    fs::create_dir_all(root.join("run/libvirt/qemu")).unwrap();
    fs::write(root.join("run/libvirt/qemu/mail.pid"), "1\n").unwrap();
    assert!(told());
    let mut qemu = Command::new("qemu-io");
    // It has the image open until its standard input ends.
    let mut qemu =
        qemu.args(["-f", "raw"]).arg(&disk).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while told() {
        assert!(Instant::now() < until, "qemu-io took no lock");
    }
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert!(told());
    // It runs over an archive; whoever copies that makes the disk.
    let note = disk.with_file_name("instant.json");
    fs::write(&note, r#"{"schema":"pc.borg.instant/1","archive":"mail-1"}"#).unwrap();
    assert!(!told());
    fs::write(&note, r#"{"schema":"pc.borg.instant/1","archive":"mail-1","whole":true}"#).unwrap();
    assert!(told());
    scene.libvirt("n1", Some(""));
    assert!(!told(), "it does not run here");
}
