//! Two nodes with libvirt daemons of their own, one volume between them, and a CA: real daemons, real QEMU.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "test"

[[node]]
name = "n1"
address = "192.168.51.1/24"
disks.vms = ["/dev/disk/by-id/virtio-a"]
[[node]]
name = "n2"
address = "192.168.51.2/24"
disks.vms = ["/dev/disk/by-id/virtio-b"]

[volume.vms]
use = "vm"
replicas = 2

[vm.mail]
memory = "64MiB"
disk = "8MiB"
volume = "vms"
"#;

/// Both nodes; dropped, everything ends.
pub struct Nodes {
    work: tempfile::TempDir,
    booted: Vec<Node>,
    /// Network and volume.
    ground: Node,
}

struct Node {
    name: String,
    process: Child,
}

impl Node {
    /// Starts a process that says `ready` and ends when its stdin ends.
    fn spawn(name: &str, mut command: Command) -> Node {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Node { name: name.into(), process }
    }
}

/// A network of their own, so that the nodes' addresses are nobody else's, and a volume that libvirt takes for
/// Gluster's (it looks at the type of the mount): without one it refuses to migrate.
fn ground(work: &Path) -> Node {
    let script = "mount --make-rprivate /; mkdir brick volume
                  bindfs -f -o subtype=glusterfs brick volume &
                  mkdir host; mount --bind /proc host
                  ip link set lo up; ip address add 192.168.51.1/24 dev lo; ip address add 192.168.51.2/24 dev lo
                  until mountpoint -q volume; do kill -0 $!; sleep 0.1; done
                  echo ready; cat > /dev/null; kill $!";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-ec", script]).current_dir(work);
    Node::spawn("ground", command)
}

