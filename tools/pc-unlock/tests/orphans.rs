//! A keyslot that may be nobody's vouches for nothing, and none is made.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use serde_json::json;
use support::{Machine, PASSPHRASE, Tang, device, run};

/// One disk, bound to A by keyslot 1 and to B by keyslot 2; the file named A, and names B now.
fn two() -> (Tang, Tang, Machine) {
    let (a, b, machine) = (Tang::start("P-256"), Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    for tang in [&a, &b] {
        machine.file(1, &[tang], &["ata-A"]);
        machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    }
    (a, b, machine)
}

fn cryptsetup(machine: &Machine, arguments: &[&str], input: &str) {
    let path = machine.path("ata-A");
    run("cryptsetup", &[arguments, &[path.to_str().unwrap()]].concat(), input.as_bytes());
}

fn wipe(machine: &Machine, slot: &str) {
    let path = machine.path("ata-A");
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path.to_str().unwrap(), slot], b"");
}

/// As a bind to A leaves it that is killed after the keyslot was made.
fn unfinished(machine: &Machine) {
    let jwe = machine.dump("ata-A")["tokens"]["0"]["jwe"].clone();
    cryptsetup(machine, &["token", "remove", "--token-id", "0"], "");
    let pending = json!({"type": "personal-cluster-pending", "keyslots": [], "slot": "1", "jwe": jwe});
    cryptsetup(machine, &["token", "import", "--token-id", "0"], &pending.to_string());
}

/// It answers nothing of use while its keys are away.
fn down(tang: &Tang, is_down: bool) {
    let (here, away) = (tang.keys.path().to_path_buf(), tang.keys.path().with_extension("away"));
    let (from, to) = if is_down { (here, away) } else { (away, here) };
    std::fs::rename(from, to).unwrap();
}

/// It ends like this and changes nothing. Gives what it said.
fn refused(machine: &Machine, arguments: &[&str], codes: &[i32]) -> String {
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    let answer = machine.unlock(arguments, b"");
    assert!(codes.contains(&answer.code), "{arguments:?}: {}: {}", answer.code, answer.err);
    assert!(std::fs::read(machine.path("ata-A")).unwrap() == before, "{arguments:?}: {}", answer.err);
    answer.err
}

/// Runs the line of a message that holds this, as somebody would who types his passphrase.
fn follow(machine: &Machine, said: &str, what: &str, passphrase: &str) -> bool {
    let line = said.lines().find(|line| line.contains(what)).unwrap().split("    (").next().unwrap();
    let line = line.trim().replace(&device("ata-A"), machine.path("ata-A").to_str().unwrap());
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_pc-unlock")).parent().unwrap();
    let line = format!("set -o pipefail; PATH={}:$PATH; {line}", bin.display());
    support::try_run("bash", &["-c", &line], passphrase.as_bytes()).0
}

fn slots(machine: &Machine) -> Vec<String> {
    machine.shape("ata-A").0
}

#[test]
fn a_rotation_keeps_what_a_silent_server_may_own() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    wipe(&machine, "0");
    down(&a, true);
    let said = refused(&machine, &["rotate", &name], &[1, 75]);
    assert!(said.contains(&format!("pc-unlock unbind {name} --slot 1 ")), "{said}");
    refused(&machine, &["unbind", &name], &[1, 75]);
    // When it is back, a repeat finishes; the last one stays.
    let image = std::fs::read(machine.path("ata-A")).unwrap();
    down(&a, false);
    machine.ok(&["rotate", &name], b"");
    assert_eq!(slots(&machine), ["2"]);
    refused(&machine, &["unbind", &name], &[2]);
    // When it never comes back, slot and token go together.
    down(&a, true);
    std::fs::write(machine.path("ata-A"), image).unwrap();
    machine.ok(&["unbind", &name, "--slot", "1"], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["2".into()], vec!["clevis".into()]));
    machine.ok(&["check", &name], b"");
    refused(&machine, &["unbind", &name], &[2]);
}

