//! systemd's part, over a real D-Bus daemon: mount units mount, targets become active, jobs end.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zbus::blocking::{Connection, connection};
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::until;

const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
<allow send_type="signal"/><allow user="*"/></policy></busconfig>"#;

/// A D-Bus daemon with the stand-in on it.
pub struct Bus {
    daemon: Child,
    started: Arc<Mutex<Vec<String>>>,
    _connection: Connection,
}

impl Bus {
    /// Starts both; mounts happen in the namespaces of process `pid`. With `units` there are mount units, as
    /// pc-generator writes them.
    pub fn new(root: &Path, pid: u32, units: bool) -> Bus {
        let socket = root.join("bus");
        let config = root.join("bus.conf");
        std::fs::write(&config, CONFIG.replace("SOCKET", &socket.display().to_string())).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile"])
            .stdin(Stdio::null())
            .spawn()
            .expect("running dbus-daemon");
        // The socket is there before anybody listens on it.
        until(Duration::from_secs(20), || UnixStream::connect(&socket).ok())
            .expect("dbus-daemon does not listen");
        let started = Arc::new(Mutex::new(Vec::new()));
        let manager = Manager { pid, units, jobs: 0, started: Arc::clone(&started) };
        let unit = Unit { started: Arc::clone(&started) };
        let address = format!("unix:path={}", socket.display());
        let connection = connection::Builder::address(address.as_str())
            .unwrap()
            .serve_at("/org/freedesktop/systemd1", manager)
            .unwrap()
            .serve_at(TARGET, unit)
            .unwrap()
            .name("org.freedesktop.systemd1")
            .unwrap()
            .build()
            .unwrap();
        Bus { daemon, started, _connection: connection }
    }

    /// Units that were started, in order.
    pub fn started(&self) -> Vec<String> {
        self.started.lock().unwrap().clone()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The only unit whose state is asked for.
const TARGET: &str = "/org/freedesktop/systemd1/unit/pc_2dstorage_2etarget";

struct Unit {
    started: Arc<Mutex<Vec<String>>>,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_state(&self) -> &'static str {
        let active = self.started.lock().unwrap().iter().any(|unit| unit == "pc-storage.target");
        if active { "active" } else { "inactive" }
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Error {
    NoSuchUnit(String),
}

struct Manager {
    pid: u32,
    units: bool,
    jobs: u32,
    started: Arc<Mutex<Vec<String>>>,
}

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).unwrap()
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[allow(clippy::unused_self, reason = "the shape of a D-Bus method")]
    fn subscribe(&self) {}

    #[allow(clippy::unused_self, reason = "the shape of a D-Bus method")]
    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        assert_eq!(name, "pc-storage.target");
        path(TARGET)
    }

    #[allow(clippy::unused_self, reason = "the shape of a D-Bus property")]
    #[zbus(property)]
    fn system_state(&self) -> &'static str {
        "running"
    }

    fn start_unit(
        &mut self,
        name: String,
        mode: &str,
        #[zbus(connection)] bus: &zbus::Connection,
    ) -> Result<OwnedObjectPath, Error> {
        assert_eq!(mode, "replace");
        if name.starts_with("mnt-") && !self.units {
            return Err(Error::NoSuchUnit(format!("Unit {name} not found.")));
        }
        Ok(self.run(name, "log-level=WARNING", bus.clone()))
    }

    #[allow(clippy::needless_pass_by_value, reason = "the shape of a D-Bus method")]
    fn start_transient_unit(
        &mut self,
        name: String,
        mode: &str,
        properties: Vec<(String, OwnedValue)>,
        others: Vec<(String, Vec<(String, OwnedValue)>)>,
        #[zbus(connection)] bus: &zbus::Connection,
    ) -> OwnedObjectPath {
        assert_eq!((mode, others.len()), ("replace", 0));
        let property =
            |name: &str| properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let text = |name: &str| String::try_from(property(name).unwrap()).unwrap();
        assert_eq!((text("Type").as_str(), text("Where").as_str()), ("glusterfs", "/mnt/vms"));
        assert_eq!(text("What"), "localhost:/vms");
        self.run(name, &text("Options"), bus.clone())
    }

    fn restart_unit(
        &mut self,
        name: String,
        mode: &str,
        #[zbus(connection)] bus: &zbus::Connection,
    ) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        let volume = name.trim_start_matches("mnt-").trim_end_matches(".mount");
        assert!(self.enter().args(["umount", "-l", &format!("/mnt/{volume}")]).status().unwrap().success());
        self.run(name, "log-level=WARNING", bus.clone())
    }
}

impl Manager {
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-n", "-u", "-p", "--", "timeout", "100"]);
        command
    }

    fn run(&mut self, unit: String, options: &str, bus: zbus::Connection) -> OwnedObjectPath {
        self.jobs += 1;
        let id = self.jobs;
        let job = path(&format!("/org/freedesktop/systemd1/job/{id}"));
        let mut command = self.enter();
        if let Some(volume) = unit.strip_prefix("mnt-").and_then(|rest| rest.strip_suffix(".mount")) {
            let (what, point) = (format!("localhost:/{volume}"), format!("/mnt/{volume}"));
            command.args(["mount", "-t", "glusterfs", "-o", options, &what, &point]);
        } else {
            command.arg("true");
        }
        let (started, answer) = (Arc::clone(&self.started), job.clone());
        std::thread::spawn(move || {
            let done = command.stdin(Stdio::null()).status().unwrap().success();
            if done {
                started.lock().unwrap().push(unit.clone());
            }
            let body = (id, job, unit, if done { "done" } else { "failed" });
            let bus = Connection::from(bus);
            let manager = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
            bus.emit_signal(None::<&str>, manager.0, manager.1, "JobRemoved", &body).unwrap();
        });
        answer
    }
}
