//! `smartctl --json --all` of one disk (smartctl(8); keys by smartmontools' ataprint.cpp, nvmeprint.cpp and scsiprint.cpp).

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_smart_healthy" ["disk"] "1 when the disk itself does not expect to fail.";
    TEMPERATURE: Gauge "pc_smart_temperature_celsius" ["disk"] "Temperature of the disk.";
    POWER_ON: Gauge "pc_smart_power_on_seconds" ["disk"] "How long the disk has been powered.";
    WEAR: Gauge "pc_smart_wear_ratio" ["disk"] "Used part of an SSD's rated life; may exceed 1.";
    SPARE: Gauge "pc_smart_available_spare_ratio" ["disk"] "What an NVMe disk has left of its spare blocks.";
    WARNING: Gauge "pc_smart_critical_warning" ["disk"] "An NVMe disk's critical warnings, as a bit mask; 0 when there are none.";
    MEDIA_ERRORS: Gauge "pc_smart_media_errors" ["disk"] "Errors of an NVMe disk's medium so far.";
    REALLOCATED: Gauge "pc_smart_reallocated_sectors" ["disk"] "Sectors that were replaced by spare ones; of a SCSI disk, its grown defects.";
    PENDING: Gauge "pc_smart_pending_sectors" ["disk"] "Sectors that the disk could not read and waits to replace.";
    UNCORRECTABLE: Gauge "pc_smart_uncorrectable_sectors" ["disk"] "Sectors that the disk could neither read nor replace.";
    INFO: Info "pc_smart_info" ["disk", "model", "firmware"] "What the disk is.";
}

#[derive(Deserialize)]
struct Answer {
    device: Device,
    model_name: Option<String>,
    firmware_version: Option<String>,
    smart_status: Option<Passed>,
    temperature: Option<Temperature>,
    power_on_time: Option<PowerOn>,
    ata_smart_attributes: Option<Table>,
    nvme_smart_health_information_log: Option<Nvme>,
    scsi_grown_defect_list: Option<u64>,
    endurance_used: Option<Endurance>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
}

#[derive(Deserialize)]
struct Passed {
    passed: bool,
}

#[derive(Deserialize)]
struct Temperature {
    current: f64,
}

#[derive(Deserialize)]
struct PowerOn {
    hours: u64,
}

#[derive(Deserialize)]
struct Endurance {
    current_percent: f64,
}

#[derive(Deserialize)]
struct Table {
    table: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    id: u16,
    value: u16,
    raw: Raw,
}

#[derive(Deserialize)]
struct Raw {
    value: u64,
}

#[derive(Deserialize)]
struct Nvme {
    critical_warning: u64,
    available_spare: f64,
    percentage_used: f64,
    media_errors: u64,
}

/// One disk; the label is the last part of the path under which it was asked.
pub fn read(answer: Value) -> Result<Samples> {
    let answer: Answer = parsed(answer).context("smartctl could not ask the disk")?;
    let mut samples = Samples::default();
    let disk = [answer.device.name.rsplit('/').next().unwrap_or_default()];
    if let Some(status) = &answer.smart_status {
        samples.truth(&HEALTHY, &disk, status.passed);
    }
    if let Some(temperature) = &answer.temperature {
        samples.number(&TEMPERATURE, &disk, temperature.current);
    }
    if let Some(time) = &answer.power_on_time {
        samples.count(&POWER_ON, &disk, time.hours.saturating_mul(3600));
    }
    if let Some(model) = &answer.model_name {
        samples.info(&INFO, &[disk[0], model, answer.firmware_version.as_deref().unwrap_or_default()]);
    }
    if let Some(nvme) = &answer.nvme_smart_health_information_log {
        samples.number(&WEAR, &disk, nvme.percentage_used / 100.0);
        samples.number(&SPARE, &disk, nvme.available_spare / 100.0);
        samples.count(&WARNING, &disk, nvme.critical_warning);
        samples.count(&MEDIA_ERRORS, &disk, nvme.media_errors);
    }
    if let Some(defects) = answer.scsi_grown_defect_list {
        samples.count(&REALLOCATED, &disk, defects);
    }
    let attributes = answer.ata_smart_attributes.map(|table| table.table).unwrap_or_default();
    for attribute in &attributes {
        match attribute.id {
            5 => samples.count(&REALLOCATED, &disk, attribute.raw.value),
            197 => samples.count(&PENDING, &disk, attribute.raw.value),
            198 => samples.count(&UNCORRECTABLE, &disk, attribute.raw.value),
            _ => {}
        }
    }
    if answer.nvme_smart_health_information_log.is_none() {
        let endurance = answer.endurance_used.map(|used| used.current_percent / 100.0);
        if let Some(wear) = endurance.or_else(|| wear_of(&attributes)) {
            samples.number(&WEAR, &disk, wear);
        }
    }
    Ok(samples)
}

