//! Two machines as two directories, with siblings on PATH that write down how they were called.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub const TOOL: &str = env!("CARGO_BIN_EXE_pc-trust");

pub const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[unlock]
tang = [{ url = "http://192.0.2.9", thumbprint = "XYZvQfX_8d0-pBHs7hNkEZdcKxLNhyEMMZrDTdpZsPg" }]

[[node]]
name = "node1"
address = "192.0.2.1/24"
[[node]]
name = "node2"
address = "192.0.2.2/24"
[[node]]
name = "node3"
address = "192.0.2.3/24"
"#;

/// Counts calls in `$FAKES/count` and kills its caller at the call number `$KILL_AT`, before or after its work.
const COUNT: &str = r#"
n=$(($(cat "$FAKES/count" 2>/dev/null || echo 0) + 1)); echo $n > "$FAKES/count"
echo "$(basename "$0") $*" >> "$FAKES/calls"
[ "$n" != "${KILL_AT:-0}" ] || { kill -9 $PPID; exit 1; }
root=; while [ $# -gt 0 ]; do case $1 in
  --root) root=$2; shift 2;; --file|--node|--*-time) shift 2;; *) break;; esac; done
"#;

const PC_CONFIG: &str = r#"
content=$(cat; echo x); content=${content%x}
case $1 in
  check) case $content in *BAD*) echo "error: cluster.toml:1:1: BAD" >&2; exit 2;; esac;;
  put) mkdir -p "$root/etc/personal-cluster" "$root/var/lib/personal-cluster"
       printf %s "$content" > "$root/etc/personal-cluster/cluster.toml"
       printf %s "$content" > "$root/var/lib/personal-cluster/applied.json";;
  *) echo "error: what?" >&2; exit 2;;
esac
[ "$n" != "${KILL_AFTER:-0}" ] || { kill -9 $PPID; exit 1; }
"#;

const PC_UNLOCK: &str = r#"
case $1 in
  seal) cat > "$FAKES/secret.$$"
        if [ -e "$FAKES/tang-down" ]; then rm "$FAKES/secret.$$"; echo "error: sealing $2: asking http://192.0.2.9: timed out" >&2; exit 75; fi
        mkdir -p "$root/etc/personal-cluster/sealed"
        base64 -w0 < "$FAKES/secret.$$" > "$root/etc/personal-cluster/sealed/$2.jwe"; rm "$FAKES/secret.$$";;
  unseal) shift; for name; do
        open="$root/run/personal-cluster/secrets/$name"
        mkdir -p -m 700 "$root/run/personal-cluster/secrets"
        [ -s "$open" ] || base64 -d < "$root/etc/personal-cluster/sealed/$name.jwe" > "$open"
        base64 -d < "$root/etc/personal-cluster/sealed/$name.jwe" | cmp - "$root/run/personal-cluster/secrets/$name" || exit 1; done;;
  *) exit 2;;
esac
[ "$n" != "${KILL_AFTER:-0}" ] || { kill -9 $PPID; exit 1; }
"#;

