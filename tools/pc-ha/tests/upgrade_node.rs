//! A node that upgrades itself: what the gate lets others ask (`engine report`, `engine upgrade`), with a stand-in for systemd on a
//! private bus, and what the unit runs (`engine upgrade-here`).

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod stage;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, fcntl_lock};
use stage::children::{Running, bus, fed};
use systemd_jobs::Listed;
use zbus::blocking::{Connection, connection::Builder};
use zbus::zvariant::OwnedObjectPath;

const UNIT: &str = "pc-ha-upgrade-node.service";

/// Units and their state; units that somebody had started.
struct Systemd {
    units: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    started: Sender<String>,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    #[allow(clippy::needless_pass_by_value, reason = "as D-Bus hands them over")]
    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        let path = || OwnedObjectPath::try_from("/x").unwrap();
        let units = self.units.lock().unwrap();
        let wanted = units.iter().filter(|(name, state)| {
            states.iter().any(|wanted| wanted == state)
                && patterns.iter().any(|pattern| pattern == "*" || pattern == name)
        });
        let listed = |(name, state): &(&str, &str)| {
            let word = String::new;
            let name = (*name).to_string();
            (name, word(), word(), (*state).to_string(), word(), word(), path(), 0, word(), path())
        };
        wanted.map(listed).collect()
    }

    fn start_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        self.started.send(name.into()).unwrap();
        OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap()
    }

    #[allow(clippy::unused_self, reason = "the shape of a D-Bus property")]
    #[zbus(property)]
    fn system_state(&self) -> String {
        "degraded".into()
    }
}

struct Node {
    root: tempfile::TempDir,
    address: String,
    units: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    started: Receiver<String>,
    _systemd: Connection,
    _daemon: Running,
}

impl Node {
    fn new() -> Node {
        let (daemon, address) = bus();
        let units = Arc::new(Mutex::new(vec![("smartd.service", "failed"), ("sshd.service", "active")]));
        let (sender, started) = channel();
        let systemd = Builder::address(address.as_str())
            .and_then(|builder| {
                let systemd = Systemd { units: Arc::clone(&units), started: sender };
                builder.serve_at("/org/freedesktop/systemd1", systemd)
            })
            .and_then(|builder| builder.name("org.freedesktop.systemd1"))
            .and_then(Builder::build)
            .unwrap();
        let root = tempfile::tempdir().unwrap();
        let node = Node { root, address, units, started, _systemd: systemd, _daemon: daemon };
        node.write("proc/sys/kernel/random/boot_id", "b1\n");
        node.write("proc/meminfo", "MemTotal:        2097152 kB\nMemFree:         1 kB\n");
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-ha"));
        command.arg("--root").arg(self.root.path()).args(["engine", verb]);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address).env_remove("JOURNAL_STREAM");
        command
    }

    fn engine(&self, verb: &str, stdin: &str) -> Output {
        fed(&mut self.verb(verb), stdin)
    }

    /// The unit's verb, with what it says on the way.
    fn begin(&self) -> (Running, BufReader<ChildStdout>, BufReader<ChildStderr>) {
        let mut child =
            self.verb("upgrade-here").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        (Running(child), BufReader::new(out), BufReader::new(err))
    }

    fn ends(&self, verb: &str, stdin: &str, code: i32) -> String {
        let output = self.engine(verb, stdin);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{verb}: {said}");
        said
    }

    fn report(&self) -> serde_json::Value {
        serde_json::from_slice(&self.engine("report", "").stdout).unwrap()
    }

    fn command(&self, script: &str) {
        self.write("etc/personal-cluster/upgrade-command", &format!("sh\n-c\n{script}\n"));
    }
}

#[test]
fn a_node_says_how_it_is() {
    let node = Node::new();
    node.command("exit 0");
    let report = node.report();
    assert_eq!(report["schema"], "pc.ha.upgrade.node/1");
    assert_eq!((&report["boot_id"], &report["state"]), (&"b1".into(), &"degraded".into()));
    assert_eq!(report["failed_units"], serde_json::json!(["smartd.service"]));
    assert_eq!(report["memory_bytes"], 2u64 << 30);
    assert_eq!(report["commands"], serde_json::json!([["sh", "-c", "exit 0"]]));
    assert_eq!((&report["active"], &report["last"]), (&false.into(), &serde_json::Value::Null));
}

