//! Three nodes on libvirt's test driver: every node is a file that says which domains run there, and a node without a file
//! does not answer.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Of `mail`.
pub const UUID: &str = "32bb3f29-f1f3-8955-8093-5b31b9c88b6c";

/// A node of which nothing else is said shows no QEMU; `kernels/NODE` that leads nowhere is one that does not answer.
const SSH: &str = r#"
while [ "$1" != -- ]; do shift; done
[ "$3" = "pc-vm probe --all --json" ] || exit 2
node=$2
if [ -d "$KERNELS/$node" ]; then exec "$PC_VM" --root "$KERNELS/$node" probe --all --json; fi
if [ -L "$KERNELS/$node" ]; then echo "ssh: connect to host $node port 22: No route to host" >&2; exit 255; fi
echo '{"schema":"pc.vm.processes/1","processes":[],"reason":null}'
"#;

/// Three nodes on one directory.
pub struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    /// One VM, `mail`, whose home is n1.
    pub fn new(volume: &str) -> Scene {
        let scene = Scene { directory: tempfile::tempdir().unwrap() };
        let file = format!(
            "schema = \"personal-cluster/1\"\nname = \"home\"\n[volume.vms]\n{volume}\n[vm.mail]\n\
             memory = \"64MiB\"\ndisk = \"8MiB\"\nvolume = \"vms\"\nhome = \"n1\"\n"
        );
        let node = |(number, node)| {
            format!(
                "[[node]]\nname = \"{node}\"\naddress = \"192.0.2.{number}/24\"\nmemory = \"8GiB\"\n\
                 disks.vms = [\"/dev/disk/by-id/virtio-{node}\"]\n"
            )
        };
        let nodes: Vec<String> = (1..).zip(NODES).map(node).collect();
        fs::write(scene.path("cluster.toml"), file + &nodes.concat()).unwrap();
        // As pc-trust's gate would: `ssh -F FILE OPTIONS -- NODE pc-vm probe --all --json`.
        scene.program("ssh", SSH);
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The libvirt of a node from now on; without domains `Some("")`, silent `None`.
    pub fn libvirt(&self, node: &str, domains: Option<&str>) {
        let number = 1 + NODES.iter().position(|known| *known == node).unwrap();
        let path = self.path(&format!("192.0.2.{number}.xml"));
        match domains {
            None => fs::remove_file(path).unwrap_or_default(),
            Some(domains) => fs::write(
                path,
                format!(
                    "<node>{domains}<cpu><mhz>1</mhz><model>x</model><active>2</active><nodes>1</nodes>\
                     <sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>8192000</memory></node>"
                ),
            )
            .unwrap(),
        }
    }

    /// The QEMUs that a node's kernel shows to the others: the machine of this root; by itself none.
    pub fn kernel(&self, node: &str, root: Option<&Path>) {
        let link = self.path("kernels").join(node);
        fs::create_dir_all(self.path("kernels")).unwrap();
        fs::remove_file(&link).unwrap_or_default();
        if let Some(root) = root {
            std::os::unix::fs::symlink(root, link).unwrap();
        }
    }

    /// A machine's root with the volume mounted.
    pub fn root(&self, name: &str) -> PathBuf {
        let root = self.path(name);
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::create_dir_all(root.join("mnt/vms/vms/mail")).unwrap();
        for file in ["etc/personal-cluster/trust/ssh_config", "run/personal-cluster/secrets/ssh-user.key"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        // It would be reset.
        for (file, text) in [
            ("proc/9/comm", "sbd\n"),
            ("sys/class/watchdog/watchdog0/identity", "i6300ESB timer\n"),
            ("sys/class/watchdog/watchdog0/state", "active\n"),
            ("sys/class/watchdog/watchdog0/options", "0x8180\n"),
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), text).unwrap();
        }
        fs::write(root.join("proc/self/mountinfo"), "61 24 0:51 / /mnt/vms rw - ext4 /dev/a rw\n").unwrap();
        root
    }

    /// Puts a program before all others; gives the file that it may write what it was asked to, `$LOG`.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path("bin").join(name);
        fs::create_dir_all(self.path("bin")).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self.path("called")
    }

    /// Runs pc-vm as a node on a root: its exit code and what it said.
    pub fn pc_vm(&self, node: &str, root: &Path, arguments: &[&str]) -> (i32, String) {
        let output = self.command(node, root, arguments).output().unwrap();
        let said = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
        (output.status.code().unwrap(), said)
    }

    /// The same, not run yet.
    pub fn command(&self, node: &str, root: &Path, arguments: &[&str]) -> Command {
        let number = 1 + NODES.iter().position(|known| *known == node).unwrap();
        let uri = |address: &str| format!("test://{}", self.path(&format!("{address}.xml")).display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-vm"));
        command
            .args(["--node", node, "--connect", &uri(&format!("192.0.2.{number}"))])
            .args(["--connect-peer", &uri("{address}"), "--file"])
            .arg(self.path("cluster.toml"))
            .arg("--root")
            .arg(root)
            .args(arguments)
            .env("PATH", format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap()))
            .env("LOG", self.path("called"))
            .env("KERNELS", self.path("kernels"))
            .env("PC_VM", env!("CARGO_BIN_EXE_pc-vm"))
            .env_remove("JOURNAL_STREAM");
        command
    }
}

/// A running domain as the test driver reads it.
pub fn running(name: &str, uuid: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os></domain>"
    )
}

pub fn owner(root: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(root.join("mnt/vms/vms/mail/owner.json")).unwrap()).unwrap()
}

pub fn set_owner(root: &Path, more: &serde_json::Value) {
    let mut owner =
        serde_json::json!({"schema": "pc.vm.owner/1", "vm": "mail", "since": "2026-01-01T00:00:00Z"});
    owner.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fs::write(root.join("mnt/vms/vms/mail/owner.json"), owner.to_string()).unwrap();
}

/// A QEMU of `mail` in a machine's /proc.
pub fn qemu(root: &Path) {
    fs::create_dir_all(root.join("proc/4711/task/4711")).unwrap();
    let arguments = format!("/usr/bin/qemu-system-x86_64\0-name\0guest=mail\0-uuid\0{UUID}\0");
    fs::write(root.join("proc/4711/cmdline"), arguments).unwrap();
}
