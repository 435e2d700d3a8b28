//! The pin `file`: a key on a stick, alone and beside Tang, and opened by jose without us.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::path::Path;

use support::{Machine, PASSPHRASE, Tang, device, run, unlock};

/// A stick that can be pulled out: a directory that moves away.
struct Stick {
    home: tempfile::TempDir,
}

impl Stick {
    fn new() -> Stick {
        let stick = Stick { home: tempfile::tempdir().unwrap() };
        std::fs::create_dir(stick.home.path().join("in")).unwrap();
        run("jose", &["jwk", "gen", "-i", r#"{"alg":"A256GCM"}"#, "-o", &stick.key()], b"");
        stick
    }

    fn key(&self) -> String {
        self.home.path().join("in/node1.jwk").to_str().unwrap().to_string()
    }

    fn pull(&self) {
        std::fs::rename(self.home.path().join("in"), self.home.path().join("out")).unwrap();
    }

    fn plug(&self) {
        std::fs::rename(self.home.path().join("out"), self.home.path().join("in")).unwrap();
    }

    fn config(&self) -> String {
        format!(r#"{{"name":"{}"}}"#, self.key())
    }
}

#[test]
fn a_text_opens_while_the_stick_is_in_also_by_jose() {
    let stick = Stick::new();
    let sealed = unlock(&["encrypt", "file", &stick.config()], b"secret");
    assert_eq!(sealed.code, 0, "{}", sealed.err);
    assert!(sealed.err.contains("lies on this machine's own disk"), "{}", sealed.err);
    assert_eq!(unlock(&["decrypt"], &sealed.out).out, b"secret");
    assert_eq!(run("jose", &["jwe", "dec", "-i-", "-k", &stick.key()], &sealed.out), b"secret");
    // No later attempt makes these the key.
    let (right, other) = (std::fs::read(stick.key()).unwrap(), std::fs::read(Stick::new().key()).unwrap());
    for (wrong, said) in [(&b"no JWK"[..], "it is no JWK"), (&other, "tag does not verify")] {
        std::fs::write(stick.key(), wrong).unwrap();
        let answer = unlock(&["decrypt"], &sealed.out);
        assert_eq!((answer.code, answer.out.is_empty()), (1, true), "{}", answer.err);
        assert!(answer.err.contains(said), "{}", answer.err);
    }
    std::fs::write(stick.key(), right).unwrap();
    stick.pull();
    let out = unlock(&["decrypt"], &sealed.out);
    assert_eq!((out.code, out.out.is_empty()), (75, true), "{}", out.err);
    assert!(out.err.contains("node1.jwk: No such file"), "{}", out.err);
    let again = unlock(&["encrypt", "file", &stick.config()], b"secret");
    assert_eq!(again.code, 75, "{}", again.err);
    assert!(!Path::new(&stick.key()).exists(), "nobody makes a key where the stick should be");
    for bad in ["{}", r#"{"name":"node1.jwk"}"#] {
        assert_eq!(unlock(&["encrypt", "file", bad], b"x").code, 2, "{bad}");
    }
}

#[test]
fn what_looks_like_a_bare_partition_is_a_key_too_and_a_hanging_one_is_given_up() {
    let stick = Stick::new();
    let mut bytes = std::fs::read(stick.key()).unwrap();
    bytes.resize(1 << 20, 0);
    std::fs::write(stick.key(), bytes).unwrap();
    let sealed = unlock(&["encrypt", "file", &stick.config()], b"secret");
    assert_eq!(unlock(&["decrypt"], &sealed.out).out, b"secret", "{}", sealed.err);
    std::fs::remove_file(stick.key()).unwrap();
    run("mkfifo", &[&stick.key()], b"");
    let out = unlock(&["--attempt-time", "1", "--server-time", "1", "decrypt"], &sealed.out);
    assert_eq!((out.code, out.out.is_empty()), (75, true), "{}", out.err);
    assert!(out.err.contains("no answer within 1 s"), "{}", out.err);
}

#[test]
fn a_disk_opens_by_server_or_stick_and_stays_so_when_the_server_rotates() {
    let (tang, stick, machine) = (Tang::start("P-521"), Stick::new(), Machine::new());
    machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let name = device("ata-A");
    let pin = format!(r#"{{"sss":{{"t":1,"pins":{{"tang":{},"file":{}}}}}}}"#, tang.config(), stick.config());
    machine.ok(&["bind", &name, "--pin", &pin], PASSPHRASE.as_bytes());
    // Bound to that already, but not to another stick.
    assert!(machine.ok(&["bind", &name, "--pin", &pin], b"").err.contains("is bound to sss("));
    let other = Stick::new();
    let theirs = format!(r#"{{"file":{}}}"#, other.config());
    machine.ok(&["bind", &name, "--pin", &theirs], PASSPHRASE.as_bytes());
    assert_eq!(machine.shape("ata-A").0.len(), 3);
    machine.ok(&["unbind", &name, "--slot", "2"], b"");

    stick.pull();
    machine.ok(&["open", "--test"], b"");
    stick.plug();
    tang.rotate("P-521");
    let rotated = machine.ok(&["rotate"], b"");
    assert_eq!(rotated.err.matches("bound keyslot").count(), 1, "{}", rotated.err);
    assert_eq!(machine.shape("ata-A").0.len(), 2);
    let before = std::fs::read(machine.path("ata-A")).unwrap();
    machine.ok(&["rotate"], b"");
    let same = before == std::fs::read(machine.path("ata-A")).unwrap();
    assert!(same, "a second time there is nothing to do");
    for entry in std::fs::read_dir(tang.keys.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with('.') {
            std::fs::remove_file(path).unwrap();
        }
    }
    // By the server's new key alone, then by the stick alone.
    stick.pull();
    machine.ok(&["check"], b"");
    stick.plug();
    drop(std::fs::remove_dir_all(tang.keys.path()));
    machine.ok(&["check"], b"");
}

/// No server has any part in it: nothing to rotate, which is no fault. Without any binding it is one.
#[test]
fn a_disk_that_only_a_stick_opens_has_nothing_to_rotate() {
    let (tang, machine, stick) = (Tang::start("P-256"), Machine::new(), Stick::new());
    for disk in ["ata-A", "ata-B"] {
        machine.disk(disk);
    }
    machine.file(1, &[&tang], &["ata-A", "ata-B"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    let unbound = machine.unlock(&["rotate"], b"");
    assert_eq!(unbound.code, 1, "{}", unbound.err);
    assert!(unbound.err.contains("ata-B has no binding to rotate"), "{}", unbound.err);
    let pin = format!(r#"{{"file":{}}}"#, stick.config());
    machine.ok(&["bind", &device("ata-B"), "--pin", &pin], PASSPHRASE.as_bytes());
    let before = std::fs::read(machine.path("ata-B")).unwrap();
    stick.pull();
    for named in [&["rotate"][..], &["rotate", &device("ata-B")]] {
        let rotated = machine.ok(named, b"");
        assert!(rotated.err.contains("ata-B: bound without any server"), "{}", rotated.err);
    }
    assert!(std::fs::read(machine.path("ata-B")).unwrap() == before);
}