#[test]
fn an_upgrade_is_accepted_once_and_run_by_a_unit() {
    let node = Node::new();
    let told = node.ends("upgrade", "node1-7.node2.1\n", 2);
    assert!(told.contains("nobody says how this node is upgraded"), "{told}");
    node.command("exit 0");
    assert!(node.ends("upgrade", "a; reboot", 2).contains("the name of the upgrade is none"));
    assert!(node.started.try_recv().is_err(), "nothing was started");
    node.ends("upgrade", "node1-7.node2.1\n", 0);
    assert_eq!(node.started.try_recv().unwrap(), UNIT);
    assert_eq!(node.report()["last"]["state"], "asked");
    // Killed before the unit was started, or restarted before it had begun: whoever asked asks again.
    node.write("proc/sys/kernel/random/boot_id", "b2\n");
    node.ends("upgrade", "node1-7.node2.1\n", 0);
    assert_eq!(node.started.try_recv().unwrap(), UNIT);
    assert_eq!(node.report()["last"]["boot_id"], "b2");
    // Only the answer was lost.
    node.units.lock().unwrap().push((UNIT, "activating"));
    node.ends("upgrade", "node1-7.node2.1\n", 0);
    assert!(node.started.try_recv().is_err(), "once");
    assert_eq!(node.report()["active"], true);
    let told = node.ends("upgrade", "node3-8.node2.1\n", 75);
    assert!(told.contains("another upgrade of this node is under way"), "{told}");
    assert_eq!(node.report()["last"]["run"], "node1-7.node2.1");
}

#[test]
fn the_unit_runs_the_node_s_own_command_and_tells_how_it_ended() {
    let node = Node::new();
    assert!(node.ends("upgrade-here", "", 2).contains("nobody asked for an upgrade of this node"));
    let log = node.at("log").display().to_string();
    node.command(&format!(
        "echo \"$DEBIAN_FRONTEND $UCF_FORCE_CONFFOLD\" >> {log}; read answer || echo none >> {log}"
    ));
    node.ends("upgrade", "w.node2.1", 0);
    node.ends("upgrade-here", "", 0);
    // It is not asked for a second time, and its answer may have been lost.
    node.started.try_recv().unwrap();
    node.ends("upgrade", "w.node2.1", 0);
    assert!(node.started.try_recv().is_err(), "it is done");
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        "noninteractive 1\nnone\n",
        "and nobody answers a question"
    );
    assert_eq!(node.report()["last"]["state"], "done");
    assert!(node.ends("upgrade-here", "", 2).contains("nobody asked"), "it is not run a second time");
    // Another one, which fails.
    node.command("exit 100");
    node.ends("upgrade", "w.node2.2", 0);
    assert!(node.ends("upgrade-here", "", 1).contains("exit status: 100"));
    let last = &node.report()["last"];
    assert_eq!((&last["run"], &last["state"]), (&"w.node2.2".into(), &"failed".into()));
    assert_eq!(last["reason"], "sh -c exit 100: exit status: 100");
}

/// A lock of dpkg's kind, which this process has until the file is closed.
fn locked(path: &Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

/// The first line with these words.
fn line(said: &mut impl BufRead, words: &str) -> String {
    let found = said.lines().map(Result::unwrap).find(|line| line.contains(words));
    found.unwrap_or_else(|| panic!("it ended without {words:?}"))
}

#[test]
fn whoever_else_is_at_the_packages_is_waited_for() {
    let node = Node::new();
    let log = node.at("log");
    node.command(&format!("echo ran >> {}", log.display()));
    let locks = [
        "var/lib/dpkg/lock-frontend",
        "var/lib/dpkg/lock",
        "var/lib/apt/lists/lock",
        "var/cache/apt/archives/lock",
    ];
    for (number, lock) in locks.iter().enumerate() {
        let held = locked(&node.at(lock));
        node.ends("upgrade", &format!("w.node2.{number}"), 0);
        let (mut unit, _, mut said) = node.begin();
        let told = line(&mut said, "waiting: ");
        let me = std::process::id();
        assert!(told.contains(&format!("process {me} holds ")) && told.ends_with(lock), "{told}");
        assert!(!log.exists(), "{lock}: nothing runs beside it");
        drop(held);
        assert_eq!(unit.0.wait().unwrap().code(), Some(0), "{lock}");
        assert_eq!(node.report()["last"]["state"], "done");
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn a_command_that_somebody_came_before_is_run_again() {
    let node = Node::new();
    let (log, go) = (node.at("log"), node.at("go"));
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    let mut gate = File::options().read(true).write(true).open(&go).unwrap();
    let (log, go) = (log.display(), go.display());
    node.command(&format!(
        "echo ran >> {log}; [ $(wc -l < {log}) -gt 1 ] || {{ echo begun; read word < {go}; exit 100; }}"
    ));
    node.ends("upgrade", "w.node2.1", 0);
    let (mut unit, mut out, mut said) = node.begin();
    line(&mut out, "begun");
    let held = locked(&node.at("var/lib/apt/lists/lock"));
    gate.write_all(b"go\n").unwrap();
    let told = line(&mut said, "it is run again");
    assert!(told.contains("exit status: 100, and process "), "{told}");
    line(&mut said, "waiting: ");
    drop(held);
    assert_eq!(unit.0.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(node.at("log")).unwrap(), "ran\nran\n");
    assert_eq!(node.report()["last"]["state"], "done");
}
