//! systemd over D-Bus (org.freedesktop.systemd1(5)): units are started and stopped, and the end of their jobs is awaited;
//! questions about units and about the machine are answered. Everything has a deadline.
//!
//! Talks to the system bus: `DBUS_SYSTEM_BUS_ADDRESS`, else `/run/dbus/system_bus_socket` (dbus-daemon(1)).

#[allow(missing_docs, reason = "zbus writes structs around what is documented there")]
mod manager;

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::try_again;
use zbus::blocking::Connection;
use zbus::zvariant::OwnedObjectPath;

use manager::Unit;
pub use manager::{Auxiliary, Change, Listed, Manager, Properties};

/// For a question that systemd answers out of its own memory.
const ANSWER: Duration = Duration::from_secs(30);

/// The error of a name that no unit file and no running unit has.
pub const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A conversation over the system bus, on a thread of its own: calls have time-outs, the wait for a signal has none.
/// `what` completes the sentence "asking systemd to ...". Too late is [`pc_cli::TryAgain`].
pub fn within<T: Send + 'static>(
    what: &str,
    deadline: Duration,
    talk: impl FnOnce(&Connection) -> zbus::Result<T> + Send + 'static,
) -> Result<T> {
    converse(what, "", deadline, talk)
}

fn converse<T: Send + 'static>(
    what: &str,
    remedy: &str,
    deadline: Duration,
    talk: impl FnOnce(&Connection) -> zbus::Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(Connection::system().and_then(|bus| talk(&bus)))));
    let result = pc_run::timed(|| receiver.recv_timeout(deadline)).map_err(|_| {
        try_again(format!("asking systemd to {what}: not finished within {} s{remedy}", deadline.as_secs()))
    })?;
    result.with_context(|| format!("asking systemd to {what}"))
}

/// Whether a unit is active.
pub fn is_active(unit: &str) -> Result<bool> {
    let name = unit.to_string();
    within(&format!("tell about {unit}"), ANSWER, move |bus| {
        let path = Manager::new(bus)?.load_unit(&name)?;
        Ok(Unit::builder(bus).path(path)?.build()?.active_state()? == "active")
    })
}

/// Whether the machine is going down. When nobody can be asked it is: the bus is among the last to go.
pub fn is_stopping() -> bool {
    within("tell its state", ANSWER, |bus| Manager::new(bus)?.system_state())
        .map_or(true, |state| state == "stopping")
}

/// Reads unit files again: generators run, slowly on slow machines.
pub fn reload(deadline: Duration) -> Result<()> {
    within("reload", deadline, |bus| Manager::new(bus)?.reload())
}

/// Instances of a template, or other units by pattern, that are active or about to be.
pub fn active(pattern: &str, deadline: Duration) -> Result<Vec<String>> {
    let name = pattern.to_string();
    within(&format!("list {pattern}"), deadline, move |bus| {
        let states = ["active", "activating", "reloading"];
        let units = Manager::new(bus)?.list_units_by_patterns(&states, &[&name])?;
        Ok(units.into_iter().map(|unit| unit.0).collect())
    })
}

/// Those of some units that are being started, or wait for their next try.
pub fn starting(units: &[String]) -> Result<Vec<String>> {
    let names = units.to_vec();
    within("tell what it starts", ANSWER, move |bus| list_starting(bus, &names))
}

fn list_starting(bus: &Connection, names: &[String]) -> zbus::Result<Vec<String>> {
    // No pattern at all would be every unit.
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let units = Manager::new(bus)?.list_units_by_patterns(&["activating"], &names)?;
    Ok(units.into_iter().map(|unit| unit.0).collect())
}

/// No boot starts it any more.
pub fn disable(unit: &str, deadline: Duration) -> Result<()> {
    let name = unit.to_string();
    within(&format!("disable {unit}"), deadline, move |bus| {
        Manager::new(bus)?.disable_unit_files(&[&name], false).map(drop)
    })
}

