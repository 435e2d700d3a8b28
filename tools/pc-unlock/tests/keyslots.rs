//! Whose keyslot is it? What names a slot without owning it, who comes second, what cannot be asked: no slot is wiped that
//! somebody still needs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Machine, PASSPHRASE, Tang, answer, device, run};

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn import(machine: &Machine, disk: &str, token: &Value) {
    let path = machine.path(disk);
    run("cryptsetup", &["token", "import", path.to_str().unwrap()], token.to_string().as_bytes());
}

fn jwe(pin: &str, config: &str, text: &[u8]) -> Value {
    let compact = run("clevis", &["encrypt", pin, config], text);
    json_of(&run("jose", &["jwe", "fmt", "-i-"], &compact))
}

fn wipe(machine: &Machine, disk: &str, slot: &str) {
    let path = machine.path(disk);
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path.to_str().unwrap(), slot], b"");
}

/// One disk, bound to one server that the file names.
fn bound() -> (Tang, Machine) {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    (tang, machine)
}

fn slots(machine: &Machine) -> Vec<String> {
    machine.shape("ata-A").0
}

fn tokens(machine: &Machine) -> usize {
    machine.shape("ata-A").1.len()
}

/// Clevis opens with such a token; whose the slots are is for a person to say.
#[test]
fn a_token_that_names_two_slots_opens_with_either_and_stays() {
    for named in [["0", "1"], ["1", "0"]] {
        let (tang, machine) = bound();
        let (path, name) = (machine.path("ata-A"), device("ata-A"));
        let mut token = machine.dump("ata-A")["tokens"]["0"].clone();
        token["keyslots"] = json!(named);
        run("cryptsetup", &["token", "remove", "--token-id", "0", path.to_str().unwrap()], b"");
        import(&machine, "ata-A", &token);
        for verb in [&["open", "--test"][..], &["check"]] {
            let proven = machine.ok(verb, b"");
            assert!(String::from_utf8_lossy(&proven.out).contains("keyslot 1"), "{verb:?}");
        }
        let bind = machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
        assert!(bind.err.contains("already, by keyslot 1"), "{}", bind.err);
        machine.ok(&["rotate"], b"");
        tang.rotate("P-256");
        let before = std::fs::read(&path).unwrap();
        for verb in [&["rotate"][..], &["unbind", &name], &["unbind", &name, "--slot", "0"]] {
            let refused = machine.unlock(verb, b"");
            let said = format!("token 0 names the keyslots {}", named.join(", "));
            assert!(refused.code != 0 && refused.err.contains(&said), "{}", refused.err);
            assert!(std::fs::read(&path).unwrap() == before, "{verb:?}");
        }
        let unassign = ["token", "unassign", "--token-id", "0", "--key-slot", "0", path.to_str().unwrap()];
        run("cryptsetup", &unassign, b"");
        machine.ok(&["unbind", &name], b"");
        assert_eq!((slots(&machine), tokens(&machine)), (vec!["0".to_string()], 0));
    }
}

/// An advertisement says which keys are wanted, also without a thumbprint.
#[test]
fn other_keys_in_a_given_advertisement_are_another_binding() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    let sealed = machine.root.path().join("etc/personal-cluster/sealed/key.jwe");
    let (mut count, name) = (1, device("ata-A"));
    for new in [true, false] {
        let adv = json_of(&run("curl", &["-s", &format!("{}/adv", tang.url)], b""));
        let pin = json!({"tang": {"url": tang.url, "adv": adv}}).to_string();
        for new in [true, false] {
            let before = std::fs::read(&sealed).ok();
            let bound = machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
            machine.ok(&["seal", "key", "--pin", &pin], b"secret");
            count += usize::from(new);
            assert_eq!(
                (slots(&machine).len(), bound.err.contains("already")),
                (count, !new),
                "{}",
                bound.err
            );
            assert_eq!(std::fs::read(&sealed).ok() != before, new);
        }
        if new {
            tang.rotate("P-256");
        }
    }
}

