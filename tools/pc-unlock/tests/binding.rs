//! Binding LUKS2 files with the real cryptsetup, tangd and clevis, and opening them again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use serde_json::{Value, json};
use support::{Machine, PASSPHRASE, Tang, device, run, text, try_run};

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// clevis itself gets the passphrase out of the token, and it fits.
fn clevis_opens(machine: &Machine, disk: &str, slot: &str) {
    let path = machine.path(disk);
    let path = path.to_str().unwrap();
    let passphrase = run("clevis", &["luks", "pass", "-d", path, "-s", slot], b"");
    let passphrase = passphrase.strip_suffix(b"\n").unwrap_or(&passphrase);
    run(
        "cryptsetup",
        &["open", "--test-passphrase", "--key-slot", slot, "--key-file", "-", path],
        passphrase,
    );
}

#[test]
fn bind_is_idempotent_and_clevis_reads_it() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let name = device("ata-A");
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    assert_eq!(machine.shape("ata-A"), (vec!["0".into(), "1".into()], vec!["clevis".into()]));
    let slot = &machine.dump("ata-A")["keyslots"]["1"];
    assert_eq!((&slot["kdf"]["type"], &slot["kdf"]["iterations"]), (&json!("pbkdf2"), &json!(1000)));
    clevis_opens(&machine, "ata-A", "1");
    let again = machine.ok(&["bind", &name], b"");
    assert_eq!(again.err, format!("{name}: is bound to tang({}) already, by keyslot 1\n", tang.url));
    assert!(std::fs::read(machine.path("ata-A")).unwrap() == before);
    let report = json_of(&machine.ok(&["open", "--test", "--json"], b"").out);
    assert_eq!(report["schema"], "pc.unlock.open/1");
    assert_eq!(
        (&report["devices"][0]["outcome"], &report["devices"][0]["keyslot"]),
        (&json!("proven"), &json!(1))
    );
    machine.ok(&["check"], b"");
}

#[test]
fn what_clevis_bound_is_opened() {
    for (pin, threshold) in [("tang", 0), ("sss", 1), ("sss", 2)] {
        let (a, b, machine) = (Tang::start("P-521"), Tang::start("P-256"), Machine::new());
        let path = machine.disk("ata-A");
        let config = match threshold {
            0 => a.config(),
            t => format!(r#"{{"t":{t},"pins":{{"tang":[{},{}]}}}}"#, a.config(), b.config()),
        };
        let bind = ["luks", "bind", "-y", "-k", "-", "-d", path.to_str().unwrap(), pin, &config];
        run("clevis", &bind, PASSPHRASE.as_bytes());
        machine.ok(&["check", &device("ata-A")], b"");
        // Bound by clevis to what the file says: nothing to do for us.
        let pin = format!(r#"{{"{pin}":{config}}}"#);
        let before = std::fs::read(&path).unwrap();
        machine.ok(&["bind", &device("ata-A"), "--pin", &pin], b"");
        assert!(before == std::fs::read(&path).unwrap());
    }
}

#[test]
fn a_wrong_passphrase_leaves_the_header_as_it_was() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let before = machine.dump("ata-A");
    for (passphrase, code) in [(&b"wrong"[..], 1), (b"", 2)] {
        let answer = machine.unlock(&["bind", &device("ata-A")], passphrase);
        assert_eq!(answer.code, code, "{}", answer.err);
        let after = machine.dump("ata-A");
        assert_eq!((&before["keyslots"], &before["tokens"]), (&after["keyslots"], &after["tokens"]));
    }
}

/// Every state that a SIGKILL can leave, made by hand, is cleaned or completed by a repeat.
#[test]
fn a_repeat_finishes_what_a_kill_left() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let path = machine.disk("ata-A");
    let path = path.to_str().unwrap();
    machine.file(1, &[&tang], &["ata-A"]);
    let jwe = run("clevis", &["encrypt", "tang", &tang.config()], b"NEW");
    let jwe = json_of(&run("jose", &["jwe", "fmt", "-i-"], &jwe));
    let pending = json!({"type":"personal-cluster-pending","keyslots":[],"slot":"1","jwe":jwe}).to_string();
    let add = |new: &str| {
        let both = format!("{PASSPHRASE}{new}");
        let size = PASSPHRASE.len().to_string();
        let arguments = [
            "luksAddKey",
            "--batch-mode",
            "--key-slot",
            "1",
            "--key-file",
            "-",
            "--keyfile-size",
            &size,
            path,
            "-",
        ];
        run(
            "cryptsetup",
            &[&arguments[..], &["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]].concat(),
            both.as_bytes(),
        );
    };
    let done = (vec!["0".to_string(), "1".into()], vec!["clevis".to_string()]);

    // After step 1.
    run("cryptsetup", &["token", "import", path], pending.as_bytes());
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(machine.shape("ata-A"), done);
    machine.ok(&["unbind", &device("ata-A")], b"");
    assert_eq!(machine.shape("ata-A"), (vec!["0".to_string()], vec![]));

    // After step 2: completed without any passphrase.
    run("cryptsetup", &["token", "import", path], pending.as_bytes());
    add("NEW");
    machine.ok(&["bind", &device("ata-A")], b"");
    assert_eq!(machine.shape("ata-A"), done);

    // Slot wiped, token not yet.
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path, "1"], b"");
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(machine.shape("ata-A"), done);
    machine.ok(&["unbind", &device("ata-A")], b"");

    // The slot became somebody else's meanwhile: it is not touched.
    run("cryptsetup", &["token", "import", path], pending.as_bytes());
    add("somebody else's");
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    assert_eq!(machine.shape("ata-A").0, ["0", "1", "2"]);
    let arguments = ["open", "--test-passphrase", "--key-slot", "1", "--key-file", "-", path];
    assert!(try_run("cryptsetup", &arguments, b"somebody else's").0);
    assert!(machine.passphrase_fits("ata-A"));
}

