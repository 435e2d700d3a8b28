//! Nodes of a cluster on one machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::Answer;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A file with so many nodes and a zone on OVN's router.
pub fn file(nodes: usize) -> String {
    let node = |number| {
        format!("[[node]]\nname = \"node{number}\"\naddress = \"10.66.0.{number}\"\nnics.lan = [\"nic0\"]\n")
    };
    let nodes: String = (1..=nodes).map(node).collect();
    format!(
        r#"schema = "personal-cluster/1"
name = "home"
{nodes}
[network.lan]
uplink = "lan"
subnet = "10.66.0.0/24"

[network.web]
uplink = "lan"
vlan = 10
subnet = "10.0.10.0/24"
router = "10.0.10.1"
gateway = "cluster"
"#
    )
}

/// Several machines.
pub struct Nodes {
    directory: tempfile::TempDir,
    namespace: String,
    running: Vec<(String, Child)>,
}

impl Nodes {
    /// So many nodes of a file that has so many, each with the certificate of a CA of their own.
    pub fn new(count: usize) -> Nodes {
        let directory = tempfile::Builder::new().prefix("pn").tempdir().unwrap();
        let namespace = format!("pcn{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &namespace]);
        let nodes = Nodes { directory, namespace, running: Vec::new() };
        run("ip", &["-n", &nodes.namespace, "link", "set", "lo", "up"]);
        nodes.authority("ca");
        for number in 1..=count {
            let address = format!("10.66.0.{number}/24");
            run("ip", &["-n", &nodes.namespace, "address", "add", &address, "dev", "lo"]);
            let node = format!("node{number}");
            nodes.write(&node, "etc/personal-cluster/cluster.toml", &file(count));
            nodes.certify(&node, "ca");
            // The unit has it as a directory for what runs.
            std::fs::create_dir_all(nodes.path(&node, "run/personal-cluster/ovn")).unwrap();
        }
        nodes
    }

    /// A path of a node.
    pub fn path(&self, node: &str, path: &str) -> PathBuf {
        self.directory.path().join(node).join(path)
    }

    pub fn write(&self, node: &str, path: &str, content: &str) {
        let path = self.path(node, path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn authority(&self, name: &str) {
        let (key, certificate) =
            (self.path("", &format!("{name}.key")), self.path("", &format!("{name}.crt")));
        request(&key, &certificate, name, &[]);
    }

    /// The files that pc-trust leaves on a member, of this CA.
    pub fn certify(&self, node: &str, authority: &str) {
        let key = self.path(node, "run/personal-cluster/secrets/node.key");
        let certificate = self.path(node, "etc/personal-cluster/trust/node.crt");
        for file in [&key, &certificate] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        }
        let (ca, ca_key) =
            (self.path("", &format!("{authority}.crt")), self.path("", &format!("{authority}.key")));
        request(&key, &certificate, node, &["-CA", text(&ca), "-CAkey", text(&ca_key)]);
        std::fs::copy(ca, self.path(node, "etc/personal-cluster/trust/ca.crt")).unwrap();
    }

    /// A node that nobody of the cluster has vouched for.
    pub fn stranger(&self) {
        self.authority("other-ca");
        self.certify("stranger", "other-ca");
    }

    /// A program within the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).stdin(Stdio::null());
        command
    }

    fn tool(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_pc-ovs"));
        command.arg("--root").arg(self.path(node, "")).args(["--node", node]).args(arguments);
        command.env_remove("JOURNAL_STREAM");
        command
    }

    /// One call of pc-ovs on a node, with the directories of the test taken out of what it says.
    pub fn pc(&self, node: &str, arguments: &[&str]) -> Answer {
        let mut answer: Answer = self.tool(node, arguments).output().unwrap().into();
        let root = self.path(node, "");
        for said in [&mut answer.out, &mut answer.err] {
            *said = said.replace(text(&root), "/");
        }
        answer
    }

    /// Starts a daemon as its unit does.
    pub fn start(&mut self, node: &str, daemon: &str) {
        let command = self.tool(node, &["ovn", "run", daemon]);
        self.keep(&format!("{node}-{daemon}"), command);
        if daemon != "northd" {
            let socket = self.path(node, &format!("run/personal-cluster/ovn/{daemon}.sock"));
            wait(&format!("{daemon} of {node}"), || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        }
    }

    /// Keeps a program running until it is stopped, or the test ends.
    pub fn keep(&mut self, name: &str, mut command: Command) {
        let log = std::fs::File::create(self.path("", &format!("{name}.log"))).unwrap();
        self.running.push((name.into(), command.stdout(Stdio::null()).stderr(log).spawn().unwrap()));
    }

    /// Both servers and ovn-northd.
    pub fn start_all(&mut self, node: &str) {
        for daemon in ["nb", "sb", "northd"] {
            self.start(node, daemon);
        }
    }

    /// SIGKILL to OVN's daemons of a node.
    pub fn kill(&mut self, node: &str) {
        let names = ["nb", "sb", "northd"].map(|daemon| format!("{node}-{daemon}"));
        for (_, child) in self.running.iter_mut().filter(|(name, _)| names.contains(name)) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.running.retain(|(name, _)| !names.contains(name));
    }

    /// Waits until both databases of a node are in touch with a majority.
    pub fn settle(&self, node: &str) {
        wait(&format!("the databases of {node}"), || {
            let told = self.pc(node, &["ovn", "status"]).out;
            told.lines().filter(|line| line.ends_with("leads") || line.ends_with("follows")).count() == 2
        });
    }

    /// `ovs-appctl` to a server of a node.
    #[track_caller]
    pub fn appctl(&self, node: &str, side: &str, arguments: &[&str]) -> String {
        self.try_appctl(node, side, arguments).unwrap()
    }

    /// The same, which may be refused.
    pub fn try_appctl(&self, node: &str, side: &str, arguments: &[&str]) -> Result<String, String> {
        let control = self.path(node, &format!("run/personal-cluster/ovn/{side}.ctl"));
        tried("ovs-appctl", &[&["--timeout=30", "--target", text(&control)], arguments].concat())
    }

    /// `ovn-nbctl` or `ovn-sbctl` on the copy of a node, as it is there.
    #[track_caller]
    pub fn ctl(&self, node: &str, side: &str, arguments: &[&str]) -> String {
        let socket = self.path(node, &format!("run/personal-cluster/ovn/{side}.sock"));
        let remote = format!("--db=unix:{}", text(&socket));
        let program = format!("ovn-{side}ctl");
        run(&program, &[&["--timeout=30", "--no-leader-only", &remote], arguments].concat())
    }

    /// The switch's database of a node, without a switch.
    pub fn start_switch(&mut self, node: &str) {
        let (database, socket) = (self.path(node, "conf.db"), self.path(node, "run/openvswitch/db.sock"));
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        run("ovsdb-tool", &["create", text(&database), "/usr/share/openvswitch/vswitch.ovsschema"]);
        let mut server = self.command("ovsdb-server");
        server.arg(&database).arg(format!("--remote=punix:{}", text(&socket)));
        server.arg(format!("--unixctl={}", text(&self.path(node, "switch.ctl"))));
        self.keep(&format!("{node}-switch"), server);
        wait("ovsdb-server", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        self.vsctl(node, &["init"]);
    }

    #[track_caller]
    pub fn vsctl(&self, node: &str, arguments: &[&str]) -> String {
        let remote = format!("--db=unix:{}", text(&self.path(node, "run/openvswitch/db.sock")));
        run("ovs-vsctl", &[&["--timeout=30", "--no-wait", &remote], arguments].concat())
    }

    /// What a daemon has logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("", &format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (_, mut child) in self.running.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

/// A key and a certificate for it.
fn request(key: &Path, certificate: &Path, name: &str, signer: &[&str]) {
    let subject = format!("/CN={name}");
    let made =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let named = ["-subj", &subject, "-keyout", text(key), "-out", text(certificate)];
    run("openssl", &[&made[..], &named, signer].concat());
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a program that has to succeed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    tried(program, arguments).unwrap()
}

/// Runs a program: what it printed, or what it said against it.
fn tried(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}: install iproute2, openssl, openvswitch-switch, ovn-central, ovn-host")
    });
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Waits up to a minute: an election takes several seconds.
#[track_caller]
pub fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < until, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
