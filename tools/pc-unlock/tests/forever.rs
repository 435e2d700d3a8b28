//! `open --forever` as its unit runs it: a private bus with a stand-in for systemd, a real tangd that comes
//! up late, and a fake cryptsetup that makes the mapper's link (there is no device-mapper in a test).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use support::{Machine, PASSPHRASE, Tang, device};
use zbus::blocking::connection::Builder;

struct Systemd(Sender<String>);

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::zvariant::OwnedObjectPath {
        self.0.send(format!("{name} {mode}")).unwrap();
        zbus::zvariant::ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/1").into()
    }
}

/// Ends what a test started, also when it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bus() -> (Running, String) {
    let mut daemon = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dbus-daemon must be installed for this test");
    let mut address = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (Running(daemon), address.trim().to_string())
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// pc-unlock at work, with what it tells systemd.
struct Unlock {
    process: Running,
    notify: UnixDatagram,
    last_status: String,
}

impl Unlock {
    fn start(machine: &Machine, bus: &str) -> Unlock {
        let root = machine.root.path();
        let notify = UnixDatagram::bind(root.join("notify")).unwrap();
        notify.set_nonblocking(true).unwrap();
        let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
        let process = Running(
            Command::new(env!("CARGO_BIN_EXE_pc-unlock"))
                .args(["--root", root.to_str().unwrap(), "--node", "node1", "open", "--forever"])
                .env("PATH", path)
                .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
                .env("NOTIFY_SOCKET", root.join("notify"))
                .stderr(std::fs::File::create(root.join("log")).unwrap())
                .spawn()
                .unwrap(),
        );
        Unlock { process, notify, last_status: String::new() }
    }

    fn status(&mut self) -> String {
        let mut bytes = [0; 4096];
        while let Ok(count) = self.notify.recv(&mut bytes) {
            self.last_status = String::from_utf8_lossy(&bytes[..count]).trim().to_string();
        }
        self.last_status.clone()
    }
}

/// The same with a bus and a stand-in for systemd.
struct Forever {
    unlock: Unlock,
    started: Receiver<String>,
    _systemd: zbus::blocking::Connection,
    _daemon: Running,
}

fn forever(machine: &Machine) -> Forever {
    let (daemon, address) = bus();
    let (sender, started) = channel();
    let systemd = Builder::address(address.as_str())
        .and_then(|builder| builder.name("org.freedesktop.systemd1"))
        .and_then(|builder| builder.serve_at("/org/freedesktop/systemd1", Systemd(sender)))
        .and_then(Builder::build)
        .unwrap();
    Forever { unlock: Unlock::start(machine, &address), started, _systemd: systemd, _daemon: daemon }
}

