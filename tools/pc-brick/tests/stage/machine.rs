//! The root that stands in for a machine, and what is asked of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub const BY_ID: &str = "dev/disk/by-id";

/// A machine below a directory.
pub struct Stage {
    pub root: tempfile::TempDir,
}

impl Stage {
    /// A machine whose file names these disks for one volume.
    pub fn new(disks: &[&str]) -> Stage {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(BY_ID)).unwrap();
        let names: Vec<String> = disks.iter().map(|disk| format!("\"/{BY_ID}/{disk}\"")).collect();
        let text = format!(
            "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"n1\"\naddress = \"10.0.0.1\"\n\
             disks.vms = [{}]\n[volume.vms]\nuse = \"vm\"\nreplicas = 1\n",
            names.join(", ")
        );
        std::fs::write(root.path().join("cluster.toml"), text).unwrap();
        Stage { root }
    }

    pub fn disk(&self, name: &str) -> PathBuf {
        self.root.path().join(BY_ID).join(name)
    }

    pub fn blank(&self, name: &str) -> PathBuf {
        std::fs::File::create(self.disk(name)).unwrap().set_len(1 << 30).unwrap();
        self.disk(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-brick"));
        command.args(arguments).arg("--root").arg(self.root.path()).args(["--node", "n1", "--file"]);
        command.arg(self.root.path().join("cluster.toml"));
        command
    }

    /// With a shell script for its sibling pc-unlock.
    pub fn run_beside(&self, arguments: &[&str], pc_unlock: &str) -> Output {
        self.run_with_program("pc-unlock", pc_unlock, arguments)
    }

    /// With a shell script in place of a program.
    pub fn run_with_program(&self, program: &str, script: &str, arguments: &[&str]) -> Output {
        use std::os::unix::fs::PermissionsExt;
        let directory = self.root.path().join("siblings");
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join(program);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        self.command(arguments).env("PATH", path).output().unwrap()
    }

    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> Output {
        use std::io::Write;
        let mut child = self
            .command(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // A tool that reads no standard input closes it.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }

    pub fn record(&self, disk: &str) -> Value {
        let path = self.root.path().join(format!("var/lib/personal-cluster/brick/{disk}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn identical(one: &Path, other: &Path) -> bool {
    Command::new("cmp").arg("--silent").args([one, other]).status().unwrap().success()
}

pub fn blkid(path: &Path, tag: &str) -> String {
    let output = Command::new("blkid").args(["-p", "-o", "value", "-s", tag]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