#[test]
fn a_dead_or_unfinished_binding_vouches_for_nothing() {
    for begun in [false, true] {
        let (a, _b, machine) = two();
        let name = device("ata-A");
        if begun {
            unfinished(&machine);
        }
        let with_passphrase = std::fs::read(machine.path("ata-A")).unwrap();
        wipe(&machine, "0");
        let image = std::fs::read(machine.path("ata-A")).unwrap();
        let checked = machine.ok(&["check", &name], b"");
        let told = format!(
            "an interrupted run left token 0; `bind`, `rotate` and `unbind` end it or take it away\n  pc-unlock bind {name}"
        );
        assert_eq!(checked.err.contains(&told), begun, "{}", checked.err);
        if begun {
            let said = refused(&machine, &["unbind", &name, "--slot", "2"], &[2]);
            assert!(said.contains("keyslot 1: token 0 is unfinished, `pc-unlock bind"), "{said}");
        } else {
            machine.ok(&["unbind", &name, "--slot", "2"], b"");
            std::fs::write(machine.path("ata-A"), image).unwrap();
        }
        down(&a, true);
        let said = refused(&machine, &["unbind", &name, "--slot", "2"], &[2]);
        assert!(said.contains("keyslot 1: token 0: asking"), "{said}");
        std::fs::write(machine.path("ata-A"), with_passphrase).unwrap();
        machine.ok(&["unbind", &name, "--slot", "2"], b"");
    }
}

/// Every line that is printed leaves somebody a way in.
#[test]
fn what_an_interrupted_run_left_goes_with_its_keyslot_or_not_at_all() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    unfinished(&machine);
    let with_passphrase = std::fs::read(machine.path("ata-A")).unwrap();
    wipe(&machine, "0");
    down(&a, true);
    let said = refused(&machine, &["unbind", &name], &[1, 75]);
    refused(&machine, &["unbind", &name, "--slot", "1"], &[1, 75]);
    // No passphrase fits keyslot 1: its token stays.
    assert!(!follow(&machine, &said, "--test-passphrase", PASSPHRASE));
    assert_eq!(slots(&machine), ["1", "2"]);
    assert!(follow(&machine, &said, "luksKillSlot", ""));
    assert_eq!(machine.shape("ata-A"), (vec!["2".into()], vec!["clevis".into()]));
    refused(&machine, &["unbind", &name], &[2]);
    machine.ok(&["check", &name], b"");
    // Beside a person's keyslot the token may go alone, when somebody names its slot.
    std::fs::write(machine.path("ata-A"), with_passphrase).unwrap();
    refused(&machine, &["unbind", &name], &[1, 75]);
    machine.ok(&["unbind", &name, "--slot", "1"], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".into(), "1".into(), "2".into()], vec!["clevis".into()]));
}

/// A bind was killed before it had made its keyslot, and a person has it now.
#[test]
fn a_wish_is_no_ownership() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    unfinished(&machine);
    wipe(&machine, "1");
    let path = machine.path("ata-A");
    let size = PASSPHRASE.len().to_string();
    let path = path.to_str().unwrap();
    let add = ["luksAddKey", "--batch-mode", "--key-slot", "1", "--key-file", "-", "--keyfile-size", &size];
    let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", path, "-"];
    run("cryptsetup", &[&add[..], &cheap].concat(), format!("{PASSPHRASE}mine").as_bytes());
    wipe(&machine, "0");
    down(&a, true);
    let said = refused(&machine, &["unbind", &name, "--slot", "1"], &[1, 75]);
    assert!(follow(&machine, &said, "--test-passphrase", "mine"));
    assert_eq!(machine.shape("ata-A"), (vec!["1".into(), "2".into()], vec!["clevis".into()]));
    machine.ok(&["unbind", &name], b"");
    assert_eq!(slots(&machine), ["1"]);
}

#[test]
fn a_repeat_ends_what_a_killed_unbind_of_one_slot_began() {
    let (_a, _b, machine) = two();
    let name = device("ata-A");
    let of_one = ["unbind", &name, "--slot", "1"];
    machine.cryptsetup("case \"$*\" in *token*remove*) kill -9 $PPID; exit 1;; esac");
    assert_ne!(machine.unlock(&of_one, b"").code, 0);
    assert_eq!(machine.shape("ata-A").1.len(), 2);
    machine.real_cryptsetup();
    machine.ok(&of_one, b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".into(), "2".into()], vec!["clevis".into()]));
    // Nothing tells it from a slot that never had one.
    refused(&machine, &of_one, &[2]);
}
