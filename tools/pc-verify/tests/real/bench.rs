//! A directory with fakes of the tools, and the program on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50"
[[node]]
name = "node2"
address = "192.168.0.51"
"#;

pub struct Bench {
    pub root: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("bin")).unwrap();
        fs::write(bench.path("cluster.toml"), FILE).unwrap();
        bench.prints("pc-config", "pc-config/tests/golden/status.json");
        bench.prints("pc-trust", "pc-trust/tests/golden/status.json");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A tool that answers with a recorded status and logs how it was called.
    pub fn prints(&self, name: &str, golden: &str) {
        let answer = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(golden);
        let log = self.path(&format!("{name}.log"));
        self.program(name, &format!("echo \"$*\" >> {}\ncat {}", log.display(), answer.display()));
    }

    /// Where the fakes are found before anything else.
    pub fn programs(&self) -> String {
        format!("{}:/usr/bin:/bin", self.path("bin").display())
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pc-verify"))
            .args(["--root", &self.root.path().to_string_lossy(), "--node", "node1"])
            .args(["--file", &self.path("cluster.toml").to_string_lossy()])
            .args(arguments)
            .env("PATH", self.programs())
            .output()
            .unwrap()
    }

    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[&["--json"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// As pc-trust leaves a member.
    pub fn join(&self) {
        for (path, text) in [
            ("etc/personal-cluster/trust/ssh_config", ""),
            ("etc/personal-cluster/trust/member.json", "{}"),
            ("run/personal-cluster/secrets/ssh-user.key", ""),
        ] {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Its standard output.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
