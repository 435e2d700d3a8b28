//! lvm(8): reports as JSON, and the few commands that make a brick's volume group.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use xshell::{Cmd, Shell, cmd};

const DEADLINE: Duration = Duration::from_secs(180);

/// One physical volume (`pvs`).
#[allow(clippy::struct_field_names, reason = "LVM's own names of the columns")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pv {
    /// `/dev/mapper/pc-...`.
    pub pv_name: String,
    /// Empty while it is in no group.
    pub vg_name: String,
    #[serde(deserialize_with = "number")]
    vg_extent_size: u64,
    #[serde(deserialize_with = "number")]
    vg_free_count: u64,
}

/// One logical volume (`lvs -a`); names of hidden ones stand in brackets.
#[allow(clippy::struct_field_names, reason = "LVM's own names of the columns")]
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Lv {
    /// Its group.
    pub vg_name: String,
    /// Its name.
    pub lv_name: String,
    /// `thin-pool`, `thin`, `linear`, ...
    pub segtype: String,
    /// Bytes.
    #[serde(deserialize_with = "number")]
    pub lv_size: u64,
    /// The pool of a thin volume.
    pub pool_lv: String,
    /// `active`, or empty.
    pub lv_active: String,
    /// Of a pool: how full it is.
    #[serde(deserialize_with = "percent")]
    pub data_percent: Option<f64>,
    /// Of a pool: how full its metadata is.
    #[serde(deserialize_with = "percent")]
    pub metadata_percent: Option<f64>,
}

// LVM writes every value as text; one that does not apply is empty.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() { Ok(0) } else { text.parse().map_err(serde::de::Error::custom) }
}

fn percent<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

/// All physical volumes of the machine.
pub fn pvs(sh: &Shell) -> Result<Vec<Pv>> {
    let columns = "pv_name,vg_name,vg_extent_size,vg_free_count";
    let text =
        list(cmd!(sh, "pvs --reportformat json --units b --nosuffix -o {columns}"), "listing volume groups")?;
    report(&text, "pv")
}

/// All logical volumes of the machine.
pub fn lvs(sh: &Shell) -> Result<Vec<Lv>> {
    let columns = "vg_name,lv_name,segtype,lv_size,pool_lv,lv_active,data_percent,metadata_percent";
    let text =
        list(cmd!(sh, "lvs -a --reportformat json --units b --nosuffix -o {columns}"), "listing volumes")?;
    report(&text, "lv")
}

fn report<T: DeserializeOwned>(text: &str, kind: &str) -> Result<Vec<T>> {
    #[derive(Deserialize)]
    struct Report {
        report: Vec<serde_json::Map<String, serde_json::Value>>,
    }
    let parsed: Report = serde_json::from_str(text).context("reading LVM's report")?;
    let mut rows = Vec::new();
    for mut section in parsed.report {
        if let Some(section) = section.remove(kind) {
            rows.extend(serde_json::from_value::<Vec<T>>(section).context("reading LVM's report")?);
        }
    }
    Ok(rows)
}

/// Exit code 5 comes with a complete report, too, when some device of the machine cannot be read.
fn list(command: Cmd<'_>, doing: &str) -> Result<String> {
    let command = command.env("LVM_SUPPRESS_FD_WARNINGS", "1");
    pc_run::run(command).deadline(DEADLINE).allow(&[5]).read().with_context(|| doing.to_string())
}

/// LVM closes what it inherits (our lock) and should not complain about it.
fn run(command: Cmd<'_>, doing: &str) -> Result<String> {
    let command = command.env("LVM_SUPPRESS_FD_WARNINGS", "1");
    pc_run::run(command).deadline(DEADLINE).read().with_context(|| doing.to_string())
}

/// Makes a volume group of one device; the label that an interrupted run left is used.
pub fn make_group(sh: &Shell, group: &str, device: &str) -> Result<()> {
    run(cmd!(sh, "vgcreate --yes {group} {device}"), "making the volume group").map(drop)
}

/// Sizes of a thin pool, in extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// For data.
    pub data_extents: u64,
    /// For metadata, and once more for its spare copy (`lvconvert --repair`).
    pub metadata_extents: u64,
    /// Chunk size in KiB.
    pub chunk_kib: u64,
}

/// Divides the free space: metadata is 64 bytes per chunk (lvmthin(7)), at least 16 MiB so that snapshots fit, and the
/// chunk grows with the pool so that metadata stays around 1 GiB, far below LVM's limit.
pub fn pool_size(extent_bytes: u64, free_extents: u64) -> Option<PoolSize> {
    const LARGEST_METADATA: u64 = 1 << 30;
    let free = free_extents.checked_mul(extent_bytes)?;
    let mut chunk_kib = 256;
    while free / (chunk_kib << 10) * 64 > LARGEST_METADATA {
        chunk_kib *= 2;
    }
    let metadata = (free / (chunk_kib << 10) * 64).max(16 << 20);
    let metadata_extents = metadata.div_ceil(extent_bytes.max(1));
    let data_extents = free_extents.checked_sub(2 * metadata_extents).filter(|extents| *extents > 0)?;
    Some(PoolSize { data_extents, metadata_extents, chunk_kib })
}

