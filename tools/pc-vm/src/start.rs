//! Starting a VM: at most once in the whole cluster. docs/decisions/vm-starter.md says why this is safe, and
//! against what only fencing helps.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pc_cli::{Exit, log, refused, try_again};

use crate::disk::resize;
use crate::domain::{Definition, Guest, over};
use crate::fencing;
use crate::had;
use crate::host::Host;
use crate::hypervisor::QUICK;
use crate::image::{Source, create_disk};
use crate::kernel;
use crate::one_disk::{only_disk, only_layout, only_volume};
use crate::order;
use crate::owner::{Answer, Owner, Verdict, decide};
use crate::pending;
use crate::places::IMAGE_CACHE;
use crate::probe;
use crate::seed;
use crate::site::{Clue, Site, now, tell, unreachable};
use crate::store::Store;
use crate::together;

/// How a start was asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Start it on this node although its home is another one
    #[arg(long)]
    pub here: bool,
    /// NODE is switched off for certain: do not wait for its answer. A VM that still runs there is then started twice.
    /// Once for each node
    #[arg(long, value_name = "NODE")]
    pub owner_is_dead: Vec<String>,
    /// Called by pacemaker's agent, the only starter once [ha] is enabled
    #[arg(long, hide = true)]
    pub by_pacemaker: bool,
    /// Called by pc-borg instant: its disk is what it wrote over this file, which its archive is shown in
    #[arg(long, value_name = "FILE", hide = true)]
    pub over: Option<PathBuf>,
    /// Called by pc-vm@.service: not while a VM that comes before it is being started
    #[arg(long, hide = true)]
    pub in_order: bool,
}

/// Starts a VM on this node.
pub fn start(site: &Site, name: &str, options: &Options) -> Result<Exit> {
    let guest = site.guest(name)?;
    site.leave_to_pacemaker(options.by_pacemaker, &site.start_of(name))?;
    check_place(site, &guest, options)?;
    // Before libvirt is asked: after a blackout this is tried for as long as the disks stay locked, and must cost nothing.
    let store = site.store(&guest);
    store.require_mounted()?;
    let host = site.host()?;
    let definition = host.definition(&guest);
    if host.hypervisor.live(&definition.uuid, QUICK)?.is_some_and(|live| live.active) {
        return already(site, &guest, &store, options);
    }
    if options.in_order {
        order::wait_for_others(site, &guest)?;
    }
    let _lock = store.lock()?;
    if runs_here(site, &host, name, &definition.uuid)? {
        return already(site, &guest, &store, options);
    }
    match (&options.over, store.unfinished()?) {
        (None, _) => store.require_whole()?,
        (Some(_), Some(_)) => (),
        (Some(_), None) => return Err(refused(format!("vm {name}: its disk is not being restored"))),
    }
    claim(site, &store, &guest, options)?;
    prepare(site, &host, &store, &guest, &definition, options.over.is_some())?;
    together::warn(&guest, site.nodes.me(), &host.hypervisor);
    // The lock is only as good as the bricks that keep it: the claim must still be ours after a long copy.
    let owner = store.owner()?.map(|owner| owner.node);
    if owner.as_deref() != Some(site.nodes.me()) {
        return Err(try_again(format!("vm {name}: {} took it over meanwhile", owner.unwrap_or_default())));
    }
    tell(&format!("starting vm {name}"));
    let over = options.over.as_ref().map(|archive| {
        let archive = archive.to_str().ok_or_else(|| refused("--over: not UTF-8"))?;
        over(&guest, &definition, archive)
    });
    let over = over.transpose()?;
    let created = pending::hand_over(site, name, || match &over {
        None => host.hypervisor.create(&definition.uuid),
        Some(xml) => host.hypervisor.create_as(xml),
    });
    created.with_context(|| format!("starting vm {name}"))?;
    log::info(format_args!("started vm {name}"));
    tell(&format!("vm {name} was started"));
    Ok(Exit::Done)
}

/// What is asked for is there; but not for whoever has a disk to put under it.
fn already(site: &Site, guest: &Guest, store: &Store, options: &Options) -> Result<Exit> {
    let name = guest.name;
    // One that has run since before such notes were made has none yet.
    if store.disk().exists() {
        had::note(site, guest);
    }
    if options.over.is_some() {
        return Err(refused(format!("vm {name}: runs here already\n  pc-vm list")));
    }
    log::debug(format_args!("vm {name} runs here already"));
    Ok(Exit::Done)
}

