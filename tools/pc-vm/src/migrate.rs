//! Moving a running VM to another node.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::Node;
use pc_cli::{Exit, TryAgain, emit, log, refused};
use serde::Serialize;

use crate::domain::Guest;
use crate::hypervisor::QUICK;
use crate::kernel;
use crate::owner::{Answer, Owner};
use crate::site::{Site, now, tell};
use crate::store::Store;
use crate::together;
use crate::virsh;

/// How long somebody else may be at work on the VM: whoever asks for a move would stop and start it instead.
const OTHERS: Duration = Duration::from_secs(120);

/// A libvirt that is being restarted, for a new certificate say, is back within this; a move that fails costs more.
const RESTARTS: Duration = Duration::from_secs(60);
/// How often it is asked: nothing tells when it is back.
const AGAIN: Duration = Duration::from_secs(2);
/// Memory over a slow link.
const MOVE: Duration = Duration::from_secs(2 * 3600);
/// Pacemaker ends us after 1800 s, and libvirt would go on without anybody who notes where the guest is in the end.
const PACEMAKER: Duration = Duration::from_secs(1400);

/// How a migration was asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Called by pacemaker's agent
    #[arg(long, hide = true)]
    pub by_pacemaker: bool,
}

/// `pc.vm.migration/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Migration {
    /// `pc.vm.migration/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// Where it ran.
    pub from: String,
    /// Where it runs now; the same node when there was nothing to do.
    pub to: String,
    /// From the request to the end.
    pub seconds: f64,
    /// How long the guest stood still, as QEMU measured it; null when it did not say.
    pub downtime_ms: Option<u64>,
    /// Bytes sent.
    pub data_bytes: Option<u64>,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            return writeln!(f, "vm {} runs on {} already", self.vm, self.to);
        }
        write!(f, "vm {} moved from {} to {} in {:.1} s", self.vm, self.from, self.to, self.seconds)?;
        match self.downtime_ms {
            Some(downtime) => writeln!(f, ", standing still for {downtime} ms"),
            None => writeln!(f),
        }
    }
}

