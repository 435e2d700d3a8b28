//! systemd and logind over D-Bus (org.freedesktop.systemd1(5), org.freedesktop.login1(5)).

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::try_again;
use zbus::blocking::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

/// What `ListUnitsByPatterns` tells of a unit: name, description, load state, active state, sub state, ...
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
/// What `DisableUnitFiles` did.
type Change = (String, String, String);

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
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<Change>>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    gen_async = false,
    blocking_name = "Login"
)]
trait LoginManager {
    fn power_off(&self, interactive: bool) -> zbus::Result<()>;
}

/// For whatever is no job.
const QUICK: Duration = Duration::from_secs(90);

/// Runs a conversation on a thread of its own: the bus has time-outs, jobs have none.
fn within<T: Send + 'static>(
    what: &str,
    deadline: Duration,
    talk: impl FnOnce() -> zbus::Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(talk())));
    let result = pc_run::timed(|| receiver.recv_timeout(deadline)).map_err(|_| {
        try_again(format!("asking systemd to {what}: not finished within {} s", deadline.as_secs()))
    })?;
    result.with_context(|| format!("asking systemd to {what}"))
}

/// Reads unit files again: generators run.
pub fn reload() -> Result<()> {
    within("reload", QUICK, || Manager::new(&Connection::system()?)?.reload())
}

/// Instances of a template that are active, or about to be.
pub fn active(pattern: &'static str) -> Result<Vec<String>> {
    within(&format!("list {pattern}"), QUICK, move || {
        let states = ["active", "activating", "reloading"];
        let units = Manager::new(&Connection::system()?)?.list_units_by_patterns(&states, &[pattern])?;
        Ok(units.into_iter().map(|unit| unit.0).collect())
    })
}

/// No boot starts it any more.
pub fn disable(unit: String) -> Result<()> {
    within(&format!("disable {unit}"), QUICK, move || {
        Manager::new(&Connection::system()?)?.disable_unit_files(&[&unit], false).map(drop)
    })
}

/// Starts a unit and waits for the end of the job.
pub fn start(unit: &str, deadline: Duration) -> Result<()> {
    job(unit, true, deadline)
}

/// Has a unit started, and waits for nothing.
pub fn request(unit: &'static str) -> Result<()> {
    within(&format!("start {unit}"), QUICK, move || {
        Manager::new(&Connection::system()?)?.start_unit(unit, "replace").map(drop)
    })
}

/// Stops a unit and waits for the end of the job.
pub fn stop(unit: &str, deadline: Duration) -> Result<()> {
    job(unit, false, deadline)
}

fn job(unit: &str, start: bool, deadline: Duration) -> Result<()> {
    let verb = if start { "start" } else { "stop" };
    let name = unit.to_string();
    let result = within(&format!("{verb} {unit}"), deadline, move || {
        let bus = Connection::system()?;
        let manager = Manager::new(&bus)?;
        // Without a subscription systemd sends no signals at all.
        manager.subscribe()?;
        let removed = manager.receive_job_removed()?;
        let job = if start {
            manager.start_unit(&name, "replace")?
        } else {
            manager.stop_unit(&name, "replace")?
        };
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

/// Has logind read its configuration again: on SIGHUP (`manager_dispatch_reload_signal`) it forgets nothing.
pub fn reread_logind() -> Result<()> {
    const SIGHUP: i32 = 1;
    within("have logind read its configuration", QUICK, || {
        Manager::new(&Connection::system()?)?.kill_unit("systemd-logind.service", "main", SIGHUP)
    })
}

/// Switches the machine off, as the power button would.
pub fn power_off() -> Result<()> {
    within("switch this machine off", QUICK, || Login::new(&Connection::system()?)?.power_off(false))
}
