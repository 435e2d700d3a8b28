//! systemd over D-Bus: the brick's mount is a unit, started in the machine's mount namespace and not in
//! that of a sandboxed service.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use zbus::blocking::{Connection, Proxy, connection};
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

const BUS: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// How a mount unit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It is mounted.
    Active,
    /// There is no such unit: the generator does not know this brick (yet).
    Unknown,
}

/// Whether systemd is the service manager (`sd_booted(3)`).
pub fn is_running() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

/// Starts a mount unit and waits until it is mounted. Reloads the manager first, if it does not know the unit.
pub fn start_mount(unit: &str, deadline: Duration) -> Result<Started> {
    start_on(&pc_run::timed(connect)?, unit, deadline)
}

fn start_on(connection: &Connection, unit: &str, deadline: Duration) -> Result<Started> {
    let until = Instant::now() + deadline;
    let manager =
        Proxy::new(connection, BUS, "/org/freedesktop/systemd1", MANAGER).context("asking systemd")?;
    let state = |name| property::<String>(&manager, unit, name);
    if state("LoadState")? != "loaded" {
        pc_run::timed(|| manager.call_method("Reload", &())).context("reloading systemd")?;
        if state("LoadState")? != "loaded" {
            return Ok(Started::Unknown);
        }
    }
    // An earlier failure must not be taken for the result of this start. It is an error to reset what has not failed.
    let _ = pc_run::timed(|| manager.call_method("ResetFailedUnit", &(unit)));
    pc_run::timed(|| manager.call_method("StartUnit", &(unit, "replace")))
        .with_context(|| format!("starting {unit}"))?;
    loop {
        let (job, _) = property::<(u32, OwnedObjectPath)>(&manager, unit, "Job")?;
        match state("ActiveState")?.as_str() {
            "active" => return Ok(Started::Active),
            _ if job == 0 => bail!("starting {unit}: it failed\n  journalctl -b -u '{unit}'"),
            _ if Instant::now() >= until => {
                bail!("starting {unit}: not mounted within {} s", deadline.as_secs())
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn connect() -> Result<Connection> {
    let connection = connection::Builder::system().and_then(|builder| {
        // Reload runs every generator: slow on slow machines.
        builder.method_timeout(Duration::from_secs(180)).build()
    });
    connection.context("connecting to the system bus")
}

/// Read anew each time: a cached value would never change here.
fn property<T>(manager: &Proxy<'_>, unit: &str, name: &str) -> Result<T>
where
    T: TryFrom<OwnedValue, Error = zbus::zvariant::Error>,
{
    let asking = || format!("asking systemd about {unit}");
    let ask = || {
        let path: OwnedObjectPath = manager.call("LoadUnit", &(unit))?;
        let properties = Some("org.freedesktop.DBus.Properties");
        manager.connection().call_method(Some(BUS), path.as_ref(), properties, "Get", &(UNIT, name))
    };
    let message = pc_run::timed(ask).with_context(asking)?;
    let value: OwnedValue = message.body().deserialize().with_context(asking)?;
    T::try_from(value).with_context(asking)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex};
    use zbus::zvariant::ObjectPath;

    /// What a manager was asked to do, and how its unit behaves.
    #[derive(Clone, Default)]
    struct Fake {
        calls: Arc<Mutex<Vec<String>>>,
        /// How the unit ends.
        end: &'static str,
        /// It is known only after a reload.
        late: bool,
        /// It is never known.
        unknown: bool,
    }

    impl Fake {
        fn called(&self, name: &str) -> usize {
            self.calls.lock().unwrap().iter().filter(|call| call.as_str() == name).count()
        }
        fn call(&self, name: &str) {
            self.calls.lock().unwrap().push(name.into());
        }
    }

    #[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
    impl Fake {
        fn load_unit(&self, name: &str) -> OwnedObjectPath {
            self.call("LoadUnit");
            assert_eq!(name, "mnt-a.mount");
            ObjectPath::from_static_str_unchecked("/unit").into()
        }
        fn reload(&self) {
            self.call("Reload");
        }
        fn reset_failed_unit(&self, name: &str) {
            assert_eq!(name, "mnt-a.mount");
            self.call("ResetFailedUnit");
        }
        fn start_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
            assert_eq!((name, mode), ("mnt-a.mount", "replace"));
            self.call("StartUnit");
            ObjectPath::from_static_str_unchecked("/job").into()
        }
    }

    struct Unit(Fake);

    #[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
    impl Unit {
        #[zbus(property)]
        fn load_state(&self) -> &str {
            let known = !self.0.unknown && (!self.0.late || self.0.called("Reload") > 0);
            if known { "loaded" } else { "not-found" }
        }
        /// The job is there the first three times that somebody looks.
        #[zbus(property)]
        fn job(&self) -> (u32, OwnedObjectPath) {
            self.0.call("Job");
            let busy = self.0.called("Job") < 3;
            (u32::from(busy), ObjectPath::from_static_str_unchecked("/job").into())
        }
        #[zbus(property)]
        fn active_state(&self) -> &str {
            if self.0.called("Job") < 3 { "activating" } else { self.0.end }
        }
    }

    fn start(fake: &Fake) -> Result<Started> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (manager, unit) = (fake.clone(), Unit(fake.clone()));
        let server = std::thread::spawn(move || {
            connection::Builder::unix_stream(theirs)
                .server(zbus::Guid::generate())
                .unwrap()
                .p2p()
                .serve_at("/org/freedesktop/systemd1", manager)
                .unwrap()
                .serve_at("/unit", unit)
                .unwrap()
                .build()
                .unwrap()
        });
        let client = connection::Builder::unix_stream(ours).p2p().build().unwrap();
        let _server = server.join().unwrap();
        start_on(&client, "mnt-a.mount", Duration::from_secs(20))
    }

    #[test]
    fn a_known_unit_is_started_and_awaited() {
        let fake = Fake { end: "active", ..Fake::default() };
        assert_eq!(start(&fake).unwrap(), Started::Active);
        assert_eq!(
            (fake.called("Reload"), fake.called("StartUnit"), fake.called("ResetFailedUnit")),
            (0, 1, 1)
        );
    }

    #[test]
    fn an_unknown_unit_is_looked_for_once_more() {
        let fake = Fake { end: "active", late: true, ..Fake::default() };
        assert_eq!(start(&fake).unwrap(), Started::Active);
        assert_eq!(fake.called("Reload"), 1);
        let fake = Fake { unknown: true, ..Fake::default() };
        assert_eq!(start(&fake).unwrap(), Started::Unknown);
        assert_eq!(fake.called("StartUnit"), 0);
    }

    #[test]
    fn a_failed_mount_names_its_log() {
        for end in ["failed", "inactive"] {
            let error = start(&Fake { end, ..Fake::default() }).unwrap_err().to_string();
            assert!(error.contains("journalctl -b -u 'mnt-a.mount'"), "{error}");
        }
    }
}