/// Asked with the VM's lock, for somebody may have started it since. A guest that libvirt has forgotten is one that the kernel
/// still shows, and QEMU's lock on the disk would be the only thing between the two.
fn runs_here(site: &Site, host: &Host, name: &str, uuid: &str) -> Result<bool> {
    let process = probe::process(site, uuid).map_err(|reason| {
        try_again(format!("vm {name}: whether it runs here is not known: {reason}\n  pc-vm probe {name}"))
    })?;
    let Some(pid) = process else { return Ok(false) };
    if host.hypervisor.live(uuid, QUICK)?.is_some_and(|live| live.active) {
        return Ok(true);
    }
    Err(probe::forgotten(name, pid))
}

fn check_place(site: &Site, guest: &Guest, options: &Options) -> Result<()> {
    let me = site.nodes.me();
    is_another(site, &options.owner_is_dead)?;
    let home = site.home_of(guest);
    if home != me && site.is_local(guest) {
        let (name, volume) = (guest.name, &guest.vm.volume);
        return Err(refused(format!(
            "vm {name}: its disk is on {home}, for every node has a volume {volume} of its own, and this is {me}\n  \
             on {home}: pc-vm start {name}"
        )));
    }
    if home != me && guest.vm.has_devices() {
        return Err(refused(format!(
            "vm {0}: has devices of {home}, and this is {me}\n  on {home}: pc-vm start {0}",
            guest.name
        )));
    }
    if home == me || options.here || options.by_pacemaker {
        return Ok(());
    }
    let name = guest.name;
    Err(refused(format!(
        "vm {name}: its home is {home}, this is {me}\n  to start it on this node all the same: pc-vm start {name} --here"
    )))
}

/// Refuses a claim that this very node is dead.
pub fn is_another(site: &Site, dead: &[String]) -> Result<()> {
    match dead.iter().find(|dead| *dead == site.nodes.me()) {
        Some(dead) => Err(refused(format!("--owner-is-dead {dead}: this is {dead}, and it is alive"))),
        None => Ok(()),
    }
}

/// Makes this node the owner, or says why it must not be.
fn claim(site: &Site, store: &Store, guest: &Guest, options: &Options) -> Result<()> {
    let name = guest.name.as_str();
    let me = site.nodes.me();
    let owner = store.owner()?;
    site.leave_what_it_started(name, owner.as_ref(), options.by_pacemaker)?;
    let mut dead = options.owner_is_dead.clone();
    dead.extend(owner.iter().flat_map(|owner| fencing::proves(owner, options.by_pacemaker)));
    runs_nowhere_else(site, store, guest, owner.as_ref(), &dead, options.by_pacemaker)?;
    if !store.disk().exists() {
        only_volume(site, guest)?;
        only_layout(site, guest)?;
        if site.is_local(guest) {
            only_disk(site, guest)?;
            if options.over.is_none() {
                had::no_disk_is_lost(site, guest)?;
            }
        }
    }
    if let Some(before) = owner.filter(|owner| owner.node != me) {
        log::info(format_args!("vm {name}: taking over from {}", before.node));
    }
    let resets = if options.by_pacemaker { fencing::resets_this_node(&site.common.root) } else { Ok(()) };
    if let Err(reason) = resets {
        log::warning(format_args!(
            "vm {name}: nothing resets this node ({reason}): while it is silent no other one starts the VM\n  pc-ha status"
        ));
    }
    let pacemaker = options.by_pacemaker && resets.is_ok();
    store.set_owner(&Owner { pacemaker, ..Owner::new(name, me, site.boot_id(), now()?) })
}

/// An error unless no other node runs it: each has said so, or its silence is no reason to wait.
pub fn runs_nowhere_else(
    site: &Site,
    store: &Store,
    guest: &Guest,
    owner: Option<&Owner>,
    dead: &[String],
    by_pacemaker: bool,
) -> Result<()> {
    let name = guest.name.as_str();
    // Pacemaker knows where it started a VM whose volume every node has for itself.
    let own_volume = site.is_local(guest) && !by_pacemaker;
    match whereabouts(site, store, &guest.uuid(), own_volume, owner, dead, by_pacemaker) {
        (Verdict::Start, _) => Ok(()),
        (Verdict::RunsOn(node), _) => {
            let remedy = if by_pacemaker {
                "pc-ha status".to_string()
            } else if site.is_local(guest) || guest.vm.has_devices() {
                format!("on {node}: pc-vm stop {name}")
            } else {
                format!("to have it here: pc-vm migrate {name} {}", site.nodes.me())
            };
            Err(refused(format!("vm {name}: runs on {node}\n  {remedy}")))
        }
        (Verdict::Unknown(silent), clue) => Err(unreachable(name, clue, &silent, by_pacemaker)),
    }
}