/// A SATA SSD's wear: attributes whose normalised value falls from 100 as life is used up (media wear-out indicator,
/// wear levelling count, SSD life left). Old smartctl has nothing better.
fn wear_of(attributes: &[Attribute]) -> Option<f64> {
    let attribute = [231, 233, 177].into_iter().find_map(|id| attributes.iter().find(|a| a.id == id))?;
    (attribute.value <= 100).then(|| 1.0 - f64::from(attribute.value) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, render};

    fn lines(answer: Value) -> Vec<String> {
        let rendered = render(&read(answer).unwrap().0, Format::Text);
        rendered.lines().filter(|line| !line.starts_with('#')).map(str::to_string).collect()
    }

    #[test]
    fn an_nvme_disk() {
        // Shortened from the shape that smartctl 7.3 gives.
        let answer = serde_json::json!({
            "json_format_version": [1, 0],
            "smartctl": {"version": [7, 3], "exit_status": 0},
            "device": {"name": "/dev/disk/by-id/nvme-A", "type": "nvme", "protocol": "NVMe"},
            "model_name": "SOLID 1TB", "firmware_version": "1B2Q",
            "smart_status": {"passed": true, "nvme": {"value": 0}},
            "nvme_smart_health_information_log": {
                "critical_warning": 0, "temperature": 38, "available_spare": 100,
                "available_spare_threshold": 10, "percentage_used": 7, "media_errors": 3
            },
            "temperature": {"current": 38}, "power_on_time": {"hours": 10}
        });
        let expected = [
            "pc_smart_healthy{disk=\"nvme-A\"} 1",
            "pc_smart_temperature_celsius{disk=\"nvme-A\"} 38",
            "pc_smart_power_on_seconds{disk=\"nvme-A\"} 36000",
            "pc_smart_wear_ratio{disk=\"nvme-A\"} 0.07",
            "pc_smart_available_spare_ratio{disk=\"nvme-A\"} 1",
            "pc_smart_critical_warning{disk=\"nvme-A\"} 0",
            "pc_smart_media_errors{disk=\"nvme-A\"} 3",
            "pc_smart_info{disk=\"nvme-A\",model=\"SOLID 1TB\",firmware=\"1B2Q\"} 1",
        ];
        assert_eq!(lines(answer), expected);
    }

    #[test]
    fn a_failing_sata_disk_and_a_worn_sata_ssd() {
        let attribute = |id: u16, value: u16, raw: u64| serde_json::json!({"id": id, "value": value, "raw": {"value": raw}});
        let of = |table: Vec<Value>| {
            serde_json::json!({
                "device": {"name": "/dev/disk/by-id/ata-B"}, "smart_status": {"passed": false},
                "ata_smart_attributes": {"table": table}
            })
        };
        let failing = of(vec![attribute(5, 80, 128), attribute(197, 100, 8), attribute(198, 100, 1)]);
        let expected = [
            "pc_smart_healthy{disk=\"ata-B\"} 0",
            "pc_smart_reallocated_sectors{disk=\"ata-B\"} 128",
            "pc_smart_pending_sectors{disk=\"ata-B\"} 8",
            "pc_smart_uncorrectable_sectors{disk=\"ata-B\"} 1",
        ];
        assert_eq!(lines(failing), expected);
        let worn = of(vec![attribute(177, 25, 900)]);
        assert_eq!(lines(worn).last().unwrap(), "pc_smart_wear_ratio{disk=\"ata-B\"} 0.75");
    }

    #[test]
    fn a_disk_that_does_not_open_is_an_error() {
        // What smartctl 7.3 answers for a path that is not there: no "device".
        let answer = serde_json::json!({
            "json_format_version": [1, 0],
            "smartctl": {"messages": [{"string": "No such device", "severity": "error"}], "exit_status": 2}
        });
        assert!(format!("{:#}", read(answer).unwrap_err()).contains("could not ask the disk"));
    }
}
