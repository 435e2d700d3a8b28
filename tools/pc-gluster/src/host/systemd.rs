//! systemd over D-Bus (org.freedesktop.systemd1(5)): start a unit and wait for the end of its job.

use std::sync::mpsc;
use std::time::Duration;

use super::bounded::bounded;
use anyhow::{Context, Result};
use pc_cli::try_again;
use pc_run::timed;
use zbus::blocking::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, Value};

/// Properties of a transient unit, and those of units made along with it (none here).
type Properties<'a> = Vec<(&'a str, Value<'a>)>;
type Others<'a> = Vec<(&'a str, Properties<'a>)>;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_async = false,
    blocking_name = "Manager"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &Properties<'_>,
        others: &Others<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property)]
    fn system_state(&self) -> zbus::Result<String>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_async = false,
    blocking_name = "Unit"
)]
trait Unit {
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
}

/// What is asked of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start it if it is not active.
    Start,
    /// Start it; where no unit of this name exists, make one that lasts until the next reboot.
    Mount(Mount),
    /// Stop it first.
    Restart,
}

/// The mount of a volume for a machine without pc-generator, which otherwise writes the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `localhost:/vms`.
    pub what: String,
    /// `/mnt/vms`.
    pub point: String,
    /// Mount options.
    pub options: String,
}

impl Mount {
    /// As pc-generator writes it: outside remote-fs.target, stopped before glusterd.
    fn properties(&self) -> Properties<'_> {
        let description = format!("Volume {}", self.what);
        vec![
            ("Description", Value::from(description)),
            ("DefaultDependencies", Value::from(false)),
            ("After", Value::from(vec!["glusterd.service", "network.target"])),
            ("Before", Value::from(vec!["pc-storage.target", "umount.target"])),
            ("Conflicts", Value::from(vec!["umount.target"])),
            ("What", Value::from(self.what.as_str())),
            ("Where", Value::from(self.point.as_str())),
            ("Type", Value::from("glusterfs")),
            ("Options", Value::from(self.options.as_str())),
        ]
    }
}

/// For a question that systemd answers out of its own memory.
const BUS: Duration = Duration::from_secs(30);
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The name of the unit that mounts `/mnt/<volume>` (systemd.unit(5): a hyphen is escaped).
pub fn mount_unit(volume: &str) -> String {
    format!("mnt-{}.mount", volume.replace('-', "\\x2d"))
}

/// Whether a unit is active; `false` also where no systemd answers.
pub fn is_active(unit: &'static str) -> bool {
    let ask = move || -> zbus::Result<bool> {
        let bus = Connection::system()?;
        let path = Manager::new(&bus)?.load_unit(unit)?;
        Ok(Unit::builder(&bus).path(path)?.build()?.active_state()? == "active")
    };
    let error = match timed(|| bounded(BUS, ask)) {
        Some(Ok(active)) => return active,
        Some(Err(error)) => error.to_string(),
        None => "no answer".into(),
    };
    pc_cli::log::debug(format_args!("asking systemd for {unit}: {error}"));
    false
}

/// Whether the machine is going down. When nobody can be asked it is: the bus is among the last to go.
pub fn is_stopping() -> bool {
    let ask = || Manager::new(&Connection::system()?)?.system_state();
    timed(|| bounded(BUS, move || ask().map_or(true, |state| state == "stopping"))).unwrap_or(true)
}

/// Starts (or restarts) a unit and waits until its job ends as `done`.
pub fn run_job(unit: &str, request: Request, deadline: Duration) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let name = unit.to_string();
    std::thread::spawn(move || {
        // Nobody listens any more after the deadline.
        let _ = sender.send(job(&name, &request));
    });
    let result = timed(|| receiver.recv_timeout(deadline)).map_err(|_| {
        try_again(format!("{unit}: not finished within {} s\n  systemctl status {unit}", deadline.as_secs()))
    })?;
    let result = result.with_context(|| format!("asking systemd to start {unit}"))?;
    if result == "done" {
        return Ok(());
    }
    Err(try_again(format!("{unit}: its job ended as {result}\n  journalctl -b -u '{unit}'")))
}

fn job(unit: &str, request: &Request) -> zbus::Result<String> {
    let bus = Connection::system()?;
    let manager = Manager::new(&bus)?;
    // Without a subscription systemd sends no signals at all.
    manager.subscribe()?;
    let removed = manager.receive_job_removed()?;
    let job = match request {
        Request::Start => manager.start_unit(unit, "replace")?,
        Request::Mount(mount) => match manager.start_unit(unit, "replace") {
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => {
                manager.start_transient_unit(unit, "replace", &mount.properties(), &Vec::new())?
            }
            other => other?,
        },
        Request::Restart => manager.restart_unit(unit, "replace")?,
    };
    for signal in removed {
        let ended = signal.args()?;
        if ended.job == *job {
            return Ok(ended.result.to_string());
        }
    }
    Err(zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::ConnectionAborted.into())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_hyphen_in_a_volume_is_escaped() {
        assert_eq!(super::mount_unit("vms"), "mnt-vms.mount");
        assert_eq!(super::mount_unit("vm-fast"), "mnt-vm\\x2dfast.mount");
    }
}
