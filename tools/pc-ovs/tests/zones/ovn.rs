//! OVN's central part, and a directory that stands for the root of the machine it runs on.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Answer;

/// Two zones on OVN's router, one of them isolated; one that a VM routes; one with a router outside; a plain network.
pub const FILE: &str = include_str!("../../../../examples/zones.toml");

pub struct Ovn {
    root: tempfile::TempDir,
    databases: Vec<Child>,
    northd: Option<Child>,
}

/// A port as the status has it.
#[derive(Debug, Clone)]
pub struct Card {
    pub vm: String,
    pub zone: String,
    pub port: String,
    pub mac: String,
    pub v4: String,
    pub v6: Option<String>,
}

impl Ovn {
    /// A machine without OVN.
    pub fn none(file: &str) -> Ovn {
        let root = tempfile::Builder::new().prefix("pz").tempdir().unwrap();
        let ovn = Ovn { root, databases: Vec::new(), northd: None };
        ovn.write(file);
        ovn
    }

    pub fn start(file: &str) -> Ovn {
        let mut ovn = Ovn::none(file);
        std::fs::create_dir_all(ovn.path("run/ovn")).unwrap();
        for side in ["nb", "sb"] {
            let database = ovn.path(&format!("{side}.db"));
            let schema = format!("/usr/share/ovn/ovn-{side}.ovsschema");
            run(Command::new("ovsdb-tool").arg("create").arg(&database).arg(schema));
            let socket = ovn.path(&format!("run/ovn/ovn{side}_db.sock"));
            let mut server = Command::new("ovsdb-server");
            server.arg(&database).arg(format!("--remote=punix:{}", socket.display()));
            server.arg(format!("--unixctl={}", ovn.path(&format!("{side}.ctl")).display()));
            ovn.databases.push(quiet(&mut server).spawn().unwrap());
            wait("ovsdb-server", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        }
        ovn.start_northd();
        ovn.nbctl(&["--wait=sb", "sync"]);
        ovn
    }

    pub fn start_northd(&mut self) {
        let mut northd = Command::new("ovn-northd");
        northd
            .arg(format!("--ovnnb-db={}", self.remote("nb")))
            .arg(format!("--ovnsb-db={}", self.remote("sb")));
        northd.arg(format!("--unixctl={}", self.path("northd.ctl").display()));
        self.northd = Some(quiet(&mut northd).spawn().unwrap());
    }

    pub fn stop_northd(&mut self) {
        end(self.northd.take());
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, file: &str) {
        let path = self.path("etc/personal-cluster/cluster.toml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }

    fn remote(&self, side: &str) -> String {
        format!("unix:{}", self.path(&format!("run/ovn/ovn{side}_db.sock")).display())
    }

    #[track_caller]
    pub fn nbctl(&self, arguments: &[&str]) -> String {
        let remote = format!("--db={}", self.remote("nb"));
        run(Command::new("ovn-nbctl").args(["--timeout=30", &remote]).args(arguments))
    }

    pub fn pc(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-ovs"));
        command.arg("--root").arg(self.root.path()).args(["--node", "node1"]).args(arguments);
        command.env_remove("JOURNAL_STREAM").stdin(Stdio::null());
        command.output().unwrap().into()
    }

    /// What OVN does with a packet; `state` is what connection tracking says of it, wherever it is asked.
    #[track_caller]
    pub fn trace(&self, switch: &str, state: &str, packet: &str) -> String {
        let mut command = Command::new("timeout");
        command
            .args(["30", "ovn-trace", "--summary", "--no-friendly-names"])
            .arg(format!("--db={}", self.remote("sb")));
        command.args((0..6).map(|_| format!("--ct={state}"))).args([switch, packet]);
        let output = command.output().unwrap();
        // A rule that OVN cannot read is left out with no more than a line in the log.
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {:?}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every network card, as `zones status` tells it.
    #[track_caller]
    pub fn cards(&self) -> Vec<Card> {
        let status: serde_json::Value =
            serde_json::from_str(&self.pc(&["zones", "status", "--json"]).with(0).out).unwrap();
        let mut cards = Vec::new();
        for zone in status["zones"].as_array().unwrap() {
            for port in zone["ports"].as_array().unwrap() {
                let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
                cards.push(Card {
                    vm: text(&port["vm"]),
                    zone: text(&zone["name"]),
                    port: text(&port["name"]),
                    mac: text(&port["addresses"][0]),
                    v4: text(&port["addresses"][1]),
                    v6: port["addresses"].get(2).map(text),
                });
            }
        }
        cards
    }

    /// Everything in the database, but for the count of changes and who wrote them.
    pub fn dump(&self) -> String {
        let tables = [
            "ACL",
            "DHCP_Options",
            "Logical_Router",
            "Logical_Router_Policy",
            "Logical_Router_Port",
            "Logical_Switch",
            "Logical_Switch_Port",
            "Port_Group",
        ];
        let list = tables.map(|table| {
            let text = self.nbctl(&["--format=csv", "--no-headings", "list", table]);
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        });
        list.join("\n\n")
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Runs a program that has to succeed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output
        .unwrap_or_else(|error| panic!("{command:?}: {error}: install ovn-central, openvswitch-switch"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits up to 30 s.
#[track_caller]
fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < until, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Ovn {
    fn drop(&mut self) {
        end(self.northd.take());
        self.databases.drain(..).for_each(|child| end(Some(child)));
    }
}