#[test]
fn unbind_never_takes_the_last_keyslot() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let path = machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path.to_str().unwrap(), "0"], b"");
    let answer = machine.unlock(&["unbind", &device("ata-A")], b"");
    assert_eq!(answer.code, 2);
    assert!(answer.err.contains("no other keyslot"), "{}", answer.err);
    machine.ok(&["check"], b"");
}

#[test]
fn nothing_is_no_secret_and_a_path_is_no_name() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &[]);
    machine.ok(&["seal", "borg"], b"passphrase");
    let sealed = machine.root.path().join("etc/personal-cluster/sealed/borg.jwe");
    let before = std::fs::read(&sealed).unwrap();
    let answer = machine.unlock(&["seal", "borg"], b"");
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("standard input holds nothing to seal as borg"), "{}", answer.err);
    assert_eq!(std::fs::read(&sealed).unwrap(), before);
    // Beside the directory lies what opens, and its name would lead out of the directory of the open ones too.
    std::fs::copy(&sealed, machine.root.path().join("etc/personal-cluster/borg.jwe")).unwrap();
    let answer = machine.unlock(&["unseal", "../borg"], b"");
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("\"../borg\" is not a usable name"), "{}", answer.err);
    assert!(!machine.root.path().join("run/personal-cluster/borg").exists());
}

