//! The machine that the tests run on.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::Answer;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub const INTERFACES: &str = "auto lo\niface lo inet loopback\n\nallow-hotplug nic0\niface nic0 inet static\n\
                              \taddress 10.9.0.50/24\n\tgateway 10.9.0.1\n";
pub const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "10.9.0.50"
nics.lan = ["nic0"]

[[node]]
name = "node2"
address = "10.9.0.2"
nics.lan = ["nic0"]

[network.lan]
uplink = "lan"
subnet = "10.9.0.0/24"
router = "10.9.0.1"
"#;

pub struct Machine {
    root: tempfile::TempDir,
    /// The node's network namespace; its peer's has `-peer` behind it.
    pub namespace: String,
    database: Option<Child>,
    switch: Option<Child>,
}

/// Runs a program that has to succeed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}: install openvswitch-switch, iproute2"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Machine {
    /// A node with one NIC, `nic0`, configured by ifupdown as 10.9.0.50/24 through router 10.9.0.1.
    pub fn configured() -> Machine {
        let machine = Machine::blank();
        machine.write("etc/network/interfaces", INTERFACES);
        machine.ip("address add 10.9.0.50/24 dev nic0");
        machine.ip("link set nic0 up");
        machine.ip("route add default via 10.9.0.1");
        machine
    }

    /// A node whose `nic0` and `nic1` nobody configures.
    pub fn blank() -> Machine {
        let root = tempfile::Builder::new().prefix("po").tempdir().unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("pco{}-{number}", std::process::id());
        let mut machine = Machine { root, namespace, database: None, switch: None };
        machine.cable();
        machine.write("etc/personal-cluster/cluster.toml", FILE);
        std::fs::create_dir_all(machine.path("run/openvswitch")).unwrap();
        let database = machine.path("conf.db");
        run(
            "ovsdb-tool",
            &["create", database.to_str().unwrap(), "/usr/share/openvswitch/vswitch.ovsschema"],
        );
        machine.start_database();
        machine.vsctl(&["--no-wait", "init"]);
        machine.start_switch();
        machine
    }

    fn cable(&self) {
        let (own, peer) = (self.namespace.as_str(), format!("{}-peer", self.namespace));
        for namespace in [own, &peer] {
            run("ip", &["netns", "add", namespace]);
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        for index in 0..2 {
            let (nic, other) = (format!("nic{index}"), format!("peer{index}"));
            let mac = format!("52:54:00:00:00:0{}", index + 1);
            let veth =
                ["link", "add", &nic, "address", &mac, "netns", own, "type", "veth", "peer", "name", &other];
            run("ip", &[&veth[..], &["netns", &peer]].concat());
            run("ip", &["-n", &peer, "link", "set", &other, "up"]);
        }
        for address in ["10.9.0.1/24", "10.9.0.2/24"] {
            run("ip", &["-n", &peer, "address", "add", address, "dev", "peer0"]);
        }
    }

    /// The node's network namespace; its peer's is called `-peer`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `ip` in the node's namespace.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        run("ip", &[&["-n", &self.namespace], &words[..]].concat())
    }

    /// `ip` in the namespace at the other end of the cable.
    #[track_caller]
    pub fn peer(&self, line: &str) -> String {
        let namespace = format!("{}-peer", self.namespace);
        let words: Vec<&str> = line.split(' ').collect();
        run("ip", &[&["-n", &namespace], &words[..]].concat())
    }

    /// Addresses of a device, in short.
    pub fn addresses(&self, device: &str) -> Vec<String> {
        let text = self.ip(&format!("-brief -4 address show dev {device}"));
        text.split_whitespace().skip(2).map(str::to_string).collect()
    }

    pub fn default_route(&self) -> String {
        self.ip("route show default").trim().trim_end_matches(" linkdown").to_string()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let path = self.path(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.path("run/openvswitch/db.sock").display())
    }

    #[track_caller]
    pub fn vsctl(&self, arguments: &[&str]) -> String {
        let remote = format!("--db={}", self.remote());
        run("ovs-vsctl", &[&["--timeout=30", &remote], arguments].concat())
    }

    /// Everything in the database that does not change by itself.
    pub fn dump(&self) -> String {
        let tables = ["Bridge", "Port", "Interface"].map(|table| {
            let columns = match table {
                "Bridge" => "_uuid,name,ports,fail_mode,datapath_type,other_config,external_ids",
                "Port" => "_uuid,name,interfaces,tag,bond_mode,external_ids",
                _ => "_uuid,name,type,mac,mtu_request,external_ids",
            };
            let columns = format!("--columns={columns}");
            let text = self.vsctl(&["--format=csv", "--no-headings", &columns, "list", table]);
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        });
        tables.join("\n\n")
    }

    /// How often the database was told to do something.
    pub fn configurations(&self) -> u64 {
        self.vsctl(&["get", "Open_vSwitch", ".", "next_cfg"]).trim().parse().unwrap()
    }

    fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        let log = std::fs::File::create(self.path(&format!("{program}.log"))).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(arguments);
        command.env("OVS_RUNDIR", self.path("run/openvswitch"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    pub fn start_database(&mut self) {
        let socket = self.path("run/openvswitch/db.sock");
        let remote = format!("--remote=punix:{}", socket.display());
        let control = format!("--unixctl={}", self.path("ovsdb.ctl").display());
        let database = self.path("conf.db");
        self.database = Some(self.spawn("ovsdb-server", &[database.to_str().unwrap(), &remote, &control]));
        wait("ovsdb-server", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    pub fn start_switch(&mut self) {
        let control = format!("--unixctl={}", self.path("vswitchd.ctl").display());
        let remote = self.remote();
        self.switch = Some(self.spawn("ovs-vswitchd", &[&remote, "--disable-system", &control]));
        let control = self.path("vswitchd.ctl");
        wait("ovs-vswitchd", || control.exists());
    }

    /// Stops it, and takes away the devices it made, as a reboot would: the userspace datapath leaves them behind.
    pub fn stop_switch(&mut self) {
        end(self.switch.take());
        for device in
            self.vsctl(&["--no-headings", "--columns=name", "find", "interface", "type=internal"]).lines()
        {
            let _ = Command::new("ip")
                .args(["-n", &self.namespace, "link", "delete", device.trim_matches('"')])
                .output();
        }
        let _ = std::fs::remove_file(self.path("vswitchd.ctl"));
    }

    /// Stops it, and leaves its devices behind, as a crash would.
    pub fn pause_switch(&mut self) {
        end(self.switch.take());
    }

    pub fn stop_database(&mut self) {
        end(self.database.take());
    }

    /// A command that is ready to run pc-ovs as this node.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_pc-ovs"), "--root"]);
        command.arg(self.root.path()).args(["--node", "node1", "--datapath", "netdev"]).args(arguments);
        command.env_remove("SSH_CONNECTION").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
        command
    }

    pub fn pc(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// As `pc`, with a file on standard input.
    pub fn pc_reading(&self, arguments: &[&str], input: &str) -> Answer {
        let path = self.path("stdin");
        std::fs::write(&path, input).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        self.command(arguments).stdin(file).output().unwrap().into()
    }
}

/// Waits up to 30 s.
#[track_caller]
pub fn wait(what: &str, mut ready: impl FnMut() -> bool) {
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

impl Drop for Machine {
    fn drop(&mut self) {
        end(self.switch.take());
        end(self.database.take());
        for namespace in [self.namespace.clone(), format!("{}-peer", self.namespace)] {
            let _ = Command::new("ip").args(["netns", "delete", &namespace]).status();
        }
    }
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
