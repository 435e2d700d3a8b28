//! A machine that is a directory: two VMs, a volume for backups, siblings that are scripts, and the real borg.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests; not every file uses all of them")]

pub mod lost;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub struct Machine {
    pub directory: tempfile::TempDir,
    pub list: Value,
}

/// Of memory where the machine has that: a copy leaves a tenth of its file system to the VMs, which of a disk is
/// gigabytes that the machine of a test need not have.
fn small() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Three segments and a part, with a hole.
pub const DISK: usize = (3 << 20) + 4096;

impl Machine {
    /// Everything there, no repository yet.
    pub fn bare() -> Machine {
        let list = json!({"schema": "pc.vm.list/1", "node": "node1", "nodes": [],
            "vms": [vm("mail"), vm("web")]});
        let machine = Machine { directory: small(), list };
        let boot = machine.root().join("proc/sys/kernel/random/boot_id");
        fs::create_dir_all(boot.parent().unwrap()).unwrap();
        fs::write(boot, "8da54712-537e-413f-88b0-a16827a40fd2\n").unwrap();
        fs::create_dir_all(machine.root().join("proc/self")).unwrap();
        fs::write(machine.root().join("proc/meminfo"), "MemAvailable:   8388608 kB\n").unwrap();
        machine.mounted(&["/mnt/vms", "/mnt/backup"]);
        fs::create_dir_all(machine.root().join("mnt/backup")).unwrap();
        for (seed, vm) in [(1, "mail"), (2, "web")] {
            let directory = machine.root().join(format!("mnt/vms/vms/{vm}"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("disk.img"), disk(seed, DISK)).unwrap();
            fs::write(directory.join("domain.xml"), format!("<domain><name>{vm}</name></domain>\n")).unwrap();
            fs::write(directory.join("nvram.fd"), disk(seed + 7, 8192)).unwrap();
        }
        let never = machine.at("never");
        assert!(Command::new("mkfifo").arg(never).status().unwrap().success());
        machine.file(|_| ());
        machine.says();
        machine
    }

    /// With a repository whose key somebody keeps.
    pub fn ready() -> Machine {
        let machine = Machine::bare();
        machine.ok(&["init", "daily"]);
        let key: Value = serde_json::from_str(&machine.ok(&["key", "export", "daily", "--json"])).unwrap();
        machine.ok(&["key", "acknowledge", "daily", key["code"].as_str().unwrap()]);
        machine
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.at("root")
    }

    pub fn disk_of(&self, vm: &str) -> PathBuf {
        self.root().join(format!("mnt/vms/vms/{vm}/disk.img"))
    }

    pub fn repository(&self) -> PathBuf {
        self.root().join("mnt/backup/borg/daily")
    }

    pub fn mounted(&self, mounts: &[&str]) {
        let line = |mount: &&str| format!("61 24 0:51 / {mount} rw - fuse.glusterfs x rw\n");
        let table: String = mounts.iter().map(line).collect();
        fs::write(self.root().join("proc/self/mountinfo"), table).unwrap();
    }

    /// The cluster file, changed.
    pub fn file(&self, change: impl FnOnce(&mut Value)) {
        let mut file = json!({
            "schema": "personal-cluster/1", "name": "home",
            "node": [{"name": "node1", "address": "192.168.0.50/24", "disks": {
                "vms": ["/dev/disk/by-id/ata-A"], "backup": ["/dev/disk/by-id/ata-B"]}, "nics": {"lan": ["enp1s0"]}}],
            "volume": {"vms": {"use": "vm", "replicas": 1}, "backup": {"use": "backup", "replicas": 1}},
            "network": {"lan": {"uplink": "lan", "subnet": "192.168.0.0/24"}},
            "vm": {"mail": {"memory": "1GiB", "disk": "1GiB", "volume": "vms", "networks": ["lan"], "backup": ["daily"]},
                   "web": {"memory": "1GiB", "disk": "1GiB", "volume": "vms", "networks": ["lan"], "backup": ["daily"]}},
            "backup": {"daily": {"repository": "/mnt/backup/borg/daily", "schedule": "daily"}}});
        change(&mut file);
        fs::write(self.at("cluster.json"), serde_json::to_vec_pretty(&file).unwrap()).unwrap();
    }

    /// What pc-vm is to answer.
    pub fn says(&self) {
        fs::write(self.at("list.json"), self.list.to_string()).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in");
        let path = format!("{}:{}", stand_in.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-borg"));
        command.args(arguments).args(["--node", "node1", "--root"]).arg(self.root());
        command.arg("--file").arg(self.at("cluster.json"));
        command.env("PATH", path).env("STAND_IN", self.directory.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env_remove("JOURNAL_STREAM").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exit code 0; what it answered.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    /// Another exit code, and what it said without the machine's own paths.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let here = self.root().display().to_string();
        (output.status.code().unwrap(), said(&output).replace(&here, ""))
    }

    /// Names of a VM's archives, oldest first.
    pub fn archives(&self, vm: &str) -> Vec<String> {
        let list = self.json(&["list", vm]);
        list["archives"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_string()).collect()
    }

    /// Archives that were never finished, which no list of borg's shows.
    pub fn unfinished(&self) -> Vec<String> {
        let repository = self.repository().display().to_string();
        let listed = self.plain_borg(&["list", "--short", "--consider-checkpoints", &repository]);
        let names = String::from_utf8(listed.stdout).unwrap();
        names.lines().filter(|name| name.contains(".checkpoint")).map(Into::into).collect()
    }

    /// Whoever stands at `step` goes on.
    pub fn release(&self, step: &str) {
        fs::remove_file(self.at(&format!("hang-{step}"))).unwrap();
        fs::remove_file(self.at(&format!("at-{step}"))).unwrap();
        fs::write(self.at("never"), "go\n").unwrap();
    }

    /// `mail` runs on this node, and what its export serves is `frozen.img`.
    pub fn runs(&mut self) {
        self.list["vms"][0]["state"] = "running".into();
        self.list["vms"][0]["node"] = "node1".into();
        self.says();
        fs::write(self.at("frozen.img"), disk(5, DISK)).unwrap();
    }

    /// What was asked of virsh: the verbs.
    pub fn virsh(&self) -> Vec<String> {
        let log = fs::read_to_string(self.at("virsh.log")).unwrap_or_default();
        log.lines().map(|line| line.split(' ').next().unwrap().to_string()).collect()
    }

    /// Starts it and waits until it stands at `step`.
    pub fn start_until(&self, arguments: &[&str], step: &str) -> Child {
        fs::write(self.at(&format!("hang-{step}")), "").unwrap();
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let marker = self.at(&format!("at-{step}"));
        wait_for(step, || {
            assert!(child.try_wait().unwrap().is_none(), "ended before it came to {step}");
            marker.exists()
        });
        child
    }

    /// Nothing stands in the way of the next run.
    pub fn go_on(&self, step: &str) {
        fs::remove_file(self.at(&format!("hang-{step}"))).unwrap();
        fs::remove_file(self.at(&format!("at-{step}"))).unwrap();
    }

    pub fn passphrase(&self) -> String {
        let key: Value = serde_json::from_str(&self.ok(&["key", "export", "daily", "--json"])).unwrap();
        key["passphrase"].as_str().unwrap().to_string()
    }

    /// Plain borg, as somebody without pc-borg would use it.
    pub fn plain_borg(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("borg");
        command.args(arguments).current_dir(self.directory.path());
        command.env("BORG_BASE_DIR", self.at("own-borg")).env("BORG_PASSPHRASE", self.passphrase());
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "no").output().unwrap()
    }
}

fn vm(name: &str) -> Value {
    json!({"name": name, "state": "shut off", "reason": null, "node": null, "home": "node1"})
}

/// The same bytes for the same seed; the second MiB is a hole.
pub fn disk(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut disk = Vec::with_capacity(size);
    for at in 0..size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        disk.push(if (1 << 20..2 << 20).contains(&at) { 0 } else { state.to_le_bytes()[0] });
    }
    disk
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
