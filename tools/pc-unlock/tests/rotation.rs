//! Rotation when something is missing: the file, an old server, the whole of Tang.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use serde_json::Value;
use support::{Machine, PASSPHRASE, Tang, device, text};

fn pins(machine: &Machine) -> Vec<String> {
    let report = machine.ok(&["open", "--test", "--json", &device("ata-A")], b"");
    let report: Value = serde_json::from_slice(&report.out).unwrap();
    assert_eq!(report["devices"][0]["outcome"], "proven");
    let checked = machine.ok(&["check", &device("ata-A")], b"");
    text(&checked.out).lines().map(|line| line.rsplit(", ").next().unwrap().to_string()).collect()
}

fn two() -> (Tang, Tang, Machine) {
    let (a, b, machine) = (Tang::start("P-256"), Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    (a, b, machine)
}

#[test]
fn without_a_file_each_binding_keeps_its_own_server() {
    let (a, b, machine) = two();
    let name = device("ata-A");
    for tang in [&a, &b] {
        let pin = format!(r#"{{"tang":{}}}"#, tang.config());
        machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    }
    let both = [format!("tang({})", a.url), format!("tang({})", b.url)];
    assert_eq!(machine.ok(&["rotate", &name], b"").err, "");
    assert_eq!(pins(&machine), both);
    a.rotate("P-256");
    let rotated = machine.ok(&["rotate", &name], b"");
    assert_eq!(rotated.err.matches("bound keyslot").count(), 1, "{}", rotated.err);
    let mut found = pins(&machine);
    found.sort();
    let mut both = both.to_vec();
    both.sort();
    assert_eq!(found, both);
}

#[test]
fn a_file_that_cannot_be_read_is_not_no_file() {
    let (a, b, machine) = two();
    let name = device("ata-A");
    machine.file(1, &[&a], &["ata-A"]);
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    machine.file(1, &[&b], &["ata-A"]);
    let file = machine.root.path().join("etc/personal-cluster/cluster.toml");
    let broken = std::fs::read_to_string(&file).unwrap() + "nonsense = [\n";
    std::fs::write(&file, broken).unwrap();
    let answer = machine.unlock(&["rotate", &name], b"");
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(std::fs::read(machine.path("ata-A")).unwrap() == before);
}

/// Nothing breaks before the file names the new key, as long as the server keeps the old one.
#[test]
fn after_a_rotation_on_the_server_everything_goes_on_with_the_file_as_it_is() {
    let (tang, _other, machine) = two();
    let name = device("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    machine.ok(&["seal", "node.key"], b"PEM");
    tang.rotate("P-256");
    // Bound already: no passphrase is asked for.
    assert!(!machine.ok(&["bind", &name], b"").err.contains("bound keyslot"));
    let first = machine.ok(&["rotate"], b"");
    assert_eq!(first.err.matches("bound keyslot").count(), 1, "{}", first.err);
    assert!(first.err.contains("its keys were rotated, the pinned one vouches for them"), "{}", first.err);
    // The old key is in no binding any more.
    let again = machine.ok(&["rotate"], b"");
    assert!(!again.err.contains("bound keyslot") && !again.err.contains("sealed /"), "{}", again.err);
    for verb in [&["bind", &name][..], &["check", "--servers"], &["check"]] {
        machine.ok(verb, b"");
    }
    machine.ok(&["seal", "other"], b"secret");
    assert_eq!(machine.shape("ata-A").0.len(), 2);
    // As a binding of an older version has it: nothing was kept beside the device.
    std::fs::remove_dir_all(machine.root.path().join("var/lib/personal-cluster/tang-keys")).unwrap();
    let refused = machine.unlock(&["check", "--servers"], b"");
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(
        refused.err.contains("signs with other keys than the pinned one\n  pc-unlock adv "),
        "{}",
        refused.err
    );
    // Whatever stands in the place of a key: only the one with that thumbprint vouches.
    let keys = machine.root.path().join("var/lib/personal-cluster/tang-keys");
    let pinned =
        std::fs::read_to_string(machine.root.path().join("etc/personal-cluster/cluster.toml")).unwrap();
    let pinned = pinned.split("thumbprint = \"").nth(1).unwrap().split('"').next().unwrap().to_string();
    std::fs::create_dir_all(&keys).unwrap();
    let jwk = support::run("jose", &["jwk", "gen", "-i", r#"{"alg":"ES256"}"#], b"");
    std::fs::write(keys.join(format!("{pinned}.jwk")), jwk).unwrap();
    assert_eq!(machine.unlock(&["check", "--servers"], b"").code, 1);
}

/// The way back that docs/runbooks describe: the recovery key opens, rotate does the rest.
#[test]
fn a_lost_tang_is_replaced_while_disk_and_secrets_are_open() {
    let (a, b, machine) = two();
    machine.file(1, &[&a], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    machine.ok(&["seal", "node.key"], b"PEM");
    machine.ok(&["seal", "recovery-key"], PASSPHRASE.as_bytes());
    drop(a);
    machine.file(1, &[&b], &["ata-A"]);
    assert_eq!(machine.unlock(&["rotate"], b"").code, 75, "nothing is open");
    let secrets = machine.root.path().join("run/personal-cluster/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("node.key"), "PEM").unwrap();
    std::fs::write(secrets.join("recovery-key"), PASSPHRASE).unwrap();
    let rotated = machine.ok(&["rotate"], b"");
    for said in ["opened with the recovery key", "node.key: taken from its open copy", "luksKillSlot"] {
        assert!(rotated.err.contains(said), "{said}: {}", rotated.err);
    }
    assert_eq!(pins(&machine), [format!("tang({})", b.url)]);
    std::fs::remove_dir_all(&secrets).unwrap();
    machine.ok(&["unseal"], b"");
    assert_eq!(std::fs::read(secrets.join("node.key")).unwrap(), b"PEM");
    // What is sealed anew is what lies open.
    machine.ok(&["seal", "node.key"], b"NEW");
    assert_eq!(std::fs::read(secrets.join("node.key")).unwrap(), b"NEW");
}
