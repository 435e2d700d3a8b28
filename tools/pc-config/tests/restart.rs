//! A put or push that gives this node other disks has those restarted that read them once. In a mount namespace with /etc, /run and
//! /var/lib of its own, against a systemd that is played here.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod machine;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use machine::{Machine, PROGRAM, file};
use zbus::zvariant::OwnedObjectPath;

/// Ends what a test started, also when it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// pc-unlock runs, pc-brick has done its work.
struct Played(Arc<Mutex<Vec<String>>>);

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Played {
    fn reload(&self) {
        self.0.lock().unwrap().push("reload".into());
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        let call: Vec<String> = std::iter::once("list".into()).chain(states).collect();
        self.0.lock().unwrap().push(call.join(" "));
        let (text, path) = (String::new, || OwnedObjectPath::try_from("/a").unwrap());
        let active =
            |name: String| (name, text(), text(), "active".into(), text(), text(), path(), 0, text(), path());
        patterns.into_iter().map(active).collect()
    }

    fn restart_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
        self.0.lock().unwrap().push(format!("restart {name} {mode}"));
        OwnedObjectPath::try_from("/job").unwrap()
    }
}

/// The cluster of two nodes with these disks of the first.
fn with_disks(disks: &[&str], more: &str) -> String {
    let disks: Vec<String> = disks.iter().map(|disk| format!("\"/dev/disk/by-id/{disk}\"")).collect();
    let nodes = file(2, "[volume.v]\nuse = \"vm\"\nreplicas = 1\n");
    let first = "address = \"10.0.0.1\"\n";
    nodes.replace(first, &format!("{first}disks.v = [{}]\n", disks.join(", "))) + more
}

#[test]
fn other_disks_have_their_readers_restarted_and_nothing_else_does() {
    let machine = Machine::new();
    for directory in ["run/systemd/system", "var/lib"] {
        std::fs::create_dir_all(machine.root.join(directory)).unwrap();
    }
    let mut daemon = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dbus-daemon must be installed for this test");
    let mut address = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let _daemon = Running(daemon);
    let heard = Arc::default();
    let _manager = zbus::blocking::connection::Builder::address(address.trim())
        .unwrap()
        .name("org.freedesktop.systemd1")
        .unwrap()
        .serve_at("/org/freedesktop/systemd1", Played(Arc::clone(&heard)))
        .unwrap()
        .build()
        .unwrap();
    let run = |verb: &str, text: &str| {
        let root = machine.root.display();
        let mounts = format!("for d in etc run var/lib; do mount --bind {root}/$d /$d; done");
        let script =
            format!("{mounts} && PATH={root}/bin:$PATH exec timeout 60 {PROGRAM} --node node1 {verb} -");
        let mut command = Command::new("unshare");
        command.args(["--map-current-user", "--mount", "sh", "-ec", &script]);
        let ended = machine::run(command.env("DBUS_SYSTEM_BUS_ADDRESS", address.trim()), text.as_bytes());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        (std::mem::take(&mut *heard.lock().unwrap()), ended.stderr)
    };
    let put = |text: &str| run("put", text);
    let restarts = [
        "reload",
        "list active activating failed",
        "restart pc-unlock.service replace",
        "restart pc-brick.service replace",
    ];
    assert_eq!(put(&with_disks(&["ata-A"], "")).0, ["reload"], "a first file");
    let (heard, told) = put(&with_disks(&["ata-A", "ata-B"], ""));
    assert_eq!(heard, restarts, "one more");
    let line = "pc-unlock.service, pc-brick.service: restarting: node1 has other disks than before\n";
    assert!(told.contains(line), "{told}");
    assert_eq!(put(&with_disks(&["ata-A", "ata-B"], "# a comment\n")).0, ["reload"]);
    assert!(put(&with_disks(&["ata-A", "ata-B"], "# a comment\n")).0.is_empty(), "the same file");
    assert_eq!(put(&with_disks(&["ata-A", "ata-C"], "")).0, restarts, "replaced");
    // Killed before the record was written: the next put does all of it once more.
    let record = machine.root.join("var/lib/personal-cluster/generation.json");
    let before = std::fs::read(&record).unwrap();
    assert_eq!(put(&with_disks(&["ata-D"], "")).0, restarts);
    std::fs::write(&record, before).unwrap();
    assert_eq!(put(&with_disks(&["ata-D"], "")).0, restarts, "cut short");
    // Pushed on this node: the others are told by their own put. A file of one node, so that nobody has to answer.
    for (path, content) in [
        ("etc/personal-cluster/trust/ca.crt", ""),
        ("etc/personal-cluster/trust/ssh_config", ""),
        ("run/personal-cluster/secrets/ssh-user.key", ""),
        ("bin/pc-trust", "#!/bin/sh\nexec cat\n"),
    ] {
        let path = machine.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let second = "[[node]]\nname = \"node2\"\naddress = \"10.0.0.2\"\n";
    let alone = |disk: &str, more: &str| with_disks(&[disk], more).replace(second, "");
    assert_eq!(run("push", &alone("ata-E", "")).0, restarts, "pushed");
    assert_eq!(run("push", &alone("ata-E", "# a comment\n")).0, ["reload"]);
}
