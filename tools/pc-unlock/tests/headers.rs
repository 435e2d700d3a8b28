//! Header backups: with the real cryptsetup, and opened by openssl and jose without us.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Machine, PASSPHRASE, Tang, device, run, text};

const RECOVERY: &[u8] = b"bvcccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-ccccccuc\n";

/// A disk with the recovery key in a slot, as pc-brick makes them.
fn disk(machine: &Machine, name: &str) -> std::path::PathBuf {
    let path = machine.disk(name);
    let recovery = text(RECOVERY);
    let both = format!("{PASSPHRASE}{}", recovery.trim());
    let size = PASSPHRASE.len().to_string();
    let add = ["luksAddKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let keys = ["--key-file", "-", "--keyfile-size", &size, path.to_str().unwrap(), "-"];
    run("cryptsetup", &[&add[..], &keys].concat(), both.as_bytes());
    path
}

/// The way back without us, as docs/unlock.md shows it.
#[test]
fn openssl_and_jose_open_a_header_backup() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let path = disk(&machine, "ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["header", "backup", "--recovery-key-file", "-"], RECOVERY);
    let backup = machine.root.path().join("var/lib/personal-cluster/headers/ata-A.jwe");
    let image = machine.root.path().join("header.img");
    let script = format!(
        "KEY=$(openssl kdf -binary -keylen 32 -kdfopt digest:SHA256 -kdfopt key:{} \
           -kdfopt salt:personal-cluster -kdfopt info:luks-header HKDF | jose b64 enc -I-)\n\
         echo '{{\"kty\":\"oct\",\"k\":\"'$KEY'\"}}' | jose jwe dec -i {} -k- > {image}\n\
         truncate --size=16M {image}",
        text(RECOVERY),
        backup.display(),
        image = image.display()
    );
    // What is in use: 16 MiB of noise would be 22 MB of text on each node's every volume.
    assert!(std::fs::metadata(&backup).unwrap().len() < 1 << 20);
    run("bash", &["-euo", "pipefail", "-c", &script], b"");
    let arguments = ["luksHeaderRestore", "-q", path.to_str().unwrap(), "--header-backup-file"];
    run("cryptsetup", &[&arguments[..], &[image.to_str().unwrap()]].concat(), b"");
    assert!(machine.passphrase_fits("ata-A"));
}

#[test]
fn backups_follow_every_change_also_to_the_replicated_volume() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    disk(&machine, "ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let root = machine.root.path();
    let file = root.join("etc/personal-cluster/cluster.toml");
    let text = std::fs::read_to_string(&file).unwrap() + "[volume.backup]\nuse = \"backup\"\nreplicas = 1\n";
    let disk = "disks.backup = [\"/dev/disk/by-id/ata-Z\"]\ndisks.ata-a";
    std::fs::write(&file, text.replace("disks.ata-a", disk)).unwrap();
    std::fs::create_dir_all(root.join("proc/self")).unwrap();
    let mounts = "50 36 0:40 / /mnt/backup rw - fuse.glusterfs n1:backup rw\n";
    std::fs::write(root.join("proc/self/mountinfo"), mounts).unwrap();
    machine.ok(&["header", "backup", &device("ata-A"), "--recovery-key-file", "-"], RECOVERY);
    let copies = ["var/lib/personal-cluster/headers/ata-A.jwe", "mnt/backup/headers/node1/ata-A.jwe"];
    let read = || copies.map(|copy| std::fs::read(root.join(copy)).unwrap());
    let [a, b] = read();
    assert!(a == b);
    // Without the key at hand a change can only warn.
    let warned = machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert!(warned.err.contains("older than the header: the recovery key is not at hand"), "{}", warned.err);
    machine.ok(&["seal", "recovery-key"], RECOVERY);
    machine.ok(&["unseal"], b"");
    machine.ok(&["unbind", &device("ata-A")], b"");
    let [c, d] = read();
    assert!(c == d && c != a);
}

#[test]
fn header_backup_and_restore() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let path = disk(&machine, "ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    let key = RECOVERY;
    machine.ok(&["header", "backup", "--recovery-key-file", "-"], key);
    let before = std::fs::read(&path).unwrap();
    let damaged: Vec<u8> =
        before.iter().enumerate().map(|(at, byte)| if at < (1 << 16) { 0 } else { *byte }).collect();
    std::fs::write(&path, damaged).unwrap();
    assert_eq!(machine.unlock(&["check"], b"").code, 1);
    let restore = ["header", "restore", "/dev/disk/by-id/ata-A", "--recovery-key-file", "-"];
    assert_eq!(machine.unlock(&restore, b"wrong").code, 2);
    machine.ok(&restore, key);
    machine.ok(&["check"], b"");
    assert!(machine.passphrase_fits("ata-A"));
    // Never over another disk's header, unless told so.
    let other = disk(&machine, "ata-A");
    let untouched = std::fs::read(&other).unwrap();
    let answer = machine.unlock(&restore, key);
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("carries the header of another LUKS device"), "{}", answer.err);
    assert!(std::fs::read(&other).unwrap() == untouched);
}

