//! systemd over D-Bus (org.freedesktop.systemd1(5)).

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::try_again;
use zbus::blocking::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_async = false,
    blocking_name = "Manager"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
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

const DEADLINE: Duration = Duration::from_secs(180);

/// Runs a conversation with systemd on a thread of its own: the bus has time-outs, jobs have none.
fn within<T: Send + 'static>(
    what: &str,
    talk: impl FnOnce() -> zbus::Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(talk())));
    let result = pc_run::timed(|| receiver.recv_timeout(DEADLINE)).map_err(|_| {
        try_again(format!("asking systemd to {what}: not finished within {} s", DEADLINE.as_secs()))
    })?;
    result.with_context(|| format!("asking systemd to {what}"))
}

/// Whether a unit is active.
pub fn is_active(unit: &'static str) -> Result<bool> {
    within(&format!("tell about {unit}"), move || {
        let bus = Connection::system()?;
        let path = Manager::new(&bus)?.load_unit(unit)?;
        Ok(Unit::builder(&bus).path(path)?.build()?.active_state()? == "active")
    })
}

/// Whether the machine is going down. When nobody can be asked it is: the bus is among the last to go.
pub fn is_stopping() -> bool {
    let ask = within("tell its state", || Manager::new(&Connection::system()?)?.system_state());
    ask.map_or(true, |state| state == "stopping")
}

/// Reads unit files again.
pub fn reload() -> Result<()> {
    within("reload", || Manager::new(&Connection::system()?)?.reload())
}

/// Starts a unit and waits for the end of the job.
pub fn start(unit: &'static str) -> Result<()> {
    job(unit, true)
}

/// Stops a unit and waits for the end of the job.
pub fn stop(unit: &'static str) -> Result<()> {
    job(unit, false)
}

fn job(unit: &'static str, start: bool) -> Result<()> {
    let verb = if start { "start" } else { "stop" };
    let result = within(&format!("{verb} {unit}"), move || {
        let bus = Connection::system()?;
        let manager = Manager::new(&bus)?;
        // Without a subscription systemd sends no signals at all.
        manager.subscribe()?;
        let removed = manager.receive_job_removed()?;
        let job =
            if start { manager.start_unit(unit, "replace")? } else { manager.stop_unit(unit, "replace")? };
        for signal in removed {
            let ended = signal.args()?;
            if ended.job == *job {
                return Ok(ended.result.to_string());
            }
        }
        Ok("unknown: the bus was closed".to_string())
    })?;
    if result != "done" {
        bail!("asking systemd to {verb} {unit}: its job ended as {result}\n  systemctl status {unit}");
    }
    Ok(())
}
