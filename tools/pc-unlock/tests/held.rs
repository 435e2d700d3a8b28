//! `open` and `header restore` of one disk: one waits for the other, and no header is written under an open disk. (There is no
//! device-mapper in a test: a stand-in leaves what the kernel would tell.)

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::{Machine, PASSPHRASE, Tang, answer, device, run};

const RESTORE: [&str; 5] = ["header", "restore", "/dev/disk/by-id/ata-A", "--recovery-key-file", "-"];
const HELD: &str = "another pc-unlock, or a program it started, opens it or changes its header";

/// A disk that is bound and saved, and whose header has changed since.
fn changed() -> (Tang, Machine) {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    machine.ok(&["header", "backup", "--recovery-key-file", "-"], PASSPHRASE.as_bytes());
    let label = ["config", "--label", "changed", path.to_str().unwrap()];
    run("cryptsetup", &label, b"");
    (tang, machine)
}

/// Before the real cryptsetup: opening makes what the kernel would tell, and these lines come before any call.
fn stand_in(machine: &Machine, first: &str) {
    machine.cryptsetup(&format!(
        "for argument; do device=$last; last=$argument; done\n{first}\n\
         case \"$*\" in *--test-passphrase*) ;; open*) cat > /dev/null; {}; exit 0;; esac",
        support::maps("$device", "$last", machine.root.path())
    ));
}

/// Lines of sh that stop a call until `go` is written to, and the file that says that they do.
fn stop(machine: &Machine, call: &str) -> (String, PathBuf, PathBuf) {
    let [there, go] = ["there", "go"].map(|name| machine.root.path().join(name));
    run("mkfifo", &[go.to_str().unwrap()], b"");
    let lines =
        format!("case \"$*\" in {call}) touch {}; read -r line < {};; esac", there.display(), go.display());
    (lines, there, go)
}

fn wait_for(path: &std::path::Path) {
    let until = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < until, "{}: not within 60 s", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_restore_keeps_everybody_from_opening_and_is_waited_for() {
    let (_tang, machine) = changed();
    let (lines, there, go) = stop(&machine, "luksHeaderRestore*");
    stand_in(&machine, &lines);
    let restore = machine.start(&RESTORE, PASSPHRASE.as_bytes());
    wait_for(&there);
    let recover = ["recover", "--recovery-key-file", "-"];
    for verb in [&["open"][..], &recover] {
        let late = machine.unlock(&[&["--attempt-time", "3"], verb].concat(), PASSPHRASE.as_bytes());
        assert_eq!(late.code, 75, "{verb:?}: {}", late.err);
        assert!(late.err.contains(&format!("{}: {HELD}", device("ata-A"))), "{verb:?}: {}", late.err);
    }
    // Nothing is opened by those that only look.
    machine.ok(&["open", "--test"], b"");
    machine.ok(&["check"], b"");
    let patient = machine.start(&["--server-time", "60", "--attempt-time", "60", "open"], b"");
    std::fs::write(&go, "\n").unwrap();
    let (restore, patient) = (answer(restore), answer(patient));
    assert_eq!((restore.code, patient.code), (0, 0), "{}{}", restore.err, patient.err);
    assert!(restore.err.contains("header restored from"), "{}", restore.err);
    assert!(patient.out.starts_with(b"/dev/disk/by-id/ata-A: opened"), "{}", patient.err);
}

#[test]
fn who_opens_keeps_a_restore_away_and_whoever_opens_too_finds_it_open() {
    let (_tang, machine) = changed();
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    let (lines, there, go) = stop(&machine, "open*pc-ata-A");
    stand_in(&machine, &lines);
    let patient = ["--server-time", "60", "--attempt-time", "60", "open"];
    let first = machine.start(&patient, b"");
    wait_for(&there);
    let late = machine.unlock(&RESTORE, PASSPHRASE.as_bytes());
    assert_eq!((late.code, late.err.contains(HELD)), (75, true), "{}", late.err);
    let second = machine.start(&patient, b"");
    std::fs::write(&go, "\n").unwrap();
    let (first, second) = (answer(first), answer(second));
    assert_eq!((first.code, second.code), (0, 0), "{}{}", first.err, second.err);
    assert!(first.out.starts_with(b"/dev/disk/by-id/ata-A: opened"), "{}", first.err);
    assert!(second.out.starts_with(b"/dev/disk/by-id/ata-A: already open"), "{}", second.err);
    // From now on it is open, and what closes it for good is said.
    let refused = machine.unlock(&RESTORE, PASSPHRASE.as_bytes());
    assert_eq!(refused.code, 2, "{}", refused.err);
    let said = "ata-A is open\n  systemctl stop pc-unlock  # which would open it again; start it when the header is back\n  \
                cryptsetup close pc-ata-A";
    assert!(refused.err.contains(said), "{}", refused.err);
    assert!(std::fs::read(machine.path("ata-A")).unwrap() == before);
}

/// By whoever asks for no lock of ours: a person, with cryptsetup.
#[test]
fn a_disk_that_was_opened_while_its_backup_was_proven_is_not_written_to() {
    let (_tang, machine) = changed();
    let path = machine.path("ata-A");
    let before = std::fs::read(&path).unwrap();
    let maps = support::maps(path.to_str().unwrap(), "pc-ata-A", machine.root.path());
    stand_in(&machine, &format!("case \"$*\" in *--test-passphrase*) {maps};; esac"));
    let refused = machine.unlock(&RESTORE, PASSPHRASE.as_bytes());
    assert_eq!((refused.code, refused.err.contains("ata-A is open\n")), (2, true), "{}", refused.err);
    assert!(std::fs::read(&path).unwrap() == before);
}

/// The header of a disk that is open is there: a mistyped key is no reason for alarm.
#[test]
fn who_mistypes_the_key_of_a_sound_disk_hears_of_the_key() {
    let (_tang, machine) = changed();
    stand_in(&machine, "");
    machine.ok(&["open"], b"");
    let answer = machine.unlock(&RESTORE, b"mistyped");
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("the recovery key does not open this backup"), "{}", answer.err);
    assert!(!answer.err.contains("do not close it"), "{}", answer.err);
}