impl Drop for Node {
    fn drop(&mut self) {
        // node.sh ends its daemons and guests when its stdin ends.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Nodes {
    pub fn new() -> Nodes {
        let work = tempfile::tempdir().unwrap();
        std::fs::write(work.path().join("cluster.toml"), FILE).unwrap();
        std::fs::write(work.path().join("hosts"), "127.0.0.1 localhost\n192.168.51.1 n1\n192.168.51.2 n2\n")
            .unwrap();
        make_certificates(work.path());
        let ssh = work.path().join("bin/ssh");
        std::fs::create_dir(work.path().join("bin")).unwrap();
        let gate = format!(
            "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n\
             exec nsenter --mount={0}/host/$(cat {0}/$2.pid)/ns/mnt {1} probe --all --json\n",
            work.path().display(),
            env!("CARGO_BIN_EXE_pc-vm")
        );
        std::fs::write(&ssh, gate).unwrap();
        std::fs::set_permissions(ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let ground = ground(work.path());
        let mut nodes = Nodes { work, booted: Vec::new(), ground };
        for (name, address) in [("n1", "192.168.51.1"), ("n2", "192.168.51.2")] {
            nodes.boot(name, address);
        }
        nodes
    }

    fn boot(&mut self, name: &str, address: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes/node.sh");
        let ground = self.ground.process.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &ground, "--"]);
        // A /proc of its own: the kernel shows a node its guests and no other's.
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", script]);
        command.arg(self.work.path()).args([name, address]);
        self.booted.push(Node::spawn(name, command));
        let pid = self.booted.last().map(|node| node.process.id().to_string()).unwrap();
        std::fs::write(self.work.path().join(format!("{name}.pid")), pid).unwrap();
        let started = Instant::now();
        while !self
            .on(name, &["virsh", "-c", &format!("qemu+tls://{name}/system"), "version"])
            .status
            .success()
        {
            assert!(started.elapsed() < Duration::from_secs(90), "libvirtd of {name} does not answer");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs a program on a node.
    pub fn on(&self, node: &str, argv: &[&str]) -> Output {
        let pid = self.booted.iter().find(|known| known.name == node).unwrap().process.id().to_string();
        Command::new("nsenter")
            .args(["--mount", "--net", "--target", &pid, &format!("--pid=/proc/{pid}/ns/pid_for_children")])
            .args(["--", "timeout", "300"])
            .args(argv)
            .env("PATH", format!("{}/bin:{}", self.work.path().display(), std::env::var("PATH").unwrap()))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs pc-vm on a node; gives its exit code, stdout and stderr.
    pub fn pc_vm(&self, node: &str, arguments: &[&str]) -> (i32, String, String) {
        let file = self.work.path().join("cluster.toml");
        let mut argv = vec![env!("CARGO_BIN_EXE_pc-vm"), "--file", file.to_str().unwrap(), "--node", node];
        argv.extend(arguments);
        let output = self.on(node, &argv);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Runs pc-vm, expects success and reads its JSON.
    pub fn json(&self, node: &str, arguments: &[&str]) -> serde_json::Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let (code, out, err) = self.pc_vm(node, &all);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Runs pc-vm and expects an exit code; gives stderr.
    pub fn expect(&self, code: i32, node: &str, arguments: &[&str]) -> String {
        let (found, out, err) = self.pc_vm(node, arguments);
        assert_eq!(found, code, "{arguments:?} on {node}: {out}{err}");
        err
    }

    /// Runs a shell script on a node.
    pub fn sh(&self, node: &str, script: &str) -> String {
        let output = self.on(node, &["sh", "-ec", script]);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// A file on the volume, past its mount.
    pub fn volume(&self, path: &str) -> PathBuf {
        self.work.path().join("brick").join(path)
    }

    /// Takes the VM out of the file.
    pub fn without_vm(&self) {
        let kept = FILE.split("[vm.mail]").next().unwrap();
        std::fs::write(self.work.path().join("cluster.toml"), kept).unwrap();
    }

    pub fn owner(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.volume("vms/mail/owner.json")).unwrap()).unwrap()
    }
}

/// What pc-trust would place (libvirt, docs/kbase/tlscerts.rst), made with openssl.
fn make_certificates(work: &Path) {
    let sh = Shell::new().unwrap();
    sh.change_dir(work);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    cmd!(
        sh,
        "openssl req -x509 {key...} -keyout ca.key -out ca.crt -days 2 -subj /CN=test-CA -addext {usage}"
    )
    .ignore_stderr()
    .run()
    .unwrap();
    for (node, address) in [("n1", "192.168.51.1"), ("n2", "192.168.51.2")] {
        let subject = format!("/CN={node}");
        cmd!(sh, "openssl req {key...} -keyout {node}.key -out {node}.csr -subj {subject}")
            .ignore_stderr()
            .run()
            .unwrap();
        let extensions = format!(
            "subjectAltName=DNS:{node},IP:{address}\nkeyUsage=critical,digitalSignature,keyEncipherment\n\
             extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n"
        );
        sh.write_file("extensions", extensions).unwrap();
        cmd!(sh, "openssl x509 -req -in {node}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {node}.crt")
            .ignore_stderr()
            .run()
            .unwrap();
        let pki = format!("pki-{node}");
        for (from, to) in [
            ("ca.crt".to_string(), vec!["CA/cacert.pem", "qemu/ca-cert.pem"]),
            (
                format!("{node}.crt"),
                vec![
                    "libvirt/servercert.pem",
                    "libvirt/clientcert.pem",
                    "qemu/server-cert.pem",
                    "qemu/client-cert.pem",
                ],
            ),
            (
                format!("{node}.key"),
                vec![
                    "libvirt/private/serverkey.pem",
                    "libvirt/private/clientkey.pem",
                    "qemu/server-key.pem",
                    "qemu/client-key.pem",
                ],
            ),
        ] {
            for place in to {
                let place = work.join(&pki).join(place);
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                std::fs::copy(work.join(&from), place).unwrap();
            }
        }
    }
}
