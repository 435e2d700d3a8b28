//! Gathers a status and leaves it where siblings find it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::log;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::host::{self, Seen, bricks, cli, mounts};
use crate::status::{Backlog, Status};
use crate::storage::Storage;
use crate::want::Want;

/// Whether every brick of the cluster is asked for its heal backlog, or only those of this node are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only this node's bricks.
    Own,
    /// Every brick of every volume.
    All,
    /// Every brick, but only where the own ones or the last report give a reason to.
    AsNeeded,
}

/// A status out of what was seen.
pub fn gather(root: &Path, want: &Want, seen: &Seen, depth: Depth) -> Status {
    let mut backlog = Backlog::default();
    for own in &seen.have.bricks {
        backlog.own.insert(own.address.clone(), bricks::heal_backlog(&own.address));
    }
    let status = Status::new(want, &seen.have, seen.glusterd.is_none(), &backlog);
    if depth == Depth::Own || seen.glusterd.is_some() {
        return status;
    }
    let last = last_pending(root);
    for volume in status.volumes.iter().filter(|volume| volume.started) {
        let quiet = volume.heal_pending == Some(0)
            && volume.sets.iter().flatten().all(|brick| brick.online)
            && last.iter().any(|(name, pending)| *name == volume.name && *pending == Some(0));
        let replicated = volume.sets.iter().any(|set| set.len() > 1);
        if !replicated || (depth == Depth::AsNeeded && quiet) {
            continue;
        }
        let answers = cli::heal_backlog(&volume.name);
        if let Err(error) = &answers {
            log::debug(format_args!("volume {}: {error:#}", volume.name));
        }
        backlog.all.insert(volume.name.clone(), answers.ok());
    }
    Status::new(want, &seen.have, true, &backlog)
}

/// The backlogs of the last report. A node that was away counts nothing on its own bricks although others
/// hold entries for it, so a backlog that was not 0 is asked about until it is.
pub fn last_pending(root: &Path) -> Vec<(String, Option<u64>)> {
    let read = || -> Option<Vec<(String, Option<u64>)>> {
        let text = std::fs::read(root.join("run/personal-cluster/storage.json")).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let volume = |volume: &serde_json::Value| {
            Some((volume.get("name")?.as_str()?.to_string(), volume.get("heal_pending")?.as_u64()))
        };
        value.get("volumes")?.as_array()?.iter().map(volume).collect()
    };
    read().unwrap_or_default()
}

/// Writes `/run/personal-cluster/gluster.json` and the seam file `storage.json`; warns of faults that the
/// last report did not have, unless `error`, which ends this run, says the same. `since` is when the look began that it is of.
pub fn publish(
    root: &Path,
    want: &Want,
    status: &Status,
    since: OffsetDateTime,
    error: Option<&anyhow::Error>,
) -> Result<()> {
    let told = error.map(|error| format!("{error:#}")).unwrap_or_default();
    let before = std::fs::read_to_string(root.join("run/personal-cluster/gluster.json")).unwrap_or_default();
    for fault in &status.faults {
        // Inside the file the fault is a JSON string.
        let known = serde_json::to_string(fault).is_ok_and(|text| before.contains(&text));
        if !known && !told.contains(fault.as_str()) {
            log::warning(fault);
        }
    }
    pc_cli::write_status(root, "gluster", status)?;
    let local: Vec<(String, bool)> =
        want.local.iter().map(|name| (name.clone(), mounts::is_mount_point(&mounts::point(name)))).collect();
    let since = since.replace_nanosecond(0)?.format(&Rfc3339).context("formatting the time")?;
    pc_cli::write_status(root, "storage", &Storage::new(status, &local, since))
}

/// Looks, reports and publishes in one go; the lock is not needed, each file is replaced atomically.
pub fn refresh(root: &Path, want: &Want, depth: Depth) -> Result<Status> {
    let seen = host::look(want);
    let status = gather(root, want, &seen, depth);
    publish(root, want, &status, seen.since, None)?;
    Ok(status)
}

/// Tells the service manager, when there is one, what is going on.
pub fn tell(text: &str) {
    // Without a NOTIFY_SOCKET nobody wants to know.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(text)]);
}

/// The most that a verb waits between two looks.
pub const PAUSE: Duration = Duration::from_secs(2);
