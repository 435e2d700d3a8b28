//! systemd and its relatives over D-Bus: the timer that goes back by itself, the boot unit, reloads.

use std::time::Duration;

use anyhow::{Context, Result};
use zbus::blocking::{Connection, Proxy, connection::Builder};
use zbus::zvariant::Value;

/// The boot unit.
pub const UNIT: &str = "pc-ovs.service";
/// The transient timer that goes back by itself, and what it starts.
const TIMER: &str = "pc-ovs-rollback.timer";
const ROLLBACK: &str = "pc-ovs-rollback.service";

const CALL: Duration = Duration::from_secs(60);

/// A connection to the system bus.
#[derive(Debug, Clone)]
pub struct Bus(Connection);

type Properties<'a> = Vec<(&'a str, Value<'a>)>;

impl Bus {
    /// Connects.
    pub fn open() -> Result<Bus> {
        let connection = Builder::system().and_then(|builder| builder.method_timeout(CALL).build());
        Ok(Bus(connection.context("connecting to the system bus")?))
    }

    /// Talks over a connection that is there: how tests play systemd.
    #[cfg(test)]
    pub fn over(connection: Connection) -> Bus {
        Bus(connection)
    }

    fn systemd(&self) -> Result<Proxy<'_>> {
        let path = "/org/freedesktop/systemd1";
        Proxy::new(&self.0, "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Manager")
            .context("talking to systemd")
    }

    /// Starts a timer of systemd's own that runs `command` after `delay`, whatever becomes of us.
    pub fn arm(&self, delay: Duration, command: &[String]) -> Result<()> {
        let (timer, service) = transient(delay, command)?;
        let auxiliary = vec![(ROLLBACK, service)];
        let (): () = self
            .systemd()?
            .call::<_, _, zbus::zvariant::OwnedObjectPath>(
                "StartTransientUnit",
                &(TIMER, "replace", timer, auxiliary),
            )
            .map(drop)
            .with_context(|| format!("starting {TIMER}"))?;
        Ok(())
    }

    /// Stops that timer; one that has gone is no error.
    pub fn disarm(&self) -> Result<()> {
        let stopped: zbus::Result<zbus::zvariant::OwnedObjectPath> =
            self.systemd()?.call("StopUnit", &(TIMER, "replace"));
        match stopped {
            Ok(_) => Ok(()),
            Err(zbus::Error::MethodError(name, _, _)) if name.ends_with(".NoSuchUnit") => Ok(()),
            Err(error) => Err(error).with_context(|| format!("stopping {TIMER}")),
        }
    }

    /// Enables the boot unit; true when it was not enabled before.
    pub fn enable(&self) -> Result<bool> {
        let systemd = self.systemd()?;
        let state: String =
            systemd.call("GetUnitFileState", &(UNIT,)).with_context(|| format!("looking for {UNIT}"))?;
        if state.starts_with("enabled") {
            return Ok(false);
        }
        let (_, _): (bool, Vec<(String, String, String)>) = systemd
            .call("EnableUnitFiles", &(vec![UNIT], false, false))
            .with_context(|| format!("enabling {UNIT}"))?;
        let (): () = systemd.call("Reload", &()).context("reloading systemd")?;
        Ok(true)
    }

    /// Takes that back.
    pub fn disable(&self) -> Result<()> {
        let systemd = self.systemd()?;
        let _: Vec<(String, String, String)> = systemd
            .call("DisableUnitFiles", &(vec![UNIT], false))
            .with_context(|| format!("disabling {UNIT}"))?;
        let (): () = systemd.call("Reload", &()).context("reloading systemd")?;
        Ok(())
    }

    /// Makes resolved read its files again, whichever way its version can.
    pub fn reload_resolved(&self) -> Result<()> {
        let _: zbus::zvariant::OwnedObjectPath = self
            .systemd()?
            .call("ReloadOrTryRestartUnit", &("systemd-resolved.service", "replace"))
            .context("reloading systemd-resolved")?;
        Ok(())
    }

    /// Makes networkd read its files again; it then manages, or leaves alone, what they say.
    pub fn reload_networkd(&self) -> Result<()> {
        let path = "/org/freedesktop/network1";
        let proxy = Proxy::new(&self.0, "org.freedesktop.network1", path, "org.freedesktop.network1.Manager");
        let (): () =
            proxy.and_then(|proxy| proxy.call("Reload", &())).context("reloading systemd-networkd")?;
        Ok(())
    }

    /// Makes `NetworkManager` read its configuration again (flag 0: all of it).
    pub fn reload_networkmanager(&self) -> Result<()> {
        let path = "/org/freedesktop/NetworkManager";
        let proxy =
            Proxy::new(&self.0, "org.freedesktop.NetworkManager", path, "org.freedesktop.NetworkManager");
        let (): () =
            proxy.and_then(|proxy| proxy.call("Reload", &(0_u32,))).context("reloading NetworkManager")?;
        Ok(())
    }
}

/// Properties of the timer and of its service, as `systemd-run --on-active` gives them (systemd.timer(5)).
fn transient(delay: Duration, command: &[String]) -> Result<(Properties<'static>, Properties<'static>)> {
    let program = command.first().context("nothing to run")?.clone();
    let microseconds = u64::try_from(delay.as_micros()).context("a delay longer than time itself")?;
    let timer = vec![
        ("Description", Value::from("Go back to the former network unless somebody confirms the new one")),
        ("TimersMonotonic", Value::from(vec![("OnActiveSec", microseconds)])),
        ("AccuracyUSec", Value::from(100_000_u64)),
        ("RemainAfterElapse", Value::from(false)),
    ];
    let service = vec![
        ("Description", Value::from("Go back to the former network")),
        ("Type", Value::from("oneshot")),
        ("ExecStart", Value::from(vec![(program, command.to_vec(), false)])),
        // A failed one must not be in the way of the next.
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    Ok((timer, service))
}
