//! What pc-ha asks of systemd and, once, of logind.

use std::time::Duration;

use anyhow::Result;
use pc_cli::try_again;
use systemd_jobs::{Manager, within};
pub use systemd_jobs::{start, stop};

use super::logind::go_down;

/// For whatever is no job.
const QUICK: Duration = Duration::from_secs(90);

/// Stops a unit if it runs, starts it, and waits for the end of the job.
pub fn restart(unit: &str, deadline: Duration) -> Result<()> {
    let name = unit.to_string();
    let begin = move |manager: &Manager<'_>| manager.restart_unit(&name, "replace");
    match systemd_jobs::job("restart", unit, deadline, begin)?.as_str() {
        "done" => Ok(()),
        ended => Err(try_again(format!("{unit}: its job ended as {ended}\n  systemctl status {unit}"))),
    }
}

/// Reads unit files again: generators run.
pub fn reload() -> Result<()> {
    systemd_jobs::reload(QUICK)
}

/// Instances of a template that are active, or about to be.
pub fn active(pattern: &str) -> Result<Vec<String>> {
    systemd_jobs::active(pattern, QUICK)
}

/// No boot starts it any more.
pub fn disable(unit: &str) -> Result<()> {
    systemd_jobs::disable(unit, QUICK)
}

/// Has a unit started, and waits for nothing.
pub fn request(unit: &str) -> Result<()> {
    systemd_jobs::request(unit, QUICK)
}

/// Has logind read its configuration again: on SIGHUP (`manager_dispatch_reload_signal`) it forgets nothing.
pub fn reread_logind() -> Result<()> {
    const SIGHUP: i32 = 1;
    within("have logind read its configuration", QUICK, |bus| {
        Manager::new(bus)?.kill_unit("systemd-logind.service", "main", SIGHUP)
    })
}

/// Switches the machine off, as the power button would.
pub fn power_off() -> Result<()> {
    within("switch this machine off", QUICK, |bus| go_down(bus, |login| login.power_off(false)))
}

/// Has the machine go down and come back, as `reboot` would.
pub fn reboot() -> Result<()> {
    within("restart this machine", QUICK, |bus| go_down(bus, |login| login.reboot(false)))
}

/// systemd's word for the whole machine, and the units that have failed.
pub fn state() -> Result<(String, Vec<String>)> {
    within("tell its state", QUICK, |bus| {
        let manager = Manager::new(bus)?;
        let failed = manager.list_units_by_patterns(&["failed"], &["*"])?;
        Ok((manager.system_state()?, failed.into_iter().map(|unit| unit.0).collect()))
    })
}
