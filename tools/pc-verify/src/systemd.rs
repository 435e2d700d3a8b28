//! All calls over D-Bus: systemd's units (org.freedesktop.systemd1(5)) and the clock (org.freedesktop.timedate1(5)).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::machine::{Clock, Unit};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const TIMEDATE: &str = "org.freedesktop.timedate1";
/// Units of ours.
const PATTERNS: &[&str] =
    &["pc-*.service", "pc-*.timer", "pc-*.socket", "pc-*.target", "personal-cluster.target"];

/// One unit as `ListUnitsByPatterns` tells it: name, description, load, active and sub state, followed unit, path, job.
type Loaded = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// The system's bus; each call on it ends after `patience`.
pub fn system_bus(patience: Duration) -> Result<Connection> {
    let builder = Builder::system().context("finding the system's D-Bus")?;
    builder.method_timeout(patience).build().context("connecting to the system's D-Bus")
}

/// Units of ours: all files there are, and all that systemd has loaded.
pub fn units(bus: &Connection) -> Result<Vec<Unit>> {
    let none: &[&str] = &[];
    let ask = |verb: &str| {
        let path = "/org/freedesktop/systemd1";
        let interface = Some("org.freedesktop.systemd1.Manager");
        bus.call_method(Some(SYSTEMD), path, interface, verb, &(none, PATTERNS))
            .context("asking systemd for its units")
    };
    let files: Vec<(String, String)> =
        ask("ListUnitFilesByPatterns")?.body().deserialize().context("reading systemd's unit files")?;
    let loaded: Vec<Loaded> =
        ask("ListUnitsByPatterns")?.body().deserialize().context("reading systemd's units")?;
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    for (path, file) in files {
        let name = path.rsplit('/').next().unwrap_or_default().to_string();
        // A template is no unit.
        if !name.contains("@.") {
            units.insert(name.clone(), Unit { name, file, active: String::new() });
        }
    }
    for (name, _, load, active, ..) in loaded {
        // Named somewhere and not installed.
        if load != "not-found" {
            units.entry(name.clone()).or_insert(Unit { name, ..Unit::default() }).active = active;
        }
    }
    Ok(units.into_values().collect())
}

/// Who sets the clock.
pub fn clock(bus: &Connection) -> Result<Clock> {
    let interface = Some("org.freedesktop.DBus.Properties");
    let reply = bus
        .call_method(Some(TIMEDATE), "/org/freedesktop/timedate1", interface, "GetAll", &TIMEDATE)
        .context("asking systemd-timedated")?;
    let body = reply.body();
    let properties: HashMap<String, OwnedValue> = body.deserialize().context("reading systemd-timedated")?;
    let truth = |key: &str| -> Result<bool> {
        let value = properties.get(key).with_context(|| format!("systemd-timedated tells no {key}"))?;
        bool::try_from(value).with_context(|| format!("reading {key}"))
    };
    Ok(Clock { synchronised: truth("NTPSynchronized")?, enabled: truth("NTP")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// Plays systemd on the other end of a socket.
    struct Manager;

    #[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
    #[allow(clippy::unused_self, clippy::needless_pass_by_value, reason = "the macro's calling convention")]
    impl Manager {
        fn list_unit_files_by_patterns(
            &self,
            states: Vec<String>,
            patterns: Vec<String>,
        ) -> Vec<(String, String)> {
            assert!(states.is_empty() && patterns.contains(&"pc-*.timer".to_string()));
            let file = |path: &str, state: &str| (path.to_string(), state.to_string());
            vec![
                file("/usr/lib/systemd/system/pc-borg.timer", "disabled"),
                file("/etc/systemd/system/pc-gluster.timer", "masked"),
                file("/usr/lib/systemd/system/pc-vm@.service", "disabled"),
            ]
        }

        fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Loaded> {
            assert!(states.is_empty() && patterns.contains(&"personal-cluster.target".to_string()));
            let root = || OwnedObjectPath::try_from("/").unwrap();
            let unit = |name: &str, load: &str, active: &str| {
                let text = |text: &str| text.to_string();
                let (load, active) = (text(load), text(active));
                (text(name), text(""), load, active, text(""), text(""), root(), 0, text(""), root())
            };
            vec![
                unit("pc-borg.timer", "loaded", "active"),
                unit("pc-vm@mail.service", "loaded", "failed"),
                unit("pc-ha.service", "not-found", "inactive"),
            ]
        }
    }

    struct Timedate;

    #[zbus::interface(name = "org.freedesktop.timedate1")]
    #[allow(clippy::unused_self, reason = "the macro's calling convention")]
    impl Timedate {
        #[zbus(property, name = "NTPSynchronized")]
        fn synchronized(&self) -> bool {
            false
        }
        #[zbus(property, name = "NTP")]
        fn ntp(&self) -> bool {
            true
        }
    }

    #[test]
    fn files_and_loaded_units_together_and_the_clock() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let builder = Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p();
            let builder = builder.serve_at("/org/freedesktop/systemd1", Manager).unwrap();
            builder.serve_at("/org/freedesktop/timedate1", Timedate).unwrap().build().unwrap()
        });
        let bus = Builder::unix_stream(ours).p2p().build().unwrap();
        let _server = server.join().unwrap();
        let units = units(&bus).unwrap();
        let seen: Vec<_> =
            units.iter().map(|unit| (unit.name.as_str(), unit.file.as_str(), unit.active.as_str())).collect();
        let expected = [
            ("pc-borg.timer", "disabled", "active"),
            ("pc-gluster.timer", "masked", ""),
            ("pc-vm@mail.service", "", "failed"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(clock(&bus).unwrap(), Clock { synchronised: false, enabled: true });
    }

    #[test]
    fn a_bus_that_answers_nothing_is_an_error_after_its_time() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p().build().unwrap()
        });
        let bus =
            Builder::unix_stream(ours).p2p().method_timeout(Duration::from_millis(100)).build().unwrap();
        // It is connected, and serves nothing of the kind.
        let _server = server.join().unwrap();
        assert!(units(&bus).is_err() && clock(&bus).is_err());
    }
}
