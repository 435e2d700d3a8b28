//! Passphrases that people type, or pipe in with a newline at their end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use support::{Machine, PASSPHRASE, Tang, device, run, text};

#[test]
fn a_typed_passphrase_fits_without_its_newline_and_with_it() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let path = machine.disk("ata-A");
    let pin = format!(r#"{{"tang":{}}}"#, tang.config());
    let bind = ["bind", &device("ata-A"), "--pin", &pin];
    let answer = machine.unlock(&bind, b"wrong\n");
    assert_eq!(answer.code, 1, "{}", answer.err);
    machine.ok(&bind, format!("{PASSPHRASE}\n").as_bytes());
    machine.ok(&["unbind", &device("ata-A")], b"");
    let path = path.to_str().unwrap();
    let add = ["luksAddKey", "--batch-mode", "--key-file", "-", "--keyfile-size"];
    let size = PASSPHRASE.len().to_string();
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    run(
        "cryptsetup",
        &[&add[..], &[&size, path, "-"], &quick].concat(),
        format!("{PASSPHRASE}with a newline\n").as_bytes(),
    );
    machine.ok(&bind, b"with a newline\n");
}

#[test]
fn a_passphrase_is_asked_for_on_a_terminal_and_not_shown() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    let (ok, shown) = on_a_terminal(&tang, &machine, &format!("{PASSPHRASE}\n"));
    assert!(ok && !shown.contains(PASSPHRASE), "{shown}");
    assert_eq!(machine.shape("ata-A").0.len(), 2);
}

#[test]
fn a_terminal_is_as_it_was_after_ctrl_c() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.disk("ata-A");
    let (ok, shown) = on_a_terminal(&tang, &machine, "\u{3}");
    // By the signal, or by itself where whoever started it ignores that (nohup in the background).
    let ended = ["ended with 130", "error: interrupted"].iter().any(|said| shown.contains(said));
    assert!(!ok && ended && shown.contains(" echo "), "{shown}");
    assert_eq!(machine.shape("ata-A").0.len(), 1);
}

/// A terminal of its own, by script(1): whether it ended well, and what was shown.
fn on_a_terminal(tang: &Tang, machine: &Machine, types: &str) -> (bool, String) {
    let root = machine.root.path();
    let pin = root.join("pin");
    std::fs::write(&pin, format!(r#"{{"tang":{}}}"#, tang.config())).unwrap();
    let command = format!(
        // Whoever presses Ctrl-C presses it for the shell, too.
        "trap : INT; {} --root {} bind {} --pin \"$(cat {})\" || {{ echo ended with $?; stty -a; exit 1; }}",
        env!("CARGO_BIN_EXE_pc-unlock"),
        root.display(),
        device("ata-A"),
        pin.display()
    );
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--echo", "always", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) of bsdutils must be installed for this test");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    // What is typed before the question is thrown away, as on any terminal.
    while !String::from_utf8_lossy(&shown).contains("ata-A: ") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{}", text(&shown));
        shown.push(byte[0]);
    }
    stdin.write_all(types.as_bytes()).unwrap();
    stdout.read_to_end(&mut shown).unwrap();
    (child.wait().unwrap().success(), text(&shown))
}