/// Asks all other nodes whether they run a VM, and weighs what the silent ones may do. Of those that it may run on, for all
/// that is recorded, the kernel is asked as well, unless it is pacemaker that asks for what it started: its agent did.
pub fn whereabouts(
    site: &Site,
    store: &Store,
    uuid: &str,
    own_volume: bool,
    owner: Option<&Owner>,
    dead: &[String],
    by_pacemaker: bool,
) -> (Verdict, Clue) {
    let me = site.nodes.me();
    let mut all: Vec<&str> = site.cluster().nodes.iter().map(|node| node.name.as_str()).collect();
    // A record on a volume of this node's own says nothing about the others, unless the disk is here as well: then this is
    // where the VM has always been, for pc-config changes the home of none.
    let at_home = owner.is_some_and(|owner| owner.node == me) && store.disk().exists();
    let alone = own_volume && !at_home;
    if alone {
        let named = owner.into_iter().flat_map(Owner::nodes).filter(|node| site.nodes.named(node).is_none());
        all.extend(named);
    }
    let record = owner.filter(|_| !alone);
    let is_managed = by_pacemaker && record.is_some_and(|record| record.pacemaker);
    let may_run_on =
        |node: &str| !is_managed && record.is_none_or(|record| record.nodes().any(|named| named == node));
    let moves = record.is_some_and(|record| record.moving_to.is_some());
    let told = site.nodes.answers(|node| {
        if may_run_on(node.name.as_str()) {
            return kernel::sure(site, node, uuid);
        }
        match site.nodes.ask(node, uuid) {
            // Nobody knows whether a guest that was on its way has arrived: its kernel's "runs here" is heard as well.
            Answer::Silent(_) if moves && kernel::shows(site, node, uuid) == Answer::Runs => Answer::Runs,
            told => told,
        }
    });
    let ask = |node: &str| told.get(node).cloned().unwrap_or_else(Answer::not_in_the_file);
    let clue = match (alone, owner) {
        (true, _) => Clue::OwnVolumes,
        (false, Some(_)) => Clue::Record,
        (false, None) => Clue::NoRecord,
    };
    (decide(me, &all, record, dead, ask), clue)
}

/// Disk, seed, definition: what a start needs. One that is being restored has its disk from elsewhere.
fn prepare(
    site: &Site,
    host: &Host,
    store: &Store,
    guest: &Guest,
    definition: &Definition,
    restoring: bool,
) -> Result<()> {
    if !restoring {
        make_disk(site, store, guest)?;
        had::note(site, guest);
    }
    let name = guest.name;
    if let Some(missing) = guest.vm.cdrom.as_ref().filter(|path| !std::path::Path::new(path).is_file()) {
        log::warning(format_args!("vm {name}: starts without its cdrom: {missing} is no file on this node"));
    }
    let seed = seed::render(guest, store.has_seed())?;
    if seed.map(|seed| store.write_seed(&seed)).transpose()? == Some(true) {
        log::info(format_args!("wrote the cloud-init seed of vm {name}"));
    }
    store.write_definition(&definition.xml)?;
    host.define(definition)?;
    if host.hypervisor.has_managed_save(&definition.uuid)? {
        bail!(
            "vm {name}: libvirt holds a saved state, which would resume old memory on a newer disk\n  \
             virsh managedsave-remove {name}"
        );
    }
    Ok(())
}

/// Its disk, unless there is one; as large as the file says.
fn make_disk(site: &Site, store: &Store, guest: &Guest) -> Result<()> {
    let image = match &guest.vm.image {
        None => None,
        Some(image) => {
            let found = site.cluster().images.get(image);
            Some((image.as_str(), found.with_context(|| format!("no [image] is called {image}"))?))
        }
    };
    let name = guest.name;
    tell(&format!("making the disk of vm {name}"));
    let cache = site.common.under_root(IMAGE_CACHE);
    let source = Source { image, size: guest.vm.disk, cache: &cache };
    if create_disk(source, &store.disk())? {
        log::info(format_args!("made the disk of vm {name}, {}", guest.vm.disk));
    } else {
        resize::before_start(store, guest)?;
    }
    Ok(())
}