/// Several machines' roots and the fakes.
pub struct Lab {
    pub directory: TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let fakes = directory.path().join("fakes");
        fs::create_dir(&fakes).unwrap();
        for (name, body) in [("pc-config", PC_CONFIG), ("pc-unlock", PC_UNLOCK)] {
            let path = fakes.join(name);
            fs::write(&path, format!("#!/bin/sh\n{COUNT}{body}")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let lab = Lab { directory };
        for node in ["node1", "node2", "node3"] {
            lab.machine(node);
        }
        fs::write(lab.file(), FILE).unwrap();
        lab
    }

    /// A Debian machine with Gluster, libvirt, sshd and `AppArmor`, as far as we look.
    pub fn machine(&self, node: &str) {
        let root = self.root(node);
        let _ = fs::remove_dir_all(&root);
        for directory in [
            "usr/lib/ssl",
            "etc/ssl",
            "var/lib/glusterd/peers",
            "etc/libvirt",
            "etc/ssh/sshd_config.d",
            "etc/apparmor.d/abstractions/libvirt-qemu.d",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let key = root.join("etc/ssh/ssh_host_ed25519_key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key).status();
        assert!(made.unwrap().success());
    }

    pub fn root(&self, node: &str) -> PathBuf {
        self.directory.path().join(node)
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("cluster.toml")
    }

    pub fn fake(&self, name: &str) -> PathBuf {
        self.directory.path().join("fakes").join(name)
    }

    pub fn trust(&self, node: &str, name: &str) -> PathBuf {
        self.root(node).join("etc/personal-cluster/trust").join(name)
    }

    pub fn secret(&self, node: &str, name: &str) -> PathBuf {
        self.root(node).join("run/personal-cluster/secrets").join(name)
    }

    /// The tool on one machine.
    pub fn command(&self, node: &str) -> Command {
        let mut command = Command::new(TOOL);
        let fakes = self.directory.path().join("fakes");
        let path = format!("{}:{}", fakes.display(), std::env::var("PATH").unwrap());
        command.arg("--root").arg(self.root(node)).args(["--node", node]);
        // One that is killed leaves its copies of the file where they go with the rest.
        command
            .env("PATH", path)
            .env("TMPDIR", self.directory.path())
            .env("FAKES", fakes)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, node: &str, arguments: &[&str]) -> Answer {
        Answer::of(self.command(node).args(arguments).output().unwrap())
    }

    pub fn init(&self) -> Value {
        let file = self.file();
        self.run("node1", &["--json", "init", file.to_str().unwrap()]).json()
    }

    pub fn token(&self, node: &str) -> String {
        self.run("node1", &["--json", "token", node]).json()["token"].as_str().unwrap().to_string()
    }

    pub fn serve(&self, node: &str) -> Member {
        let mut child = self
            .command(node)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_string();
        Member { child, address, stderr: Some(stderr) }
    }

    pub fn join(&self, node: &str, address: &str, token: &str) -> Answer {
        self.run(node, &["--json", "join", address, token])
    }

    /// Everything of a machine: path to content, link or mode.
    pub fn tree(&self, node: &str) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        walk(&self.root(node), &mut all);
        all
    }
}

fn walk(directory: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            walk(&path, all);
            format!("{:o}", metadata.permissions().mode())
        } else {
            format!("{:o} {:?}", metadata.permissions().mode(), fs::read(&path).unwrap())
        };
        all.insert(path, what);
    }
}

/// A serving member.
pub struct Member {
    child: Child,
    pub address: String,
    stderr: Option<BufReader<std::process::ChildStderr>>,
}

impl Member {
    /// Waits for its own end: all tokens used or burnt.
    pub fn end(mut self) -> String {
        let mut text = String::new();
        self.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        text
    }

    /// Ends it, and gives what it logged.
    pub fn stop(mut self) -> String {
        self.child.kill().unwrap();
        let mut text = String::new();
        self.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn of(output: Output) -> Answer {
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    pub fn refused(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(text), "{text}: {self:?}");
        assert_eq!(self.stdout, "");
    }
}

/// Runs a program with stdin, which must succeed.
pub fn output(program: &str, arguments: &[&str], stdin: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `openssl verify` of a node's certificate against another node's copy of the CA.
pub fn chain_holds(lab: &Lab, ca_of: &str, node: &str, address: &str) {
    let (ca, certificate) = (lab.trust(ca_of, "ca.crt"), lab.trust(node, "node.crt"));
    let [ca, certificate] = [ca, certificate].map(|path| path.to_str().unwrap().to_string());
    for name in [["-verify_hostname", node], ["-verify_ip", address]] {
        let arguments = ["verify", "-x509_strict", "-CAfile", &ca, name[0], name[1], &certificate];
        output("openssl", &arguments, b"");
    }
    let key = lab.secret(node, "node.key");
    let of_key = output("openssl", &["pkey", "-pubout", "-in", key.to_str().unwrap()], b"");
    let of_certificate = output("openssl", &["x509", "-pubkey", "-noout", "-in", &certificate], b"");
    assert_eq!(of_key, of_certificate, "{node}: key and certificate differ");
}

/// Makes a link for a fake machine.
pub fn link(target: &Path, path: &Path) {
    symlink(target, path).unwrap();
}
