//! A temporary directory with images, a state, a mount point; and the program itself.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const SEGMENT: usize = 1 << 16;

pub struct Lab {
    directory: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that failed half-way leaves its view; the directory could not be removed under it.
        let _ = nix::mount::umount2(&self.view(), nix::mount::MntFlags::MNT_DETACH);
    }
}

impl Lab {
    pub fn new() -> Lab {
        Lab { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn view(&self) -> PathBuf {
        self.path("view")
    }

    pub fn image(&self, content: &[u8]) -> PathBuf {
        let path = self.path("vda.img");
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `pc-segments vda=IMAGE VIEW --state --report`, small segments, nothing on standard input.
    pub fn segments(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-segments"));
        command.arg(format!("vda={}", self.path("vda.img").display())).arg(self.view());
        command.arg("--state").arg(self.path("state")).arg("--report").arg(self.path("report"));
        command.args(["--segment", "64KiB"]).stdin(Stdio::null());
        command
    }

    /// The same with extents in a file.
    pub fn with_extents(&self, extents: &str) -> Command {
        let path = self.path("extents.json");
        std::fs::write(&path, extents).unwrap();
        let mut command = self.segments();
        command.arg("--extents").arg(path);
        command
    }

    pub fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("report")).unwrap()).unwrap()
    }

    /// Identifier of the last commit: the first line of the state is JSON.
    pub fn committed(&self) -> String {
        let state = std::fs::read(self.path("state")).unwrap();
        let line = state.split(|byte| *byte == b'\n').next().unwrap();
        serde_json::from_slice::<Value>(line).unwrap()["id"].as_str().unwrap().to_string()
    }

    /// Extents of the bytes that differ, by comparing them here.
    pub fn extents(&self, old: &[u8], new: &[u8], method: &str) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for at in (0..new.len()).filter(|at| old.get(*at) != new.get(*at)) {
            match ranges.last_mut() {
                Some((from, length)) if *from + *length == at => *length += 1,
                _ => ranges.push((at, 1)),
            }
        }
        let dirty: usize = ranges.iter().map(|(_, length)| length).sum();
        let mut list = String::new();
        for (offset, length) in ranges {
            let comma = if list.is_empty() { "" } else { "," };
            write!(list, "{comma}{{\"offset_bytes\":{offset},\"length_bytes\":{length}}}").unwrap();
        }
        format!(
            "{{\"schema\":\"pc.dirty.extents/1\",\"taken\":\"2026-11-21T02:00:00Z\",\"method\":\"{method}\",\"reason\":\"test\",\
             \"disks\":[{{\"name\":\"vda\",\"source\":\"x\",\"size_bytes\":{},\"method\":\"{method}\",\"reason\":\"test\",\
             \"since\":\"state:{}\",\"dirty_bytes\":{dirty},\"extents\":[{list}]}}]}}",
            new.len(),
            self.committed(),
        )
    }
}

/// Starts it without a command and waits until it says that the view is there.
pub fn mounted(mut command: Command) -> Child {
    use std::io::BufRead;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(": mounted, "), "{line}");
    child
}

pub fn ok(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// It ended with this code; what it said.
pub fn ended(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Ends with the child's output, or fails after half a minute.
pub fn wait(mut child: Child) -> Output {
    let until = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

pub fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

pub fn is_mounted(path: &Path) -> bool {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mountinfo.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// The disk put together as `cat` does.
pub fn cat(directory: &Path) -> Vec<u8> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.iter().flat_map(|name| std::fs::read(name).unwrap()).collect()
}

/// Numbers that look random and are the same in every run (Knuth's MMIX generator).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}
