//! All calls of lsblk(8): which disks there are, and what is on them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use crate::check::best_name;

const DEADLINE: Duration = Duration::from_secs(60);
const COLUMNS: &str = "NAME,TYPE,SIZE,RO,RM,TRAN,MODEL,FSTYPE,LABEL,PTTYPE,MOUNTPOINTS";
/// Smaller than this nobody wants as a brick.
const LEAST_BYTES: u64 = 1 << 30;

/// A whole disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `/dev/disk/by-id/...`; absent when the disk has no serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The kernel's name of today.
    pub kernel_name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What its maker calls it.
    pub model: String,
    /// Whether it can become a brick.
    pub usable: bool,
    /// Why not: what is on it, or what it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    blockdevices: Vec<Device>,
}

#[derive(Debug, Deserialize)]
struct Device {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    ro: bool,
    #[serde(default)]
    rm: bool,
    #[serde(default)]
    tran: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    fstype: Option<String>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    pttype: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Device>,
}

/// The whole disks of this machine.
pub fn disks(root: &Path) -> Result<Vec<Disk>> {
    let sh = Shell::new()?;
    let listing =
        pc_run::run(cmd!(sh, "lsblk --json --bytes --output {COLUMNS}")).deadline(DEADLINE).read()?;
    read(&listing, &names(&root.join("dev/disk/by-id")))
}

/// Names below /dev/disk/by-id by the kernel's name of the disk; none where udev does not run.
fn names(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let target = std::fs::read_link(entry.path()).ok();
        let target = target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        if let (Some(target), Ok(name)) = (target, entry.file_name().into_string()) {
            names.entry(target.into()).or_default().push(name);
        }
    }
    names
}

/// Reads lsblk's JSON.
fn read(listing: &str, names: &BTreeMap<String, Vec<String>>) -> Result<Vec<Disk>> {
    let listing: Listing = serde_json::from_str(listing).context("reading the answer of lsblk")?;
    let is_disk = |device: &Device| {
        device.kind == "disk" && !device.name.starts_with("zram") && device.size.unwrap_or_default() > 0
    };
    Ok(listing
        .blockdevices
        .iter()
        .filter(|device| is_disk(device))
        .map(|device| disk(device, names))
        .collect())
}

fn disk(device: &Device, names: &BTreeMap<String, Vec<String>>) -> Disk {
    let path = names.get(&device.name).and_then(|names| best_name(names));
    let mut reasons = Vec::new();
    contents(device, true, &mut reasons);
    if device.ro {
        reasons.push("read-only".into());
    }
    if device.rm || device.tran.as_deref() == Some("usb") {
        reasons.push("removable".into());
    }
    let size_bytes = device.size.unwrap_or_default();
    if size_bytes < LEAST_BYTES {
        reasons.push("smaller than 1 GiB".into());
    }
    if path.is_none() {
        reasons.push("no name below /dev/disk/by-id".into());
    }
    Disk {
        path: path.map(|name| format!("{}{name}", cluster::DevicePath::BY_ID)),
        kernel_name: device.name.clone(),
        size_bytes,
        model: device.model.as_deref().unwrap_or_default().trim().into(),
        usable: reasons.is_empty(),
        reasons,
    }
}

/// Everything that lsblk found on a device and on what is stacked on it. A partition repeats its disk's
/// partition table: that is told once.
fn contents(device: &Device, whole: bool, found: &mut Vec<String>) {
    if let Some(table) = device.pttype.as_ref().filter(|_| whole) {
        found.push(format!("partition table {table}"));
    }
    if let Some(kind) = &device.fstype {
        let label = device.label.as_deref().map(|label| format!(" {label:?}")).unwrap_or_default();
        found.push(format!("{kind}{label} on {}", device.name));
    }
    for place in device.mountpoints.iter().flatten() {
        found.push(format!("in use at {place}"));
    }
    for child in &device.children {
        contents(child, false, found);
    }
    if found.is_empty() && !device.children.is_empty() {
        found.push("something stacked on it".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        all.iter().map(|(disk, name)| ((*disk).to_string(), vec![(*name).to_string()])).collect()
    }

    #[test]
    fn only_blank_whole_disks_are_usable() {
        let listing = include_str!("../tests/lsblk/node.json");
        let names = names(&[
            ("vda", "virtio-root"),
            ("vdb", "virtio-data1"),
            ("vdc", "virtio-data2"),
            ("sdb", "usb-SanDisk_Ultra_4C53"),
            ("nvme0n1", "nvme-Samsung_SSD_980_1TB_S649"),
        ]);
        let disks = read(listing, &names).unwrap();
        let told: Vec<String> = disks
            .iter()
            .map(|disk| format!("{} {} {}", disk.kernel_name, disk.usable, disk.reasons.join(", ")))
            .collect();
        assert_eq!(
            told,
            [
                "sda false LVM2_member on sda1, in use at [SWAP], no name below /dev/disk/by-id",
                "sdb false vfat \"STICK\" on sdb, removable",
                "vda false partition table gpt, vfat on vda1, in use at /boot/efi, ext4 \"root\" on vda2, in use at /",
                "vdb true ",
                "vdc false crypto_LUKS on vdc",
                "nvme0n1 true ",
            ]
        );
        assert_eq!(disks[3].path.as_deref(), Some("/dev/disk/by-id/virtio-data1"));
        assert_eq!(
            (disks[5].size_bytes, disks[5].model.as_str()),
            (1_000_204_886_016, "Samsung SSD 980 1TB")
        );
    }

    /// A machine of 2026 as recorded: one disk with a file system, zram, no udev.
    #[test]
    fn a_recorded_machine_reads() {
        let disks = read(include_str!("../tests/lsblk/recorded.json"), &BTreeMap::new()).unwrap();
        assert_eq!(disks.len(), 1);
        assert!(!disks[0].usable && disks[0].reasons[0].starts_with("in use at "));
        assert!(read("nonsense", &BTreeMap::new()).is_err());
    }
}
