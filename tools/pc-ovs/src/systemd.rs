//! systemd and its relatives over D-Bus: the timer that goes back by itself, the boot unit, reloads.

use std::time::Duration;

use anyhow::{Context, Result};
use zbus::blocking::{Connection, Proxy, connection::Builder};
use zbus::zvariant::{DynamicDeserialize, DynamicType, OwnedObjectPath, Value};

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

/// One call, and the wait for its answer.
fn call<B, R>(proxy: &Proxy<'_>, method: &str, body: &B) -> zbus::Result<R>
where
    B: serde::Serialize + DynamicType,
    R: for<'d> DynamicDeserialize<'d>,
{
    pc_run::timed(|| proxy.call(method, body))
}

impl Bus {
    /// Connects.
    pub fn open() -> Result<Bus> {
        let connect = || Builder::system()?.method_timeout(CALL).build();
        let connection = pc_run::timed(connect);
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
        let body = (TIMER, "replace", timer, auxiliary);
        let _: OwnedObjectPath = call(&self.systemd()?, "StartTransientUnit", &body)
            .with_context(|| format!("starting {TIMER}"))?;
        Ok(())
    }

    /// Stops that timer; one that has gone is no error.
    pub fn disarm(&self) -> Result<()> {
        let stopped: zbus::Result<OwnedObjectPath> = call(&self.systemd()?, "StopUnit", &(TIMER, "replace"));
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
            call(&systemd, "GetUnitFileState", &(UNIT,)).with_context(|| format!("looking for {UNIT}"))?;
        if state.starts_with("enabled") {
            return Ok(false);
        }
        let (_, _): (bool, Vec<(String, String, String)>) =
            call(&systemd, "EnableUnitFiles", &(vec![UNIT], false, false))
                .with_context(|| format!("enabling {UNIT}"))?;
        let (): () = call(&systemd, "Reload", &()).context("reloading systemd")?;
        Ok(true)
    }

    /// Takes that back.
    pub fn disable(&self) -> Result<()> {
        let systemd = self.systemd()?;
        let _: Vec<(String, String, String)> = call(&systemd, "DisableUnitFiles", &(vec![UNIT], false))
            .with_context(|| format!("disabling {UNIT}"))?;
        let (): () = call(&systemd, "Reload", &()).context("reloading systemd")?;
        Ok(())
    }

    /// Makes resolved read its files again, whichever way its version can.
    pub fn reload_resolved(&self) -> Result<()> {
        let body = ("systemd-resolved.service", "replace");
        let _: OwnedObjectPath =
            call(&self.systemd()?, "ReloadOrTryRestartUnit", &body).context("reloading systemd-resolved")?;
        Ok(())
    }

    /// Makes networkd read its files again; it then manages, or leaves alone, what they say.
    pub fn reload_networkd(&self) -> Result<()> {
        let path = "/org/freedesktop/network1";
        let proxy = Proxy::new(&self.0, "org.freedesktop.network1", path, "org.freedesktop.network1.Manager");
        let (): () =
            proxy.and_then(|proxy| call(&proxy, "Reload", &())).context("reloading systemd-networkd")?;
        Ok(())
    }

    /// Makes `NetworkManager` read its configuration again (flag 0: all of it).
    pub fn reload_networkmanager(&self) -> Result<()> {
        let path = "/org/freedesktop/NetworkManager";
        let proxy =
            Proxy::new(&self.0, "org.freedesktop.NetworkManager", path, "org.freedesktop.NetworkManager");
        let (): () =
            proxy.and_then(|proxy| call(&proxy, "Reload", &(0_u32,))).context("reloading NetworkManager")?;
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
    let mut service = vec![
        ("Description", Value::from("Go back to the former network")),
        ("Type", Value::from("oneshot")),
        ("ExecStart", Value::from(vec![(program, command.to_vec(), false)])),
        // A failed one must not be in the way of the next.
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    // What this process finds, the way back must find too: where programs are not in systemd's own PATH (NixOS) this
    // one was started with a PATH that has them.
    if let Some(path) = std::env::var("PATH").ok().filter(|path| !path.is_empty()) {
        service.push(("Environment", Value::from(vec![format!("PATH={path}")])));
    }
    Ok((timer, service))
}