#[test]
fn a_slot_that_two_tokens_name_stays_for_the_other_one() {
    let (_tang, machine) = bound();
    let twin = machine.dump("ata-A")["tokens"]["0"].clone();
    import(&machine, "ata-A", &twin);
    let rotated = machine.ok(&["rotate"], b"");
    assert!(rotated.err.contains("keyslot 1 stays: token 0 names it too"), "{}", rotated.err);
    assert_eq!((slots(&machine).len(), tokens(&machine)), (2, 1));
    machine.ok(&["open", "--test"], b"");
    // A token of another kind counts as well.
    import(&machine, "ata-A", &json!({"type": "someones", "keyslots": ["1"]}));
    machine.ok(&["unbind", &device("ata-A")], b"");
    assert_eq!((slots(&machine).len(), tokens(&machine)), (2, 1));
}

#[test]
fn a_slot_of_a_person_stays_whatever_token_names_it() {
    let (tang, machine) = bound();
    let token = json!({"type": "clevis", "keyslots": ["0"], "jwe": jwe("tang", &tang.config(), b"junk")});
    import(&machine, "ata-A", &token);
    let rotated = machine.ok(&["rotate"], b"");
    assert!(rotated.err.contains("keyslot 0 stays: its passphrase is another one"), "{}", rotated.err);
    assert_eq!((slots(&machine).len(), tokens(&machine)), (2, 1));
    assert!(machine.passphrase_fits("ata-A"));
    import(&machine, "ata-A", &token);
    machine.ok(&["unbind", &device("ata-A")], b"");
    assert_eq!((slots(&machine), tokens(&machine)), (vec!["0".to_string()], 0));
    assert!(machine.passphrase_fits("ata-A"));
}

#[test]
fn a_slot_whose_servers_are_gone_is_wiped_only_when_it_is_named() {
    let (tang, machine) = bound();
    drop(tang);
    let name = device("ata-A");
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    let answer = machine.unlock(&["unbind", &name], b"");
    assert_eq!(answer.code, 75, "{}", answer.err);
    let remedy = format!("pc-unlock unbind {name} --slot 1    (wipes it all the same)");
    assert!(answer.err.contains(&remedy), "{}", answer.err);
    assert!(std::fs::read(machine.path("ata-A")).unwrap() == before);
    let none = machine.unlock(&["unbind", &name, "--slot", "9"], b"");
    assert_eq!((none.code, none.err.contains("has no binding of keyslot 9")), (2, true), "{}", none.err);
    machine.ok(&["unbind", &name, "--slot", "1"], b"");
    assert_eq!((slots(&machine), tokens(&machine)), (vec!["0".to_string()], 0));
}

/// `luksAddKey --unbound` makes a slot that opens nothing.
#[test]
fn a_slot_that_opens_no_data_does_not_count() {
    let (_tang, machine) = bound();
    let (path, key) = (machine.path("ata-A"), machine.root.path().join("key"));
    std::fs::write(&key, "unbound").unwrap();
    let add = ["luksAddKey", "--batch-mode", "--unbound", "--key-size", "512", "--key-slot", "5"];
    let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let files = [path.to_str().unwrap(), key.to_str().unwrap()];
    run("cryptsetup", &[&add[..], &cheap, &files].concat(), b"");
    wipe(&machine, "ata-A", "0");
    let answer = machine.unlock(&["unbind", &device("ata-A")], b"");
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("no other keyslot that opens its data"), "{}", answer.err);
    machine.ok(&["check"], b"");
}

