//! A machine of our own: a root directory with LUKS2 files where the disks would be.

#![allow(dead_code, reason = "each test binary uses its own part")]

// The real tangd; written once, for the crate that speaks to it.
#[path = "../../../../crates/tang-client/tests/support/mod.rs"]
mod tang;

use std::fmt::Write as _;
use std::path::PathBuf;

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use tang::{Tang, run, text, try_run};

/// What a user would type.
pub const PASSPHRASE: &str = "a user's passphrase";

pub struct Machine {
    pub root: tempfile::TempDir,
}

pub struct Answer {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Machine {
    pub fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev/disk/by-id")).unwrap();
        std::fs::create_dir_all(root.path().join("dev/mapper")).unwrap();
        std::fs::create_dir_all(root.path().join("etc/personal-cluster")).unwrap();
        Machine { root }
    }

    /// A cluster file with these servers and one disk per name.
    pub fn file(&self, threshold: u8, servers: &[&Tang], disks: &[&str]) {
        let tang: Vec<String> = servers
            .iter()
            .map(|server| format!("{{ url = \"{}\", thumbprint = \"{}\" }}", server.url, server.thumbprint()))
            .collect();
        let mut text = format!(
            "schema = \"personal-cluster/1\"\nname = \"home\"\n\
             [unlock]\nthreshold = {threshold}\ntang = [{}]\n\
             [[node]]\nname = \"node1\"\naddress = \"192.168.0.50/24\"\n",
            tang.join(", "),
        );
        for disk in disks {
            let volume = disk.to_lowercase();
            writeln!(text, "disks.{volume} = [\"{}\"]", device(disk)).unwrap();
        }
        for disk in disks {
            writeln!(text, "[volume.{}]\nuse = \"local\"", disk.to_lowercase()).unwrap();
        }
        std::fs::write(self.root.path().join("etc/personal-cluster/cluster.toml"), text).unwrap();
    }

    /// Formats a LUKS2 file; cheap settings and room for a few slots only, so that tests are quick.
    pub fn disk(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(24 << 20).unwrap();
        let path_text = path.to_str().unwrap();
        let arguments = [
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--luks2-keyslots-size",
            "2m",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
        ];
        run("cryptsetup", &[&arguments[..], &["--key-file", "-", path_text]].concat(), PASSPHRASE.as_bytes());
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("dev/disk/by-id").join(name)
    }

    /// Runs pc-unlock on this machine.
    pub fn unlock(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let root = self.root.path().to_str().unwrap();
        let all = [&["--root", root, "--node", "node1"], arguments].concat();
        unlock(&all, input)
    }

    pub fn ok(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let answer = self.unlock(arguments, input);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.err);
        answer
    }

    pub fn dump(&self, name: &str) -> serde_json::Value {
        let path = self.path(name);
        let json = run("cryptsetup", &["luksDump", "--dump-json-metadata", path.to_str().unwrap()], b"");
        serde_json::from_slice(&json).unwrap()
    }

    /// Numbers of keyslots and types of tokens.
    pub fn shape(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let dump = self.dump(name);
        let slots = dump["keyslots"].as_object().unwrap().keys().cloned().collect();
        let tokens = dump["tokens"].as_object().unwrap().values();
        (slots, tokens.map(|token| token["type"].as_str().unwrap().to_string()).collect())
    }

    /// The user's own passphrase still works.
    pub fn passphrase_fits(&self, name: &str) -> bool {
        let path = self.path(name);
        let arguments = ["open", "--test-passphrase", "--key-file", "-", path.to_str().unwrap()];
        try_run("cryptsetup", &arguments, PASSPHRASE.as_bytes()).0
    }
}

pub fn device(name: &str) -> String {
    format!("/dev/disk/by-id/{name}")
}

/// Runs pc-unlock without any machine.
pub fn unlock(arguments: &[&str], input: &[u8]) -> Answer {
    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pc-unlock"))
        .args(arguments)
        .env_remove("JOURNAL_STREAM")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