/// What the daily timer does: only what has changed is written, what cannot be done now is for later, what needs nothing
/// is no fault.
#[test]
fn a_daily_look_writes_only_what_changed() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    disk(&machine, "ata-A");
    std::fs::File::create(machine.path("ata-B")).unwrap().set_len(24 << 20).unwrap();
    machine.file(1, &[&tang], &["ata-A", "ata-B"]);
    let headers = machine.root.path().join("var/lib/personal-cluster/headers");
    let daily = ["header", "backup", "--recovery-key-file", "-"];
    let first = machine.ok(&daily, RECOVERY);
    assert!(first.err.contains("ata-A: header backed up to"), "{}", first.err);
    assert!(first.err.contains("ata-B: has no LUKS header"), "{}", first.err);
    assert_eq!(std::fs::read_dir(&headers).unwrap().count(), 1);
    let read = || std::fs::read(headers.join("ata-A.jwe")).unwrap();
    let before = read();
    assert!(!machine.ok(&daily, RECOVERY).err.contains("backed up"));
    assert!(read() == before);
    // Somebody else changes the header, without a word to us.
    let path = machine.path("ata-A");
    let label = ["config", "--label", "changed", path.to_str().unwrap()];
    run("cryptsetup", &label, b"");
    assert!(machine.ok(&daily, RECOVERY).err.contains("ata-A: header backed up to"));
    assert!(read() != before);
    // A backup that is damaged, or of another key, is no backup.
    std::fs::write(headers.join("ata-A.jwe"), "cut off").unwrap();
    machine.ok(&daily, RECOVERY);
    // One that was changed is believed when somebody says so.
    let changed = [&daily[..], &["--new-recovery-key"]].concat();
    assert!(machine.ok(&changed, b"another key").err.contains("ata-A: header backed up to"));
    machine.ok(&daily, RECOVERY);

    let named = ["header", "backup", "/dev/disk/by-id/ata-B", "--recovery-key-file", "-"];
    assert_eq!(machine.unlock(&named, RECOVERY).code, 1);
    machine.file(1, &[&tang], &["ata-A", "ata-C"]);
    let missing = machine.unlock(&daily, RECOVERY);
    assert_eq!(missing.code, 75, "{}", missing.err);
    // The unit has no key file: while the sealed one is not open, later is the answer.
    machine.ok(&["seal", "recovery-key"], RECOVERY);
    let sealed = machine.unlock(&["header", "backup"], b"");
    assert_eq!(sealed.code, 75, "{}", sealed.err);
    assert!(sealed.err.contains("recovery-key is still sealed"), "{}", sealed.err);
}

#[test]
fn a_mistyped_recovery_key_replaces_no_backup() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    disk(&machine, "ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let daily = ["header", "backup", "--recovery-key-file", "-"];
    let backup = machine.root.path().join("var/lib/personal-cluster/headers/ata-A.jwe");
    // Neither the first one, nor one over another.
    let refused = |backup: &std::path::Path| {
        let before = std::fs::read(backup).ok();
        let answer = machine.unlock(&daily, b"bvcccccb-mistyped");
        assert_eq!(answer.code, 2, "{}", answer.err);
        assert!(answer.err.contains("was it mistyped?\n  add --new-recovery-key"), "{}", answer.err);
        assert!(std::fs::read(backup).ok() == before);
    };
    refused(&backup);
    machine.ok(&daily, RECOVERY);
    refused(&backup);
    let aside = || {
        let entries = std::fs::read_dir(backup.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let replaced = entries.filter(|path| path.to_str().unwrap().contains("/ata-A.replaced-"));
        replaced.map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(aside(), [[0; 0]; 0], "nothing was replaced");
    // A passphrase of the device opens it, whoever's it is. What the recovery key alone opens is kept.
    let before = std::fs::read(&backup).unwrap();
    machine.ok(&daily, PASSPHRASE.as_bytes());
    assert_eq!(aside(), [before]);
    // It is of an older key, and what is no backup at all is of none.
    std::fs::write(backup.with_file_name("ata-A.replaced-junk.jwe"), "junk").unwrap();
    let told = machine.ok(&daily, PASSPHRASE.as_bytes()).err;
    assert_eq!(told.matches("kept under an older recovery key").count(), 1, "{told}");
}

/// The header was changed before the proof failed: the backup has to follow.
#[test]
fn a_bind_that_fails_late_leaves_no_old_backup() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    disk(&machine, "ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["header", "backup", "--recovery-key-file", "-"], RECOVERY);
    let secrets = machine.root.path().join("run/personal-cluster/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("recovery-key"), RECOVERY).unwrap();
    machine.cryptsetup("case $1 in open) exit 1;; esac");
    let answer = machine.unlock(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("ata-A: header backed up to"), "{}", answer.err);
    assert_eq!(machine.shape("ata-A").0.len(), 3);
    // One that changes nothing in the end backs up nothing.
    machine.cryptsetup("case $1 in luksAddKey) echo 'No key available.' >&2; exit 2;; esac");
    let pin = format!(r#"{{"sss":{{"t":1,"pins":{{"tang":[{}]}}}}}}"#, tang.config());
    let answer = machine.unlock(&["bind", &device("ata-A"), "--pin", &pin], b"wrong");
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(!answer.err.contains("header"), "{}", answer.err);
}
