//! A record of an open probation that cannot be read, met at boot: what can still be told is put back, the record
//! is set aside, and `apply` runs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::log;
use serde::Deserialize;

use crate::claims::{self, By, Claim};
use crate::guard;
use crate::host::Host;
use crate::ip;
use crate::record::{FileChange, Record, open_path};
use crate::switch::Switch;
use crate::takeover;
use crate::undo::{force_up, switch_back, told_at_boot};
use crate::want::nics_of;

/// Goes back as far as can be told; the caller holds the lock.
pub fn go_back(host: &Host, error: &anyhow::Error) -> Result<()> {
    let (open, aside) = (open_path(host), host.state().join("probation.json.unreadable"));
    // Without the remedy: this is it.
    let error = format!("{error:#}");
    log::warning(error.lines().next().unwrap_or_default());
    let files = files(host, &open);
    if files.is_empty() {
        log::warning(format_args!(
            "which files it changed cannot be told, so they stay\n  look below {}",
            host.state().join(KEPT).display()
        ));
    } else {
        told_at_boot(parts_back(host, &files)).context("rolling back")?;
    }
    std::fs::rename(&open, &aside).with_context(|| format!("setting {} aside", open.display()))?;
    guard::disarm(guard::bus(host).as_ref());
    log::warning(format_args!("{}: kept as {}", open.display(), aside.display()));
    Ok(())
}

const KEPT: &str = "taken-over";

/// The files that the change had written, as far as they can be told.
fn files(host: &Host, open: &Path) -> Vec<FileChange> {
    #[derive(Deserialize)]
    struct Part {
        files: Vec<FileChange>,
    }
    // Another version's record may say it in the same words.
    let said = std::fs::read(open).ok().and_then(|bytes| serde_json::from_slice::<Part>(&bytes).ok());
    said.map(|said| said.files).or_else(|| newer_copies(host)).unwrap_or_default()
}

/// Copies that are newer than the last change that ended can only be those of the open one.
fn newer_copies(host: &Host) -> Option<Vec<FileChange>> {
    let last = Record::last(host).ok()?.map(|last| last.kept);
    let directory = host.state().join(KEPT);
    let names = std::fs::read_dir(&directory).ok()?.flatten();
    let mut newer = names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| {
        let last = last.as_deref().and_then(|last| last.rsplit('/').next());
        last.is_none_or(|last| name.as_str() > last)
    });
    let (Some(only), None) = (newer.next(), newer.next()) else { return None };
    let kept = directory.join(only);
    let mut found = Vec::new();
    collect(host, &kept, &kept, &mut found).ok()?;
    Some(found)
}

fn collect(host: &Host, kept: &Path, at: &Path, found: &mut Vec<FileChange>) -> Result<()> {
    for entry in std::fs::read_dir(at)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(host, kept, &path, found)?;
        } else if let (Some(name), Some(backup)) =
            (path.strip_prefix(kept)?.to_str(), path.strip_prefix(&host.root)?.to_str())
        {
            found.push(FileChange { path: format!("/{name}"), backup: Some(format!("/{backup}")) });
        }
    }
    Ok(())
}

/// Puts the files back, takes those NICs out of our bridges that they configure (before the change they cannot
/// have been there), and has them configured.
fn parts_back(host: &Host, files: &[FileChange]) -> Vec<anyhow::Error> {
    let mut failed = Vec::new();
    if let Err(error) = takeover::put_back(host, files).context("putting files back") {
        failed.push(error);
    }
    match nics_back(host).context("putting the switch back") {
        Ok(claims) => failed.extend(wake(host, &claims, files).err()),
        Err(error) => failed.push(error),
    }
    failed
}

/// Takes NICs that somebody configures out of our bridges; gives who does.
fn nics_back(host: &Host) -> Result<Vec<Claim>> {
    let bridges = Switch::open(&host.socket())?.bridges();
    let ours: Vec<_> = bridges.into_iter().filter(|have| have.ours).map(|have| have.bridge).collect();
    let nics: Vec<String> = ours.iter().flat_map(nics_of).map(str::to_string).collect();
    let claims = claims::scan(&host.root, &nics, &[], &ip::links()?);
    let claimed = |nic: &str| claims.iter().any(|claim| claim.device == nic);
    let stay: Vec<_> = ours.into_iter().filter(|bridge| !nics_of(bridge).any(claimed)).collect();
    switch_back(host, &stay)?;
    Ok(claims)
}

fn wake(host: &Host, claims: &[Claim], files: &[FileChange]) -> Result<()> {
    takeover::reload(guard::bus(host).as_ref(), claims, files)?;
    let by_ifupdown = claims.iter().filter(|claim| claim.by == By::Ifupdown);
    let devices: BTreeSet<&str> = by_ifupdown.map(|claim| claim.device.as_str()).collect();
    force_up(devices.into_iter())
}
