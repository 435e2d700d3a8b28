//! Stopping a VM: power button, patience, then the plug.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pc_cli::{Exit, log, refused, try_again};

use crate::domain::Guest;
use crate::hypervisor::{Hypervisor, LOOK, QUICK};
use crate::kernel;
use crate::others;
use crate::owner::{Answer, Owner};
use crate::pending;
use crate::probe;
use crate::site::{Site, now, tell};
use crate::systemd;

/// How a stop was asked for.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    /// Only on this node: nothing to do when it runs elsewhere, or nowhere
    #[arg(long)]
    pub here: bool,
    /// How long the guest may take before its plug is pulled
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub timeout: u64,
    /// Called by pacemaker's agent
    #[arg(long, hide = true)]
    pub by_pacemaker: bool,
    /// Do nothing unless the machine is going down
    #[arg(long, hide = true)]
    pub at_shutdown: bool,
    /// Where pacemaker has taken over, and the machine stays up: leave it running
    #[arg(long, hide = true)]
    pub hand_over: bool,
}

/// Some guests ignore the button while they boot: it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(15);

/// Stops one VM, wherever it runs.
pub fn stop(site: &Site, name: &str, options: &Options) -> Result<Exit> {
    if options.by_pacemaker && options.here && is_not_here(site, name)? {
        return Ok(Exit::Done);
    }
    // A VM that has left the file while it ran is still pacemaker's: a stop that fails would cost the whole node.
    if options.by_pacemaker && !site.cluster().vms.contains_key(name) {
        let local = site.nodes.local()?;
        end(&local, name, &site.uuid_of(name)?, Duration::from_secs(options.timeout))?;
        return Ok(Exit::Done);
    }
    let guest = site.guest(name)?;
    let uuid = guest.uuid();
    if is_handed_over(site, options, systemd::is_stopping) {
        // Whose it is gets noted by `adopt`, once this node can be fenced.
        log::info(format_args!("vm {name} runs on: pacemaker takes over"));
        return Ok(Exit::Done);
    }
    let local = site.nodes.local()?;
    if local.live(&uuid, QUICK)?.is_some_and(|live| live.active) {
        // ExecStop= of pc-vm@ comes here too, with --here: a unit stops what it started, whoever manages now.
        site.leave_to_pacemaker(options.by_pacemaker || options.here, &site.stop_of(name))?;
        end(&local, name, &uuid, Duration::from_secs(options.timeout))?;
        nothing_is_left(site, name, &uuid);
        return after(site, &guest, &local, site.nodes.me(), options);
    }
    // Pacemaker's agent looks at /proc itself.
    if options.by_pacemaker {
        nothing_is_left(site, name, &uuid);
    } else {
        match probe::process(site, &uuid) {
            Ok(None) => pending::forget(site, name),
            Ok(Some(_)) if local.live(&uuid, QUICK)?.is_some_and(|live| live.active) => {
                return Err(try_again(format!("vm {name}: was started meanwhile\n  {}", site.stop_of(name))));
            }
            Ok(Some(pid)) => return Err(probe::forgotten(name, pid)),
            Err(reason) if options.here => log::debug(format_args!("vm {name}: {reason}")),
            Err(reason) => return Err(try_again(format!("vm {name}: {reason}"))),
        }
    }
    if options.here {
        return Ok(Exit::Done);
    }
    site.leave_to_pacemaker(options.by_pacemaker, &site.stop_of(name))?;
    let Some(node) = site.nodes.runs_on(&uuid).with_context(|| format!("vm {name}"))? else {
        return lost(site, &guest);
    };
    let there = site.nodes.of(node)?;
    end(&there, name, &uuid, Duration::from_secs(options.timeout))?;
    after(site, &guest, &there, node.name.as_str(), options)
}

/// A libvirt that is silent was told nothing that could become this VM's QEMU, and /proc shows none: a node to which pacemaker only
/// offered the VM is not fenced for it. Whatever libvirt answers counts more.
fn is_not_here(site: &Site, name: &str) -> Result<bool> {
    let uuid = site.uuid_of(name)?;
    if probe::process(site, &uuid) != Ok(None) {
        return Ok(false);
    }
    let Err(silent) = site.nodes.local_within(LOOK).and_then(|local| local.live(&uuid, LOOK)) else {
        return Ok(false);
    };
    match pending::cannot_come(site, name, &uuid) {
        Ok(()) => {
            log::warning(format_args!("vm {name} is not here, by /proc alone: {silent:#}"));
            Ok(true)
        }
        Err(reason) => {
            log::warning(format_args!("vm {name}: only libvirt can tell that it is not here: {reason}"));
            Ok(false)
        }
    }
}

