//! A running `pc-exporter serve` on a free port, and a plain client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Service {
    child: Child,
    pub address: SocketAddr,
}

impl Service {
    /// Below this root; `bus` is where it finds D-Bus.
    pub fn start(root: &Path, bus: &Path) -> Service {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pc-exporter"))
            .args(["serve", "--listen", "127.0.0.1:0", "--root"])
            .arg(root)
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()))
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on")))
            .unwrap()
            .unwrap();
        // What it says later is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.rsplit(' ').next().unwrap().parse().unwrap();
        Service { child, address }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// The whole answer to these bytes.
    pub fn ask(&self, request: &str) -> String {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn scrape(&self) -> String {
        self.ask("GET /metrics HTTP/1.1\r\nHost: node1\r\n\r\n")
    }

    /// Threads that serve a client just now.
    pub fn scrapes(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that has ended meanwhile has no name any more.
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "scrape").count()
    }

    /// A line of `/proc/PID/status`, as a number.
    pub fn status(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A root with a status of pc-vm for so many VMs.
pub fn root_with_vms(count: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run/personal-cluster");
    std::fs::create_dir_all(&run).unwrap();
    let vms: Vec<serde_json::Value> = (0..count)
        .map(|number| {
            serde_json::json!({"name": format!("vm-{number}"), "defined": true, "current": true, "state": "running",
                "reason": null, "here": true, "should_run_here": true, "owner": "node1"})
        })
        .collect();
    let status = serde_json::json!({"schema": "pc.vm.status/1", "node": "node1", "measured_at": "2026-01-01T00:00:00Z",
        "healthy": true, "reachable_by_peers": true, "problems": [], "vms": vms});
    std::fs::write(run.join("vm.json"), status.to_string()).unwrap();
    root
}
