//! `header restore` on image files: what it may write over, and what it leaves byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::os::unix::fs::FileExt;
use std::path::Path;

use support::{Machine, device, run};

/// It opens the disk, as a recovery key does.
const KEY: &[u8] = support::PASSPHRASE.as_bytes();

/// A machine with one LUKS disk, saved, and the UUID of its header.
fn saved() -> (Machine, String) {
    let machine = Machine::new();
    let path = machine.disk("ata-A");
    machine.file(1, &[], &["ata-A"]);
    machine.ok(&["header", "backup", &device("ata-A"), "--recovery-key-file", "-"], KEY);
    let uuid = run("cryptsetup", &["luksUUID", path.to_str().unwrap()], b"");
    (machine, String::from_utf8(uuid).unwrap().trim().into())
}

fn restore(machine: &Machine, flags: &[&str]) -> support::Answer {
    let verb = ["header", "restore", "/dev/disk/by-id/ata-A", "--recovery-key-file", "-"];
    machine.unlock(&[&verb[..], flags].concat(), KEY)
}

fn record(machine: &Machine, uuid: &str) {
    let directory = machine.root.path().join("var/lib/personal-cluster/brick");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("ata-A.json"), format!("{{\"luks_uuid\":\"{uuid}\"}}")).unwrap();
}

fn blank(path: &Path, size: u64) -> std::fs::File {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    file
}

/// Refused, naming what was found, and not a byte of it is touched.
fn refused(machine: &Machine, flags: &[&str], said: &str) {
    let path = machine.path("ata-A");
    let before = std::fs::read(&path).unwrap();
    let answer = restore(machine, flags);
    assert_eq!(answer.code, 2, "{said}: {}", answer.err);
    assert!(answer.err.contains(said), "{}", answer.err);
    assert!(std::fs::read(&path).unwrap() == before, "{said}: written to");
}

#[test]
fn what_is_not_this_header_is_named_and_left_alone() {
    let (machine, uuid) = saved();
    // Not even when the disk was this one once.
    record(&machine, &uuid);
    let path = machine.path("ata-A");
    let name = path.to_str().unwrap();
    // mkfs.xfs makes none below 300 MiB.
    let makers: [(u64, &str, &[&str], &str); 3] = [
        (24, "mkfs.ext4", &["-q", "-F", name], "ext4 (signature at 0x438)"),
        (24, "sfdisk", &["--quiet", name], "gpt (signature at 0x200)"),
        (320, "mkfs.xfs", &["-q", "-f", name], "xfs (signature at 0x0)"),
    ];
    for (mib, program, arguments, said) in makers {
        drop(blank(&path, mib << 20));
        run(program, arguments, b"label: gpt\n");
        refused(&machine, &[], said);
        refused(&machine, &["--overwrite-other-device"], "add --yes-destroy-all-data-on-it");
    }
    assert_eq!(restore(&machine, &["--yes-destroy-all-data-on-it"]).code, 0);
    assert!(machine.passphrase_fits("ata-A"));
    // The second copy of the header outlives mkfs: the file system counts.
    run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", "nodiscard", name], b"");
    refused(&machine, &[], "ext4 (signature at 0x438)");
}

#[test]
fn a_device_that_is_too_small_is_never_written_to() {
    let (machine, _) = saved();
    let begin: u64 = machine.dump("ata-A")["segments"]["0"]["offset"].as_str().unwrap().parse().unwrap();
    for size in [1 << 20, begin] {
        drop(blank(&machine.path("ata-A"), size));
        refused(&machine, &["--yes-destroy-all-data-on-it"], &format!("has {size} bytes"));
    }
}

#[test]
fn data_without_a_signature_needs_the_record_of_this_header() {
    let (machine, uuid) = saved();
    let raw = blank(&machine.path("ata-A"), 24 << 20);
    raw.write_all_at(&vec![0x5c; 1 << 20], 0).unwrap();
    refused(&machine, &[], "data without a signature");
    record(&machine, "11111111-2222-4333-8444-555555555555");
    refused(&machine, &[], "another LUKS device (\"11111111-2222-4333-8444-555555555555\"");
    record(&machine, &uuid);
    assert_eq!(restore(&machine, &[]).code, 0);
    assert!(machine.passphrase_fits("ata-A"));
}

