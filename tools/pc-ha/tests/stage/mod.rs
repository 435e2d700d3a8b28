//! A directory that stands for a node, a CIB in a file, and pacemaker's own programs.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests; not every test uses all")]

pub mod children;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use children::fed;

/// Three nodes, two VMs, somebody's address beside them.
pub const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "192.168.0.50/24"
disks.vms = ["/dev/disk/by-id/ata-A"]
disks.local = ["/dev/disk/by-id/ata-D"]
[[node]]
name = "node2"
address = "192.168.0.51/24"
disks.vms = ["/dev/disk/by-id/ata-B"]
[[node]]
name = "node3"
address = "192.168.0.52/24"
disks.vms = ["/dev/disk/by-id/ata-C"]

[volume.vms]
use = "vm"
replicas = 3
[volume.local]
use = "local"

[vm.mail]
memory = "1GiB"
disk = "20GiB"
volume = "vms"
home = "node2"
priority = 100

[vm.lab]
memory = "1GiB"
disk = "20GiB"
volume = "local"
home = "node1"

[ha]
"#;

/// What pacemaker writes by itself, and what somebody made by hand.
const CIB: &str = r#"<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.7" epoch="5" num_updates="0" admin_epoch="0">
<configuration>
<crm_config><cluster_property_set id="cib-bootstrap-options"><nvpair id="cib-bootstrap-options-have-watchdog" name="have-watchdog" value="true"/><nvpair id="cib-bootstrap-options-dc-version" name="dc-version" value="2.1.5"/></cluster_property_set></crm_config>
<nodes><node id="15687" uname="node1"/><node id="13390" uname="node2"/><node id="34418" uname="node3"/></nodes>
<resources><primitive id="front-ip" class="ocf" provider="heartbeat" type="IPaddr2"><instance_attributes id="front-ip-ia"><nvpair id="front-ip-ip" name="ip" value="192.168.0.99"/></instance_attributes></primitive>
<primitive id="old-vm" class="ocf" provider="heartbeat" type="VirtualDomain"><instance_attributes id="old-vm-ia"><nvpair id="old-vm-config" name="config" value="/etc/old.xml"/></instance_attributes><utilization id="old-vm-utilization"><nvpair id="old-vm-utilization-cpu" name="cpu" value="2"/></utilization></primitive></resources>
<constraints><rsc_location id="front-ip-home" rsc="front-ip" node="node3" score="10"/></constraints>
</configuration><status/></cib>
"#;

/// What `corosync-quorumtool -s` prints.
pub const QUORUM: &str = include_str!("../recorded/quorumtool.txt");

pub struct Stage {
    root: tempfile::TempDir,
    /// Where systemd, or who stands for it, is asked.
    pub bus: Option<String>,
}

