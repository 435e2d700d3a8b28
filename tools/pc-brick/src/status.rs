//! The actual state of each brick, and what is wrong with it.

use std::fmt;

use anyhow::Result;
use cluster::{Brick, Use};
use serde::Serialize;

use crate::facts::{Content, Facts, Have, Mount, State};
use crate::host::{Host, Volumes};
use crate::plan::{Verdict, judge};

/// A pool whose metadata is this full needs a person (lvmthin(7): a full one stops all writes).
const FULL_PERCENT: f64 = 90.0;

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
    for (what, fill) in [
        ("data", pool.and_then(|pool| pool.data_percent)),
        ("metadata", pool.and_then(|pool| pool.metadata_percent)),
    ] {
        if let Some(fill) = fill.filter(|fill| *fill >= FULL_PERCENT) {
            problems.push(format!("the thin pool's {what} is {fill} % full"));
        }
    }
    let space = match state {
        Stage::Mounted => nix::sys::statvfs::statvfs(&host.under(&brick.mount_point())).ok(),
        _ => None,
    };
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
        file_system_size_bytes: space.map(|space| space.blocks() * space.fragment_size()),
        file_system_available_bytes: space.map(|space| space.blocks_available() * space.fragment_size()),
        problems,
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
            brick.problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))?;
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