/// Moves a VM and says what it cost.
pub fn migrate(site: &Site, name: &str, node: &str, options: &Options) -> Result<Exit> {
    let guest = site.guest(name)?;
    let Some(to) = site.nodes.named(node) else {
        return Err(refused(format!("no [[node]] is called {node:?}")));
    };
    site.leave_to_pacemaker(options.by_pacemaker, &format!("pc-ha move {name} {node}"))?;
    if site.is_local(&guest) {
        let home = site.home_of(&guest);
        return Err(refused(format!(
            "vm {name}: its disk is on {home}, on a volume that every node has for itself, and does not move\n  pc-vm list"
        )));
    }
    if guest.vm.has_devices() {
        let home = site.home_of(&guest);
        return Err(refused(format!(
            "vm {name}: has devices of {home} (usb, pci), which do not move with it\n  \
             pc-vm stop {name}, where it runs, then on {home}: pc-vm start {name}"
        )));
    }
    let uuid = guest.uuid();
    let Some(from) = site.nodes.runs_on(&uuid).with_context(|| format!("vm {name}"))? else {
        return Err(refused(format!(
            "vm {name}: runs nowhere, so there is nothing to move\n  pc-vm start {name}"
        )));
    };
    let started = Instant::now();
    let mut answer = Migration {
        schema: "pc.vm.migration/1",
        vm: name.into(),
        from: from.name.to_string(),
        to: to.name.to_string(),
        seconds: 0.0,
        downtime_ms: None,
        data_bytes: None,
    };
    if from.name != to.name {
        if let Some(there) = guest.vm.apart.as_ref().and_then(|_| site.nodes.of(to).ok()) {
            together::warn(&guest, to.name.as_str(), &there);
        }
        tell(&format!("moving vm {name} from {} to {}", from.name, to.name));
        carry(site, &guest, from, to, options.by_pacemaker)?;
        answer.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        measure(site, &uuid, to, &mut answer);
        log::info(format_args!("moved vm {name} from {} to {}", from.name, to.name));
    }
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// The move itself, with the owner's record around it: while it lasts both ends are named, so that whoever has to
/// start the VM after a crash asks both.
fn carry(site: &Site, guest: &Guest, from: &Node, to: &Node, pacemaker: bool) -> Result<()> {
    let name = guest.name.as_str();
    let uuid = guest.uuid();
    let source = site.nodes.of(from)?;
    // Asked before anything changes: a destination that does not answer is the common failure.
    let patience = if pacemaker { RESTARTS } else { Duration::ZERO };
    answers(site, to, &uuid, patience).with_context(|| format!("moving vm {name}"))?;
    let store = site.store(guest);
    store.require_mounted()?;
    let _lock = store.lock_within(OTHERS)?;
    store.require_whole()?;
    site.leave_what_it_started(name, store.owner()?.as_ref(), pacemaker)?;
    let during = Owner { moving_to: Some(to.name.to_string()), pacemaker, ..record(site, name, from)? };
    store.set_owner(&during)?;
    let patience = if pacemaker { PACEMAKER } else { MOVE };
    let moved = source.migrate(&uuid, &site.nodes.destination(to)?, patience);
    // libvirt goes on with one that took too long.
    if moved.as_ref().is_err_and(anyhow::Error::is::<TryAgain>) {
        if let Err(error) = virsh::abort_move(&site.nodes.uri_from_here(from)?, &uuid) {
            log::warning(format_args!("vm {name}: giving up its move: {error}"));
        }
    }
    settle(site, &store, guest, [from, to], pacemaker)?;
    moved.with_context(|| format!("moving vm {name} from {} to {}", from.name, to.name))
}

/// Waits until the libvirt of the other end answers.
fn answers(site: &Site, to: &Node, uuid: &str, patience: Duration) -> Result<()> {
    let since = Instant::now();
    loop {
        match site.nodes.live_on(to, uuid) {
            Ok(_) => return Ok(()),
            Err(error) if since.elapsed() >= patience => return Err(error),
            Err(error) => {
                tell(&format!("waiting for libvirt of {}: {error:#}", to.name));
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// Writes where the VM is after a move, which may have failed, or have gone on without us. When nobody can tell,
/// the record keeps naming both ends.
fn settle(site: &Site, store: &Store, guest: &Guest, [from, to]: [&Node; 2], pacemaker: bool) -> Result<()> {
    let name = guest.name.as_str();
    let uuid = guest.uuid();
    // Pacemaker asks both kernels by itself.
    let ask =
        |node: &Node| if pacemaker { site.nodes.ask(node, &uuid) } else { kernel::sure(site, node, &uuid) };
    let runs = |node: &Node| match ask(node) {
        Answer::Runs => Some(true),
        Answer::Idle => Some(false),
        Answer::Silent(_) => None,
    };
    let write = |node| store.set_owner(&Owner { pacemaker, ..record(site, name, node)? });
    // During the last phase both libvirts know it, one of them paused: then it is not over.
    match (runs(from), runs(to)) {
        (Some(true), Some(false)) => write(from),
        (Some(false), Some(true)) => write(to),
        _ => {
            log::warning(format_args!("vm {name}: runs on {} or on {}, neither is sure", from.name, to.name));
            Ok(())
        }
    }
}

fn record(site: &Site, vm: &str, node: &Node) -> Result<Owner> {
    let name = node.name.as_str();
    let boot_id = if name == site.nodes.me() { site.boot_id() } else { None };
    Ok(Owner::new(vm, name, boot_id, now()?))
}

/// The destination keeps the figures of the migration that brought the guest. They are a courtesy.
fn measure(site: &Site, uuid: &str, to: &Node, answer: &mut Migration) {
    let figures = site.nodes.of(to).and_then(|hypervisor| {
        hypervisor.live(uuid, QUICK)?;
        hypervisor.last_migration(uuid)
    });
    match figures {
        Ok(figures) => {
            answer.downtime_ms = figures.downtime;
            answer.data_bytes = figures.data_processed;
        }
        Err(error) => log::debug(format_args!("asking what the move cost: {error:#}")),
    }
}
