//! A private Gluster cluster: every node is a set of namespaces (network, mounts, processes, host name) on
//! this machine with a real glusterd of its own, joined by a bridge. systemd's part is played by a small D-Bus
//! service per node that mounts when it is asked to start a mount unit.
//!
//! Needs root, glusterfs-server, iproute2, util-linux, dbus-daemon and openssl.

pub mod manager;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A process in namespaces of its own that lives as long as the test: it reads from a pipe that nobody writes to.
struct Space {
    outer: Child,
    pid: u32,
}

impl Space {
    fn new(flags: &[&str]) -> Space {
        let mut outer = Command::new("unshare")
            .args(flags)
            // A shell, because the first process of a PID namespace must reap: Gluster takes a zombie for alive.
            .args(["--net", "--pid", "--fork", "--kill-child", "bash", "-c", "read -r _; exit 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("running unshare");
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let pid = until(Duration::from_secs(20), || {
            let child: u32 = std::fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            // Before it is the shell, the namespaces are not finished.
            (std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?.trim() == "bash").then_some(child)
        });
        Space { pid: pid.unwrap_or_else(|| panic!("unshare: {:?}", outer.try_wait())), outer }
    }

    fn enter(&self, flags: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string()]).args(flags).arg("--");
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The first process of a PID namespace takes all others with it when it sees the end of its pipe.
        drop(self.outer.stdin.take());
        let _ = self.outer.wait();
    }
}

/// The whole cluster.
pub struct Nodes {
    hub: Space,
    all: Vec<Node>,
    /// Where the cluster file and each node's `--root` are.
    pub directory: tempfile::TempDir,
}

struct Node {
    space: Space,
    root: PathBuf,
    bus: manager::Bus,
}

pub fn until<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    text(&output.stdout)
}

impl Nodes {
    /// `count` nodes called node1, node2, ... at 10.77.0.1, 10.77.0.2, ...; with `tls` each has a certificate and
    /// management encryption, with `units` mount units. glusterd runs everywhere.
    pub fn new(count: usize, tls: bool, units: bool) -> Nodes {
        assert!(rustix::process::geteuid().is_root(), "namespaces and Gluster need root");
        let directory = tempfile::tempdir().unwrap();
        let hub = Space::new(&[]);
        must(hub.enter(&["-n"]).args(["ip", "link", "add", "hub", "type", "bridge"]));
        must(hub.enter(&["-n"]).args(["ip", "link", "set", "hub", "up"]));
        if tls {
            authority(directory.path());
        }
        let mut nodes = Nodes { hub, all: Vec::new(), directory };
        for number in 1..=count {
            nodes.add(number, count, tls, units);
        }
        nodes
    }

