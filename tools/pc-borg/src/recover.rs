//! `recover`: what a run that was killed left behind on this node (a frozen guest, a job, a view, a drill's copy), and the
//! note of this boot on the volumes.

use std::fs;
use std::path::Path;

use anyhow::Result;
use cluster::Name;
use pc_cli::{log, together};

use crate::freeze::Freezer;
use crate::instant;
use crate::lock;
use crate::scratch;
use crate::site::{STAGE, Site};
use crate::stage::{GuestFiles, Stage};
use crate::want::{Pair, Policy};

/// Recovers; one that cannot be recovered leaves the others alone.
pub fn recover(site: &Site) -> Result<()> {
    // First: nothing is worse than a guest that stands still.
    let mut errors = thaw_all(site)?;
    if let Err(error) = scratch::recover(site) {
        errors.push(error);
    }
    if let Err(error) = instant::recover(site) {
        errors.push(error);
    }
    for policy in &site.policies {
        if let Err(error) = of_policy(site, policy) {
            errors.push(error.context(format!("backup.{}", policy.name)));
        }
    }
    together(errors)
}

/// Thaws every guest of this node that a run left frozen, on this node or before the guest came here.
fn thaw_all(site: &Site) -> Result<Vec<anyhow::Error>> {
    if site.policies.is_empty() {
        return Ok(Vec::new());
    }
    let (me, mounts) = (site.me()?, site.mounts()?);
    let mut errors = Vec::new();
    for (name, vm) in &site.cluster().vms {
        if !mounts.has(&cluster::paths::volume_mount(&vm.volume)) {
            continue;
        }
        let freezer = Freezer::of(name.as_str(), &GuestFiles::of(site, name, &vm.volume), me.clone());
        if let Err(error) = freezer.recover() {
            errors.push(error.context(format!("vm {name}")));
        }
    }
    Ok(errors)
}

fn of_policy(site: &Site, policy: &Policy) -> Result<()> {
    let me = site.me()?;
    let files = site.lock_files(policy);
    let there = match &policy.state.volume {
        Some(volume) => site.mounts()?.has(&cluster::paths::volume_mount(volume)),
        None => true,
    };
    if there {
        // So that other nodes see that whatever an earlier boot of this one held is nobody's.
        files.note_boot(&me)?;
        let holder = files.holder()?;
        let alive = holder.filter(|holder| {
            let same = holder.node == me.node && holder.boot_id == me.boot_id;
            same && lock::started(Path::new("/proc"), holder.pid) == Some(holder.started_ticks)
        });
        if alive.is_some() {
            log::debug(format_args!("backup.{}: a run is under way, nothing to recover", policy.name));
            return Ok(());
        }
    }
    let stage = site.at(&format!("{STAGE}/{}", policy.name));
    let mut errors = Vec::new();
    for entry in fs::read_dir(stage).into_iter().flatten().flatten() {
        let Some(Ok(vm)) = entry.file_name().to_str().map(|name| Name::try_from(name.to_string())) else {
            continue;
        };
        let pair = Pair { policy: policy.name.clone(), vm };
        if let Err(error) = Stage::of(site, &pair).clear(site) {
            errors.push(error.context(format!("vm {}", pair.vm)));
        }
    }
    together(errors)
}