#[test]
fn of_two_at_once_one_is_told_to_come_back() {
    let (a, b, machine) = (Tang::start("P-256"), Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    for tang in [&a, &b] {
        let pin = format!(r#"{{"tang":{}}}"#, tang.config());
        machine.ok(&["bind", &device("ata-A"), "--pin", &pin], PASSPHRASE.as_bytes());
    }
    wipe(&machine, "ata-A", "0");
    let image = std::fs::read(&path).unwrap();
    let name = device("ata-A");
    for _ in 0..4 {
        std::fs::write(&path, &image).unwrap();
        let both = ["1", "2"].map(|slot| machine.start(&["unbind", &name, "--slot", slot], b""));
        let codes = both.map(|child| answer(child).code);
        assert_eq!(slots(&machine).len(), 1, "{codes:?}");
        assert!(codes.contains(&0) && (codes.contains(&75) || codes.contains(&2)), "{codes:?}");
    }
}

/// Killed alone, pc-unlock leaves a cryptsetup behind that still adds a slot: nobody may take its token away meanwhile.
#[test]
fn what_a_killed_one_started_still_holds_the_device() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let (adding, go) = (machine.root.path().join("adding"), machine.root.path().join("go"));
    run("mkfifo", &[go.to_str().unwrap()], b"");
    machine.cryptsetup(&format!(
        "case $1 in luksAddKey) touch {}; read -r line < {};; esac",
        adding.display(),
        go.display()
    ));
    let name = device("ata-A");
    let mut first = machine.start(&["bind", &name], PASSPHRASE.as_bytes());
    let until = Instant::now() + Duration::from_secs(60);
    while !adding.exists() {
        assert!(Instant::now() < until, "it never came to adding a slot");
        std::thread::sleep(Duration::from_millis(20));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    for verb in [&["bind", &name][..], &["unbind", &name], &["rotate", &name]] {
        let held = machine.unlock(verb, PASSPHRASE.as_bytes());
        assert_eq!(held.code, 75, "{}", held.err);
        assert!(held.err.contains("another pc-unlock, or a program it started"), "{}", held.err);
    }
    std::fs::write(&go, "\n").unwrap();
    machine.real_cryptsetup();
    loop {
        let answer = machine.unlock(&["bind", &name], PASSPHRASE.as_bytes());
        if answer.code != 75 {
            assert_eq!(answer.code, 0, "{}", answer.err);
            break;
        }
        assert!(Instant::now() < until, "{}", answer.err);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(machine.shape("ata-A"), (vec!["0".into(), "1".into()], vec!["clevis".into()]));
    machine.ok(&["check"], b"");
}

#[test]
fn a_disk_that_does_not_answer_is_no_wrong_passphrase() {
    let (_tang, machine) = bound();
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    machine.cryptsetup("case $1 in open) echo 'IO error while decrypting keyslot.' >&2; exit 1;; esac");
    for verb in [&["bind", "/dev/disk/by-id/ata-A"][..], &["check"], &["open", "--test"], &["rotate"]] {
        let answer = machine.unlock(verb, PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 1, "{verb:?}: {}", answer.err);
        assert!(answer.err.contains("IO error while decrypting keyslot"), "{verb:?}: {}", answer.err);
        assert!(std::fs::read(machine.path("ata-A")).unwrap() == before, "{verb:?}");
    }
}

#[test]
fn what_a_server_that_is_gone_left_pending_is_in_nobodys_way() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let adv = run("curl", &["-s", &format!("{}/adv", tang.url)], b"");
    let config = json!({"url": "http://127.0.0.1:9", "adv": json_of(&adv)}).to_string();
    let jwe = json_of(&run(
        "jose",
        &["jwe", "fmt", "-i-"],
        &support::unlock(&["encrypt", "tang", &config], b"NEW").out,
    ));
    let pending = json!({"type": "personal-cluster-pending", "keyslots": [], "slot": "0", "jwe": jwe});
    let name = device("ata-A");
    import(&machine, "ata-A", &pending);
    let remedy = format!("cryptsetup token remove --token-id 0 {name} ");
    for verb in ["bind", "rotate"] {
        let answer = machine.ok(&[verb, &name], PASSPHRASE.as_bytes());
        assert!(answer.err.contains(&remedy), "{verb}: {}", answer.err);
    }
    assert_eq!((slots(&machine).len(), tokens(&machine)), (2, 2));
    // Slot 0 may be all that is left: nobody can say whose it is.
    let refused = machine.unlock(&["unbind", &name], b"");
    assert_eq!((refused.code, refused.err.contains(&remedy)), (75, true), "{}", refused.err);
    let path = machine.path("ata-A");
    run("cryptsetup", &["token", "remove", "--token-id", "0", path.to_str().unwrap()], b"");
    machine.ok(&["unbind", &name], b"");
    assert_eq!((slots(&machine), tokens(&machine)), (vec!["0".to_string()], 0));
    assert!(machine.passphrase_fits("ata-A"));
}
