//! Collector: systemd's units of ours and of what we stand on, and when our timers ran last, over D-Bus
//! (org.freedesktop.systemd1(5)). Anybody may ask.

use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::log;
use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::metric::{Samples, families};

families! {
    ACTIVE: Gauge "pc_unit_active" ["unit"] "1 when the unit is active; only units that systemd has loaded have a series.";
    FAILED: Gauge "pc_unit_failed" ["unit"] "1 when the unit has failed and is not tried again by itself.";
    ACTIVATING: Gauge "pc_unit_activating" ["unit"] "1 while the unit is being started, or waits for its next attempt.";
    LAST_TRIGGER: Gauge "pc_timer_last_trigger_timestamp_seconds" ["timer"] "When the timer started its service last; no series before the first time.";
}

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";

/// Units that a personal cluster is made of.
const PATTERNS: &[&str] = &[
    "pc-*",
    "personal-cluster.target",
    "glusterd.service",
    "libvirtd.service",
    "ovs-vswitchd.service",
    "ovsdb-server.service",
    "corosync.service",
    "pacemaker.service",
    "sbd.service",
    "srv-bricks-*.mount",
    "mnt-*.mount",
];

/// One unit as `ListUnitsByPatterns` tells it: name, description, load, active and sub state, followed unit, path, job.
type Unit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// The system's bus; a call on it ends after five seconds.
pub fn system_bus() -> Result<Connection> {
    let builder = Builder::system().context("finding the system's D-Bus")?;
    builder.method_timeout(Duration::from_secs(5)).build().context("connecting to the system's D-Bus")
}

/// Asks once.
pub fn look(bus: &Connection) -> Result<Samples> {
    let none: &[&str] = &[];
    let reply = bus
        .call_method(
            Some(SERVICE),
            MANAGER,
            Some("org.freedesktop.systemd1.Manager"),
            "ListUnitsByPatterns",
            &(none, PATTERNS),
        )
        .context("asking systemd for its units")?;
    let mut units: Vec<Unit> = reply.body().deserialize().context("reading systemd's units")?;
    units.sort_by(|a, b| a.0.cmp(&b.0));
    let mut samples = Samples::default();
    for (name, _, load, active, _, _, path, ..) in &units {
        // Named somewhere and not installed: neither ours to watch nor to warn of.
        if load == "not-found" {
            continue;
        }
        samples.truth(&ACTIVE, &[name], matches!(active.as_str(), "active" | "reloading"));
        samples.truth(&FAILED, &[name], active == "failed");
        samples.truth(&ACTIVATING, &[name], active == "activating");
        if name.rsplit('.').next() == Some("timer") {
            let last = last_trigger(bus, path).with_context(|| format!("asking systemd for {name}"))?;
            if last > 0 {
                let seconds = Duration::from_micros(last).as_secs_f64();
                samples.number(&LAST_TRIGGER, &[name], seconds);
            }
        }
    }
    Ok(samples)
}

/// Whether somebody has stopped a unit. One that has failed, or is tried again, was not; nor do we know while systemd is silent.
pub fn is_stopped(unit: &str) -> bool {
    let state = system_bus().and_then(|bus| active_state(&bus, unit));
    match state {
        Ok(state) => state == "inactive",
        Err(error) => {
            log::debug(format_args!("{error:#}"));
            false
        }
    }
}

fn active_state(bus: &Connection, unit: &str) -> Result<String> {
    let question = || format!("asking systemd for {unit}");
    let interface = Some("org.freedesktop.systemd1.Manager");
    let reply = bus
        .call_method(Some(SERVICE), MANAGER, interface, "ListUnitsByNames", &[unit].as_slice())
        .with_context(question)?;
    let units: Vec<Unit> = reply.body().deserialize().with_context(question)?;
    Ok(units.into_iter().next().map(|unit| unit.3).unwrap_or_default())
}

