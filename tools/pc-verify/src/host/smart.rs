//! What disks say of themselves, as pc-exporter was told it last: no disk is woken, or waited for.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::facts;
use crate::machine::Disk;
use crate::tables::time_of;

/// Older answers are no longer told: three times the while after which pc-exporter asks again, as it does itself.
const TOLD: Duration = Duration::minutes(45);

/// The part of smartctl's JSON that is looked at (its ataprint.cpp and nvmeprint.cpp), within a fact of pc-exporter.
#[derive(Deserialize)]
struct Fact {
    measured_at: Option<String>,
    answer: Option<Smart>,
}

#[derive(Deserialize)]
struct Smart {
    #[serde(rename = "smart_status")]
    status: Option<Passed>,
    ata_smart_attributes: Option<Table>,
    nvme_smart_health_information_log: Option<Nvme>,
    endurance_used: Option<Endurance>,
}

#[derive(Deserialize)]
struct Passed {
    passed: bool,
}

#[derive(Deserialize)]
struct Endurance {
    current_percent: f64,
}

#[derive(Deserialize)]
struct Nvme {
    critical_warning: u64,
    percentage_used: f64,
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

/// What pc-exporter was told of the disks; where it is not, nothing is known, and no disk is woken for it.
pub fn disks(directory: &Path, now: OffsetDateTime) -> Vec<Disk> {
    let one = |file: String| {
        let disk = file.strip_prefix("smart-")?.strip_suffix(".json")?.to_string();
        // One that was not asked with success is told by pc-exporter.
        let fact = serde_json::from_slice::<Fact>(&fs::read(directory.join(&file)).ok()?).ok()?;
        let old = time_of(fact.measured_at.as_deref()).is_none_or(|then| now - then > TOLD);
        let smart = fact.answer.filter(|_| !old)?;
        let attributes = smart.ata_smart_attributes.map(|table| table.table).unwrap_or_default();
        let sectors = |id| attributes.iter().filter(|one| one.id == id).map(|one| one.raw.value).sum();
        let nvme = smart.nvme_smart_health_information_log;
        let used = nvme.as_ref().map(|nvme| nvme.percentage_used);
        Some(Disk {
            name: disk,
            passed: smart.status.map(|status| status.passed),
            critical_warning: nvme.map_or(0, |nvme| nvme.critical_warning),
            pending_sectors: sectors(197),
            uncorrectable_sectors: sectors(198),
            wear: used
                .or(smart.endurance_used.map(|used| used.current_percent))
                .map(|percent| percent / 100.0)
                .or_else(|| wear_of(&attributes)),
        })
    };
    facts::names(directory, Path::is_file).into_iter().filter_map(one).collect()
}

/// A SATA SSD's wear: attributes whose normalised value falls from 100 as life is used up, as pc-exporter reads them.
fn wear_of(attributes: &[Attribute]) -> Option<f64> {
    let attribute = [231, 233, 177].into_iter().find_map(|id| attributes.iter().find(|one| one.id == id))?;
    (attribute.value <= 100).then(|| 1.0 - f64::from(attribute.value) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use time::macros::datetime;

    fn told(fact: &Value) -> Vec<Disk> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("smart-ata-A.json"), fact.to_string()).unwrap();
        disks(directory.path(), datetime!(2026-01-02 04:00:00 UTC))
    }

    #[test]
    fn what_is_too_old_is_no_longer_told() {
        let of = |at: &str| told(&json!({"measured_at": at, "answer": {"smart_status": {"passed": false}}}));
        assert_eq!(of("2026-01-02T03:16:00Z")[0].passed, Some(false));
        assert_eq!(of("2026-01-02T03:14:00Z"), []);
        // The clock was set back.
        assert_eq!(of("2026-01-03T00:00:00Z").len(), 1);
        assert_eq!(told(&json!({"answer": {"smart_status": {"passed": false}}})), []);
    }

    #[test]
    fn a_worn_sata_ssd() {
        let of = |id: u16, value: u16| {
            let table = json!({"table": [{"id": id, "value": value, "raw": {"value": 900}}]});
            told(&json!({"measured_at": "2026-01-02T03:59:00Z", "answer": {"ata_smart_attributes": table}}))
                [0]
            .wear
        };
        for id in [177, 231, 233] {
            assert_eq!(of(id, 25), Some(0.75), "{id}");
        }
        assert_eq!(of(9, 25), None);
        // Some count upwards from 253.
        assert_eq!(of(177, 200), None);
    }
}
