//! A cryptsetup that fails after it has written: no keyslot is left that nobody can open and that would pass for a person's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Machine, PASSPHRASE, Tang, device, run};

/// The real one adds the key, and is ended before it can say so: by whoever needs its memory, or by a disk that fails.
const ENDED: &str =
    "case $1 in luksAddKey) PATH=/usr/sbin:/usr/bin:/sbin:/bin cryptsetup \"$@\" || exit; kill -9 $$;; esac";

fn machine() -> (Tang, Machine) {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    (tang, machine)
}

fn shape(slots: &[&str], tokens: &[&str]) -> (Vec<String>, Vec<String>) {
    let [slots, tokens] = [slots, tokens].map(|names| names.iter().map(ToString::to_string).collect());
    (slots, tokens)
}

#[test]
fn a_keyslot_that_was_written_all_the_same_is_taken_back() {
    let (tang, machine) = machine();
    machine.cryptsetup(ENDED);
    let answer = machine.unlock(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("adding a passphrase to "), "{}", answer.err);
    assert_eq!(machine.shape("ata-A"), shape(&["0"], &[]), "{}", answer.err);

    // Of a rotation the old binding stays, and nothing else does.
    machine.real_cryptsetup();
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    let before = machine.shape("ata-A");
    tang.rotate("P-256");
    machine.cryptsetup(ENDED);
    let answer = machine.unlock(&["rotate", &device("ata-A")], b"");
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert_eq!(machine.shape("ata-A"), before, "{}", answer.err);
    machine.real_cryptsetup();
    machine.ok(&["check", &device("ata-A")], b"");
}

/// Where not even that can be done, its token stays, which knows the passphrase: a repeat ends it.
#[test]
fn one_that_cannot_be_taken_back_keeps_its_token() {
    let (_tang, machine) = machine();
    machine.cryptsetup(&format!("{ENDED}\ncase $1 in luksKillSlot) exit 1;; esac"));
    let answer = machine.unlock(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(answer.code, 1, "{}", answer.err);
    let told = "token 0 and what may be in keyslot 1 stay: ";
    assert!(answer.err.contains(told) && answer.err.contains("(a repeat ends it)"), "{}", answer.err);
    assert_eq!(machine.shape("ata-A"), shape(&["0", "1"], &["personal-cluster-pending"]));

    machine.real_cryptsetup();
    machine.ok(&["bind", &device("ata-A")], b"");
    assert_eq!(machine.shape("ata-A"), shape(&["0", "1"], &["clevis"]));
    // What a person knew may go, and then the binding is the last way in.
    let path = machine.path("ata-A");
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path.to_str().unwrap(), "0"], b"");
    let answer = machine.unlock(&["unbind", &device("ata-A")], b"");
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert_eq!(machine.shape("ata-A"), shape(&["1"], &["clevis"]));
}

/// Somebody else's slot, made in the same moment under the same number, is nobody's to wipe.
#[test]
fn a_keyslot_that_somebody_else_has_made_meanwhile_stays() {
    let (_tang, machine) = machine();
    let path = machine.path("ata-A");
    let both = machine.root.path().join("both");
    std::fs::write(&both, format!("{PASSPHRASE}theirs")).unwrap();
    let other = format!(
        "case $1 in luksAddKey) PATH=/usr/sbin:/usr/bin:/sbin:/bin cryptsetup luksAddKey --batch-mode --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 --key-slot 1 --key-file - --keyfile-size {} {} - < {};; esac",
        PASSPHRASE.len(),
        path.display(),
        both.display()
    );
    machine.cryptsetup(&other);
    let answer = machine.unlock(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert_eq!(machine.shape("ata-A"), shape(&["0", "1"], &[]), "{}", answer.err);
    let open = ["open", "--test-passphrase", "--key-slot", "1", "--key-file", "-", path.to_str().unwrap()];
    run("cryptsetup", &open, b"theirs");
}

/// A drive has lost one of the two writes: cryptsetup and clevis go by the later copy, and so does whoever opens without them.
#[test]
fn a_copy_of_the_header_that_is_out_of_date_hides_no_binding() {
    let (_tang, machine) = machine();
    let path = machine.path("ata-A");
    let first = |path| std::fs::read(path).unwrap()[..16384].to_vec();
    let old = first(&path);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    let new = first(&path);
    assert!(old != new);
    let mut whole = std::fs::read(&path).unwrap();
    whole[..16384].copy_from_slice(&old);
    std::fs::write(&path, &whole).unwrap();
    let answer = machine.ok(&["check", &device("ata-A")], b"");
    let told = "the first of the two copies of its LUKS header is damaged, or older than the other";
    assert!(answer.err.contains(told), "{}", answer.err);
    machine.ok(&["open", "--test", &device("ata-A")], b"");
    assert_eq!(machine.shape("ata-A"), shape(&["0", "1"], &["clevis"]));
}
