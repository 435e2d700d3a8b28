//! Three nodes of one cluster on this machine: each a set of namespaces (network, mounts, processes, host name)
//! with an sshd of its own, joined by a bridge. `pc-trust init` and `join` lay out keys, certificates and sshd's
//! drop-in at their real paths, and the forced command is the real one.
//!
//! Needs root, openssh-server, iproute2 and util-linux, and `pc-trust` beside `pc-config` in the target directory,
//! where `cargo test --workspace` puts it; after a change there, `cargo build -p pc-trust`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{Ended, PROGRAM, file, run};

/// Makes this place a node: its own /etc, programs and state over those of this machine, then says so and lives
/// until its stdin ends. Bash, because the first process of a PID namespace must reap.
const NODE: &str = r#"
set -eu
node=$1 config=$2 trust=$3
hostname "$node"
mount -t tmpfs none /mnt
for place in etc usr/bin usr/lib/ssl var/lib root; do
  mkdir -p "/mnt/upper/$place" "/mnt/work/$place"
  mount -t overlay none -o "lowerdir=/$place,upperdir=/mnt/upper/$place,workdir=/mnt/work/$place" "/$place"
done
mkdir -p /mnt/run/sshd; mount --bind /mnt/run /run
rm -rf /etc/personal-cluster /etc/pki /var/lib/personal-cluster /var/lib/glusterd/vols /var/lib/glusterd/peers
rm -rf /etc/ssh/sshd_config.d /etc/ssh/ssh_host_* /root/.ssh; mkdir -p /etc/ssh/sshd_config.d
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
echo '127.0.0.1 localhost' > /etc/hosts
# Debian's: the drop-ins first, and root by key only. Everything else a child of it gets, the gate takes away.
cat > /etc/ssh/sshd_config <<'SSHD'
Include /etc/ssh/sshd_config.d/*.conf
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
UsePAM no
SetEnv SECRET=x
SSHD
# An account that is locked is locked for keys, too, when PAM is off.
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
ln -s "$config" /usr/bin/pc-config; ln -s "$trust" /usr/bin/pc-trust
echo ready; read -r _ || true
"#;

/// The nodes; dropped, everything ends.
pub struct Nodes {
    all: Vec<Space>,
    hub: Space,
}

/// Namespaces that live as long as the test: their first process reads from a pipe that nobody writes to.
struct Space {
    process: Child,
}

impl Space {
    fn new(script: &str, arguments: &[&str]) -> Space {
        let mut process = Command::new("unshare")
            .args(["--net", "--uts", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child"])
            .args(["bash", "-c", script, "bash"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "namespaces need root");
        Space { process }
    }

    /// A program within; it ends with the namespaces at the latest.
    fn enter(&self) -> Command {
        let pid = self.process.id();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--uts", "--mount", "--target", &pid.to_string()]);
        command.arg(format!("--pid=/proc/{pid}/ns/pid_for_children")).arg("--").stdin(Stdio::null());
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Nodes {
    /// node1, node2 and node3 at 10.0.0.1 and so on, all members, with generation 1 in force.
    pub fn new() -> Nodes {
        let trust = Path::new(PROGRAM).with_file_name("pc-trust");
        assert!(trust.exists(), "{}: missing\n  cargo build -p pc-trust", trust.display());
        let hub = "ip link add hub type bridge && ip link set hub up && echo ready && { read -r _ || true; }";
        let mut nodes = Nodes { all: Vec::new(), hub: Space::new(hub, &[]) };
        for number in 1..=3 {
            let (name, address) = (format!("node{number}"), format!("10.0.0.{number}"));
            let space = Space::new(NODE, &[&name, PROGRAM, trust.to_str().unwrap()]);
            let pid = space.process.id();
            nodes.all.push(space);
            nodes.hub(&format!(
                "ip link add port{number} type veth peer name eth0 netns {pid}; ip link set port{number} master hub up"
            ));
            nodes.sh(
                &name,
                &format!("ip link set lo up; ip address add {address}/24 dev eth0; ip link set eth0 up"),
            );
        }
        nodes.found();
        nodes
    }

    /// The README's own lines, but for the listener: systemd is not here to start it.
    fn found(&self) {
        self.edit("node1", "/root/home.toml", &file(3, ""));
        self.sh("node1", "pc-trust init /root/home.toml --json > /root/init.json");
        let init: serde_json::Value = serde_json::from_str(&self.sh("node1", "cat /root/init.json")).unwrap();
        let mut member = self.at("node1");
        let mut member = member
            .args(["pc-trust", "serve", "--listen", "10.0.0.1:7625"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(member.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        for join in init["joins"].as_array().unwrap() {
            self.sh(join["node"].as_str().unwrap(), join["command"].as_str().unwrap());
        }
        // It ends by itself with the last token.
        std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
        assert!(member.wait().unwrap().success());
        for node in ["node1", "node2", "node3"] {
            self.start_sshd(node);
        }
    }

    /// Starts sshd, anew where it runs already, and waits until it listens.
    pub fn start_sshd(&self, node: &str) {
        // Its first process only: a connection that it serves is a process of its own. It forks once it listens.
        self.sh(node, "[ ! -e /run/sshd.pid ] || kill $(cat /run/sshd.pid); exec /usr/sbin/sshd");
        let until = Instant::now() + Duration::from_secs(20);
        while !self.ends(node, "[ -e /run/sshd.pid ] && kill -0 $(cat /run/sshd.pid)") {
            assert!(Instant::now() < until, "sshd of {node} does not run");
        }
    }

    fn at(&self, node: &str) -> Command {
        let number: usize = node.strip_prefix("node").unwrap().parse().unwrap();
        self.all[number - 1].enter()
    }

    /// A shell script on the bridge's side.
    pub fn hub(&self, script: &str) {
        let pid = self.hub.process.id().to_string();
        // Without the PID namespace: `netns PID` counts from outside.
        let done = Command::new("nsenter").args(["--net", "--target", &pid, "sh", "-euc", script]).status();
        assert!(done.unwrap().success(), "{script}");
    }

    fn ends(&self, node: &str, script: &str) -> bool {
        self.at(node).args(["sh", "-c", script]).status().unwrap().success()
    }

    /// A shell script on a node, which must succeed; gives its stdout.
    pub fn sh(&self, node: &str, script: &str) -> String {
        let output = self.at(node).args(["sh", "-euc", script]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{node}: {script}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Writes a file on a node.
    pub fn edit(&self, node: &str, path: &str, text: &str) {
        let mut child = self
            .at(node)
            .args(["sh", "-c", "cat > \"$1\"", "sh", path])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{path}");
    }

    /// A program on a node.
    pub fn run(&self, node: &str, argv: &[&str], stdin: &str) -> Ended {
        run(self.at(node).args(["timeout", "200"]).args(argv), stdin.as_bytes())
    }

    /// What a forced command of another node is asked through.
    pub fn ssh(&self, from: &str, arguments: &[&str], stdin: &str) -> Ended {
        let ssh = ["ssh", "-F", "/etc/personal-cluster/trust/ssh_config"];
        self.run(from, &[&ssh, arguments].concat(), stdin)
    }

    /// Everything that put and push write, on all nodes.
    pub fn everything(&self) -> Vec<String> {
        let script =
            "cd /etc/personal-cluster; sha256sum /etc/hosts cluster.toml* /var/lib/personal-cluster/*";
        ["node1", "node2", "node3"].iter().map(|node| self.sh(node, script)).collect()
    }

    /// The number of the generation in force, per node.
    pub fn in_force(&self) -> Vec<u64> {
        let number = |node: &&str| {
            let status = self.sh(node, "pc-config status --json");
            serde_json::from_str::<serde_json::Value>(&status).unwrap()["generation"].as_u64().unwrap()
        };
        ["node1", "node2", "node3"].iter().map(number).collect()
    }
}
