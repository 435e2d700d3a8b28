//! A name below /dev/mapper is a device's own only when the kernel says so: another device, or one that was pulled out,
//! may have it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Machine, PASSPHRASE, Tang, device, maps, run};

/// Two disks in two directories whose names end alike; the first is open.
fn alike() -> (Machine, [String; 2]) {
    let machine = Machine::new();
    let disks = ["x", "y"].map(|directory| {
        let directory = machine.root.path().join(directory);
        std::fs::create_dir(&directory).unwrap();
        std::fs::rename(machine.disk("ata-A"), directory.join("disk")).unwrap();
        directory.join("disk").to_str().unwrap().to_string()
    });
    run("sh", &["-ec", &maps(&disks[0], "pc-disk", machine.root.path())], b"");
    (machine, disks)
}

#[test]
fn the_mapper_of_another_device_is_not_this_ones() {
    let (machine, [open, closed]) = alike();
    let recover = |disk: &str| machine.unlock(&["recover", disk, "--recovery-key-file", "-"], b"wrong");
    assert_eq!(recover(&open).code, 0);
    let answer = recover(&closed);
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("/dev/mapper/pc-disk belongs to another device"), "{}", answer.err);
    let answer = machine.unlock(&["open", &closed], b"");
    assert_eq!((answer.code, answer.out.is_empty()), (1, true), "{}", answer.err);
    assert!(answer.err.contains("/dev/mapper/pc-disk belongs to another device"), "{}", answer.err);
}

#[test]
fn two_devices_of_one_name_are_refused() {
    let (machine, [a, b]) = alike();
    for verb in [&["header", "backup", "--recovery-key-file", "-"][..], &["open"], &["rotate"]] {
        let answer = machine.unlock(&[verb, &[&a, &b]].concat(), PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 2, "{}", answer.err);
        assert!(answer.err.contains("would both be /dev/mapper/pc-disk"), "{}", answer.err);
    }
    assert!(!machine.root.path().join("var").exists());
}

#[test]
fn a_mapper_without_its_disk_is_not_open() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    run("sh", &["-ec", &maps(path.to_str().unwrap(), "pc-ata-A", machine.root.path())], b"");
    let state = || {
        let status: serde_json::Value =
            serde_json::from_slice(&machine.ok(&["status", "--json"], b"").out).unwrap();
        (status["devices"][0]["state"].as_str().unwrap().to_string(), status["healthy"] == true)
    };
    assert_eq!(state(), ("open".into(), true));
    assert!(machine.ok(&["open"], b"").out.starts_with(b"/dev/disk/by-id/ata-A: already open"));
    std::fs::rename(&path, machine.root.path().join("unplugged")).unwrap();
    assert_eq!(state(), ("missing".into(), false));
    assert_eq!(machine.unlock(&["open"], b"").code, 75);
}

/// The kernel has the last copy of its key: it is open, whatever its header says, and nobody is told to close it or to forget it.
#[test]
fn an_open_disk_with_another_header_is_open_and_its_backup_stays() {
    use std::os::unix::fs::MetadataExt;
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["header", "backup", "--recovery-key-file", "-"], PASSPHRASE.as_bytes());
    run("sh", &["-ec", &maps(path.to_str().unwrap(), "pc-ata-A", machine.root.path())], b"");
    machine.disk("ata-A");
    let slave = machine.root.path().join("sys/block/dm-pc-ata-A/slaves/disk");
    std::fs::create_dir_all(&slave).unwrap();
    std::fs::write(slave.join("dev"), format!("file:{}\n", std::fs::metadata(&path).unwrap().ino())).unwrap();
    let status: serde_json::Value =
        serde_json::from_slice(&machine.ok(&["status", "--json"], b"").out).unwrap();
    let disk = &status["devices"][0];
    assert_eq!((&disk["state"], &status["healthy"]), (&"open".into(), &false.into()), "{status}");
    assert!(disk["reason"].as_str().unwrap().contains("another LUKS header was written to it"), "{status}");
    let backup = machine.root.path().join("var/lib/personal-cluster/headers/ata-A.jwe");
    let before = std::fs::read(&backup).unwrap();
    let saved = ["header", "backup", "--overwrite-good-backup", "--recovery-key-file", "-"];
    for verb in [&["open"][..], &saved] {
        let answer = machine.unlock(verb, PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 1, "{verb:?}: {}", answer.err);
        assert!(answer.err.contains("the kernel has its key, do not close it"), "{verb:?}: {}", answer.err);
    }
    assert!(std::fs::read(&backup).unwrap() == before);
    // Closed, it is another device's header that takes the place of a backup which is kept.
    std::fs::remove_dir_all(machine.root.path().join("sys/block")).unwrap();
    let answer = machine.ok(&saved, PASSPHRASE.as_bytes());
    let kept = answer.err.split("is kept in ").nth(1).unwrap().trim().lines().next().unwrap();
    assert!(std::fs::read(kept).unwrap() == before);
}

/// Neither a device nor a file is taken for an option.
#[test]
fn a_device_may_be_called_like_an_option() {
    let machine = Machine::new();
    let disk = machine.disk("ata-A");
    std::fs::rename(disk, machine.root.path().join("--version")).unwrap();
    let root = machine.root.path().to_str().unwrap();
    let script = "cd \"$1\" && exec \"$2\" --root \"$1\" header backup --recovery-key-file - -- --version";
    let program = env!("CARGO_BIN_EXE_pc-unlock");
    run("sh", &["-ec", script, "sh", root, program], PASSPHRASE.as_bytes());
    assert!(machine.root.path().join("var/lib/personal-cluster/headers/--version.jwe").exists());
}
