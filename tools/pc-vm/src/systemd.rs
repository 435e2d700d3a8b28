//! Jobs of libvirt's units.

use std::time::Duration;

use anyhow::Result;
pub use systemd_jobs::{is_active, is_stopping, starting};

/// libvirtd stops when its last client's call has ended.
const DEADLINE: Duration = Duration::from_secs(180);

/// Reads unit files again.
pub fn reload() -> Result<()> {
    systemd_jobs::reload(DEADLINE)
}

/// Starts a unit and waits for the end of the job.
pub fn start(unit: &str) -> Result<()> {
    systemd_jobs::start(unit, DEADLINE)
}

/// Stops a unit and waits for the end of the job.
pub fn stop(unit: &str) -> Result<()> {
    systemd_jobs::stop(unit, DEADLINE)
}
