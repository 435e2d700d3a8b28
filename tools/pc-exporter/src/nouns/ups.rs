//! `upsc UPS`: a power supply as NUT knows it (upsc(8); NUT's docs/nut-names.txt and the status words of docs/new-drivers.txt).

use anyhow::{Result, bail};

use crate::metric::{Samples, families};

families! {
    ON_BATTERY: Gauge "pc_ups_on_battery" ["ups"] "1 while the mains are gone and the battery feeds.";
    LOW_BATTERY: Gauge "pc_ups_low_battery" ["ups"] "1 when the battery is about to be empty.";
    REPLACE: Gauge "pc_ups_replace_battery" ["ups"] "1 when the battery has to be replaced.";
    OVERLOAD: Gauge "pc_ups_overloaded" ["ups"] "1 when more is connected than it can feed.";
    CHARGE: Gauge "pc_ups_battery_charge_ratio" ["ups"] "Charge of the battery, 0 to 1.";
    RUNTIME: Gauge "pc_ups_battery_runtime_seconds" ["ups"] "How long the battery would feed what is connected.";
    LOAD: Gauge "pc_ups_load_ratio" ["ups"] "Load, 1 being all that it can feed.";
}

/// The lines `key: value` of one UPS.
pub fn read(ups: &str, text: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let number = value.trim().parse::<f64>();
        match (key, number) {
            ("ups.status", _) => {
                let has = |word: &str| value.split_whitespace().any(|other| other == word);
                for (family, word) in
                    [(&ON_BATTERY, "OB"), (&LOW_BATTERY, "LB"), (&REPLACE, "RB"), (&OVERLOAD, "OVER")]
                {
                    samples.truth(family, &[ups], has(word));
                }
            }
            ("battery.charge", Ok(percent)) => samples.number(&CHARGE, &[ups], percent / 100.0),
            ("battery.runtime", Ok(seconds)) => samples.number(&RUNTIME, &[ups], seconds),
            ("ups.load", Ok(percent)) => samples.number(&LOAD, &[ups], percent / 100.0),
            _ => {}
        }
    }
    if samples.0.is_empty() {
        bail!("upsc {ups} tells nothing that is known");
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, render};

    #[test]
    fn on_battery_and_nearly_empty() {
        let text = "battery.charge: 12\nbattery.runtime: 95\ndevice.mfr: EATON\nups.load: 31\nups.status: OB LB DISCHRG\n";
        let rendered = render(&read("ups-1", text).unwrap().0, Format::Text);
        let lines: Vec<_> = rendered.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "pc_ups_on_battery{ups=\"ups-1\"} 1",
            "pc_ups_low_battery{ups=\"ups-1\"} 1",
            "pc_ups_replace_battery{ups=\"ups-1\"} 0",
            "pc_ups_overloaded{ups=\"ups-1\"} 0",
            "pc_ups_battery_charge_ratio{ups=\"ups-1\"} 0.12",
            "pc_ups_battery_runtime_seconds{ups=\"ups-1\"} 95",
            "pc_ups_load_ratio{ups=\"ups-1\"} 0.31",
        ];
        assert_eq!(lines, expected);
        assert!(read("ups-1", "Error: Data stale\n").is_err());
    }
}