#[test]
fn rotation_rebinds_disks_and_secrets() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.disk("ata-A");
    machine.disk("ata-B");
    machine.file(1, &[&tang], &["ata-A", "ata-B"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    machine.ok(&["bind", &device("ata-B")], PASSPHRASE.as_bytes());
    machine.ok(&["seal", "node.key"], b"PEM");
    let kid = |machine: &Machine| {
        let protected =
            machine.dump("ata-A")["tokens"]["0"]["jwe"]["protected"].as_str().unwrap().to_string();
        json_of(&run("jose", &["b64", "dec", "-i-"], protected.as_bytes()))["kid"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let old = kid(&machine);
    assert_eq!(machine.ok(&["rotate"], b"").err, "");
    assert_eq!(kid(&machine), old);

    tang.rotate("P-521");
    // The file still pins the old key; the keys in the old token vouch for the new ones.
    let answer = machine.ok(&["rotate"], b"");
    assert_eq!(answer.err.matches("bound keyslot").count(), 2, "{}", answer.err);
    let (slots, tokens) = machine.shape("ata-A");
    assert_eq!((slots.len(), tokens), (2, vec!["clevis".to_string()]));
    machine.ok(&["check"], b"");
    machine.ok(&["unseal"], b"");
    let opened = machine.root.path().join("run/personal-cluster/secrets/node.key");
    assert_eq!(std::fs::read(opened).unwrap(), b"PEM");
    // The server throws its old keys away: nothing needs them any more.
    for entry in std::fs::read_dir(tang.keys.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with('.') {
            std::fs::remove_file(path).unwrap();
        }
    }
    machine.ok(&["check"], b"");
    machine.file(1, &[&tang], &["ata-A", "ata-B"]);
    assert_eq!(machine.ok(&["rotate"], b"").err, "");
}

#[test]
fn rotate_follows_the_file_to_other_servers() {
    let (a, b, machine) = (Tang::start("P-521"), Tang::start("P-521"), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&a], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    machine.file(1, &[&a, &b], &["ata-A"]);
    machine.ok(&["rotate"], b"");
    let status = json_of(&machine.ok(&["status", "--json"], b"").out);
    let pin = status["devices"][0]["bindings"][0]["pin"].as_str().unwrap();
    assert_eq!(pin, format!("sss(1 of tang({}), tang({}))", a.url, b.url));
    assert_eq!(status["devices"][0]["bindings"].as_array().unwrap().len(), 1);
}

#[test]
fn servers_are_checked_before_there_is_a_device() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    assert_eq!(machine.ok(&["check", "--servers"], b"").out, b"");
    drop(tang);
    let answer = machine.unlock(&["check", "--servers"], b"");
    assert_eq!(answer.code, 75, "{}", answer.err);
    assert!(answer.err.contains("asking the unlock servers for a binding: asking http://"), "{}", answer.err);
}

#[test]
fn a_down_server_is_75_and_changes_nothing() {
    let machine = Machine::new();
    machine.disk("ata-A");
    machine.disk("ata-B");
    let tang = Tang::start("P-521");
    machine.file(1, &[&tang], &["ata-A", "ata-B", "ata-C"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    let answer = machine.unlock(&["open", "--test"], b"");
    assert_eq!(answer.code, 75);
    let out = text(&answer.out);
    assert!(out.contains("/dev/disk/by-id/ata-A: proven"), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(answer.err.contains("error: /dev/disk/by-id/ata-B: has no clevis token"), "{}", answer.err);
    assert!(answer.err.contains("error: /dev/disk/by-id/ata-C: is not plugged in"), "{}", answer.err);
    let config = format!(r#"{{"tang":{{"url":"http://127.0.0.1:9","thp":"{}"}}}}"#, tang.thumbprint());
    let before = machine.dump("ata-B");
    let answer = machine.unlock(&["bind", &device("ata-B"), "--pin", &config], PASSPHRASE.as_bytes());
    assert_eq!(answer.code, 75, "{}", answer.err);
    assert!(answer.err.contains("asking http://127.0.0.1:9: connection refused"), "{}", answer.err);
    assert_eq!(machine.dump("ata-B"), before);
}

#[test]
fn without_unlock_in_the_file_binding_is_refused() {
    let machine = Machine::new();
    machine.disk("ata-A");
    let file = "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"node1\"\naddress = \"192.168.0.50/24\"\n";
    std::fs::write(machine.root.path().join("etc/personal-cluster/cluster.toml"), file).unwrap();
    for arguments in [&["bind", "/dev/disk/by-id/ata-A"][..], &["seal", "node.key"]] {
        let answer = machine.unlock(arguments, PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 2, "{}", answer.err);
        assert!(
            answer.err.contains("has no [unlock]") && answer.err.contains("pc-unlock adv"),
            "{}",
            answer.err
        );
    }
}