/// Takes the passphrase and makes the mapper's link, after `first`.
fn fake_cryptsetup(root: &Path, first: &str) {
    let bin = root.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let fake = format!(
        "#!/bin/sh\nfor argument; do device=$last; last=$argument; done\necho \"$*\" >> {0}/calls\ncat > {0}/passphrase\n\
         {first}\n{1}\ntouch {0}/dev/mapper/$last\n",
        root.display(),
        support::maps("$device", "$last", root)
    );
    std::fs::write(bin.join("cryptsetup"), fake).unwrap();
    std::fs::set_permissions(bin.join("cryptsetup"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn left(machine: &Machine) -> Option<serde_json::Value> {
    let text = std::fs::read(machine.root.path().join("run/personal-cluster/unlock.json")).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

#[test]
fn secrets_then_the_target_and_disks_beside_that_even_when_plugged_in_late() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let root = machine.root.path();
    for disk in ["ata-A", "ata-B"] {
        machine.disk(disk);
    }
    machine.file(1, &[&tang], &["ata-A", "ata-B"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    machine.ok(&["bind", &device("ata-B")], PASSPHRASE.as_bytes());
    machine.ok(&["seal", "node.key"], b"PEM");
    std::fs::rename(machine.path("ata-B"), root.join("unplugged")).unwrap();
    // The server is there, but does not know its keys yet.
    let keys = tang.keys.path();
    let hidden = root.join("keys");
    std::fs::create_dir(&hidden).unwrap();
    let move_all = |from: &std::path::Path, to: &std::path::Path| {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    move_all(keys, &hidden);

    fake_cryptsetup(root, "");
    let Forever { mut unlock, started, _systemd, _daemon } = forever(&machine);
    wait_for("both reasons in STATUS=", || unlock.status().matches("status 404").count() == 2);
    let text = unlock.status();
    assert!(
        text.starts_with("STATUS=secrets sealed, 0 of 2 disks open; node.key: opening node.key: asking"),
        "{text}"
    );
    assert!(started.try_recv().is_err());

    move_all(&hidden, keys);
    wait_for("pc-secrets.target", || started.try_recv().is_ok_and(|job| job == "pc-secrets.target replace"));
    assert_eq!(std::fs::read(root.join("run/personal-cluster/secrets/node.key")).unwrap(), b"PEM");
    wait_for("the first disk", || root.join("dev/mapper/pc-ata-A").exists());
    wait_for("the missing disk in STATUS=", || {
        unlock.status() == "STATUS=secrets open, 1 of 2 disks open; ata-B: is not plugged in"
    });

    std::fs::rename(root.join("unplugged"), machine.path("ata-B")).unwrap();
    wait_for("the late disk", || root.join("dev/mapper/pc-ata-B").exists());
    wait_for("everything in STATUS=", || unlock.status() == "STATUS=secrets open, 2 of 2 disks open");
    let calls = std::fs::read_to_string(root.join("calls")).unwrap();
    let first = format!(
        "open --batch-mode --type luks --key-slot=1 --key-file - {} pc-ata-A",
        machine.path("ata-A").display()
    );
    assert_eq!((calls.lines().count(), calls.lines().next().unwrap()), (2, first.as_str()));
    let passphrase = std::fs::read(root.join("passphrase")).unwrap();
    assert_eq!(passphrase.len(), 43, "without a newline");
    wait_for("the status file", || left(&machine).unwrap()["healthy"] == true);
    assert!(unlock.process.0.try_wait().unwrap().is_none(), "it stays, for disks that come back");
    let log = std::fs::read_to_string(root.join("log")).unwrap();
    assert_eq!(log.matches("status 404").count(), 2, "a reason is logged once, not at every attempt: {log}");
    assert!(!log.contains("leaving the status"), "{log}");
    assert!(!log.contains(&*String::from_utf8_lossy(&passphrase)));
}

#[test]
fn a_damaged_secret_darkens_only_itself() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &[]);
    machine.ok(&["seal", "node.key"], b"PEM");
    let sealed = machine.root.path().join("etc/personal-cluster/sealed/borg.jwe");
    std::fs::write(&sealed, "cut off").unwrap();
    let Forever { mut unlock, started, _systemd, _daemon } = forever(&machine);
    wait_for("pc-secrets.target", || started.try_recv().is_ok());
    wait_for("the damaged one in STATUS=", || {
        unlock.status().starts_with("STATUS=secrets open but 1, 0 of 0 disks open; borg: reading ")
    });
    wait_for("the damaged one in the status file", || {
        let Some(left) = left(&machine) else { return false };
        let borg = &left["secrets"][0];
        left["healthy"] == false
            && (borg["name"] == "borg" && borg["state"] == "sealed")
            && borg["reason"].as_str().is_some_and(|reason| reason.contains("borg.jwe"))
    });

    machine.ok(&["seal", "borg"], b"passphrase");
    wait_for("everything in STATUS=", || unlock.status() == "STATUS=secrets open, 0 of 0 disks open");
    // For whoever has ended meanwhile for want of it.
    wait_for("the target once more", || {
        started.try_recv().is_ok_and(|job| job == "pc-secrets.target replace")
    });

    // One that comes when all are open.
    machine.ok(&["seal", "late"], b"passphrase");
    let open = machine.root.path().join("run/personal-cluster/secrets/late");
    wait_for("the late one", || std::fs::read(&open).is_ok_and(|text| text == b"passphrase"));
    wait_for("the target for it", || started.try_recv().is_ok_and(|job| job == "pc-secrets.target replace"));
}

#[test]
fn a_disk_that_hangs_holds_up_no_other() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let root = machine.root.path();
    machine.file(1, &[&tang], &["ata-A", "ata-B"]);
    for disk in ["ata-A", "ata-B"] {
        machine.disk(disk);
        machine.ok(&["bind", &device(disk)], PASSPHRASE.as_bytes());
    }
    std::fs::rename(machine.path("ata-B"), root.join("unplugged")).unwrap();
    fake_cryptsetup(root, "if [ $last = pc-ata-A ]; then exec sleep 60; fi");
    let Forever { mut unlock, started: _started, _systemd, _daemon } = forever(&machine);
    wait_for("the disk that hangs", || {
        std::fs::read_to_string(root.join("calls")).is_ok_and(|calls| calls.contains("pc-ata-A"))
    });
    wait_for("the missing disk", || unlock.status().contains("ata-B: is not plugged in"));
    std::fs::rename(root.join("unplugged"), machine.path("ata-B")).unwrap();
    wait_for("the late disk", || root.join("dev/mapper/pc-ata-B").exists());
    wait_for("both in STATUS=", || {
        unlock.status() == "STATUS=secrets open, 1 of 2 disks open; ata-A: not tried yet"
    });
    wait_for("both in the status file", || {
        let devices = left(&machine).unwrap()["devices"].clone();
        (&devices[0]["state"], &devices[1]["state"]) == (&"locked".into(), &"open".into())
    });
}

#[test]
fn a_silent_bus_does_not_hide_what_is_open() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &[]);
    machine.ok(&["seal", "node.key"], b"PEM");
    let path = machine.root.path().join("bus");
    // Whoever connects waits for a first word.
    let _bus = UnixListener::bind(&path).unwrap();
    let mut unlock = Unlock::start(&machine, &format!("unix:path={}", path.display()));
    wait_for("the secret in STATUS=", || unlock.status() == "STATUS=secrets open, 0 of 0 disks open");
    wait_for("the status file", || left(&machine).is_some_and(|left| left["healthy"] == true));
}