/// libvirt says that it does not run here; when /proc does so as well, no start is under way any more.
fn nothing_is_left(site: &Site, name: &str, uuid: &str) {
    if probe::process(site, uuid) == Ok(None) {
        pending::forget(site, name);
    }
}

/// No libvirt runs it. The kernel of who has it by its record is asked before that is believed.
fn lost(site: &Site, guest: &Guest) -> Result<Exit> {
    let name = guest.name;
    let owner = recorded(site, guest).filter(|owner| !owner.stopped);
    let others = owner.iter().flat_map(Owner::nodes).filter_map(|node| site.nodes.named(node));
    for node in others.filter(|node| node.name.as_str() != site.nodes.me()) {
        match kernel::sure(site, node, &guest.uuid()) {
            Answer::Idle => {}
            Answer::Runs => {
                return Err(refused(format!(
                    "vm {name}: runs on {0}, and libvirt there does not know it\n  on {0}: systemctl restart libvirtd",
                    node.name
                )));
            }
            Answer::Silent(reason) => {
                return Err(try_again(format!(
                    "vm {name}: may run on {0}, which its record names: {reason}\n  on {0}: pc-vm probe {name}",
                    node.name
                )));
            }
        }
    }
    log::debug(format_args!("vm {name} runs nowhere"));
    Ok(Exit::Done)
}

/// The record, as far as it can be read.
fn recorded(site: &Site, guest: &Guest) -> Option<Owner> {
    let store = site.store(guest);
    let owner = store.require_mounted().and_then(|()| store.owner());
    owner.unwrap_or_else(|error| {
        log::debug(format_args!("vm {}: {error:#}", guest.name));
        None
    })
}

/// Whether a unit that is put down leaves its guest running: pacemaker takes over, and the machine stays up.
fn is_handed_over(site: &Site, options: &Options, is_stopping: impl Fn() -> bool) -> bool {
    options.hand_over && site.has_pacemaker() && !is_stopping()
}

/// Stops every VM of the file that runs on this node, all at once: guests that were moved here have no unit of
/// their own on this node, and would otherwise be cut off when it goes down. Then everything else that runs here goes too.
pub fn stop_all(site: &Site, options: &Options) -> Result<Exit> {
    if options.at_shutdown && !systemd::is_stopping() {
        return Ok(Exit::Done);
    }
    site.leave_to_pacemaker(options.by_pacemaker || options.at_shutdown, "pc-ha status")?;
    let local = Options { here: true, ..options.clone() };
    let mut results: Vec<Result<Exit>> = Vec::new();
    std::thread::scope(|scope| {
        let stopping: Vec<_> =
            site.cluster().vms.keys().map(|name| scope.spawn(|| stop(site, name.as_str(), &local))).collect();
        if options.at_shutdown {
            results.push(others::stop(site, Duration::from_secs(options.timeout)).map(|()| Exit::Done));
        }
        let lost = |_| Err(anyhow::anyhow!("stopping a vm ended badly"));
        results.extend(stopping.into_iter().map(|thread| thread.join().unwrap_or_else(lost)));
    });
    pc_cli::together(results.into_iter().filter_map(Result::err)).map(|()| Exit::Done)
}

/// Waits until a guest is gone from the libvirt it runs on. That is its end, or it has been moved away meanwhile.
pub fn end(hypervisor: &Hypervisor, name: &str, uuid: &str, patience: Duration) -> Result<()> {
    if press(hypervisor, name, uuid, patience)? {
        return Ok(());
    }
    log::warning(format_args!("vm {name} did not stop within {} s: pulling its plug", patience.as_secs()));
    let ended = hypervisor.terminate(uuid).or_else(|_| hypervisor.kill(uuid));
    if let Err(error) = ended {
        if hypervisor.live(uuid, QUICK)?.is_some_and(|live| live.active) {
            return Err(error.context(format!("stopping vm {name}")));
        }
    }
    Ok(())
}

