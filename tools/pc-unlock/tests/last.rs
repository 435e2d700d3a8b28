//! The last way into a disk: whatever names its keyslot, and whoever does not answer, it is not taken away.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use serde_json::json;
use support::{Machine, PASSPHRASE, Tang, device, run};

/// One disk that is opened by one binding of keyslot 1; with the passphrase in slot 0, if it is to stay.
fn bound(passphrase_stays: bool) -> (Tang, Machine) {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    if !passphrase_stays {
        run("cryptsetup", &["luksKillSlot", "--batch-mode", path.to_str().unwrap(), "0"], b"");
    }
    (tang, machine)
}

fn import(machine: &Machine, token: &serde_json::Value) {
    let path = machine.path("ata-A");
    run("cryptsetup", &["token", "import", path.to_str().unwrap()], token.to_string().as_bytes());
}

fn twin(machine: &Machine) {
    import(machine, &machine.dump("ata-A")["tokens"]["0"].clone());
}

/// A token of another program, of the slot that ours names.
fn keyring(machine: &Machine) {
    import(machine, &json!({"type": "luks2-keyring", "keyslots": ["1"], "key_description": "x"}));
}

/// The server answers nothing of use while its keys are away.
fn down(tang: &Tang, is_down: bool) {
    let (here, away) = (tang.keys.path().to_path_buf(), tang.keys.path().with_extension("away"));
    let (from, to) = if is_down { (here, away) } else { (away, here) };
    std::fs::rename(from, to).unwrap();
}

/// It ends like this, says this, and changes nothing. Gives what it said.
fn refused(machine: &Machine, arguments: &[&str], code: i32, said: &str) -> String {
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    let answer = machine.unlock(arguments, b"");
    assert_eq!(answer.code, code, "{arguments:?}: {}", answer.err);
    assert!(answer.err.contains(said), "{arguments:?}: {}", answer.err);
    assert!(std::fs::read(machine.path("ata-A")).unwrap() == before, "{arguments:?}: {}", answer.err);
    assert!(!answer.err.contains("luksKillSlot --batch"), "{}", answer.err);
    answer.err
}

#[test]
fn a_second_token_proves_nothing_while_the_server_is_down() {
    let name = device("ata-A");
    for second in [twin, keyring] {
        let (tang, machine) = bound(false);
        second(&machine);
        down(&tang, true);
        let said = refused(&machine, &["unbind", &name], 75, "cannot be shown to own its keyslot");
        assert!(!said.contains("--slot"), "it would be refused: {said}");
        refused(&machine, &["unbind", &name, "--slot", "1"], 2, "no other keyslot that opens its data");
        down(&tang, false);
        machine.ok(&["check"], b"");
    }
}

#[test]
fn what_another_program_opens_stays_for_it() {
    let name = device("ata-A");
    for passphrase_stays in [true, false] {
        let (_tang, machine) = bound(passphrase_stays);
        keyring(&machine);
        let slots = machine.shape("ata-A").0;
        let unbound = machine.ok(&["unbind", &name], b"");
        assert!(unbound.err.contains("keyslot 1 stays: token 1 names it too"), "{}", unbound.err);
        assert_eq!(machine.shape("ata-A"), (slots, vec!["luks2-keyring".into()]));
    }
    // Its servers are down, but the slot is not the last one: the printed remedy does what it says.
    let (tang, machine) = bound(true);
    keyring(&machine);
    down(&tang, true);
    let remedy = format!("pc-unlock unbind {name} --slot 1    (removes the token all the same, and leaves");
    refused(&machine, &["unbind", &name], 75, &remedy);
    machine.ok(&["unbind", &name, "--slot", "1"], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".into(), "1".into()], vec!["luks2-keyring".into()]));
}

/// The way out that is printed needs no passphrase that nobody has.
#[test]
fn of_twins_nothing_goes_before_another_keyslot_is_there() {
    let (_tang, machine) = bound(false);
    let (name, path) = (device("ata-A"), machine.path("ata-A"));
    twin(&machine);
    let said = refused(&machine, &["unbind", &name], 2, "no other keyslot that opens its data");
    let line = said.lines().find(|line| line.contains("luksAddKey")).unwrap();
    let line = line.split("    (").next().unwrap().trim().replace(&name, path.to_str().unwrap());
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_pc-unlock")).parent().unwrap();
    let line = format!("PATH={}:$PATH; {line}", bin.display());
    run("bash", &["-c", &line], PASSPHRASE.as_bytes());
    assert!(machine.passphrase_fits("ata-A"));
    let unbound = machine.ok(&["unbind", &name], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".into()], vec![]));
    for said in ["removed keyslot 1 and token 0, its binding", "removed token 1"] {
        assert!(unbound.err.contains(said), "{said}: {}", unbound.err);
    }
    assert!(!unbound.err.contains("stays"), "{}", unbound.err);
}

/// The token that does not fit goes with the one that does.
#[test]
fn of_two_tokens_the_one_that_fits_takes_the_keyslot_along() {
    let (tang, machine) = bound(true);
    let (name, path) = (device("ata-A"), machine.path("ata-A"));
    let sealed = run("clevis", &["encrypt", "tang", &tang.config()], b"junk");
    let jwe = run("jose", &["jwe", "fmt", "-i-"], &sealed);
    let jwe: serde_json::Value = serde_json::from_slice(&jwe).unwrap();
    let own = machine.dump("ata-A")["tokens"]["0"].clone();
    run("cryptsetup", &["token", "remove", "--token-id", "0", path.to_str().unwrap()], b"");
    import(&machine, &json!({"type": "clevis", "keyslots": ["1"], "jwe": jwe}));
    import(&machine, &own);
    let unbound = machine.ok(&["unbind", &name], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".into()], vec![]), "{}", unbound.err);
    assert!(!unbound.err.contains("stays"), "{}", unbound.err);
}

#[test]
fn a_slot_that_is_not_bound_is_told_from_those_that_are() {
    let (_tang, machine) = bound(true);
    let name = device("ata-A");
    let remedy = format!("has no binding of keyslot 7, only of 1\n  pc-unlock check {name} ");
    refused(&machine, &["unbind", &name, "--slot", "7"], 2, &remedy);
    let checked = machine.ok(&["check", &name], b"");
    assert!(String::from_utf8_lossy(&checked.out).contains("keyslot 1"));
    machine.ok(&["unbind", &name], b"");
    refused(&machine, &["unbind", &name, "--slot", "7"], 2, "keyslot 7, nor of any other");
}