/// In microseconds since 1970; 0 for never.
fn last_trigger(bus: &Connection, path: &OwnedObjectPath) -> Result<u64> {
    let reply = bus.call_method(
        Some(SERVICE),
        path,
        Some("org.freedesktop.DBus.Properties"),
        "Get",
        &("org.freedesktop.systemd1.Timer", "LastTriggerUSec"),
    )?;
    let value: OwnedValue = reply.body().deserialize()?;
    Ok(u64::try_from(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, render};
    use std::os::unix::net::UnixStream;

    fn unit(name: &str, load: &str, active: &str, at: &str) -> Unit {
        let text = |text: &str| text.to_string();
        let path = OwnedObjectPath::try_from(format!("{MANAGER}/unit/{at}")).unwrap();
        let none = OwnedObjectPath::try_from("/").unwrap();
        (text(name), text(""), text(load), text(active), text(""), text(""), path, 0, text(""), none)
    }

    /// Plays systemd on the other end of a socket.
    struct Manager;

    #[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
    impl Manager {
        #[allow(
            clippy::unused_self,
            clippy::needless_pass_by_value,
            reason = "the macro's calling convention"
        )]
        fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Unit> {
            assert!(states.is_empty() && patterns.contains(&"pc-*".to_string()));
            vec![
                unit("pc-gluster.timer", "loaded", "active", "timer"),
                unit("pc-brick.service", "loaded", "failed", "a"),
                unit("pc-unlock.service", "loaded", "activating", "b"),
                unit("sbd.service", "not-found", "inactive", "c"),
                unit("pc-trust-renew.timer", "loaded", "active", "never"),
            ]
        }

        #[allow(
            clippy::unused_self,
            clippy::needless_pass_by_value,
            reason = "the macro's calling convention"
        )]
        fn list_units_by_names(&self, names: Vec<String>) -> Vec<Unit> {
            let state = |name: &String| if name == "pacemaker.service" { "inactive" } else { "failed" };
            names.iter().map(|name| unit(name, "loaded", state(name), "a")).collect()
        }
    }

    struct Timer(u64);

    #[zbus::interface(name = "org.freedesktop.systemd1.Timer")]
    impl Timer {
        #[zbus(property, name = "LastTriggerUSec")]
        fn last_trigger(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn units_and_timers() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let builder = Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p();
            let builder = builder.serve_at(MANAGER, Manager).unwrap();
            let builder =
                builder.serve_at(format!("{MANAGER}/unit/timer"), Timer(1_700_000_000_500_000)).unwrap();
            builder.serve_at(format!("{MANAGER}/unit/never"), Timer(0)).unwrap().build().unwrap()
        });
        let bus = Builder::unix_stream(ours).p2p().build().unwrap();
        let _server = server.join().unwrap();
        let rendered = render(&look(&bus).unwrap().0, Format::Text);
        let lines: Vec<_> = rendered.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "pc_unit_active{unit=\"pc-brick.service\"} 0",
            "pc_unit_active{unit=\"pc-gluster.timer\"} 1",
            "pc_unit_active{unit=\"pc-trust-renew.timer\"} 1",
            "pc_unit_active{unit=\"pc-unlock.service\"} 0",
            "pc_unit_failed{unit=\"pc-brick.service\"} 1",
            "pc_unit_failed{unit=\"pc-gluster.timer\"} 0",
            "pc_unit_failed{unit=\"pc-trust-renew.timer\"} 0",
            "pc_unit_failed{unit=\"pc-unlock.service\"} 0",
            "pc_unit_activating{unit=\"pc-brick.service\"} 0",
            "pc_unit_activating{unit=\"pc-gluster.timer\"} 0",
            "pc_unit_activating{unit=\"pc-trust-renew.timer\"} 0",
            "pc_unit_activating{unit=\"pc-unlock.service\"} 1",
            "pc_timer_last_trigger_timestamp_seconds{timer=\"pc-gluster.timer\"} 1700000000.5",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_unit_that_somebody_has_stopped() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let builder = Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p();
            builder.serve_at(MANAGER, Manager).unwrap().build().unwrap()
        });
        let bus = Builder::unix_stream(ours).p2p().build().unwrap();
        let _server = server.join().unwrap();
        assert_eq!(active_state(&bus, "pacemaker.service").unwrap(), "inactive");
        assert_eq!(active_state(&bus, "pc-brick.service").unwrap(), "failed");
    }

    #[test]
    fn a_bus_that_answers_nothing_is_an_error_after_its_time() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p().build().unwrap()
        });
        let builder = Builder::unix_stream(ours).p2p().method_timeout(Duration::from_millis(100));
        let bus = builder.build().unwrap();
        // It is connected, and serves nothing of the kind.
        let _server = server.join().unwrap();
        assert!(look(&bus).is_err());
    }
}
