//! The running machine's systemd, over D-Bus (org.freedesktop.systemd1(5)). Below a `--root`, and where the
//! machine was booted without systemd, nothing is asked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use zbus::blocking::{Connection, Proxy, connection};
use zbus::zvariant::OwnedObjectPath;

use crate::paths::Paths;

const BUS: &str = "org.freedesktop.systemd1";
const ANSWER: Duration = Duration::from_secs(30);

/// The manager of the running machine.
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// `None` below a `--root`, or without systemd (`sd_booted(3)`).
    pub fn of(paths: &Paths) -> Result<Option<Systemd>> {
        if !paths.is_machine() || !std::path::Path::new("/run/systemd/system").is_dir() {
            return Ok(None);
        }
        let connect = || connection::Builder::system()?.method_timeout(ANSWER).build();
        let connection = pc_run::timed(connect).context("connecting to systemd")?;
        Ok(Some(Systemd { connection }))
    }

    fn manager(&self) -> Result<Proxy<'_>> {
        Proxy::new(&self.connection, BUS, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
            .context("speaking to systemd")
    }

    fn job(&self, method: &'static str, unit: &str) -> Result<()> {
        let manager = self.manager()?;
        let job: zbus::Result<OwnedObjectPath> = pc_run::timed(|| manager.call(method, &(unit, "replace")));
        job.map(drop).with_context(|| format!("asking systemd for {method} of {unit}"))
    }

    /// Reads unit files again.
    pub fn reload(&self) -> Result<()> {
        let manager = self.manager()?;
        pc_run::timed(|| manager.call::<_, _, ()>("Reload", &())).context("asking systemd to reload")
    }

    /// Starts a unit and waits until it is active.
    pub fn start(&self, unit: &str, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let mut asked: Option<Instant> = None;
        loop {
            match self.property::<String>(unit, "ActiveState")?.as_str() {
                "active" => return Ok(()),
                // A socket is refused while the service of its last life still runs: ask again.
                "inactive" if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(1)) => {
                    self.job("StartUnit", unit)?;
                    asked = Some(Instant::now());
                }
                "failed" if asked.is_none() => {
                    self.job("StartUnit", unit)?;
                    asked = Some(Instant::now());
                }
                "failed" => bail!("starting {unit}: failed\n  `systemctl status {unit}` says why"),
                _ if Instant::now() > until => {
                    bail!("starting {unit}: not active after {} s", patience.as_secs())
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Queues the stop of a unit.
    pub fn stop(&self, unit: &str) -> Result<()> {
        self.job("StopUnit", unit)
    }

    /// Restarts a unit if it runs.
    pub fn try_restart(&self, unit: &str) -> Result<()> {
        self.job("TryRestartUnit", unit)
    }

    /// Reloads a unit if it runs.
    pub fn try_reload(&self, unit: &str) -> Result<()> {
        self.job("ReloadOrTryRestartUnit", unit)
    }

    /// Whether a unit file or a running unit of that name exists.
    pub fn knows(&self, unit: &str) -> bool {
        self.property::<String>(unit, "LoadState").is_ok_and(|state| state == "loaded")
    }

    /// When a running unit became active, microseconds of the wall clock; `None` when it does not run.
    pub fn active_since(&self, unit: &str) -> Result<Option<u64>> {
        if self.property::<String>(unit, "ActiveState")? != "active" {
            return Ok(None);
        }
        self.property::<u64>(unit, "ActiveEnterTimestamp").map(Some)
    }

    fn property<T>(&self, unit: &str, name: &'static str) -> Result<T>
    where
        T: TryFrom<zbus::zvariant::OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        let doing = || format!("asking systemd about {unit}");
        let manager = self.manager()?;
        let ask = || {
            let path: OwnedObjectPath = manager.call("LoadUnit", &(unit))?;
            Proxy::new(&self.connection, BUS, path, "org.freedesktop.systemd1.Unit")?.get_property(name)
        };
        pc_run::timed(ask).with_context(doing)
    }
}
