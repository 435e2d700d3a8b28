//! A directory that stands for a machine, and the program run on it.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pc-config");

/// A cluster of `nodes` without disks, `extra` at its end.
pub fn file(nodes: usize, extra: &str) -> String {
    use std::fmt::Write;
    let mut text = String::from("schema = \"personal-cluster/1\"\nname = \"home\"\n");
    for node in 1..=nodes {
        write!(text, "[[node]]\nname = \"node{node}\"\naddress = \"10.0.0.{node}\"\n").unwrap();
    }
    text + extra
}

pub struct Machine {
    pub root: PathBuf,
    _kept: TempDir,
}

/// What a run ended with.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Runs a command with bytes on its stdin.
pub fn run(command: &mut Command, stdin: &[u8]) -> Ended {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses before it reads leaves a broken pipe, which is its right.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin);
    child.wait_with_output().unwrap().into()
}

impl Machine {
    pub fn new() -> Machine {
        let kept = tempfile::tempdir().unwrap();
        let root = kept.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        Machine { root, _kept: kept }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(&self.root).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str], stdin: &str) -> Ended {
        run(&mut self.command(arguments), stdin.as_bytes())
    }

    pub fn put(&self, stdin: &str) -> Ended {
        self.run(&["--node", "node1", "put", "-"], stdin)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// Every file with its content: what "nothing changed" is measured by.
    pub fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
}

/// The answer is the recorded one, byte for byte. With RECORD=1 it becomes the recorded one: read the diff.
pub fn as_recorded(name: &str, ended: &Ended) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("RECORD").is_some() {
        std::fs::write(&path, &ended.stdout).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(ended.stdout == recorded, "{name} is now:\n{}{}", ended.stdout, ended.stderr);
}
