//! The owner's record where pacemaker is the starter: whose a VM is, and that it is nobody's.

use anyhow::{Context, Result};
use pc_cli::{Exit, log, refused, together, try_again};

use crate::domain::Guest;
use crate::hypervisor::LOOK;
use crate::owner::Owner;
use crate::probe;
use crate::site::{Site, now};
use crate::start::{is_another, runs_nowhere_else};

/// Notes that a VM runs nowhere, so that pacemaker may start it on any node: every node has said so, but for those that
/// `dead` names as switched off. The record then holds the claim, and no second one is needed.
pub fn disown(site: &Site, name: &str, dead: &[String]) -> Result<Exit> {
    let guest = site.guest(name)?;
    let me = site.nodes.me();
    is_another(site, dead)?;
    let home = site.home_of(&guest);
    if site.is_local(&guest) && home != me {
        let claims: Vec<String> = dead.iter().map(|dead| format!(" --owner-is-dead {dead}")).collect();
        return Err(refused(format!(
            "vm {name}: its disk and its record are on {home}, and this is {me}\n  on {home}: pc-ha start {name}{}",
            claims.concat()
        )));
    }
    let store = site.store(&guest);
    store.require_mounted()?;
    let uuid = guest.uuid();
    let here = probe::process(site, &uuid).map_err(|reason| try_again(format!("vm {name}: {reason}")))?;
    let live = site.nodes.local_within(LOOK)?.live(&uuid, LOOK)?;
    if here.is_some() || live.is_some_and(|live| live.active) {
        return Err(refused(format!("vm {name}: runs on {me}\n  pc-ha status")));
    }
    let _lock = store.lock()?;
    let owner = store.owner()?;
    runs_nowhere_else(site, &store, &guest, owner.as_ref(), dead, true)?;
    store.set_owner(&Owner { stopped: true, ..Owner::new(name, me, site.boot_id(), now()?) })?;
    let believed =
        if dead.is_empty() { String::new() } else { format!(", for {} is switched off", dead.join(", ")) };
    log::info(format_args!("vm {name}: noted that it runs nowhere{believed}"));
    Ok(Exit::Done)
}

/// Notes that the VMs that run on this node are pacemaker's: should it fall silent, its fencing is proof enough that they
/// are dead. So this is called on a node that can be fenced, and not before. Every VM is tried.
pub fn adopt(site: &Site) -> Result<Exit> {
    let guests = site.guests();
    let failed = guests.iter().filter_map(|guest| {
        let adopted = adopt_one(site, guest);
        adopted.with_context(|| format!("vm {} is not noted as pacemaker's", guest.name)).err()
    });
    together(failed.collect::<Vec<_>>()).map(|()| Exit::Done)
}

/// Notes that no VM is pacemaker's any more: a node whose pacemaker has been stopped is fenced by nobody, however silent it is. Of
/// every record that is seen here, wherever its VM runs; the other nodes see the same ones, or their own.
pub fn release(site: &Site) -> Result<Exit> {
    let guests = site.guests();
    let failed = guests.iter().filter_map(|guest| {
        let released = release_one(site, guest);
        released.with_context(|| format!("vm {} is still noted as pacemaker's", guest.name)).err()
    });
    together(failed.collect::<Vec<_>>()).map(|()| Exit::Done)
}

fn release_one(site: &Site, guest: &Guest) -> Result<()> {
    let store = site.store(guest);
    if let Err(reason) = store.require_mounted() {
        // Whoever has its volume sees its record, and a VM that runs here has it here.
        let nowhere_here = probe::process(site, &guest.uuid()).is_ok_and(|process| process.is_none());
        return if nowhere_here { Ok(()) } else { Err(reason) };
    }
    let pacemaker_s = || -> Result<Option<Owner>> { Ok(store.owner()?.filter(|owner| owner.pacemaker)) };
    if pacemaker_s()?.is_none() {
        return Ok(());
    }
    let _lock = store.lock_within(LOOK)?;
    let Some(owner) = pacemaker_s()? else { return Ok(()) };
    store.set_owner(&Owner { pacemaker: false, ..owner })?;
    log::info(format_args!("vm {} is not pacemaker's any more", guest.name));
    Ok(())
}

fn adopt_one(site: &Site, guest: &Guest) -> Result<()> {
    let (name, me) = (guest.name.as_str(), site.nodes.me());
    // The kernel's word: what libvirt calls running, or a record, may be of yesterday.
    if probe::process(site, &guest.uuid()).map_err(try_again)?.is_none() {
        return Ok(());
    }
    let is_noted =
        |owner: &Owner| owner.node == me && owner.pacemaker && !owner.stopped && owner.moving_to.is_none();
    let store = site.store(guest);
    store.require_mounted()?;
    if store.owner()?.as_ref().is_some_and(is_noted) {
        return Ok(());
    }
    // A move, or a stop, that is under way has it.
    let _lock = store.lock()?;
    let owner = store.owner()?;
    // It runs here. Whether it runs anywhere else as well is what the others have to say first.
    runs_nowhere_else(site, &store, guest, owner.as_ref(), &[], true)?;
    store.set_owner(&Owner { pacemaker: true, ..Owner::new(name, me, site.boot_id(), now()?) })?;
    log::info(format_args!("vm {name} is pacemaker's from now on"));
    Ok(())
}
