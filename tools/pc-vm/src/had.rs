//! A note on the node's own disk that a VM had its disk on a local volume here: after another disk has taken the place of that
//! one, nothing else tells it from a VM that was never started.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::{log, refused, write_atomic};

use crate::domain::Guest;
use crate::host::{remove_if_there, sync_parent};
use crate::places::{DEFINITIONS, had_disk};
use crate::site::Site;

/// Notes it. A VM starts all the same when that cannot be written.
pub fn note(site: &Site, guest: &Guest) {
    let path = site.common.under_root(&had_disk(guest.name.as_str()));
    if !site.is_local(guest) || holds(&path, guest) {
        return;
    }
    let directory = site.common.under_root(DEFINITIONS);
    let made = fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()));
    if let Err(error) = made.and_then(|()| write_atomic(&path, guest.uuid().as_bytes(), 0o644)) {
        log::warning(format_args!("vm {}: noting that it has a disk here: {error:#}", guest.name));
    }
}

/// Refuses to make a new disk for a VM that had one here.
pub fn no_disk_is_lost(site: &Site, guest: &Guest) -> Result<()> {
    let note = had_disk(guest.name.as_str());
    if !holds(&site.common.under_root(&note), guest) {
        return Ok(());
    }
    let (name, volume, disk) = (guest.name, &guest.vm.volume, guest.places().disk);
    Err(refused(format!(
        "vm {name}: had a disk on volume {volume} of this node, and {disk} is not there: a new one would be empty, and its backups \
         would go on with that\n  \
         put the old disk back into the file, pc-borg restore {name}, or pc-vm import {name} FILE; to make a new one on purpose: rm {note}"
    )))
}

/// Forgets it: the VM has left the file, or its disk was deleted.
pub fn forget(root: &Path, vm: &str) -> Result<()> {
    let path = root.join(had_disk(vm).trim_start_matches('/'));
    if !path.exists() {
        return Ok(());
    }
    remove_if_there(&path)?;
    // One that a power cut brings back would refuse a VM of the same name.
    sync_parent(&path)
}

/// Of another cluster it says nothing.
fn holds(path: &Path, guest: &Guest) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text == guest.uuid())
}
