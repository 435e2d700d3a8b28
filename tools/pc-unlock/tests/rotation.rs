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
    let rotated = machine.unlock(&["rotate"], b"");
    assert_eq!(rotated.code, 75, "the old one may come back: {}", rotated.err);
    let (name, slots) = (device("ata-A"), machine.shape("ata-A").0);
    let remedy = format!("pc-unlock unbind {name} --slot 1    (when they are gone for good)");
    for said in ["opened with the recovery key", "node.key: taken from its open copy", &remedy] {
        assert!(rotated.err.contains(said), "{said}: {}", rotated.err);
    }
    assert_eq!(slots, ["0", "1", "2"]);
    machine.ok(&["unbind", &name, "--slot", "1"], b"");
    assert_eq!(pins(&machine), [format!("tang({})", b.url)]);
    std::fs::remove_dir_all(&secrets).unwrap();
    machine.ok(&["unseal"], b"");
    assert_eq!(std::fs::read(secrets.join("node.key")).unwrap(), b"PEM");
    // What is sealed anew is what lies open.
    machine.ok(&["seal", "node.key"], b"NEW");
    assert_eq!(std::fs::read(secrets.join("node.key")).unwrap(), b"NEW");
}

/// As a process that was killed between the two leaves it: sealed anew, and open as it was before.
#[test]
fn an_open_copy_of_something_older_is_never_sealed() {
    let (a, b, machine) = two();
    machine.file(1, &[&a], &[]);
    machine.ok(&["seal", "x"], b"old");
    machine.ok(&["unseal"], b"");
    let directory = machine.root.path().join("run/personal-cluster/secrets");
    let kept = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let (copy, origin) = (kept("x"), kept(".x.of"));
    machine.ok(&["seal", "x"], b"new");
    assert_eq!(kept("x"), b"new");
    std::fs::write(directory.join("x"), copy).unwrap();
    std::fs::write(directory.join(".x.of"), origin).unwrap();
    machine.file(1, &[&b], &[]);
    let (keys, url) = (a.keys.path().to_path_buf(), a.url.clone());
    let hidden = keys.with_extension("away");
    std::fs::rename(&keys, &hidden).unwrap();
    let refused = machine.unlock(&["rotate"], b"");
    assert_ne!(refused.code, 0, "{}", refused.err);
    assert!(refused.err.contains("of something that was sealed before"), "{url}: {}", refused.err);
    std::fs::rename(&hidden, &keys).unwrap();
    machine.ok(&["unseal"], b"");
    assert_eq!(kept("x"), b"new");
    std::fs::rename(&keys, &hidden).unwrap();
    // Now it is of what is sealed; twice, for a rotation opens it anew.
    machine.ok(&["rotate"], b"");
    std::fs::rename(&hidden, &keys).unwrap();
    machine.file(1, &[&a], &[]);
    machine.ok(&["rotate"], b"");
    machine.ok(&["unseal"], b"");
    assert_eq!(kept("x"), b"new");
    // Half-written by a process that is gone.
    std::fs::write(directory.join(".x.4194305.1"), "secret").unwrap();
    machine.ok(&["unseal", "x"], b"");
    assert!(!directory.join(".x.4194305.1").exists());
}

