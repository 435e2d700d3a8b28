//! A disk that does not answer: on a file system whose daemon was stopped, so that even a look at it hangs in the kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Machine, PASSPHRASE, Tang, device, run, try_run};

/// What is below `mount` answers until it is stopped.
struct Below {
    daemon: Child,
    mount: PathBuf,
}

impl Below {
    fn start(machine: &Machine) -> Below {
        let [disks, mount] = ["disks", "mount"].map(|name| machine.root.path().join(name));
        std::fs::create_dir(&disks).unwrap();
        std::fs::create_dir(&mount).unwrap();
        std::fs::write(disks.join("there"), "").unwrap();
        // Nothing is known without asking: a disk that hung before it was looked at.
        let options = "attr_timeout=0,entry_timeout=0,negative_timeout=0";
        let daemon = Command::new("bindfs").args(["-f", "-o", options]).args([&disks, &mount]).spawn();
        let below = Below { daemon: daemon.expect("bindfs must be installed for this test"), mount };
        let until = Instant::now() + Duration::from_secs(30);
        while !below.mount.join("there").exists() {
            assert!(Instant::now() < until, "bindfs: not within 30 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        below
    }

    /// A disk of the machine moves there.
    fn take(&self, machine: &Machine, name: &str) {
        let (path, there) = (machine.path(name), self.mount.join(name));
        std::fs::copy(&path, &there).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(there, path).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.daemon.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        try_run("fusermount3", &["-u", "-z", self.mount.to_str().unwrap()], b"");
    }
}

fn two(tang: &Tang) -> (Machine, Below) {
    let machine = Machine::new();
    machine.file(1, &[tang], &["ata-A", "ata-B"]);
    for name in ["ata-A", "ata-B"] {
        machine.disk(name);
        machine.ok(&["bind", &device(name)], PASSPHRASE.as_bytes());
    }
    let below = Below::start(&machine);
    below.take(&machine, "ata-A");
    (machine, below)
}

/// Enough for the disk that does answer, on a busy machine, too.
const TIME: [&str; 2] = ["--disk-time", "3"];

/// There is no device-mapper in a test: what the kernel would tell of an open disk.
fn stand_in(machine: &Machine) {
    let maps = support::maps("$device", "$last", machine.root.path());
    machine.cryptsetup(&format!(
        "for argument; do device=$last; last=$argument; done\n\
         case \"$*\" in *--test-passphrase*) ;; open*) cat > /dev/null; {maps}; exit 0;; esac"
    ));
}

fn left(machine: &Machine) -> PathBuf {
    machine.root.path().join("run/personal-cluster/unlock.json")
}

fn states(status: &[u8]) -> [String; 2] {
    let status: serde_json::Value = serde_json::from_slice(status).unwrap();
    let device = |index: usize| &status["devices"][index];
    let state = |index: usize| device(index)["state"].as_str().unwrap().to_string();
    let reason = device(0)["reason"].as_str();
    assert!(state(0) != "silent" || reason == Some("does not answer"), "{status}");
    [state(0), state(1)]
}

#[test]
fn a_disk_that_does_not_answer_is_told_and_holds_up_no_other() {
    let tang = Tang::start("P-256");
    let (machine, below) = two(&tang);
    // So that there is something to rotate.
    tang.rotate("P-256");
    stand_in(&machine);
    let silent = format!("{} does not answer", device("ata-A"));
    below.signal(Signal::SIGSTOP);
    let key = ["--recovery-key-file", "-"];
    for verb in [
        &["open", "--test"][..],
        &["check"],
        &["rotate"],
        &[&["header", "backup"][..], &key].concat(),
        &[&["recover"][..], &key].concat(),
        &["open"],
    ] {
        let answer = machine.unlock(&[&TIME[..], verb].concat(), PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 75, "{verb:?}: {}", answer.err);
        let said = answer.err.replace("ata-A: does", "ata-A does");
        assert_eq!(said.matches(&silent).count(), 1, "{verb:?}: {}", answer.err);
        let other = String::from_utf8_lossy(&answer.out).contains("/ata-B: ")
            || answer.err.contains("/ata-B: ")
            || verb[0] == "recover";
        assert!(other, "{verb:?}: {}", answer.err);
    }
    assert!(!left(&machine).exists(), "it is the unit's");
    assert_eq!(
        states(&machine.ok(&[&TIME[..], &["--json", "status"]].concat(), b"").out),
        ["silent", "open"]
    );
    // Whoever names the other one does not wait for it at all.
    let name = device("ata-B");
    let open = machine.ok(&["--disk-time", "3600", "open", &name], b"");
    assert_eq!(support::text(&open.out), format!("{name}: already open"));
    for verb in [&["bind"][..], &["unbind"], &[&["header", "restore"][..], &key].concat()] {
        let name = device("ata-A");
        let answer = machine.unlock(&[&TIME[..], verb, &[&name]].concat(), PASSPHRASE.as_bytes());
        assert_eq!((answer.code, answer.err.contains(&silent)), (75, true), "{verb:?}: {}", answer.err);
    }
    below.signal(Signal::SIGCONT);
    machine.real_cryptsetup();
    machine.ok(&["check"], b"");
    assert!(run("cat", &[machine.path("ata-A").to_str().unwrap()], b"").starts_with(b"LUKS"));
}

/// Ends what a test started, also when it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_answers_late_is_opened_then() {
    let tang = Tang::start("P-256");
    let (machine, below) = two(&tang);
    stand_in(&machine);
    below.signal(Signal::SIGSTOP);
    let root = machine.root.path();
    let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
    let _running = Running(
        Command::new(env!("CARGO_BIN_EXE_pc-unlock"))
            .args(["--root", root.to_str().unwrap(), "--node", "node1", "open", "--forever"])
            .env("PATH", path)
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", root.join("none").display()))
            .spawn()
            .unwrap(),
    );
    let wait_for = |wanted: [&str; 2]| {
        let until = Instant::now() + Duration::from_secs(60);
        while !std::fs::read(left(&machine)).is_ok_and(|status| states(&status) == wanted) {
            assert!(Instant::now() < until, "{wanted:?}: not within 60 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(["silent", "open"]);
    below.signal(Signal::SIGCONT);
    wait_for(["open", "open"]);
}
