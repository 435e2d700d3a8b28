//! A disk as large as the file says: it grows, and is never made smaller.

use std::cmp::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cluster::{Bytes, Node};
use pc_cli::{Exit, emit, log, refused};
use pc_run::Cost;

use crate::disk::{Answer, Did};
use crate::domain::{DISK, Guest};
use crate::idle::{Claims, Disk, hold, require_home};
use crate::qemu_img::{self, sectors};
use crate::site::{Site, tell};
use crate::store::Store;

/// Grows it: through the QEMU that has it, or with qemu-img when the VM runs nowhere.
pub fn resize(site: &Site, name: &str, claims: &Claims) -> Result<Exit> {
    let started = Instant::now();
    let command = format!("pc-vm resize {name}");
    let guest = site.guest(name)?;
    require_home(site, &guest, &command)?;
    // Not found, and somebody silent: `hold` weighs that.
    let running = site.nodes.runs_on(&guest.uuid()).unwrap_or_else(|error| {
        log::debug(format_args!("vm {name}: {error:#}"));
        None
    });
    let want = sectors(guest.vm.disk.0);
    let store = site.store(&guest);
    let was = if let Some(node) = running {
        online(site, &guest, &store, node, want)?
    } else {
        let idle = hold(site, name, Disk::There, claims, &command)?;
        offline(&idle.store, &guest, want)?
    };
    if was != want {
        log::info(format_args!("grew the disk of vm {name} from {} to {}", Bytes(was), Bytes(want)));
    }
    let answer = Answer {
        schema: "pc.vm.disk/1",
        vm: name.into(),
        did: if was == want { Did::Nothing } else { Did::Grown },
        disk: store.disk().display().to_string(),
        size_bytes: want,
        was_bytes: (was != want).then_some(was),
        from: None,
        to: None,
        running: running.is_some(),
        cost: Cost::since(started),
    };
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// Under the lock: a guest that is being moved has no QEMU of its own.
fn online(site: &Site, guest: &Guest, store: &Store, node: &Node, want: u64) -> Result<u64> {
    let (name, uuid) = (guest.name, guest.uuid());
    store.require_mounted()?;
    let _lock = store.lock()?;
    store.require_whole()?;
    let there = site.nodes.of(node)?;
    let disk = store.disk();
    // Its QEMU knows; this node may have the size of before another one's resize in a cache, and QEMU would make it smaller.
    let was = there.disk_size(&uuid, DISK).with_context(|| format!("looking at {}", disk.display()))?;
    if may_grow(guest, was)? {
        tell(&format!("growing the disk of vm {name}"));
        there
            .grow_disk(&uuid, DISK, want)
            .with_context(|| format!("growing the disk of vm {name} on {}", node.name))?;
        let is = there.disk_size(&uuid, DISK)?;
        if is != want {
            bail!("vm {name}: libvirt of {} says that it grew its disk, and it has {}", node.name, Bytes(is));
        }
    }
    Ok(was)
}

/// Of a VM that runs nowhere, and is held.
fn offline(store: &Store, guest: &Guest, want: u64) -> Result<u64> {
    let disk = store.disk();
    let was = store.disk_bytes().map(sectors).with_context(|| format!("looking at {}", disk.display()))?;
    if may_grow(guest, was)? {
        tell(&format!("growing the disk of vm {}", guest.name));
        qemu_img::grow(&disk, want)?;
    }
    Ok(was)
}

/// Whether there is anything to do; refuses to make a disk smaller.
fn may_grow(guest: &Guest, is: u64) -> Result<bool> {
    match is.cmp(&sectors(guest.vm.disk.0)) {
        Ordering::Less => Ok(true),
        Ordering::Equal => Ok(false),
        Ordering::Greater => Err(refused(difference(guest, is).unwrap_or_default())),
    }
}

/// A start grows what is too small. A disk that is too large is told, and no reason not to start.
pub fn before_start(store: &Store, guest: &Guest) -> Result<()> {
    let Some(is) = store.disk_bytes().map(sectors) else { return Ok(()) };
    let want = sectors(guest.vm.disk.0);
    match is.cmp(&want) {
        Ordering::Less => {
            qemu_img::grow(&store.disk(), want)?;
            log::info(format_args!(
                "grew the disk of vm {} from {} to {}",
                guest.name,
                Bytes(is),
                Bytes(want)
            ));
        }
        Ordering::Greater => log::warning(difference(guest, is).unwrap_or_default()),
        Ordering::Equal => {}
    }
    Ok(())
}

/// How a disk of this size differs from the file, with what to do.
pub fn difference(guest: &Guest, is: u64) -> Option<String> {
    let (name, is, want) = (guest.name, sectors(is), sectors(guest.vm.disk.0));
    let both = format!("vm {name}: its disk has {}, the file gives it {}", Bytes(is), guest.vm.disk);
    match is.cmp(&want) {
        Ordering::Less => Some(format!("{both}\n  pc-vm resize {name}")),
        Ordering::Equal => None,
        Ordering::Greater => {
            Some(format!("{both}, and no disk is made smaller\n  disk = \"{}\" in [vm.{name}]", Bytes(is)))
        }
    }
}
