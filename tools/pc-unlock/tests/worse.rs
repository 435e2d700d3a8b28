//! `header backup` of a disk that was damaged, erased or exchanged: the last good backup outlives it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use support::{Machine, PASSPHRASE, device, run};

/// It opens the disk, as a recovery key does.
const KEY: &[u8] = PASSPHRASE.as_bytes();
const RESTORE: [&str; 5] = ["header", "restore", "/dev/disk/by-id/ata-A", "--recovery-key-file", "-"];

/// A machine with two LUKS disks, both saved.
fn saved() -> Machine {
    let machine = Machine::new();
    machine.disk("ata-A");
    machine.disk("ata-B");
    assert_eq!(backup(&machine, &[]).code, 0);
    machine
}

fn copy(machine: &Machine, disk: &str) -> PathBuf {
    machine.root.path().join(format!("var/lib/personal-cluster/headers/{disk}.jwe"))
}

fn backup(machine: &Machine, flags: &[&str]) -> support::Answer {
    let (a, b) = (device("ata-A"), device("ata-B"));
    machine.unlock(&[&["header", "backup", &a, &b, "--recovery-key-file", "-"], flags].concat(), KEY)
}

/// The backup gives way to the header of now.
fn replaced(machine: &Machine, more: &[&str]) {
    let answer = backup(machine, more);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("ata-A: header backed up to"), "{}", answer.err);
}

/// Kept, with the reason, while the other disk's goes on.
fn kept(machine: &Machine, said: &str) {
    let path = machine.path("ata-B");
    run("cryptsetup", &["config", "--label", &said.len().to_string(), path.to_str().unwrap()], b"");
    let before = std::fs::read(copy(machine, "ata-A")).unwrap();
    let answer = backup(machine, &[]);
    assert_eq!(answer.code, 1, "{said}: {}", answer.err);
    assert!(answer.err.contains(said), "{}", answer.err);
    assert!(answer.err.contains("ata-A.jwe is kept; add --overwrite-good-backup"), "{}", answer.err);
    assert!(answer.err.contains("ata-B: header backed up to"), "{}", answer.err);
    assert!(std::fs::read(copy(machine, "ata-A")).unwrap() == before, "{said}: replaced");
}

#[test]
fn a_disk_whose_keyslots_are_damaged_keeps_its_backup_and_comes_back_from_it() {
    let machine = saved();
    let file = std::fs::OpenOptions::new().write(true).open(machine.path("ata-A")).unwrap();
    // The metadata is sound.
    file.write_all_at(&vec![0x5c; 800 << 10], 32 << 10).unwrap();
    assert!(!machine.passphrase_fits("ata-A"));
    kept(&machine, "what keyslot 0 holds is not what the backup has of the same one: is it damaged?");
    let good = std::fs::read(copy(&machine, "ata-A")).unwrap();
    machine.ok(&RESTORE, KEY);
    assert!(machine.passphrase_fits("ata-A"));
    assert_eq!(backup(&machine, &[]).code, 0);
    assert!(std::fs::read(copy(&machine, "ata-A")).unwrap() == good);
}

#[test]
fn a_disk_that_was_erased_keeps_its_backup_until_somebody_says_so() {
    let machine = saved();
    let path = machine.path("ata-A");
    run("cryptsetup", &["erase", "--batch-mode", path.to_str().unwrap()], b"");
    kept(&machine, "its header has no keyslot any more that opens the data");
    // A recovery key that is new says nothing of the header.
    let new = ["header", "backup", &device("ata-A"), "--new-recovery-key", "--recovery-key-file", "-"];
    let answer = machine.unlock(&new, b"another key");
    assert_eq!(answer.code, 1, "{}", answer.err);
    machine.ok(&RESTORE, KEY);
    assert!(machine.passphrase_fits("ata-A"));
    run("cryptsetup", &["erase", "--batch-mode", path.to_str().unwrap()], b"");
    replaced(&machine, &["--overwrite-good-backup"]);
}

