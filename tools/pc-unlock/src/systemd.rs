//! systemd over D-Bus (org.freedesktop.systemd1(5)) and `sd_notify(3)`.

use std::time::Duration;

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, Proxy};
use zbus::zvariant::OwnedObjectPath;

/// The system bus, with a limit for every call.
pub fn bus() -> Result<Connection> {
    let connect = || Builder::system()?.method_timeout(Duration::from_secs(30)).build();
    pc_run::timed(connect).context("connecting to the system bus")
}

/// Queues a start job and returns at once: nothing here may wait for a job of the boot.
pub fn start_unit(bus: &Connection, unit: &str) -> Result<()> {
    let manager = Proxy::new(
        bus,
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
    )
    .context("addressing systemd")?;
    let _job: OwnedObjectPath = pc_run::timed(|| manager.call("StartUnit", &(unit, "replace")))
        .with_context(|| format!("starting {unit}"))?;
    Ok(())
}

/// What `systemctl status` shows. Outside of a unit this does nothing.
pub fn status(text: &str) {
    // A status that does not arrive changes nothing; the journal has the reasons too.
    let _ = sd_notify::notify(false, &[NotifyState::Status(text)]);
}