/// Presses a guest's power button until it is gone from here; `false` when it is not gone in time.
pub fn press(hypervisor: &Hypervisor, name: &str, uuid: &str, patience: Duration) -> Result<bool> {
    tell(&format!("stopping vm {name}"));
    let until = Instant::now() + patience;
    let mut pressed: Option<Instant> = None;
    let mut pause = Duration::from_millis(100);
    while Instant::now() < until {
        if !hypervisor.live(uuid, QUICK)?.is_some_and(|live| live.active) {
            return Ok(true);
        }
        if pressed.is_none_or(|pressed| pressed.elapsed() >= PRESS_AGAIN) {
            // A guest that is paused, or gone since, cannot be pressed; the deadline covers both.
            if let Err(error) = hypervisor.press_power_button(uuid) {
                log::debug(format_args!("vm {name}: {error:#}"));
            }
            pressed = Some(Instant::now());
        }
        std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Ok(false)
}

/// It is gone from `node`: says so and notes it, unless it went to another node.
fn after(site: &Site, guest: &Guest, hypervisor: &Hypervisor, node: &str, options: &Options) -> Result<Exit> {
    let name = guest.name;
    if options.by_pacemaker {
        // It knows what stopped where; a volume that hangs must not make this a stop that failed.
        log::info(format_args!("vm {name}: gone from {node}"));
        return Ok(Exit::Done);
    }
    // Without the lock: a migration that goes on holds it, and its record names both ends until it is over.
    let seen = site.sees_record(guest, node);
    let owner = if seen { recorded(site, guest) } else { None };
    match owner.and_then(|owner| elsewhere(site, guest, &owner, node)) {
        // Gone from here is all that was asked for.
        Some(reason) if options.here => log::warning(format_args!("vm {name}: {reason}")),
        Some(reason) => return Err(try_again(format!("vm {name}: {reason}"))),
        None => {
            log::info(format_args!("stopped vm {name}"));
            if seen {
                release(site, guest, hypervisor, node);
            }
        }
    }
    Ok(Exit::Done)
}

/// Why it may run on another node that the record names: a move goes on when the one who began it has died, and a guest
/// that is gone from one end has arrived at the other one.
fn elsewhere(site: &Site, guest: &Guest, owner: &Owner, node: &str) -> Option<String> {
    let (name, uuid) = (guest.name, guest.uuid());
    let ask = |end| {
        site.nodes.named(end).map_or_else(Answer::not_in_the_file, |end| kernel::sure(site, end, &uuid))
    };
    owner.nodes().filter(|end| *end != node && !owner.stopped).find_map(|end| match ask(end) {
        Answer::Idle => None,
        Answer::Runs => Some(format!("gone from {node}, and runs on {end}\n  pc-vm stop {name}")),
        Answer::Silent(reason) => Some(format!(
            "gone from {node}, and may run on {end}, which its record names and which does not answer: {reason}\n  \
             pc-vm list"
        )),
    })
}

/// Notes that the owner saw it stop, so that another node may start it while this one is switched off. A hint
/// only: when the volume does not answer any more, the next starter asks this node instead.
fn release(site: &Site, guest: &Guest, hypervisor: &Hypervisor, node: &str) {
    let write = || -> Result<()> {
        site.require_self()?;
        let store = site.store(guest);
        store.require_mounted()?;
        let _lock = store.lock()?;
        // Between its end and our lock somebody may have started it again.
        if hypervisor.live(&guest.uuid(), QUICK)?.is_some_and(|live| live.active) {
            bail!("it runs again");
        }
        // libvirt may have lost it before it ended.
        let there = site.nodes.named(node).map(|node| kernel::shows(site, node, &guest.uuid()));
        if there != Some(Answer::Idle) {
            bail!("its QEMU may still be on {node}");
        }
        match store.owner()? {
            Some(mut owner) if owner.node == node => {
                if let Some(reason) = elsewhere(site, guest, &owner, node) {
                    bail!(reason);
                }
                owner.stopped = true;
                owner.moving_to = None;
                owner.since = now()?;
                store.set_owner(&owner)
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = write() {
        log::debug(format_args!("vm {}: not noted as stopped: {error:#}", guest.name));
    }
}

#[cfg(test)]
#[path = "stop_tests.rs"]
mod tests;
