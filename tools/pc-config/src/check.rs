//! check: everything that is wrong or risky in a file, as the answer.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use cluster::{Cluster, Fault, Report};
use pc_cli::{Common, Exit, refused};
use serde::Serialize;

/// `pc.config.check/1`.
#[derive(Debug, Serialize)]
struct Verdict {
    schema: &'static str,
    /// How the messages call the file.
    file: String,
    /// Whether it would be accepted.
    accepted: bool,
    errors: usize,
    warnings: usize,
    faults: Vec<Fault>,
    #[serde(skip)]
    text: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `pc-config check [FILE]`.
pub fn check(common: &Common, source: Option<&Path>) -> Result<Exit> {
    let path = source.map_or_else(|| common.cluster_file(), Path::to_path_buf);
    let mut report = cluster::load_report(&path);
    stable_names(common, &mut report);
    let (errors, warnings) = (report.errors().count(), report.warnings().count());
    let accepted = errors == 0 && report.cluster.is_some();
    let mut text = report.to_string();
    if let (true, Some(cluster)) = (accepted, &report.cluster) {
        let newline = if text.is_empty() { "" } else { "\n" };
        let risks = match warnings {
            0 => "no fault".into(),
            1 => "1 warning".into(),
            _ => format!("{warnings} warnings"),
        };
        text = format!("{text}{newline}{}: {}, {risks}", report.name, summary(cluster));
    }
    let schema = "pc.config.check/1";
    let verdict =
        Verdict { schema, file: report.name, accepted, errors, warnings, faults: report.faults, text };
    pc_cli::emit(common.json, &verdict)?;
    Ok(if accepted { Exit::Done } else { Exit::Refused })
}

/// The checked file for the other verbs: a fault refuses, warnings are for `check` to tell.
pub fn load(common: &Common) -> Result<Cluster> {
    let path = common.cluster_file();
    if common.applied {
        return cluster::load_applied(&path).map_err(refused);
    }
    let mut report = cluster::load_report(&path);
    stable_names(common, &mut report);
    report.into_result().map_err(refused)
}

/// `home: 3 nodes, 2 volumes, 1 network, 1 VM`.
fn summary(cluster: &Cluster) -> String {
    let parts = [
        (cluster.nodes.len(), "node"),
        (cluster.volumes.len(), "volume"),
        (cluster.networks.len(), "network"),
        (cluster.vms.len(), "VM"),
        (cluster.backups.len(), "backup"),
    ];
    let told = parts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> =
        told.map(|(count, noun)| format!("{count} {noun}{}", if *count == 1 { "" } else { "s" })).collect();
    format!("{}: {}", cluster.name, if told.is_empty() { "empty".into() } else { told.join(", ") })
}

/// A disk named `/dev/sdb` is a fault whose remedy this machine knows: the name below /dev/disk/by-id that
/// leads to the same disk.
pub fn stable_names(common: &Common, report: &mut Report) {
    for fault in &mut report.faults {
        let kernel_name =
            fault.value.as_deref().and_then(|value| value.trim_matches('"').strip_prefix("/dev/"));
        let Some(kernel_name) = kernel_name.filter(|name| fault.key.contains(".disks.") && is_plain(name))
        else {
            continue;
        };
        if let Some(stable) = stable_name(&common.under_root("/dev/disk/by-id"), kernel_name) {
            fault.remedy = Some(format!("use /dev/disk/by-id/{stable} (this machine's {kernel_name})"));
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The best name in `directory` that leads to `kernel_name`.
fn stable_name(directory: &Path, kernel_name: &str) -> Option<String> {
    let leads_there = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path())
            .is_ok_and(|target: PathBuf| target.file_name().is_some_and(|name| name == kernel_name))
    };
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok).filter(leads_there);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    best_name(&names).cloned()
}

/// Of the names of one disk, the one a person can read off its label: model and serial number before
/// numbers, and of two alike the shorter.
pub fn best_name(names: &[String]) -> Option<&String> {
    const KINDS: [&str; 10] =
        ["nvme-", "ata-", "virtio-", "scsi-S", "usb-", "mmc-", "scsi-", "nvme-eui.", "nvme-nvme.", "wwn-"];
    let rank = |name: &str| {
        // The longest kind that fits: "nvme-eui." is an "nvme-" too, but a bad one.
        let fits = KINDS.iter().enumerate().filter(|(_, kind)| name.starts_with(**kind));
        fits.max_by_key(|(_, kind)| kind.len()).map_or(KINDS.len(), |(rank, _)| rank)
    };
    // A trailing _1 is the name space number that newer udev adds to the same disk.
    names.iter().min_by_key(|name| (rank(name), name.len(), (*name).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_names_come_first() {
        let best = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            best_name(&names).cloned().unwrap()
        };
        assert_eq!(best(&["wwn-0x5000", "ata-WDC_WD40-XYZ"]), "ata-WDC_WD40-XYZ");
        assert_eq!(
            best(&["nvme-eui.0025", "nvme-Samsung_SSD_980_S1", "nvme-Samsung_SSD_980_S1_1"]),
            "nvme-Samsung_SSD_980_S1"
        );
        assert_eq!(best(&["scsi-35000c5", "scsi-SATA_WDC_1", "wwn-1"]), "scsi-SATA_WDC_1");
        assert_eq!(best(&["virtio-node1-d1"]), "virtio-node1-d1");
    }
}
