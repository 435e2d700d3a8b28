//! A VM that runs nowhere, and is held so that nobody starts it: what whoever copies or changes its disk needs first.
//! The question is the one that `start` asks, to all nodes; QEMU's own lock on the image, which qemu-img minds, is the
//! second barrier.

use anyhow::Result;
use pc_cli::{refused, try_again};

use crate::domain::Guest;
use crate::hypervisor::QUICK;
use crate::owner::Verdict;
use crate::probe;
use crate::site::{Site, unreachable_for};
use crate::start::{is_another, whereabouts};
use crate::store::{Lock, Store};

/// What is known of nodes that do not answer.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Claims {
    /// NODE is switched off for certain: do not wait for its answer. A guest that still runs there would lose its disk's
    /// integrity. Once for each node
    #[arg(long, value_name = "NODE")]
    pub owner_is_dead: Vec<String>,
}

/// Whether the VM is to have a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It is needed.
    There,
    /// It is to be made, and one that exists is never written over.
    Missing,
}

/// A VM that runs nowhere and is not started while this lives.
#[derive(Debug)]
pub struct Idle<'a> {
    /// The VM.
    pub guest: Guest<'a>,
    /// Its files.
    pub store: Store,
    _lock: Lock,
}

/// Takes hold of a VM of the file; `command` is what to type again, with a claim, when nodes are silent.
pub fn hold<'a>(site: &Site<'a>, name: &str, disk: Disk, claims: &Claims, command: &str) -> Result<Idle<'a>> {
    let guest = site.guest(name)?;
    require_home(site, &guest, command)?;
    let store = site.store(&guest);
    store.require_mounted()?;
    // Before the disk: one that is still being copied out of an archive is missing until then.
    store.require_whole()?;
    require_disk(name, &store, disk)?;
    let lock = hold_uuid(site, name, &guest.uuid(), &store, site.is_local(&guest), claims, command)?;
    // Somebody may have made it, or taken it away, or begun to restore it, before the lock was ours.
    store.require_whole()?;
    require_disk(name, &store, disk)?;
    Ok(Idle { guest, store, _lock: lock })
}

/// The same for a VM that may have left the file: `own_volume` when every node has its volume for itself.
pub fn hold_uuid(
    site: &Site,
    name: &str,
    uuid: &str,
    store: &Store,
    own_volume: bool,
    claims: &Claims,
    command: &str,
) -> Result<Lock> {
    is_another(site, &claims.owner_is_dead)?;
    let lock = store.lock()?;
    runs_nowhere(site, name, uuid, store, own_volume, claims, command)?;
    Ok(lock)
}

/// The question to all nodes: with the VM's lock, and once more by whoever has worked for long and is about to replace its
/// disk, for bricks that were restarted meanwhile have forgotten the lock.
pub fn runs_nowhere(
    site: &Site,
    name: &str,
    uuid: &str,
    store: &Store,
    own_volume: bool,
    claims: &Claims,
    command: &str,
) -> Result<()> {
    let running = |node: &str| refused(format!("vm {name}: runs on {node}\n  {}", site.stop_of(name)));
    let process = probe::process(site, uuid).map_err(|reason| try_again(format!("vm {name}: {reason}")))?;
    if process.is_some() || site.nodes.local()?.live(uuid, QUICK)?.is_some_and(|live| live.active) {
        return Err(running(site.nodes.me()));
    }
    let owner = store.owner()?;
    match whereabouts(site, store, uuid, own_volume, owner.as_ref(), &claims.owner_is_dead, false) {
        (Verdict::Start, _) => Ok(()),
        (Verdict::RunsOn(node), _) => Err(running(&node)),
        (Verdict::Unknown(silent), clue) => Err(unreachable_for(name, clue, &silent, command)),
    }
}

/// A disk on a volume that every node has for itself is at home.
pub fn require_home(site: &Site, guest: &Guest, command: &str) -> Result<()> {
    let (home, me) = (site.home_of(guest), site.nodes.me());
    if !site.is_local(guest) || home == me {
        return Ok(());
    }
    let (name, volume) = (guest.name, &guest.vm.volume);
    Err(refused(format!(
        "vm {name}: its disk is on {home}, for every node has a volume {volume} of its own, and this is {me}\n  \
         on {home}: {command}"
    )))
}

fn require_disk(name: &str, store: &Store, disk: Disk) -> Result<()> {
    let path = store.disk();
    match (disk, path.symlink_metadata().is_ok()) {
        (Disk::There, false) => {
            let why = format!("vm {name}: has no disk yet, {} is missing", path.display());
            Err(refused(format!("{why}\n  its first start makes it, or: pc-vm import {name} FILE")))
        }
        (Disk::Missing, true) => Err(refused(format!(
            "vm {name}: {} is there, and is never written over\n  write another [vm.NAME] into the file",
            path.display()
        ))),
        _ => Ok(()),
    }
}