#[test]
fn ruins_of_the_header_are_written_over() {
    let (machine, _) = saved();
    let file = std::fs::OpenOptions::new().write(true).open(machine.path("ata-A")).unwrap();
    let zeros = vec![0; 16 << 20];
    // The first copy: its magic, its checksum, its UUID. Then both, and everything.
    let damages: [(u64, &[u8]); 5] =
        [(0, &zeros[..8]), (5000, b"!"), (168, b"?"), (0, &zeros[..0x8000]), (0, &zeros)];
    for (offset, bytes) in damages {
        file.write_all_at(bytes, offset).unwrap();
        let answer = restore(&machine, &[]);
        assert_eq!(answer.code, 0, "{offset}: {}", answer.err);
        assert!(machine.passphrase_fits("ata-A"));
    }
    // A sound one of another device is no ruin.
    machine.disk("ata-A");
    refused(&machine, &[], "carries the header of another LUKS device");
    assert_eq!(restore(&machine, &["--overwrite-other-device"]).code, 0);
}

/// What a person has in hand when the OS disk is in trouble as well.
#[test]
fn an_os_disk_that_takes_no_file_keeps_no_disk_from_being_mended() {
    let (machine, _) = saved();
    let headers = machine.root.path().join("var/lib/personal-cluster/headers");
    let saved = machine.root.path().join("saved.jwe");
    std::fs::rename(headers.join("ata-A.jwe"), &saved).unwrap();
    std::fs::remove_dir(&headers).unwrap();
    std::fs::write(&headers, "a file").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(machine.path("ata-A")).unwrap();
    file.write_all_at(&vec![0x5c; 64 << 10], 32 << 10).unwrap();
    let answer = restore(&machine, &["--from", saved.to_str().unwrap()]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let told = format!(
        "is kept until the next boot; to have it again:\n  pc-unlock header restore {}",
        device("ata-A")
    );
    assert!(answer.err.contains(&told), "{}", answer.err);
    assert!(machine.passphrase_fits("ata-A"));
}

/// The UUID stays, the volume key does not: with the older header the data would be lost.
#[test]
fn a_disk_that_was_reencrypted_is_not_given_back_its_old_key() {
    let machine = Machine::new();
    let path = machine.path("ata-A");
    drop(blank(&path, 24 << 20));
    let path = path.to_str().unwrap();
    // As large as usual: cryptsetup grows a smaller area of keyslots, and gives no older header back then.
    let quick = ["--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
    run("cryptsetup", &[&["luksFormat"], &quick[..], &[path]].concat(), KEY);
    machine.ok(&["header", "backup", &device("ata-A"), "--recovery-key-file", "-"], KEY);
    let saved = machine.root.path().join("before.jwe");
    std::fs::copy(machine.root.path().join("var/lib/personal-cluster/headers/ata-A.jwe"), &saved).unwrap();
    let from = ["--from", saved.to_str().unwrap()];
    let done = |flags: &[&str]| {
        let answer = restore(&machine, flags);
        assert_eq!(answer.code, 0, "{}", answer.err);
    };
    // What changes no key is undone by the backup as ever.
    let both = [KEY, b"another one"].concat();
    let size = KEY.len().to_string();
    run("cryptsetup", &[&["luksAddKey"], &quick[..], &["--keyfile-size", &size, path, "-"]].concat(), &both);
    assert_eq!(machine.shape("ata-A").0.len(), 2);
    done(&from);
    assert_eq!(machine.shape("ata-A").0.len(), 1);
    // Begun, and done.
    let begin = ["--init-only", "--force-offline-reencrypt", "--key-slot", "0", path];
    let end = ["--resume-only", "--force-offline-reencrypt", "--batch-mode", "--key-file", "-", path];
    for arguments in [&[&quick[..], &begin].concat()[..], &end] {
        run("cryptsetup", &[&["reencrypt"], arguments].concat(), KEY);
        refused(&machine, &from, "holds another volume key than the backup");
    }
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let present = std::fs::read(path).unwrap();
    // One rotten byte in each copy: what they say of the key is there to be read. Then the copies say nothing at all.
    for (at, said) in [
        (0x3ff0, "holds another volume key"),
        (0x1000, "a header that cannot be read, so that nobody can tell"),
    ] {
        for copy in [0, 0x4000] {
            file.write_all_at(b"!", copy + at).unwrap();
        }
        refused(&machine, &from, said);
    }
    // Not even its first bytes are needed, nor the record helps.
    std::fs::write(path, &present).unwrap();
    let uuid = run("cryptsetup", &["luksUUID", path], b"");
    record(&machine, support::text(&uuid).trim());
    for copy in [0, 0x4000] {
        file.write_all_at(b"?", copy).unwrap();
    }
    refused(&machine, &from, "holds another volume key");
    // Where no header is left nothing tells of a key.
    file.write_all_at(&vec![0; 0x8000], 0).unwrap();
    done(&from);
    std::fs::write(path, present).unwrap();
    done(&[&from[..], &["--overwrite-other-device"]].concat());
    assert!(machine.passphrase_fits("ata-A"));
}

/// The file names nobody who could open what was saved before a rotation, and the recovery key came later.
#[test]
fn an_older_backup_that_nothing_opens_takes_no_sound_header_s_place() {
    let (machine, _) = saved();
    let name = device("ata-A");
    let path = machine.path("ata-A");
    let path = path.to_str().unwrap();
    let headers = machine.root.path().join("var/lib/personal-cluster/headers");
    // Of a key that opens the backup, and no keyslot of it.
    let tang = support::Tang::start("P-256");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &name], KEY);
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path, "0"], b"");
    let new = b"another recovery key".as_slice();
    let made = ["header", "backup", &name, "--new-recovery-key", "--recovery-key-file", "-"];
    machine.ok(&[&made[..], &["--overwrite-good-backup"]].concat(), new);
    let older = machine.root.path().join("older.jwe");
    std::fs::copy(headers.join("ata-A.jwe"), &older).unwrap();
    let verb = ["header", "restore", &name, "--recovery-key-file", "-", "--from", older.to_str().unwrap()];
    let restore = |flags: &[&str]| machine.unlock(&[&verb[..], flags].concat(), new);
    // The same header: nothing to do.
    let same = restore(&[]);
    assert_eq!(same.code, 0, "{}", same.err);
    assert!(same.err.contains("has this header already"), "{}", same.err);
    // While its server answers the backup can be opened; with the server's keys gone it cannot.
    tang.rotate("P-256");
    machine.ok(&["rotate"], b"");
    for key in std::fs::read_dir(tang.keys.path()).unwrap() {
        let key = key.unwrap();
        if key.file_name().to_string_lossy().starts_with('.') {
            std::fs::remove_file(key.path()).unwrap();
        }
    }
    let before = std::fs::read(path).unwrap();
    let refused = restore(&[]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    for said in
        ["nothing here opens the backup: the recovery key opens no keyslot of it; token 0: ", "status 404"]
    {
        assert!(refused.err.contains(said), "{}", refused.err);
    }
    assert!(
        refused.err.contains("\n  add --unproven-backup when you have a passphrase of it"),
        "{}",
        refused.err
    );
    assert!(std::fs::read(path).unwrap() == before);
    // A byte that rotted in both copies takes nothing from the keyslots: it is the same question.
    let mut rotten = before.clone();
    (rotten[0x3ff0], rotten[0x7ff0]) = (b'!', b'!');
    std::fs::write(path, &rotten).unwrap();
    assert_eq!(restore(&[]).code, 2);
    std::fs::write(path, &before).unwrap();
    // Servers that are down may open it later.
    let keys = tang.keys.path().to_path_buf();
    std::fs::rename(&keys, keys.with_extension("away")).unwrap();
    assert_eq!(restore(&[]).code, 75);
    std::fs::rename(keys.with_extension("away"), &keys).unwrap();
    // Somebody knows better; what was there comes back.
    let forced = restore(&["--unproven-backup"]);
    assert_eq!(forced.code, 0, "{}", forced.err);
    assert_ne!(machine.unlock(&["open", "--test"], b"").code, 0);
    let kept = forced.err.split("--from ").nth(1).unwrap().split(' ').next().unwrap().to_string();
    let back = ["header", "restore", &name, "--recovery-key-file", "-", "--from", &kept];
    machine.ok(&back, new);
    machine.ok(&["open", "--test"], b"");
    assert!(std::fs::read(path).unwrap()[..0x8000] == before[..0x8000]);
    let copies = std::fs::read_dir(&headers).unwrap().count();
    assert_eq!(
        copies, 4,
        "the backup, the one it took the place of, and one of each header that was replaced"
    );
}
