//! The owner's record where pacemaker is the starter: whose a VM is, and that it is nobody's.

use anyhow::Result;
use pc_cli::{Exit, log, refused, try_again};

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
