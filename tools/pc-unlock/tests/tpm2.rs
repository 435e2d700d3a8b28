//! The pin tpm2, both ways with the real clevis, on swtpm.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Machine, PASSPHRASE, Tang, device};

/// A TPM in a directory, ended with the test.
struct Tpm(Child, tempfile::TempDir);

impl Tpm {
    fn start() -> Tpm {
        let state = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("type=unixio,path={}", state.path().join(name).display());
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "startup-clear", "--server", &at("tpm")])
            .args(["--ctrl", &at("tpm.ctrl"), "--tpmstate", &format!("dir={}", state.path().display())])
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm must be installed for this test");
        for _ in 0..500 {
            if state.path().join("tpm.ctrl").exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Tpm(child, state)
    }

    /// How tpm2-tools reach it.
    fn tcti(&self) -> String {
        format!("swtpm:path={}", self.1.path().join("tpm").display())
    }

    fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
        use std::io::Write;
        let mut child = Command::new(program)
            .args(arguments)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever has nothing to do does not read it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn ok(&self, program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        // No resource manager here: clevis leaves sessions behind.
        self.run("tpm2_flushcontext", &["-l"], b"");
        self.run("tpm2_flushcontext", &["-s"], b"");
        let (ok, out, err) = self.run(program, arguments, input);
        assert!(ok, "{program} {arguments:?}: {err}");
        out
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const UNLOCK: &str = env!("CARGO_BIN_EXE_pc-unlock");

#[test]
fn both_ways_with_and_without_pcrs_and_within_a_sharing() {
    let (tpm, tang) = (Tpm::start(), Tang::start("P-521"));
    let sharing = format!(
        r#"{{"t":2,"pins":{{"tpm2":{{"pcr_bank":"sha256","pcr_ids":"7"}},"tang":{}}}}}"#,
        tang.config()
    );
    let configs = [
        ("tpm2", "{}"),
        ("tpm2", r#"{"pcr_bank":"sha256","pcr_ids":"0,7"}"#),
        ("tpm2", r#"{"pcr_bank":"sha256","pcr_ids":["7"],"key":"rsa"}"#),
        ("sss", &sharing),
    ];
    for (pin, config) in configs {
        let theirs = tpm.ok("clevis", &["encrypt", pin, config], b"secret");
        assert_eq!(tpm.ok(UNLOCK, &["--attempt-time", "60", "decrypt"], &theirs), b"secret", "{config}");
        let ours = tpm.ok(UNLOCK, &["--attempt-time", "60", "encrypt", pin, config], b"secret");
        assert_eq!(tpm.ok("clevis", &["decrypt"], &ours), b"secret", "{config}");
        assert_eq!(tpm.ok(UNLOCK, &["--attempt-time", "60", "decrypt"], &ours), b"secret", "{config}");
    }
    let sealed =
        tpm.ok(UNLOCK, &["--attempt-time", "60", "encrypt", "tpm2", r#"{"pcr_ids":"7"}"#], b"secret");
    tpm.ok("tpm2_pcrextend", &[&format!("7:sha256={}", "00".repeat(32))], b"");
    let (ok, out, err) = tpm.run(UNLOCK, &["--attempt-time", "60", "decrypt"], &sealed);
    assert!(!ok && out.is_empty() && err.contains("tpm2_unseal"), "{err}");
    let bad = tpm.run(UNLOCK, &["encrypt", "tpm2", r#"{"pcr_ids":"7; reboot"}"#], b"secret");
    assert!(!bad.0 && bad.2.contains("pcr_ids is"), "{}", bad.2);
}

#[test]
fn a_tpm_that_hangs_gets_no_more_than_the_attempt() {
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("tpm2_createprimary");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = r#"{"alg":"dir","enc":"A256GCM","clevis":{"pin":"tpm2","tpm2":{"hash":"sha256","key":"ecc","jwk_pub":"AA","jwk_priv":"AA"}}}"#;
    let header = support::text(&support::run("jose", &["b64", "enc", "-I-"], config.as_bytes()));
    let jwe = format!("{header}..{}.AAAA.{}", "A".repeat(16), "A".repeat(22));
    let decrypt = |path: &str| {
        let started = std::time::Instant::now();
        let mut child = Command::new(UNLOCK)
            .args(["--attempt-time", "1", "decrypt"])
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), jwe.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, started.elapsed())
    };
    let (code, said, took) = decrypt(&format!("{}:/usr/bin:/bin", bin.path().display()));
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("no answer within 1 s"), "{said}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    // Not installed: no later attempt does better.
    let (code, said, _) = decrypt("/nonexistent");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("apt-get install tpm2-tools"), "{said}");
}

#[test]
fn a_disk_is_bound_to_the_machine() {
    let (tpm, machine) = (Tpm::start(), Machine::new());
    machine.disk("ata-A");
    let root = machine.root.path().to_str().unwrap();
    let name = device("ata-A");
    tpm.ok(
        UNLOCK,
        &["--attempt-time", "60", "--root", root, "bind", &name, "--pin", r#"{"tpm2":{}}"#],
        PASSPHRASE.as_bytes(),
    );
    let path = machine.path("ata-A");
    let passphrase = tpm.ok("clevis", &["luks", "pass", "-d", path.to_str().unwrap(), "-s", "1"], b"");
    assert_eq!(passphrase.trim_ascii().len(), 43);
    tpm.ok(UNLOCK, &["--attempt-time", "60", "--root", root, "check", &name], b"");
    // Another machine's TPM opens nothing.
    let other = Tpm::start();
    let (ok, _, err) = other.run(UNLOCK, &["--attempt-time", "60", "--root", root, "check", &name], b"");
    assert!(!ok && err.contains("pin tpm2"), "{err}");
}

/// Binds and seals again and again: only what guards the key otherwise makes a new binding.
#[test]
fn a_stricter_policy_is_made_and_the_same_one_is_there_already() {
    let (tpm, tang, machine) = (Tpm::start(), Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    let root = machine.root.path().to_str().unwrap();
    let (name, tang) = (device("ata-A"), tang.config());
    let run = |arguments: &[&str], input: &str| {
        let all = [&["--attempt-time", "60", "--root", root], arguments].concat();
        // No resource manager here.
        tpm.run("tpm2_flushcontext", &["-l"], b"");
        tpm.run("tpm2_flushcontext", &["-s"], b"");
        tpm.run(UNLOCK, &all, input.as_bytes())
    };
    let sharing = |ids: &str| format!(r#"{{"sss":{{"t":2,"pins":{{"tpm2":{ids},"tang":{tang}}}}}}}"#);
    let steps = [
        (r#"{"tpm2":{}}"#.to_string(), true),
        (r#"{"tpm2":{}}"#.to_string(), false),
        (r#"{"tpm2":{"pcr_ids":[7]}}"#.to_string(), true),
        (r#"{"tpm2":{"pcr_ids":[7]}}"#.to_string(), false),
        (r#"{"tpm2":{"pcr_ids":"7"}}"#.to_string(), false),
        (r#"{"tpm2":{"pcr_ids":"0"}}"#.to_string(), true),
        (r#"{"tpm2":{"pcr_ids":["0"],"pcr_bank":"sha256"}}"#.to_string(), false),
        (sharing("{}"), true),
        (sharing(r#"{"pcr_ids":[7,0]}"#), true),
        (sharing(r#"{"pcr_ids":"0,7"}"#), false),
    ];
    let (mut slots, sealed) = (1, machine.root.path().join("etc/personal-cluster/sealed/key.jwe"));
    for (pin, new) in &steps {
        let before = std::fs::read(&sealed).ok();
        let (ok, _, err) = run(&["bind", &name, "--pin", pin], PASSPHRASE);
        assert!(ok && err.contains("already") != *new, "{pin}: {err}");
        slots += usize::from(*new);
        assert_eq!(machine.shape("ata-A").0.len(), slots, "{pin}: {err}");
        let (ok, _, err) = run(&["seal", "key", "--pin", pin], "secret");
        assert!(ok, "{pin}: {err}");
        // Of one secret only the last policy counts.
        assert_eq!(std::fs::read(&sealed).ok() != before, *new, "{pin}: {err}");
    }
    for (pin, said) in [
        (r#"{"tpm2":{"pcr_ids":"7","pcr_digest":"AA"}}"#, "pcr_digest"),
        (r#"{"tpm2":{"pcr_id":"7"}}"#, "\"pcr_id\" is none of hash, key"),
    ] {
        let (ok, _, err) = run(&["bind", &name, "--pin", pin], PASSPHRASE);
        assert!(!ok && err.contains(said), "{err}");
    }
}

/// New keys on the server: the binding stays what it is, a TPM and Tang together, by the new ones.
#[test]
fn rotate_keeps_the_tpm_beside_the_servers_new_keys() {
    let (tpm, tang, machine) = (Tpm::start(), Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let root = machine.root.path().to_str().unwrap();
    let name = device("ata-A");
    let run = |arguments: &[&str], input: &str| {
        let all = [&["--node", "node1", "--attempt-time", "60", "--root", root], arguments].concat();
        tpm.run("tpm2_flushcontext", &["-l"], b"");
        tpm.run("tpm2_flushcontext", &["-s"], b"");
        let (ok, _, err) = tpm.run(UNLOCK, &all, input.as_bytes());
        assert!(ok, "{arguments:?}: {err}");
        err
    };
    let pin = format!(r#"{{"sss":{{"t":2,"pins":{{"tpm2":{{}},"tang":{}}}}}}}"#, tang.config());
    run(&["bind", &name, "--pin", &pin], PASSPHRASE);
    let before = machine.dump("ata-A")["tokens"].clone();
    assert!(run(&["rotate", &name], "").find("bound keyslot").is_none(), "nothing is to do yet");
    tang.rotate("P-256");
    let told = run(&["rotate", &name], "");
    assert!(told.contains("bound keyslot 2 to sss"), "{told}");
    assert_eq!(machine.shape("ata-A").0, ["0", "2"], "{told}");
    let after = machine.dump("ata-A")["tokens"].clone();
    assert!(after != before && after.as_object().unwrap().len() == 1, "{after}");
    // The server has forgotten its old keys: the new binding needs none of them, and still needs the TPM.
    for key in std::fs::read_dir(tang.keys.path()).unwrap().map(|key| key.unwrap().path()) {
        if key.file_name().unwrap().to_string_lossy().starts_with('.') {
            std::fs::remove_file(key).unwrap();
        }
    }
    run(&["check", &name], "");
    assert!(run(&["rotate", &name], "").find("bound keyslot").is_none(), "and again nothing is to do");
    let passphrase = tpm.ok("clevis", &["luks", "pass", "-d", path.to_str().unwrap(), "-s", "2"], b"");
    assert_eq!(passphrase.trim_ascii().len(), 43);
    let (ok, _, err) =
        Tpm::start().run(UNLOCK, &["--attempt-time", "60", "--root", root, "check", &name], b"");
    assert!(!ok && err.contains("pin tpm2"), "{err}");
}