/// Has a unit started, and waits for nothing.
pub fn request(unit: &str, deadline: Duration) -> Result<()> {
    let name = unit.to_string();
    within(&format!("start {unit}"), deadline, move |bus| {
        Manager::new(bus)?.start_unit(&name, "replace").map(drop)
    })
}

/// Has those of some units started anew that are at work, have been, or have failed, and waits for nothing; their names are
/// the answer. What nobody started stays as it is.
pub fn request_restart(units: &[&str], deadline: Duration) -> Result<Vec<String>> {
    let names: Vec<String> = units.iter().map(ToString::to_string).collect();
    within(&format!("restart {}", units.join(", ")), deadline, move |bus| {
        of_those_at_work(bus, &names, |manager, name| manager.restart_unit(name, "replace"))
    })
}

/// As [`request_restart`], but a unit that can read its configuration again does only that.
pub fn request_reload(units: &[&str], deadline: Duration) -> Result<Vec<String>> {
    let names: Vec<String> = units.iter().map(ToString::to_string).collect();
    within(&format!("reload {}", units.join(", ")), deadline, move |bus| {
        of_those_at_work(bus, &names, |manager, name| manager.reload_or_restart_unit(name, "replace"))
    })
}

fn of_those_at_work(
    bus: &Connection,
    names: &[String],
    queue: impl Fn(&Manager<'_>, &str) -> zbus::Result<OwnedObjectPath>,
) -> zbus::Result<Vec<String>> {
    let manager = Manager::new(bus)?;
    // One that waits for its next try is activating.
    let states = ["active", "activating", "failed"];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let listed = manager.list_units_by_patterns(&states, &names)?;
    let mut queued = Vec::new();
    for name in names.into_iter().filter(|name| listed.iter().any(|unit| unit.0 == *name)) {
        queue(&manager, name)?;
        queued.push(name.to_string());
    }
    Ok(queued)
}

/// Starts a unit and waits for the end of the job.
pub fn start(unit: &str, deadline: Duration) -> Result<()> {
    let name = unit.to_string();
    done("start", unit, deadline, move |manager| manager.start_unit(&name, "replace"))
}

/// Stops a unit and waits for the end of the job.
pub fn stop(unit: &str, deadline: Duration) -> Result<()> {
    let name = unit.to_string();
    done("stop", unit, deadline, move |manager| manager.stop_unit(&name, "replace"))
}

fn done(
    verb: &str,
    unit: &str,
    deadline: Duration,
    begin: impl FnOnce(&Manager<'_>) -> zbus::Result<OwnedObjectPath> + Send + 'static,
) -> Result<()> {
    let result = job(verb, unit, deadline, begin)?;
    if result != "done" {
        bail!("asking systemd to {verb} {unit}: its job ended as {result}\n  systemctl status {unit}");
    }
    Ok(())
}

/// Waits for the end of the job that `begin` queues for a unit; how it ended is the answer.
pub fn job(
    verb: &str,
    unit: &str,
    deadline: Duration,
    begin: impl FnOnce(&Manager<'_>) -> zbus::Result<OwnedObjectPath> + Send + 'static,
) -> Result<String> {
    let remedy = format!("\n  systemctl status {unit}");
    converse(&format!("{verb} {unit}"), &remedy, deadline, move |bus| end_of_job(bus, begin))
}

fn end_of_job(
    bus: &Connection,
    begin: impl FnOnce(&Manager<'_>) -> zbus::Result<OwnedObjectPath>,
) -> zbus::Result<String> {
    let manager = Manager::new(bus)?;
    manager.subscribe()?;
    // Before the job is queued: it may have ended before we listen.
    let removed = manager.receive_job_removed()?;
    let job = begin(&manager)?;
    for signal in removed {
        let ended = signal.args()?;
        if ended.job == *job {
            return Ok(ended.result.to_string());
        }
    }
    Err(zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::ConnectionAborted.into())))
}

#[cfg(test)]
mod tests;
