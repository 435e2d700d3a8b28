//! Who goes back when nobody confirms: a timer of systemd's own, or a process of ours where there is no systemd.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::systemd::Bus;

/// The bus, where there is a systemd to talk to.
pub fn bus(host: &Host) -> Option<Bus> {
    if !host.is_real() || !host.path("/run/systemd/system").exists() {
        return None;
    }
    Bus::open().map_err(|error| pc_cli::log::warning(format_args!("{error:#}"))).ok()
}

/// Arms the guard: after `delay` the change is rolled back, even if this process is killed meanwhile.
pub fn arm(host: &Host, bus: Option<&Bus>, delay: Duration) -> Result<()> {
    let program = std::env::current_exe().context("looking for this program")?;
    let program = program.to_string_lossy().into_owned();
    let root = host.root.to_string_lossy().into_owned();
    let rollback = ["rollback", "--expired", "--root", &root].map(str::to_string);
    if let Some(bus) = bus {
        return bus.arm(delay, &[&[program][..], &rollback].concat());
    }
    let mut guard = Command::new(program)
        .args(["guard", "--after", &format!("{}s", delay.as_secs()), "--root", &root])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the guard process")?;
    // It says so once it has left our session: from then on it outlives us.
    let mut line = String::new();
    if let Some(out) = guard.stdout.take() {
        BufReader::new(out).read_line(&mut line).context("waiting for the guard process")?;
    }
    if line.trim() != "ready" {
        bail!("the guard process did not start");
    }
    Ok(())
}

/// Disarms the timer. A guard process finds the probation closed and ends by itself.
pub fn disarm(bus: Option<&Bus>) {
    if let Some(Err(error)) = bus.map(Bus::disarm) {
        pc_cli::log::warning(format_args!("{error:#}"));
    }
}

/// The guard process: leaves the session, waits, and runs the rollback.
pub fn watch(delay: Duration) -> Result<()> {
    nix::unistd::setsid().context("leaving the session")?;
    pc_cli::emit_raw(b"ready\n")?;
    std::thread::sleep(delay);
    Ok(())
}
