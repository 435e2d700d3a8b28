//! What disks say of themselves, as pc-exporter was told it last: no disk is woken, or waited for.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::facts;
use crate::machine::Disk;

/// The part of smartctl's JSON that is looked at (its ataprint.cpp and nvmeprint.cpp), within a fact of pc-exporter.
#[derive(Deserialize)]
struct Fact {
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
    raw: Raw,
}

#[derive(Deserialize)]
struct Raw {
    value: u64,
}

/// What pc-exporter was told of the disks; where it is not, nothing is known, and no disk is woken for it.
pub fn disks(directory: &Path) -> Vec<Disk> {
    let one = |file: String| {
        let disk = file.strip_prefix("smart-")?.strip_suffix(".json")?.to_string();
        // One that was not asked with success is told by pc-exporter.
        let smart = serde_json::from_slice::<Fact>(&fs::read(directory.join(&file)).ok()?).ok()?.answer?;
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
                .map(|percent| percent / 100.0),
        })
    };
    facts::names(directory, Path::is_file).into_iter().filter_map(one).collect()
}