impl Stage {
    pub fn new() -> Stage {
        let stage = Stage { root: tempfile::tempdir().unwrap(), bus: None };
        stage.write("cluster.toml", FILE);
        stage.write("cib.xml", CIB);
        stage.write("sys/class/watchdog/watchdog0/identity", "i6300ESB timer\n");
        stage.storage(0, true);
        stage.quorum(3);
        stage.program("corosync-cfgtool", "#!/bin/sh\n[ \"$*\" = -R ]\n");
        stage
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// A program on PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = format!("bin/{name}");
        self.write(&path, script);
        fs::set_permissions(self.at(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// corosync's quorum with so many of three votes.
    pub fn quorum(&self, votes: u32) {
        let text = QUORUM
            .replace("Expected votes:   1", "Expected votes:   3")
            .replace("Total votes:      1", &format!("Total votes:      {votes}"))
            .replace("Quorum:           1", "Quorum:           2")
            .replace(
                "Quorate:          Yes",
                if votes >= 2 { "Quorate:          Yes" } else { "Quorate:          No" },
            );
        self.program("corosync-quorumtool", &format!("#!/bin/sh\ncat <<'E'\n{text}E\n"));
    }

    /// A VM that no node starts, although nobody has stopped it.
    pub fn runs_nowhere(&self, resource: &str) {
        for node in ["node1", "node2", "node3"] {
            self.pacemaker("crm_resource", &["--resource", resource, "--ban", "--node", node]);
        }
        self.simulate(&[]);
    }

    /// A corosync that runs with what the node's file says now, and from now on reads it when it is told to, unless there is a
    /// file `reload-fails`.
    pub fn corosync(&self) {
        let root = self.root.path().display();
        let read = format!("cp {root}/etc/corosync/corosync.conf {root}/corosync.running");
        let cfgtool = format!(
            "#!/bin/sh\n[ \"$*\" = -R ] || exit 1\n\
             [ ! -e {root}/reload-fails ] || {{ echo 'Could not reload configuration. Error CS_ERR_INVALID_PARAM' >&2; exit 7; }}\n{read}\n"
        );
        self.program("corosync-cfgtool", &cfgtool);
        let cmapctl = format!(
            r#"#!/bin/sh
sed -n 's/^ *\(token\|consensus\): \(.*\)/runtime.config.totem.\1 (u32) = \2/p' {root}/corosync.running
awk '/ name: /{{ printf "nodelist.node.%d.name (str) = %s\n", n, $2 }}
/ nodeid: /{{ printf "nodelist.node.%d.nodeid (u32) = %s\n", n, $2 }}
/ ring0_addr: /{{ printf "nodelist.node.%d.ring0_addr (str) = %s\n", n++, $2 }}' {root}/corosync.running
"#
        );
        self.program("corosync-cmapctl", &cmapctl);
        fs::copy(self.at("etc/corosync/corosync.conf"), self.at("corosync.running")).unwrap();
    }

    /// A pc-vm that logs what it is called with, and refuses while there is a file `refuse`.
    pub fn pc_vm(&self) {
        let root = self.root.path().display();
        self.program(
            "pc-vm",
            &format!(
                "#!/bin/sh\necho \"$*\" >> {root}/pc-vm.log\n\
                 [ ! -e {root}/refuse ] || {{ echo 'error: vm mail: runs on node3' >&2; exit 2; }}\n"
            ),
        );
    }

    /// What it was called with.
    pub fn pc_vm_log(&self) -> String {
        fs::read_to_string(self.at("pc-vm.log")).unwrap_or_default()
    }

    /// What pc-gluster left, just now.
    pub fn storage(&self, heal_pending: u64, healthy: bool) {
        let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
        let now = String::from_utf8(now.stdout).unwrap();
        let text = format!(
            r#"{{"schema":"pc.storage/1","measured_at":"{}","healthy":{healthy},"quorum":true,"heal_pending":{heal_pending},"volumes":[]}}"#,
            now.trim()
        );
        self.write("run/personal-cluster/storage.new", &text);
        let [new, known] = ["new", "json"].map(|end| self.at(&format!("run/personal-cluster/storage.{end}")));
        fs::rename(new, known).unwrap();
    }

    /// While this runs pc-gluster measures, more often than it would.
    pub fn measured<T>(&self, healthy: bool, run: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        self.storage(0, healthy);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(500));
                    self.storage(0, healthy);
                }
            });
            let end = std::panic::catch_unwind(AssertUnwindSafe(run));
            over.store(true, Ordering::Relaxed);
            end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn path(&self) -> String {
        format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap())
    }

    /// pc-ha as this node, with the CIB in a file.
    pub fn pc_ha(&self, arguments: &[&str]) -> Output {
        self.fed(arguments, "")
    }

    pub fn fed(&self, arguments: &[&str], stdin: &str) -> Output {
        self.run(Command::new(env!("CARGO_BIN_EXE_pc-ha")), arguments, stdin)
    }

    /// On a network of its own, where this address alone answers, or none.
    pub fn pc_ha_in_network(&self, address: &str, arguments: &[&str]) -> Output {
        let script = "ip link set lo up && if [ -n \"$1\" ]; then ip address add \"$1\" dev lo; fi && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script, "sh", address, env!("CARGO_BIN_EXE_pc-ha")]);
        self.run(command, arguments, "")
    }

    /// With a directory of the machine that nothing can be written to.
    pub fn pc_ha_read_only(&self, directory: &str, arguments: &[&str]) -> Output {
        let script = "mount -t tmpfs -o ro none \"$0\" && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(self.at(directory))
            .arg(env!("CARGO_BIN_EXE_pc-ha"));
        self.run(command, arguments, "")
    }

    fn run(&self, mut command: Command, arguments: &[&str], stdin: &str) -> Output {
        command
            .arg("--root")
            .arg(self.root.path())
            .arg("--file")
            .arg(self.at("cluster.toml"))
            .args(["--node", "node1"])
            .args(arguments)
            .env("PATH", self.path())
            .env("CIB_file", self.at("cib.xml"))
            .env_remove("JOURNAL_STREAM");
        if let Some(bus) = &self.bus {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        }
        fed(&mut command, stdin)
    }

    /// It must end with 0; gives its JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.pc_ha(&[&["--json"][..], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ids of the steps that are left.
    pub fn steps(&self) -> Vec<String> {
        let plan = self.json(&["plan"]);
        plan["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap().into()).collect()
    }

    /// One of pacemaker's own programs on the CIB in the file.
    pub fn pacemaker(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .env("CIB_file", self.at("cib.xml"))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}\n  apt-get install pacemaker-cli-utils"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What pacemaker's scheduler makes of the CIB; the new state becomes the CIB. Gives the status it ends with.
    pub fn simulate(&self, events: &[&str]) -> String {
        self.simulated(events).1
    }

    /// The same, with what pacemaker did before, in its order.
    pub fn simulated(&self, events: &[&str]) -> (String, String) {
        let (did, is, why) = self.simulation(events);
        assert_eq!(why, None);
        (did, is)
    }

    /// The same while a resource is blocked: what waits for its stop, which nobody orders, is left, and the simulator says so.
    pub fn blocked(&self, events: &[&str]) -> (String, String) {
        let (did, is, why) = self.simulation(events);
        assert!(why.iter().all(|why| why.contains("An invalid transition was produced")), "{why:?}");
        (did, is)
    }

    fn simulation(&self, events: &[&str]) -> (String, String, Option<String>) {
        let cib = self.at("cib.xml");
        let out = self.at("simulated.xml");
        let output = Command::new("crm_simulate")
            .arg("--xml-file")
            .arg(&cib)
            .args(["--quorum", "1", "--watchdog", "1", "--simulate", "--save-output"])
            .arg(&out)
            .args(events)
            .env_remove("CIB_file")
            .output()
            .unwrap();
        fs::rename(out, cib).unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let (did, is) = text.rsplit_once("Revised Cluster Status:").unwrap();
        let why = (!output.status.success()).then(|| said(&output));
        (did.to_string(), is.to_string(), why)
    }

    /// Three nodes that run what they should.
    pub fn running() -> Stage {
        let stage = Stage::new();
        let output = stage.pc_ha(&["apply"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
        stage
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line of a status that names a resource.
pub fn line<'a>(status: &'a str, resource: &str) -> &'a str {
    let found = status.lines().find(|line| line.contains(&format!("* {resource}\t")));
    found.unwrap_or_else(|| panic!("no {resource} in:\n{status}"))
}

/// Where the agents' sources lie.
pub fn agent(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ocf").join(name)
}

/// Compares an answer with the recorded one; `UPDATE_GOLDEN=1` records it.
pub fn golden(name: &str, answer: &serde_json::Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = serde_json::to_string_pretty(answer).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "{name}");
}
