//! The actual state of each brick, and what is wrong with it.

use std::fmt;

use anyhow::Result;
use cluster::{Brick, Use};
use serde::Serialize;

use crate::facts::{Content, Directory, Facts, Have, Mount};
use crate::fault::{self, Faults};
use crate::host::{Host, Volumes, file_system};
use crate::plan::{Verdict, judge};

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
    /// Of one that is mounted: reading it is no error, and does not hang.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system_answers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system_available_bytes: Option<u64>,
    /// In words, with the command to run next on a second line; empty when nothing is wrong.
    problems: Vec<String>,
    /// What works and should be looked at, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
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
    let fills = [pool.and_then(|pool| pool.data_percent), pool.and_then(|pool| pool.metadata_percent)];
    let Faults { problems: mut faults, mut warnings } = fault::pool(brick, fills);
    let space = match &facts.mount {
        Mount::Mounted { directory: Directory::Unknown(why) } => Some(Err(why.clone())),
        Mount::Mounted { .. } => Some(file_system::space(&host.under(&brick.mount_point()))),
        _ => None,
    };
    let answers = space.as_ref().map(Result::is_ok);
    // Above a disk that has gone, or that nobody may touch any more, its state says enough.
    if let Some(space) = space.as_ref().filter(|_| state == Stage::Mounted) {
        let Faults { problems, warnings: soon } = fault::file_system(brick, space);
        faults.extend(problems);
        warnings.extend(soon);
    }
    problems.extend(faults);
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
        file_system_answers: answers,
        file_system_size_bytes: space.as_ref().map(|space| space.size),
        file_system_available_bytes: space.as_ref().map(|space| space.available),
        problems,
        warnings,
    }
}

/// Where a brick stands, and what is wrong apart from that.
pub fn stage(brick: &Brick, facts: &Facts, unlock: bool) -> (Stage, Vec<String>) {
    let mut problems = Vec::new();
    let Some(device) = &facts.device else { return (Stage::Missing, problems) };
    if let Verdict::Refused(refusal) = judge(brick, facts, unlock) {
        // Ours, and damaged inside.
        let ours = device.stack.open && device.users.is_empty() && facts.record.is_some();
        // What else may be done about a foreign one, `plan` says line by line.
        return if ours {
            (Stage::Open, vec![format!("{}\n  {}", refusal.found, refusal.remedy)])
        } else {
            (Stage::Foreign, vec![refusal.found])
        };
    }
    let Content::Luks2(luks) = &device.content else { return (Stage::Blank, problems) };
    let formatting = facts.record.as_ref().is_none_or(|record| record.state.is_unformatted());
    if formatting {
        return (Stage::Blank, problems);
    }
    if unlock && !luks.bound {
        problems.push(fault::to_apply("not bound to the unlock servers"));
    }
    if facts.header_backup.is_none() {
        problems.push(fault::to_apply("no backup of the LUKS header"));
    }
    let state = match (&facts.mount, &device.stack) {
        (Mount::Mounted { directory }, _) => {
            if *directory == Directory::Gone && brick.purpose != Use::Local {
                problems.push(fault::gone(brick));
            }
            Stage::Mounted
        }
        (_, stack) if !stack.open => Stage::Locked,
        (_, stack) if stack.file_system => Stage::Formatted,
        _ => Stage::Open,
    };
    if state != Stage::Mounted && facts.mount == Mount::Writable {
        let what = format!("{} could be written to while nothing is mounted", brick.mount_point());
        problems.push(fault::to_apply(&what));
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
            brick.problems.iter().chain(&brick.warnings).try_for_each(|text| {
                // The second line is no fault of its own.
                writeln!(f, "  {}", text.replace('\n', "\n  "))
            })?;
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
    use crate::facts::State;
    use crate::plan::tests::{brick, known, sealed, serving};

    /// XFS that has shut itself down still has its directory.
    #[test]
    fn a_directory_that_cannot_be_read_is_not_gone() {
        let facts = |directory| Facts { header_backup: Some(sealed()), ..serving(directory) };
        let problems = |purpose, directory| match stage(&brick(purpose), &facts(directory), true) {
            (Stage::Mounted, problems) => problems,
            other => panic!("{other:?}"),
        };
        let unknown = || Directory::Unknown("I/O error".into());
        for purpose in [Use::Vm, Use::Local] {
            assert!(
                problems(purpose, unknown()).is_empty() && problems(purpose, Directory::There).is_empty()
            );
        }
        assert!(
            problems(Use::Vm, Directory::Gone)[0]
                .starts_with("the brick directory is gone\n  ls -la /srv/bricks/")
        );
        assert!(problems(Use::Local, Directory::Gone).is_empty(), "it has none");
    }

    #[test]
    fn a_damaged_brick_says_what_to_do() {
        let mut lost = known(State::Done, Content::default());
        let device = serving(Directory::There).device.unwrap();
        lost.device = Some(device);
        lost.device.as_mut().unwrap().stack.pool = false;
        let (state, problems) = stage(&brick(Use::Vm), &lost, true);
        let says = "is a finished brick, but its thin pool is gone\n  journalctl -k -b; pc-brick status";
        assert!(state == Stage::Open && problems[0].starts_with(says), "{problems:?}");
    }
}