/// Makes the pool over all free space. No zeroing of new blocks: one file system owns them all, and what is
/// below is encrypted.
pub fn make_pool(sh: &Shell, pv: &Pv, pool: &str) -> Result<()> {
    let group = &pv.vg_name;
    let size = pool_size(pv.vg_extent_size, pv.vg_free_count)
        .with_context(|| format!("making the thin pool: {} free extents are too few", pv.vg_free_count))?;
    let (data, chunk) = (size.data_extents.to_string(), format!("{}k", size.chunk_kib));
    let metadata = format!("{}b", size.metadata_extents * pv.vg_extent_size);
    let command = cmd!(
        sh,
        "lvcreate --yes --type thin-pool --name {pool} --extents {data} --poolmetadatasize {metadata}
         --chunksize {chunk} --zero n {group}"
    );
    run(command, "making the thin pool").map(drop)
}

/// Makes the thin volume, as large as its pool.
pub fn make_volume(sh: &Shell, group: &str, pool: &str, volume: &str, bytes: u64) -> Result<()> {
    let size = format!("{bytes}b");
    let command =
        cmd!(sh, "lvcreate --yes --type thin --virtualsize {size} --name {volume} --thinpool {pool} {group}");
    run(command, "making the thin volume").map(drop)
}

/// Removes every volume of a group: what an interrupted run left before there was a file system.
pub fn remove_volumes(sh: &Shell, group: &str) -> Result<()> {
    run(cmd!(sh, "lvremove --yes --force {group}"), "removing half-made volumes").map(drop)
}

/// Activates all volumes of a group; those that udev activated already stay so.
pub fn activate(sh: &Shell, group: &str) -> Result<()> {
    run(cmd!(sh, "vgchange --activate y {group}"), "activating the volume group").map(drop)
}

/// Deactivates all volumes of a group.
pub fn deactivate(sh: &Shell, group: &str) -> Result<()> {
    run(cmd!(sh, "vgchange --activate n {group}"), "deactivating the volume group").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_reports() {
        // lvm2 2.03.16, a loop device; free count of a full group as in the lab.
        let pvs = r#"  {"report": [{"pv": [
            {"pv_name":"/dev/loop3", "vg_name":"pc-virtio-d1", "vg_extent_size":"4194304", "vg_free_count":"99"},
            {"pv_name":"/dev/loop4", "vg_name":"", "vg_extent_size":"", "vg_free_count":""}]}]}"#;
        let pvs: Vec<Pv> = report(pvs, "pv").unwrap();
        assert_eq!((pvs[0].vg_extent_size, pvs[0].vg_free_count), (4_194_304, 99));
        assert_eq!(pvs[1].vg_name, "");
        let lvs = r#"{"report": [{"lv": [
            {"vg_name":"g","lv_name":"brick","segtype":"thin","lv_size":"4194304","pool_lv":"pool",
             "lv_active":"active","data_percent":"1.25","metadata_percent":""},
            {"vg_name":"g","lv_name":"[lvol0_pmspare]","segtype":"linear","lv_size":"16777216","pool_lv":"",
             "lv_active":"","data_percent":"","metadata_percent":""}]}]}"#;
        let lvs: Vec<Lv> = report(lvs, "lv").unwrap();
        assert_eq!((lvs[0].data_percent, lvs[1].data_percent), (Some(1.25), None));
        assert!(report::<Lv>("{", "lv").is_err());
        assert_eq!(report::<Lv>(r#"{"report":[{"lv":[]}]}"#, "lv").unwrap(), []);
    }

    #[test]
    fn pools_from_small_to_large() {
        const EXTENT: u64 = 4 << 20;
        let extents = |bytes: u64| bytes / EXTENT;
        // 2 GiB: 8192 chunks need 512 KiB, the least is 16 MiB = 4 extents, twice.
        let small = pool_size(EXTENT, extents(2 << 30)).unwrap();
        assert_eq!(small, PoolSize { data_extents: 512 - 8, metadata_extents: 4, chunk_kib: 256 });
        // 4 TiB: 16 Mi chunks of 64 bytes are 1 GiB.
        let large = pool_size(EXTENT, extents(4 << 40)).unwrap();
        assert_eq!(large, PoolSize { data_extents: (1 << 20) - 512, metadata_extents: 256, chunk_kib: 256 });
        // 20 TiB: 256 KiB and 512 KiB and 1 MiB chunks are too many, 2 MiB: 640 MiB.
        assert_eq!(pool_size(EXTENT, extents(20 << 40)).unwrap().chunk_kib, 2048);
        assert_eq!(pool_size(EXTENT, 8), None);
        assert_eq!(pool_size(EXTENT, 0), None);
    }
}