/// Without a file there is nothing that says which binding is wanted: the one that an interrupted run made is.
#[test]
fn a_rotation_that_is_killed_adds_one_binding_at_most() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    let pin = format!(r#"{{"tang":{}}}"#, a.config());
    machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    a.rotate("P-256");
    machine.cryptsetup("case \"$*\" in *luksKillSlot*) kill -9 $PPID; exit 1;; esac");
    for _ in 0..3 {
        assert_ne!(machine.unlock(&["rotate", &name], b"").code, 0);
        assert_eq!(machine.shape("ata-A").0.len(), 3);
    }
    machine.real_cryptsetup();
    machine.ok(&["rotate", &name], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".into(), "2".into()], vec!["clevis".into()]));
    assert_eq!(pins(&machine), [format!("tang({})", a.url)]);
}

/// It could not be read when it is needed most, after a rotation.
#[test]
fn a_kept_key_that_is_damaged_is_kept_anew() {
    let (a, _b, machine) = two();
    machine.file(1, &[&a], &[]);
    machine.ok(&["check", "--servers"], b"");
    let path = machine.root.path().join(format!("var/lib/personal-cluster/tang-keys/{}.jwk", a.thumbprint()));
    std::fs::write(&path, "").unwrap();
    machine.ok(&["check", "--servers"], b"");
    a.rotate("P-256");
    machine.ok(&["check", "--servers"], b"");
}

/// Somebody may have made it on purpose, with --pin: the file is what holds, and says where it belongs.
#[test]
fn bindings_to_servers_that_the_file_does_not_name_are_told_before_they_go() {
    let (a, b, machine) = two();
    let name = device("ata-A");
    machine.file(1, &[&a], &["ata-A"]);
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    let pin = format!(r#"{{"tang":{}}}"#, b.config());
    machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    machine.ok(&["seal", "x", "--pin", &pin], b"secret");
    let goes =
        format!("token 1, bound to tang({}), gives way to the servers that the file names\n  put its", b.url);
    let sealed =
        format!("x: was sealed to tang({}), which gives way to the servers that the file names", b.url);
    // Killed between, the repeat does the same.
    machine.cryptsetup("case \"$*\" in *luksKillSlot*) kill -9 $PPID; exit 1;; esac");
    let killed = machine.unlock(&["rotate"], b"");
    assert!(killed.code != 0 && killed.err.contains(&goes), "{}", killed.err);
    machine.real_cryptsetup();
    let rotated = machine.ok(&["rotate"], b"");
    assert!(rotated.err.contains(&goes) && rotated.err.contains(&sealed), "{}", rotated.err);
    assert_eq!(pins(&machine), [format!("tang({})", a.url)]);
    assert_eq!(machine.ok(&["rotate"], b"").err, "");
}

/// A token that names this keyslot, as anybody may write it who has the disk.
fn plant(machine: &Machine, token: &str, slot: &str, jwe: &Value) {
    let path = machine.path("ata-A");
    let text = serde_json::json!({"type": "clevis", "keyslots": [slot], "jwe": jwe}).to_string();
    let import = ["token", "import", "--token-id", token, "--json-file", "-", path.to_str().unwrap()];
    support::run("cryptsetup", &import, text.as_bytes());
}

/// Whoever may write to the disk plants a token with servers of his own: its passphrase fits nothing, so it gets none.
#[test]
fn a_token_that_somebody_has_put_there_is_given_no_keyslot() {
    let (a, thief, machine) = two();
    let name = device("ata-A");
    machine.file(1, &[&a], &["ata-A"]);
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    // The recovery key lies open, as on every node that runs.
    let secrets = machine.root.path().join("run/personal-cluster/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("recovery-key"), PASSPHRASE).unwrap();
    let stick = machine.root.path().join("stick");
    std::fs::write(&stick, support::run("jose", &["jwk", "gen", "-i", r#"{"alg":"A256GCM"}"#], b"")).unwrap();
    let kept =
        format!(r#"{{"t":1,"pins":{{"tang":{},"file":{{"name":"{}"}}}}}}"#, thief.config(), stick.display());
    let whole = std::fs::read(machine.path("ata-A")).unwrap();
    let file = machine.root.path().join("etc/personal-cluster/cluster.toml");
    for (pin, config, named, with_file) in
        [("sss", kept.as_str(), &[][..], true), ("tang", &thief.config(), &[name.as_str()], false)]
    {
        std::fs::write(machine.path("ata-A"), &whole).unwrap();
        let jwe = support::unlock(&["encrypt", pin, config], b"a passphrase of the thief's");
        // As Clevis did it by hand: the token names a keyslot of somebody else's.
        let jwe = text(&jwe.out);
        let jwe = tang_client::Jwe::parse(jwe.as_bytes()).unwrap().to_json();
        plant(&machine, "7", "0", &jwe);
        if !with_file {
            std::fs::remove_file(&file).unwrap();
        }
        let slots = machine.shape("ata-A").0;
        let answer = machine.unlock(&[&["rotate"], named].concat(), b"");
        assert_eq!(answer.code, 1, "{pin}: {}", answer.err);
        let told = format!(
            "{name}: token 7: the token's passphrase does not fit its keyslot\n  cryptsetup token remove --token-id 7"
        );
        assert!(answer.err.contains(&told), "{pin}: {}", answer.err);
        assert_eq!(machine.shape("ata-A").0, slots, "{pin}");
    }
}

/// It names the recovery key's own keyslot, and a server that is never there: no line that is printed takes that away.
#[test]
fn a_token_that_names_the_recovery_key_s_keyslot_takes_it_from_nobody() {
    let (a, b, machine) = two();
    let name = device("ata-A");
    machine.file(1, &[&a], &["ata-A"]);
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    let secrets = machine.root.path().join("run/personal-cluster/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("recovery-key"), PASSPHRASE).unwrap();
    let whole = std::fs::read(machine.path("ata-A")).unwrap();
    let jwe = support::unlock(&["encrypt", "tang", &b.config()], b"of the thief's");
    let jwe = tang_client::Jwe::parse(text(&jwe.out).as_bytes()).unwrap().to_json();
    drop(b);
    for (slot, remedy) in
        [("0", format!("pc-unlock unbind {name} --slot 0")), ("1", "token remove --token-id 7".into())]
    {
        std::fs::write(machine.path("ata-A"), &whole).unwrap();
        plant(&machine, "7", slot, &jwe);
        let rotated = machine.unlock(&["rotate"], b"");
        assert_eq!(rotated.code, 75, "{}", rotated.err);
        assert!(rotated.err.contains(&remedy), "{slot}: {}", rotated.err);
        let unbound = machine.unlock(&["unbind", &name, "--slot", "0"], b"");
        assert_eq!(unbound.code, 2, "{}", unbound.err);
        assert_eq!(
            unbound.err.contains("keyslot 0 is the recovery key's, whatever token 7 says"),
            slot == "0"
        );
        assert!(machine.passphrase_fits("ata-A"));
    }
}

/// Its keyslot gives a key that nothing is under: anybody can add one without any passphrase.
#[test]
fn a_keyslot_that_opens_no_data_proves_nothing() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    machine.file(1, &[&a], &["ata-A"]);
    let path = machine.path("ata-A");
    let path = path.to_str().unwrap();
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
    let unbound = ["luksAddKey", "--batch-mode", "--unbound", "--key-size", "512", "--key-slot", "5"];
    support::run("cryptsetup", &[&unbound[..], &quick, &[path]].concat(), b"unbound");
    let jwe = support::unlock(&["encrypt", "tang", &a.config()], b"unbound");
    let jwe = tang_client::Jwe::parse(text(&jwe.out).as_bytes()).unwrap().to_json();
    plant(&machine, "0", "5", &jwe);
    for verb in [&["check"][..], &["open", "--test"]] {
        let answer = machine.unlock(verb, b"");
        assert_eq!(answer.code, 1, "{verb:?}: {}", answer.err);
        assert!(answer.err.contains("does not fit its keyslot"), "{}", answer.err);
    }
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    machine.ok(&["rotate"], b"");
    assert!(machine.ok(&["open", "--test"], b"").err.is_empty());
}

/// Of two sticks with one path only one is plugged in: the binding to the other is somebody's.
#[test]
fn what_cannot_be_proved_now_stays_where_the_file_says_nothing() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    let stick = machine.root.path().join("stick");
    let plug = || {
        let jwk = support::run("jose", &["jwk", "gen", "-i", r#"{"alg":"A256GCM"}"#], b"");
        std::fs::write(&stick, jwk).unwrap();
    };
    let pins = format!(r#""pins":{{"tang":[{}],"file":[{{"name":"{}"}}]}}"#, a.config(), stick.display());
    let pin = format!(r#"{{"sss":{{"t":2,{pins}}}}}"#);
    plug();
    machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    plug();
    // pc-unlock itself makes no second one that looks the same; Clevis does.
    let refused = machine.unlock(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    assert_eq!((refused.code, refused.err.contains("pc-unlock unbind")), (1, true), "{}", refused.err);
    let token = machine.dump("ata-A")["tokens"]["0"].clone();
    let path = machine.path("ata-A");
    let path = path.to_str().unwrap();
    let import = ["token", "import", "--token-id", "5", "--json-file", "-", path];
    support::run("cryptsetup", &["token", "remove", "--token-id", "0", path], b"");
    machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    support::run("cryptsetup", &import, token.to_string().as_bytes());
    let before = machine.shape("ata-A");
    assert_eq!(before.1.len(), 2);
    let kept = machine.ok(&["rotate", &name], b"");
    assert!(kept.err.contains("token 5 stays as it is"), "{}", kept.err);
    assert_eq!(machine.shape("ata-A"), before);
}

/// As Clevis and we may have written it: one server under two spellings.
#[test]
fn one_server_under_two_spellings_keeps_one_binding() {
    let (a, _b, machine) = two();
    let name = device("ata-A");
    for url in [a.url.clone(), format!("{}/", a.url.replace("http", "HTTP"))] {
        let pin = format!(r#"{{"tang":{}}}"#, a.config().replace(&a.url, &url));
        machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
        // What is sealed to the keys of before is bound once more.
        a.rotate("P-256");
    }
    assert_eq!(machine.shape("ata-A").1.len(), 2);
    machine.ok(&["rotate", &name], b"");
    assert_eq!(machine.shape("ata-A").1.len(), 1);
    assert_eq!(pins(&machine).len(), 1);
}
