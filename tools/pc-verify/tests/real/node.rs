//! A machine's root that is as it should be, with tools that say so, and what a test plants on it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bench::Bench;

pub const NODE: &str = r#"
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50/24"
disks.vms = ["/dev/disk/by-id/nvme-A"]
nics.lan = ["eth0"]
"#;
pub const OTHERS: &str = r#"
[[node]]
name = "node2"
address = "192.168.0.51/24"
disks.vms = ["/dev/disk/by-id/nvme-B"]
nics.lan = ["eth0"]
[[node]]
name = "node3"
address = "192.168.0.52/24"
disks.vms = ["/dev/disk/by-id/nvme-C"]
nics.lan = ["eth0"]
[volume.vms]
use = "vm"
replicas = 3
[network.lan]
uplink = "lan"
[vm.mail]
memory = "1GiB"
disk = "1GiB"
volume = "vms"
networks = ["lan"]
backup = ["offsite"]
[backup.offsite]
repository = "ssh://borg@backup.example/./home"
schedule = "daily"
"#;
pub const HA: &str = "[ha]\nwatchdog = \"auto\"\n";
/// What pc-gluster sets, among more.
const PROFILE: &str = "features.shard=on\ncluster.quorum-type=auto\ncluster.server-quorum-type=server\n";

/// A recorded answer of a tool, put right.
pub fn healthy(tool: &str) -> Value {
    let name = if tool == "gluster" { "status-healthy" } else { "status" };
    let path = format!("{}/../pc-{tool}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut status: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for (list, key, value) in [
        ("devices", "state", json!("open")),
        ("secrets", "state", json!("open")),
        ("bricks", "state", json!("mounted")),
        ("bricks", "problems", json!([])),
    ] {
        for one in status[list].as_array_mut().into_iter().flatten() {
            if one.get(key).is_some() {
                one[key] = value.clone();
            }
        }
    }
    for list in ["problems", "warnings", "misfits", "together"] {
        if status.get(list).is_some() {
            status[list] = json!([]);
        }
    }
    if status.get("healthy").is_some() {
        status["healthy"] = json!(true);
    }
    status
}

pub struct Node {
    pub bench: Bench,
}

impl Node {
    pub fn new() -> Node {
        let node = Node { bench: Bench::new() };
        node.file(&[NODE, OTHERS, HA]);
        for tool in ["config", "ovs", "trust", "unlock", "brick", "gluster", "vm", "ha", "borg"] {
            node.says(tool, &healthy(tool));
        }
        node.put("var/lib/glusterd/vols/vms/info", &format!("type=2\n{PROFILE}"));
        node.put("etc/fstab", "UUID=1 / ext4 errors=remount-ro 0 1\n");
        node
    }

    pub fn file(&self, parts: &[&str]) {
        self.put("cluster.toml", &parts.concat());
    }

    pub fn says(&self, tool: &str, status: &Value) {
        self.bench.program(&format!("pc-{tool}"), &format!("cat <<'EOF'\n{status}\nEOF"));
    }

    pub fn put(&self, path: &str, text: &str) {
        let path = self.bench.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn key(&self, path: &str, mode: u32) {
        self.put(path, "");
        fs::set_permissions(self.bench.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The findings: severity, fault, remedy.
    pub fn told(&self) -> BTreeSet<[String; 3]> {
        let output = self.bench.run(&["--json"]);
        let verdict: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let problems = verdict["problems"].as_u64().unwrap();
        assert_eq!(output.status.code(), Some(if problems > 0 { 3 } else { 0 }), "{verdict}");
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_string();
        let findings = verdict["findings"].as_array().unwrap().iter();
        findings.map(|one| ["severity", "fault", "remedy"].map(|key| text(one, key))).collect()
    }

    /// What is told beyond what is told of every such machine: exactly this.
    pub fn finds(&self, severity: &str, fault: &str, remedy: &str) {
        let usual = Node::new().told();
        let told: Vec<_> = self.told().difference(&usual).cloned().collect();
        let [[found, text, next]] = told.as_slice() else { panic!("{fault}: {told:?}") };
        assert_eq!(found, severity, "{told:?}");
        assert!(text.contains(fault), "{fault}: {told:?}");
        assert_eq!(next, remedy, "{fault}");
    }
}