    fn add(&mut self, number: usize, count: usize, tls: bool, units: bool) {
        let root = self.directory.path().join(format!("node{number}"));
        std::fs::create_dir_all(root.join("run")).unwrap();
        let hosts: Vec<String> = (1..=count).map(|n| format!("10.77.0.{n} node{n}\n")).collect();
        std::fs::write(root.join("hosts"), format!("127.0.0.1 localhost\n{}", hosts.concat())).unwrap();
        let space = Space::new(&["--mount", "--uts", "--mount-proc", "--propagation", "private"]);
        let port = format!("port{number}");
        let pair =
            ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space.pid.to_string()];
        must(self.hub.enter(&["-n"]).arg("ip").args(pair));
        must(self.hub.enter(&["-n"]).args(["ip", "link", "set", &port, "master", "hub", "up"]));
        let tls_files = if tls { certificate(self.directory.path(), &root, number) } else { String::new() };
        let script = format!(
            "set -e; hostname node{number}; ip link set lo up; ip addr add 10.77.0.{number}/24 dev eth0
             ip link set eth0 up
             cp -a /var/lib/glusterd/groups {root}/groups
             for d in /var/lib/glusterd /run /var/log/glusterfs /srv /mnt; do mount -t tmpfs tmpfs $d; done
             {own_tmp}
             cp -a {root}/groups /var/lib/glusterd/; mkdir /run/gluster
             mount --bind {root}/hosts /etc/hosts; {tls_files}
             glusterd -p /run/glusterd.pid",
            root = root.display(),
            own_tmp = own_tmp(&[self.directory.path(), Path::new(env!("CARGO_BIN_EXE_pc-gluster"))]),
        );
        must(space.enter(&["-m", "-n", "-u", "-p"]).args(["sh", "-c", &script]));
        let bus = manager::Bus::new(&root, space.pid, units);
        self.all.push(Node { space, root, bus });
        let answers = until(Duration::from_secs(60), || {
            self.shell_output(number, "gluster pool list").status.success().then_some(())
        });
        answers.unwrap_or_else(|| panic!("node{number}: glusterd does not answer"));
    }

    /// Mounts the file system of a brick, as pc-brick and its mount unit do.
    pub fn mount_brick(&self, number: usize, volume: &str, disk: &str) {
        let point = format!("/srv/bricks/{volume}/{disk}");
        self.shell(
            number,
            &format!("mkdir -p {point} && mount -t tmpfs tmpfs {point} && mkdir {point}/brick"),
        );
    }

    fn node(&self, number: usize) -> &Node {
        &self.all[number - 1]
    }

    fn enter(&self, number: usize) -> Command {
        self.node(number).space.enter(&["-m", "-n", "-u", "-p"])
    }

    fn shell_output(&self, number: usize, script: &str) -> Output {
        self.enter(number).args(["timeout", "120", "sh", "-c", script]).output().unwrap()
    }

    /// Runs a shell line on a node; it must succeed.
    pub fn shell(&self, number: usize, script: &str) -> String {
        must(self.enter(number).args(["timeout", "120", "sh", "-c", script]))
    }

    /// Cuts a node off, or joins it again, at the bridge: no packet says goodbye.
    pub fn link(&self, number: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        must(self.hub.enter(&["-n"]).args(["ip", "link", "set", &format!("port{number}"), state]));
    }

    /// The cluster file all nodes read from now on.
    pub fn write_file(&self, text: &str) {
        std::fs::write(self.directory.path().join("cluster.toml"), text).unwrap();
    }

    /// Runs pc-gluster on a node; gives exit code, stdout and stderr.
    pub fn run(&self, number: usize, arguments: &[&str]) -> (i32, String, String) {
        let root = &self.node(number).root;
        let output = self
            .enter(number)
            // No more rights than the unit gives.
            .args([
                "setpriv",
                "--no-new-privs",
                "--inh-caps=-all",
                &format!("--bounding-set=-all{}", capabilities()),
            ])
            .args(["timeout", "400", "env"])
            .arg(format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}/bus", root.display()))
            .arg(env!("CARGO_BIN_EXE_pc-gluster"))
            .args(arguments)
            .arg("--root")
            .arg(root)
            .arg("--file")
            .arg(self.directory.path().join("cluster.toml"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Runs pc-gluster; it must end with `code`.
    pub fn expect(&self, number: usize, arguments: &[&str], code: i32) -> (String, String) {
        let (found, stdout, stderr) = self.run(number, arguments);
        if found != code {
            let logs = (1..=self.all.len()).map(|number| self.complaints(number)).collect::<String>();
            panic!(
                "node{number}: pc-gluster {arguments:?} ended with {found}, not {code}\n{stdout}{stderr}{logs}"
            );
        }
        (stdout, stderr)
    }

    /// What Gluster's own logs on a node say went wrong.
    fn complaints(&self, number: usize) -> String {
        let script = "grep -E ' [EC] [[]' -r /var/log/glusterfs | tail -n 15";
        let output = self.shell_output(number, script);
        format!("node{number}:\n{}", String::from_utf8_lossy(&output.stdout))
    }

    /// An answer as JSON.
    pub fn json(&self, number: usize, arguments: &[&str], code: i32) -> serde_json::Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let (stdout, _) = self.expect(number, &arguments, code);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// A file below a node's `--root`.
    pub fn read(&self, number: usize, path: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.node(number).root.join(path)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Units that were started on a node, in order.
    pub fn started(&self, number: usize) -> Vec<String> {
        self.node(number).bus.started()
    }
}

/// Shell lines that give a node a /tmp of its own, in which only what the test itself needs can be seen: glusterd keeps
/// files of fixed names there while bricks are added.
fn own_tmp(needed: &[&Path]) -> String {
    let places = needed.iter().map(|path| if path.is_dir() { path } else { path.parent().unwrap() });
    let places: Vec<_> = places.enumerate().map(|(number, path)| (path.display(), number)).collect();
    let keep = places.iter().map(|(path, n)| format!("mkdir /run/keep{n}; mount --bind {path} /run/keep{n}"));
    let give_back =
        places.iter().map(|(path, n)| format!("mkdir -p {path}; mount --move /run/keep{n} {path}"));
    let tmpfs = std::iter::once("mount -t tmpfs tmpfs /tmp".to_string());
    keep.chain(tmpfs).chain(give_back).collect::<Vec<_>>().join("\n")
}

/// What pc-gluster.service may do, as setpriv(1) wants it.
fn capabilities() -> String {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../units/pc-gluster.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let sets = unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let name = |name: &str| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase());
    sets.flat_map(str::split_whitespace).map(name).collect()
}

fn openssl(directory: &Path, arguments: &[&str]) {
    must(Command::new("openssl").args(arguments).current_dir(directory));
}

fn authority(directory: &Path) {
    let request =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let subject = ["-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(directory, &[&request[..], &subject[..]].concat());
}

/// A certificate with the node's name; gives the shell lines that put it where Gluster looks.
fn certificate(directory: &Path, root: &Path, number: usize) -> String {
    let trust = root.join("etc/personal-cluster/trust");
    std::fs::create_dir_all(&trust).unwrap();
    std::fs::copy(directory.join("ca.crt"), trust.join("ca.crt")).unwrap();
    let [key, csr, crt] = ["key", "csr", "crt"].map(|kind| format!("node{number}.{kind}"));
    let subject = format!("/CN=node{number}");
    let request =
        ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", &subject];
    openssl(directory, &[&request[..], &["-keyout", &key, "-out", &csr]].concat());
    let signed = ["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
    openssl(directory, &[&signed[..], &["-in", &csr, "-out", &crt]].concat());
    // Debian 12's Gluster looks into the first directory, Debian 13's into the second.
    format!(
        "for d in /usr/lib/ssl /etc/ssl; do
             mkdir -p {root}/copy$d; cp -a $d/. {root}/copy$d; mount --bind {root}/copy$d $d
             cp {from}/{key} $d/glusterfs.key; cp {from}/{crt} $d/glusterfs.pem; cp {from}/ca.crt $d/glusterfs.ca
         done; touch /var/lib/glusterd/secure-access",
        root = root.display(),
        from = directory.display(),
    )
}