/// The kernel may have the last copy of its key: nobody is told to close it for a backup that is of no use.
#[test]
fn an_open_disk_is_closed_for_no_backup_that_does_not_bring_it_back() {
    let (_tang, machine) = changed();
    let path = machine.path("ata-A");
    stand_in(&machine, "");
    machine.ok(&["open"], b"");
    let backup = machine.root.path().join("var/lib/personal-cluster/headers/ata-A.jwe");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 1 << 20], 0).unwrap();
    let said = "ata-A is open\n  systemctl stop pc-unlock";
    let keep = "do not close it, do not switch this machine off";
    let restore = |key: &str| machine.unlock(&RESTORE, key.as_bytes());
    // It would bring it back: then how it is closed is told.
    let answer = restore(PASSPHRASE);
    assert_eq!((answer.code, answer.err.contains(said)), (2, true), "{}", answer.err);
    // That of another disk, which the same key opens, would not.
    machine.disk("ata-B");
    machine.ok(&["header", "backup", &device("ata-B"), "--recovery-key-file", "-"], PASSPHRASE.as_bytes());
    let other = backup.with_file_name("ata-B.jwe");
    let from = [&RESTORE[..], &["--from", other.to_str().unwrap()]].concat();
    let answer = machine.unlock(&from, PASSPHRASE.as_bytes());
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(
        answer.err.contains("the backup is of another LUKS device (") && answer.err.contains(keep),
        "{}",
        answer.err
    );
    // Whoever runs the timer hears of it as well, and whoever looks.
    let status: serde_json::Value =
        serde_json::from_slice(&machine.ok(&["--json", "status"], b"").out).unwrap();
    let disk = &status["devices"][0];
    assert_eq!((&disk["state"], &disk["reason"]), (&"open".into(), &"its LUKS header is gone".into()));
    assert_eq!(status["healthy"], false);
    let saved = machine.unlock(&["header", "backup", "--recovery-key-file", "-"], PASSPHRASE.as_bytes());
    let gone = "its LUKS header is gone; its backup is kept\n  pc-unlock header restore";
    assert_eq!((saved.code, saved.err.contains(gone)), (1, true), "{}", saved.err);
    for (what, why) in [
        ("another key", "the recovery key does not open this backup"),
        ("no backup", "No such file or directory"),
    ] {
        if what == "no backup" {
            std::fs::remove_file(&backup).unwrap();
        }
        let answer = restore(if what == "no backup" { PASSPHRASE } else { "mistyped" });
        assert_eq!(answer.code, 2, "{what}: {}", answer.err);
        assert!(answer.err.contains(why) && answer.err.contains(keep), "{what}: {}", answer.err);
        assert!(!answer.err.contains("cryptsetup close"), "{what}: {}", answer.err);
    }
    let saved = machine.unlock(&["header", "backup", "--recovery-key-file", "-"], PASSPHRASE.as_bytes());
    assert_eq!((saved.code, saved.err.contains(keep)), (1, true), "{}", saved.err);
    assert_eq!(std::fs::read(&path).unwrap()[..1 << 20], vec![0; 1 << 20]);
}