#[test]
fn another_disk_under_the_name_replaces_no_backup_unless_it_was_made_here() {
    let machine = saved();
    let path = machine.disk("ata-A");
    kept(&machine, "carries the header of another LUKS device (");
    let uuid = run("cryptsetup", &["luksUUID", path.to_str().unwrap()], b"");
    let directory = machine.root.path().join("var/lib/personal-cluster/brick");
    std::fs::create_dir_all(&directory).unwrap();
    let record = format!("{{\"luks_uuid\":\"{}\"}}", support::text(&uuid).trim());
    std::fs::write(directory.join("ata-A.json"), record).unwrap();
    replaced(&machine, &[]);
}

/// Made by whoever has the disk in his hands, under the UUID that everybody may read.
#[test]
fn a_header_of_another_key_under_the_same_uuid_replaces_no_backup() {
    let machine = saved();
    let path = machine.path("ata-A");
    let path = path.to_str().unwrap();
    let uuid = run("cryptsetup", &["luksUUID", path], b"");
    let uuid = support::text(&uuid);
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
    let format = ["luksFormat", "--batch-mode", "--uuid", uuid.trim(), path];
    run("cryptsetup", &[&format[..], &quick].concat(), b"the thief's");
    kept(&machine, "the recovery key opens its backup, and not its header");
    // The right one, made anew.
    run("cryptsetup", &[&format[..], &quick].concat(), KEY);
    replaced(&machine, &[]);
    // As good as before, but for the recovery key.
    let both = [KEY, b"another one"].concat();
    let size = KEY.len().to_string();
    let add = ["luksAddKey", "--batch-mode", "--keyfile-size", &size];
    run("cryptsetup", &[&add[..], &quick, &[path, "-"]].concat(), &both);
    replaced(&machine, &[]);
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path, "0"], b"");
    kept(&machine, "the recovery key opens its backup, and not its header");
    replaced(&machine, &["--overwrite-good-backup"]);
}

#[test]
fn changes_that_cryptsetup_makes_are_followed() {
    let machine = saved();
    let path = machine.path("ata-A");
    let path = path.to_str().unwrap();
    let quick = ["--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
    let both = format!("{PASSPHRASE}another one").into_bytes();
    let size = PASSPHRASE.len().to_string();
    let changes: [(&str, &[&str], &[u8]); 4] = [
        ("luksAddKey", &[&quick[..], &["--keyfile-size", &size, path, "-"]].concat(), &both),
        ("luksKillSlot", &["--batch-mode", "--key-file", "-", path, "1"], KEY),
        ("config", &["--key-slot", "0", "--priority", "prefer", path], b""),
        ("reencrypt", &[&quick[..], &["--force-offline-reencrypt", "--key-slot", "0", path]].concat(), KEY),
    ];
    for (verb, arguments, input) in changes {
        run("cryptsetup", &[&[verb], arguments].concat(), input);
        let answer = backup(&machine, &[]);
        assert_eq!(answer.code, 0, "{verb}: {}", answer.err);
        assert!(answer.err.contains("ata-A: header backed up to"), "{verb}: {}", answer.err);
    }
    assert!(machine.passphrase_fits("ata-A"));
}

/// LUKS1 has neither JSON nor a checksum.
#[test]
fn version_1_is_judged_alike() {
    let machine = Machine::new();
    let path = machine.path("ata-A");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(24 << 20).unwrap();
    let format = ["luksFormat", "--batch-mode", "--type", "luks1", "--pbkdf-force-iterations", "1000"];
    run("cryptsetup", &[&format[..], &["--key-file", "-", path.to_str().unwrap()]].concat(), KEY);
    machine.disk("ata-B");
    assert_eq!(backup(&machine, &[]).code, 0);
    // The first keyslot stands at 4 KiB.
    file.write_all_at(&vec![0x5c; 64 << 10], 4 << 10).unwrap();
    kept(&machine, "what keyslot 0 holds");
    machine.ok(&RESTORE, KEY);
    assert!(machine.passphrase_fits("ata-A"));
    // The digest of the volume key, by which a passphrase is known to be right: one bit.
    let whole = std::fs::read(&path).unwrap();
    file.write_all_at(&[whole[112] ^ 1], 112).unwrap();
    kept(&machine, "the recovery key opens its backup, and not its header");
    // Its own header holds another key, as far as it says.
    let flags = [&RESTORE[..], &["--overwrite-other-device"]].concat();
    machine.ok(&flags, KEY);
    assert!(machine.passphrase_fits("ata-A"));
}
