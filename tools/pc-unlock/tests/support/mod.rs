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

    /// A cryptsetup of our own before the real one: `script` runs first, in sh, and may end it.
    pub fn cryptsetup(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let bin = self.root.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let path = std::env::var("PATH").unwrap();
        let text = format!("#!/bin/sh\n{script}\nPATH='{path}'\nexport PATH\nexec cryptsetup \"$@\"\n");
        std::fs::write(bin.join("cryptsetup"), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join("cryptsetup"), mode).unwrap();
    }

    /// The real one again.
    pub fn real_cryptsetup(&self) {
        std::fs::remove_file(self.root.path().join("bin/cryptsetup")).unwrap();
    }

    /// Starts pc-unlock on this machine.
    pub fn start(&self, arguments: &[&str], input: &[u8]) -> std::process::Child {
        let root = self.root.path().to_str().unwrap();
        let all = [&["--root", root, "--node", "node1"], arguments].concat();
        start(&all, input, Some(&self.root.path().join("bin")))
    }

    /// Runs pc-unlock on this machine.
    pub fn unlock(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let root = self.root.path().to_str().unwrap();
        let all = [&["--root", root, "--node", "node1"], arguments].concat();
        answer(start(&all, input, Some(&self.root.path().join("bin"))))
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

/// Lines of sh that leave below `root` what the kernel tells of a mapper (there is no device-mapper in a test). The UUID
/// of a LUKS header stands at 168.
pub fn maps(device: &str, mapper: &str, root: &std::path::Path) -> String {
    let dm = format!("{}/sys/block/dm-{mapper}/dm", root.display());
    format!(
        "uuid=$(dd if={device} bs=1 skip=168 count=40 2>/dev/null | tr -d '\\0-')\nmkdir -p {dm}\n\
         echo {mapper} > {dm}/name\necho CRYPT-LUKS2-$uuid-{mapper} > {dm}/uuid"
    )
}

pub fn device(name: &str) -> String {
    format!("/dev/disk/by-id/{name}")
}

/// Runs pc-unlock without any machine.
pub fn unlock(arguments: &[&str], input: &[u8]) -> Answer {
    answer(start(arguments, input, None))
}

fn start(arguments: &[&str], input: &[u8], bin: Option<&std::path::Path>) -> std::process::Child {
    use std::io::Write;
    let path = std::env::var("PATH").unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pc-unlock"))
        .args(arguments)
        .env_remove("JOURNAL_STREAM")
        .env("PATH", bin.map_or_else(|| path.clone(), |bin| format!("{}:{path}", bin.display())))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child
}

/// What it said in the end.
pub fn answer(child: std::process::Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
