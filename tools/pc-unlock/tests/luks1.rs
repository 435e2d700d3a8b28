//! LUKS1 files that Clevis bound through luksmeta.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::path::Path;

use support::{Machine, PASSPHRASE, Tang, device, run, text};

fn luks1(machine: &Machine, passphrase: &str) -> String {
    let path = machine.path("ata-A");
    std::fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let path = path.to_str().unwrap().to_string();
    let quick = ["--pbkdf-force-iterations", "1000", "--key-file", "-", &path];
    run(
        "cryptsetup",
        &[&["luksFormat", "--batch-mode", "--type", "luks1"], &quick[..]].concat(),
        passphrase.as_bytes(),
    );
    path
}

fn bind(path: &str, tang: &Tang, passphrase: &str) {
    let bind = ["luks", "bind", "-y", "-f", "-k", "-", "-d", path, "tang", &tang.config()];
    run("clevis", &bind, passphrase.as_bytes());
}

/// Turns one bit, so many bytes after the beginning of luksmeta: its header is a page, the JWE of the first slot follows.
fn damage(path: impl AsRef<Path>, offset: usize) {
    let mut bytes = std::fs::read(&path).unwrap();
    let meta = bytes.windows(8).position(|window| window == b"LUKSMETA").unwrap();
    bytes[meta + offset] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

const FIRST_JWE: usize = 4096 + 100;
const META_HEADER: usize = 20;

fn status(machine: &Machine) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_slice(&machine.ok(&["status", "--json"], b"").out).unwrap();
    status["devices"][0].clone()
}

#[test]
fn luks1_bound_by_clevis_is_opened() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let path = luks1(&machine, PASSPHRASE);
    let none = machine.unlock(&["check", &device("ata-A")], b"");
    assert!(none.err.contains("has no clevis token"), "{}", none.err);
    bind(&path, &tang, PASSPHRASE);
    let answer = machine.ok(&["check", &device("ata-A")], b"");
    assert!(text(&answer.out).contains("proven, keyslot 1, tang(http://127.0.0.1:"), "{}", text(&answer.out));
    let rotate = machine.unlock(&["rotate", &device("ata-A")], b"");
    // What it advises: cryptsetup converts no device with luksmeta.
    let (said, remedy) = rotate.err.trim_end().rsplit_once("\n  ").unwrap();
    assert!(said.contains("is LUKS version 1, bound by Clevis"), "{}", rotate.err);
    let copy = machine.root.path().join("of-version-2");
    std::fs::copy(path, &copy).unwrap();
    let remedy =
        remedy.replace(&device("ata-A"), copy.to_str().unwrap()).replace("convert ", "convert --batch-mode ");
    run("sh", &["-c", &remedy], PASSPHRASE.as_bytes());
    run("cryptsetup", &["isLuks", "--type", "luks2", copy.to_str().unwrap()], b"");
}

/// Clevis opens with the other one, too.
#[test]
fn a_damaged_slot_of_luksmeta_takes_no_other_along() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    let (path, name) = (luks1(&machine, PASSPHRASE), device("ata-A"));
    bind(&path, &tang, PASSPHRASE);
    bind(&path, &tang, PASSPHRASE);
    damage(&path, FIRST_JWE);
    let test = machine.ok(&["open", "--test"], b"");
    assert!(text(&test.out).contains("proven, keyslot 2"), "{}", text(&test.out));
    let check = machine.unlock(&["check"], b"");
    let wrong = "the checksum of luksmeta slot 1 is wrong";
    assert_eq!((check.code, check.err.as_str()), (1, &*format!("error: {name}: {wrong}\n")));
    assert!(text(&check.out).contains("proven, keyslot 2"), "{}", text(&check.out));
    let found = status(&machine);
    assert_eq!((&found["state"], found["bindings"].as_array().unwrap().len()), (&"locked".into(), 2));
    assert_eq!(found["bindings"][0]["pin"], format!("damaged({wrong})"));
    machine.ok(&["header", "backup", "--recovery-key-file", "-"], PASSPHRASE.as_bytes());
}

/// A bit of Clevis's own header, beside the keyslots, keeps no passphrase from the data.
#[test]
fn the_recovery_key_opens_beside_a_damaged_luksmeta() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    let key = recovery_key::render(&[7; 32]);
    let path = luks1(&machine, &key);
    bind(&path, &tang, &key);
    let maps = support::maps("$device", "$last", machine.root.path());
    machine.cryptsetup(&format!(
        "for argument; do device=$last; last=$argument; done\n\
         case \"$*\" in *--test-passphrase*) ;; open*) cat > /dev/null; {maps}; exit 0;; esac"
    ));
    for offset in [FIRST_JWE, META_HEADER] {
        damage(&path, offset);
        let found = status(&machine);
        let typed = format!(" {} \n", key.to_uppercase());
        let recover = ["recover", "--recovery-key-file", "-"];
        let answer = machine.ok(&recover, typed.as_bytes());
        assert!(answer.err.contains("opened as /dev/mapper/pc-ata-A"), "{}", answer.err);
        machine.ok(&["header", "backup", "--recovery-key-file", "-"], typed.as_bytes());
        std::fs::remove_dir_all(machine.root.path().join("sys/block")).unwrap();
        if offset == META_HEADER {
            assert_eq!(
                (&found["state"], found["bindings"].as_array().unwrap().len()),
                (&"unbound".into(), 0)
            );
            assert_eq!(found["reason"], "the checksum of its luksmeta header is wrong");
            let open = machine.unlock(&["open"], b"");
            assert!(open.err.contains("the checksum of its luksmeta header is wrong"), "{}", open.err);
        }
    }
}
