//! The actual state of each brick, and what is wrong with it.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use cluster::{Brick, Use};
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Serialize;

use crate::facts::{Content, Facts, Have, Mount, State};
use crate::host::{Host, Volumes};
use crate::plan::{Verdict, judge};

/// A pool whose metadata is this full needs a person (lvmthin(7): a full one stops all writes).
const FULL_PERCENT: f64 = 90.0;
/// One that is this full should be looked at: data, metadata. As the alerts have it (telemetry/rules/storage.yml).
const FILLING_PERCENT: [f64; 2] = [85.0, 75.0];
/// A file system with so much left is about to refuse writes.
const NO_ROOM_PERCENT: u64 = 3;
/// One with so much left should be looked at.
const LITTLE_ROOM_PERCENT: u64 = 10;

/// `pc.brick.status/1`.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: &'static str,
    node: String,
    /// Every brick is mounted and nothing is wrong with it.
    pub healthy: bool,
    bricks: Vec<BrickStatus>,
}

/// How far a disk is from being a brick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// No such device.
    Missing,
    /// Nothing on it, or a LUKS header that was interrupted.
    Blank,
    /// In use, or it holds something else: never touched.
    Foreign,
    /// Ours, and not open.
    Locked,
    /// Ours and open; the file system is not complete.
    Open,
    /// Complete, and not mounted.
    Formatted,
    /// In service.
    Mounted,
}

