//! Collector: whether somebody sets this clock (org.freedesktop.timedate1(5)). Anybody may ask.

use std::collections::HashMap;

use anyhow::{Context, Result};
use zbus::blocking::Connection;
use zbus::zvariant::OwnedValue;

use crate::metric::{Samples, families};

families! {
    SYNCHRONISED: Gauge "pc_clock_synchronised" [] "1 when the kernel's clock is in step with a time server.";
    ENABLED: Gauge "pc_clock_ntp_enabled" [] "1 when a service is enabled that sets the clock.";
}

const NAME: &str = "org.freedesktop.timedate1";

/// Asks once.
pub fn look(bus: &Connection) -> Result<Samples> {
    let reply = bus
        .call_method(
            Some(NAME),
            "/org/freedesktop/timedate1",
            Some("org.freedesktop.DBus.Properties"),
            "GetAll",
            &NAME,
        )
        .context("asking systemd-timedated")?;
    let body = reply.body();
    let properties: HashMap<String, OwnedValue> = body.deserialize().context("reading systemd-timedated")?;
    let mut samples = Samples::default();
    for (family, key) in [(&SYNCHRONISED, "NTPSynchronized"), (&ENABLED, "NTP")] {
        let value = properties.get(key).with_context(|| format!("systemd-timedated tells no {key}"))?;
        samples.truth(family, &[], bool::try_from(value).with_context(|| format!("reading {key}"))?);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use zbus::blocking::connection::Builder;

    struct Timedate;

    #[allow(clippy::unused_self, reason = "the macro's calling convention")]
    #[zbus::interface(name = "org.freedesktop.timedate1")]
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
    fn a_clock_that_waits_for_its_server() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let builder = Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p();
            builder.serve_at("/org/freedesktop/timedate1", Timedate).unwrap().build().unwrap()
        });
        let bus = Builder::unix_stream(ours).p2p().build().unwrap();
        let _server = server.join().unwrap();
        let samples = look(&bus).unwrap().0;
        let seen: Vec<_> = samples.iter().map(|sample| (sample.family.name, sample.value > 0.5)).collect();
        assert_eq!(seen, [("pc_clock_synchronised", false), ("pc_clock_ntp_enabled", true)]);
    }
}