/// One brick.
#[derive(Debug, Serialize)]
pub struct BrickStatus {
    disk: String,
    volume: String,
    device: String,
    state: Stage,
    mount_point: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    luks_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_data_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_metadata_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system_available_bytes: Option<u64>,
    /// In words; empty when nothing is wrong.
    problems: Vec<String>,
    /// What works and should be looked at, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What a mounted file system tells of itself.
struct Space {
    size: u64,
    available: u64,
    read_only: bool,
}

impl Space {
    fn of(mount_point: &Path) -> Result<Space, Errno> {
        let told = statvfs(mount_point)?;
        Ok(Space {
            size: told.blocks() * told.fragment_size(),
            available: told.blocks_available() * told.fragment_size(),
            read_only: told.flags().contains(FsFlags::ST_RDONLY),
        })
    }
}

/// Puts facts and fill levels together.
pub fn status(host: &Host, node: &str, bricks: &[Brick], have: &Have, unlock: bool) -> Result<Status> {
    let open = have.values().any(|facts| facts.device.as_ref().is_some_and(|device| device.stack.open));
    let volumes = if open { host.volumes()? } else { Volumes::default() };
    let nothing = Facts::default();
    let bricks: Vec<BrickStatus> = bricks
        .iter()
        .map(|brick| one(host, brick, have.get(brick.name()).unwrap_or(&nothing), &volumes, unlock))
        .collect();
    let healthy = bricks.iter().all(|brick| brick.state == Stage::Mounted && brick.problems.is_empty());
    Ok(Status { schema: "pc.brick.status/1", node: node.into(), healthy, bricks })
}

fn one(host: &Host, brick: &Brick, facts: &Facts, volumes: &Volumes, unlock: bool) -> BrickStatus {
    let (state, mut problems) = stage(brick, facts, unlock);
    let device = facts.device.as_ref();
    let luks = match device.map(|device| &device.content) {
        Some(Content::Luks2(luks)) => Some(luks),
        _ => None,
    };
    let group = brick.volume_group();
    let pool = volumes.lvs.iter().find(|lv| lv.vg_name == group && lv.lv_name == brick.pool());
    let mut warnings = Vec::new();
    let fills = [pool.and_then(|pool| pool.data_percent), pool.and_then(|pool| pool.metadata_percent)];
    for ((what, fill), filling) in ["data", "metadata"].into_iter().zip(fills).zip(FILLING_PERCENT) {
        match fill {
            Some(fill) if fill >= FULL_PERCENT => {
                problems.push(format!("the thin pool's {what} is {fill} % full"));
            }
            Some(fill) if fill >= filling => {
                warnings.push(format!("the thin pool's {what} is {fill} % full"));
            }
            _ => {}
        }
    }
    let space = (state == Stage::Mounted).then(|| Space::of(&host.under(&brick.mount_point())));
    if let Some(space) = &space {
        let (wrong, soon) = room(space.as_ref());
        problems.extend(wrong);
        warnings.extend(soon);
    }
    let space = space.and_then(Result::ok);
    BrickStatus {
        disk: brick.name().into(),
        volume: brick.volume.to_string(),
        device: brick.device.to_string(),
        state,
        mount_point: brick.mount_point(),
        kernel_name: device.map(|device| device.kernel_name.clone()),
        size_bytes: device.map(|device| device.size_bytes),
        luks_uuid: luks.map(|luks| luks.uuid.clone()),
        bound: luks.map(|luks| luks.bound),
        pool_data_percent: pool.and_then(|pool| pool.data_percent),
        pool_metadata_percent: pool.and_then(|pool| pool.metadata_percent),
        file_system_size_bytes: space.as_ref().map(|space| space.size),
        file_system_available_bytes: space.as_ref().map(|space| space.available),
        problems,
        warnings,
    }
}

/// What is wrong with a file system, and what soon will be.
fn room(space: Result<&Space, &Errno>) -> (Option<String>, Option<String>) {
    match space {
        // XFS that could not write shuts itself down: mounted still, and every call fails.
        Err(error) => (Some(format!("its file system does not answer: {}", error.desc())), None),
        Ok(space) if space.read_only => (Some("its file system takes no writes".into()), None),
        Ok(space) => {
            let left = space.available.saturating_mul(100) / space.size.max(1);
            let text = || Some(format!("its file system has {left} % left"));
            match left {
                _ if space.size == 0 => (None, None),
                0..NO_ROOM_PERCENT => (text(), None),
                NO_ROOM_PERCENT..LITTLE_ROOM_PERCENT => (None, text()),
                _ => (None, None),
            }
        }
    }
}

/// Where a brick stands, and what is wrong apart from that.
pub fn stage(brick: &Brick, facts: &Facts, unlock: bool) -> (Stage, Vec<String>) {
    let mut problems = Vec::new();
    let Some(device) = &facts.device else { return (Stage::Missing, problems) };
    if let Verdict::Refused(refusal) = judge(brick, facts, unlock) {
        // Ours, and damaged inside.
        let ours = device.stack.open && device.users.is_empty() && facts.record.is_some();
        return (if ours { Stage::Open } else { Stage::Foreign }, vec![refusal.found]);
    }
    let Content::Luks2(luks) = &device.content else { return (Stage::Blank, problems) };
    let formatting = facts.record.as_ref().is_none_or(|record| record.state == State::Formatting);
    if formatting {
        return (Stage::Blank, problems);
    }
    if unlock && !luks.bound {
        problems.push("not bound to the unlock servers".into());
    }
    if facts.header_backup.is_none() {
        problems.push("no backup of the LUKS header".into());
    }
    let state = match (&facts.mount, &device.stack) {
        (Mount::Mounted { directory }, _) => {
            if !directory && brick.purpose != Use::Local {
                problems.push("the brick directory is gone".into());
            }
            Stage::Mounted
        }
        (_, stack) if !stack.open => Stage::Locked,
        (_, stack) if stack.file_system => Stage::Formatted,
        _ => Stage::Open,
    };
    if state != Stage::Mounted && facts.mount == Mount::Writable {
        problems.push(format!("{} could be written to while nothing is mounted", brick.mount_point()));
    }
    (state, problems)
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Missing => "missing",
            Stage::Blank => "blank",
            Stage::Foreign => "foreign",
            Stage::Locked => "locked",
            Stage::Open => "open",
            Stage::Formatted => "formatted",
            Stage::Mounted => "mounted",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bricks.is_empty() {
            return writeln!(f, "the file names no disk of {}", self.node);
        }
        let longest = |length: fn(&BrickStatus) -> usize| self.bricks.iter().map(length).max().unwrap_or(0);
        let (disks, volumes) = (longest(|brick| brick.disk.len()), longest(|brick| brick.volume.len()));
        for brick in &self.bricks {
            let size = brick.size_bytes.map(people).unwrap_or_default();
            let pool =
                brick.pool_data_percent.map(|fill| format!("  {fill} % of the pool")).unwrap_or_default();
            writeln!(
                f,
                "{:disks$}  {:volumes$}  {:9}  {size:>9}{pool}",
                brick.disk, brick.volume, brick.state
            )?;
            brick.problems.iter().chain(&brick.warnings).try_for_each(|text| writeln!(f, "  {text}"))?;
        }
        Ok(())
    }
}

/// `3.6 TiB`, for people.
fn people(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scale = 0;
    let mut rest = bytes;
    while rest >= 10 * 1024 && scale + 1 < units.len() {
        rest /= 1024;
        scale += 1;
    }
    match rest {
        rest if rest >= 1024 && scale + 1 < units.len() => {
            format!("{}.{} {}", rest / 1024, rest % 1024 * 10 / 1024, units[scale + 1])
        }
        rest => format!("{rest} {}", units[scale]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_fills_or_takes_no_writes() {
        let of = |size, available, read_only| room(Ok(&Space { size, available, read_only }));
        let text = |text: &str| Some(text.to_string());
        assert_eq!(of(1000, 100, false), (None, None));
        assert_eq!(of(1000, 99, false), (None, text("its file system has 9 % left")));
        assert_eq!(of(1000, 29, false), (text("its file system has 2 % left"), None));
        assert_eq!(of(1000, 500, true), (text("its file system takes no writes"), None));
        assert_eq!(of(0, 0, false), (None, None));
        assert_eq!(room(Err(&Errno::EIO)), (text("its file system does not answer: I/O error"), None));
    }
}
