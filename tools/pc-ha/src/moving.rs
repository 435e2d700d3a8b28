//! drain, undrain, move, start, stop: one node, one VM at a time, each with a deadline and an answer.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Common, Exit, emit, log, refused, try_again};
use serde::Serialize;

use crate::engine::Engine;
use crate::gate;
use crate::host::{self, pacemaker, tell};
use crate::room;
use crate::rows::vm_resource;
use crate::upgrade;
use crate::want::Want;

/// Between two looks at a report that is made every minute.
const PAUSE: Duration = Duration::from_secs(5);

/// `pc.ha.drain/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrainAnswer {
    /// `pc.ha.drain/1`.
    pub schema: &'static str,
    /// The node.
    pub node: String,
    /// It may be missed now; false: it takes VMs again.
    pub drained: bool,
    /// VMs that left it, or came back.
    pub moved: Vec<String>,
    /// How long that took.
    pub seconds: f64,
}

impl fmt::Display for DrainAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, seconds) = (&self.node, self.seconds);
        let moved = if self.moved.is_empty() { "no vm".to_string() } else { self.moved.join(", ") };
        if self.drained {
            writeln!(f, "{node} is drained in {seconds:.1} s, {moved} moved away: it may be rebooted")
        } else {
            writeln!(f, "{node} takes VMs again after {seconds:.1} s, {moved} moved back")
        }
    }
}

/// `pc.ha.move/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// `pc.ha.move/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// Where it was.
    pub from: Option<String>,
    /// Where it is.
    pub to: String,
    /// How long that took.
    pub seconds: f64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) if *from == self.to => writeln!(f, "vm {} runs on {} already", self.vm, self.to),
            Some(from) => {
                writeln!(f, "vm {} moved from {from} to {} in {:.1} s", self.vm, self.to, self.seconds)
            }
            None => writeln!(f, "vm {} runs on {} after {:.1} s", self.vm, self.to, self.seconds),
        }
    }
}

fn since(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 10.0).round() / 10.0
}

/// Refuses a node that is not in the file.
pub fn known(want: &Want, node: &str) -> Result<()> {
    if want.member(node).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = want.members.iter().map(|member| member.name.as_str()).collect();
    Err(refused(format!("no [[node]] is called {node:?}: the file has {}", names.join(", "))))
}

/// The resource of a VM of the file.
pub fn resource(want: &Want, vm: &str) -> Result<String> {
    if want.vm(vm).is_some() {
        return Ok(vm_resource(vm));
    }
    let names: Vec<&str> = want.vms.iter().map(|vm| vm.name.as_str()).collect();
    Err(refused(format!("no [vm] is called {vm:?}: the file has {}", names.join(", "))))
}

/// Moves everything off a node, and waits until nothing needs it any more.
pub fn drain(common: &Common, want: &Want, node: &str, patience: Duration) -> Result<Exit> {
    known(want, node)?;
    let engine = host::engine()?;
    let quorum = host::quorum().ok();
    let reasons = gate::reasons(node, &engine, quorum.as_ref(), &host::storage(&common.root));
    if !reasons.is_empty() {
        return Err(try_again(format!("{node} cannot be missed now: {}", reasons.join("; "))));
    }
    emit(common.json, &empty(common, want, node, patience)?)?;
    Ok(Exit::Done)
}

/// Marks a node that can be missed, and waits until nothing needs it. Asked for again, it goes on where it was.
pub fn empty(common: &Common, want: &Want, node: &str, patience: Duration) -> Result<DrainAnswer> {
    let (started, engine) = (Instant::now(), host::engine()?);
    let touched = !engine.vms_on(node).is_empty() || engine.node(node).is_some_and(|node| node.drained);
    let pinned = engine.vms_on(node).into_iter().filter(|vm| want.vm(vm).is_some_and(|vm| vm.pinned));
    let stopping: Vec<String> = pinned.collect();
    if !stopping.is_empty() {
        log::warning(format_args!(
            "{}: stops, for its disk or a device of it is on {node} only",
            stopping.join(", ")
        ));
    }
    let moved = engine.vms_on(node);
    if !engine.node(node).is_some_and(|node| node.drained) {
        room::no_room(want, node, &engine, &host::without(node)?)
            .map_or(Ok(()), |why| Err(try_again(why)))?;
    }
    pacemaker::standby(node, true)?;
    tell(&format!("draining {node}: {} to move", moved.len()));
    let until = started + patience;
    let undo = format!("\n  to give up: pc-ha undrain {node}");
    loop {
        pacemaker::settle(until.saturating_duration_since(Instant::now()))?;
        let left = host::engine()?.vms_on(node);
        if left.is_empty() {
            break;
        }
        if Instant::now() >= until || is_file() {
            return Err(try_again(format!(
                "{} still on {node} after {:.0} s{undo}",
                left.join(", "),
                since(started)
            )));
        }
        std::thread::sleep(PAUSE);
    }
    // What the guests wrote while they moved may still be on its way to the other copies.
    let left = Instant::now();
    while let Some(reason) = unhealed(common, touched.then_some(left)) {
        tell(&format!("draining {node}: {}", reason.lines().next().unwrap_or_default()));
        if Instant::now() >= until {
            return Err(try_again(format!("{node} has no VM any more, but: {reason}{undo}")));
        }
        std::thread::sleep(PAUSE);
    }
    log::info(format_args!("drained {node}"));
    let seconds = since(started);
    Ok(DrainAnswer { schema: "pc.ha.drain/1", node: node.into(), drained: true, moved, seconds })
}

/// A CIB in a file: nobody carries anything out, so there is nothing to wait for.
fn is_file() -> bool {
    std::env::var_os("CIB_file").is_some()
}

/// Why the storage cannot miss the node; after moves (`left` is when the last VM had left) by a report that is newer than they.
pub fn unhealed(common: &Common, left: Option<Instant>) -> Option<String> {
    let mut storage = host::storage(&common.root);
    if let Some(left) = left {
        storage = gate::measured_within(storage, left.elapsed().as_secs());
    }
    let reasons = gate::storage_reasons(&storage);
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Lets a node take VMs again, and brings those home that were at home there.
pub fn undrain(common: &Common, want: &Want, node: &str, stay: bool, patience: Duration) -> Result<Exit> {
    known(want, node)?;
    if host::engine()?.node(node).is_some_and(|state| state.online && state.drained) {
        // Its package manager may restart what its VMs would need, and its reboot may be next.
        match host::upgrade::upgrades(common, &want.node, node) {
            Ok(true) => return Err(try_again(upgrade::node::still(node))),
            Ok(false) => {}
            Err(error) => log::warning(format_args!(
                "whether {node} is in the middle of an upgrade is not known: {error:#}"
            )),
        }
    }
    emit(common.json, &refill(want, node, stay, patience)?)?;
    Ok(Exit::Done)
}

/// As `undrain`; asked for again, it goes on where it was.
pub fn refill(want: &Want, node: &str, stay: bool, patience: Duration) -> Result<DrainAnswer> {
    let started = Instant::now();
    host::engine()?;
    pacemaker::standby(node, false)?;
    // That of a reboot which has not begun yet, or never will.
    pacemaker::standby_until_boot(node, false)?;
    log::info(format_args!("{node} takes VMs again"));
    pacemaker::settle(patience)?;
    let engine = host::engine()?;
    let mut moved = Vec::new();
    if !stay && engine.node(node).is_some_and(|node| node.online) {
        for vm in want.vms.iter().filter(|vm| vm.home == node && !vm.pinned) {
            let away = engine
                .vm(&vm_resource(&vm.name))
                .is_some_and(|at| at.is_active() && !at.nodes.contains(&vm.home));
            if away {
                carry(&vm.name, node, started + patience)?;
                moved.push(vm.name.clone());
            }
        }
    }
    let seconds = since(started);
    Ok(DrainAnswer { schema: "pc.ha.drain/1", node: node.into(), drained: false, moved, seconds })
}

/// Moves one VM while it runs.
pub fn move_vm(common: &Common, want: &Want, vm: &str, node: &str, patience: Duration) -> Result<Exit> {
    let resource = resource(want, vm)?;
    known(want, node)?;
    let (started, engine) = (Instant::now(), host::engine()?);
    may_take(&engine, node)?;
    if let Some(pinned) = want.vm(vm).filter(|vm| vm.pinned && vm.home != node) {
        let (home, volume) = (&pinned.home, &pinned.volume);
        return Err(refused(if pinned.devices {
            format!("vm {vm}: has devices of {home} (usb, pci), which do not move with it")
        } else {
            format!("vm {vm}: its disk is on {home} only (volume {volume})")
        }));
    }
    let from = engine.vm(&resource).and_then(|at| at.nodes.first().cloned());
    if from.is_none() {
        return Err(refused(format!(
            "vm {vm} does not run, so there is nothing to move\n  pc-ha start {vm}"
        )));
    }
    if from.as_deref() != Some(node) {
        carry(vm, node, started + patience)?;
    }
    let answer =
        Moved { schema: "pc.ha.move/1", vm: vm.into(), from, to: node.into(), seconds: since(started) };
    emit(common.json, &answer)?;
    Ok(Exit::Done)
}

fn may_take(engine: &Engine, node: &str) -> Result<()> {
    match engine.node(node) {
        Some(state) if state.drained => {
            Err(refused(format!("{node} is drained: it takes no VM\n  pc-ha undrain {node}")))
        }
        Some(state) if state.online => Ok(()),
        _ => Err(try_again(format!("{node} is away\n  pc-ha status"))),
    }
}

/// Sends a VM, waits until it has arrived, and leaves no constraint behind.
fn carry(vm: &str, node: &str, until: Instant) -> Result<()> {
    let resource = vm_resource(vm);
    tell(&format!("moving vm {vm} to {node}"));
    let left = until.saturating_duration_since(Instant::now());
    pacemaker::send(&resource, node, left.as_secs() / 60 + 5)?;
    let settled = pacemaker::settle(left);
    let arrived = host::engine();
    pacemaker::forget_sending(&resource)?;
    settled?;
    let at = arrived?.vm(&resource).map(|at| at.nodes.clone()).unwrap_or_default();
    if at == [node] {
        log::info(format_args!("moved vm {vm} to {node}"));
        return Ok(());
    }
    let at = if at.is_empty() { "nowhere".into() } else { format!("on {}", at.join(" and ")) };
    Err(try_again(format!("vm {vm} is {at}, not on {node}\n  crm_resource --resource {resource} --why")))
}

/// What to do about a VM that does not start: a node that is away may run it, for all that pc-vm knows.
fn remedy(want: &Want, engine: &Engine, vm: &str) -> String {
    let away =
        want.members.iter().filter(|member| !engine.node(&member.name).is_some_and(|node| node.online));
    let away: Vec<&str> = away.map(|member| member.name.as_str()).collect();
    if away.is_empty() {
        return format!("\n  crm_resource --resource {} --why", vm_resource(vm));
    }
    let are = if away.len() == 1 { "is" } else { "are" };
    let claims: Vec<String> = away.iter().map(|node| format!("--owner-is-dead {node}")).collect();
    let away = away.join(" and ");
    format!(
        ", and {away} {are} away\n  when {away} {are} switched off for certain: pc-ha start {vm} {}",
        claims.join(" ")
    )
}

/// Has a VM run, or not.
pub fn target(common: &Common, want: &Want, vm: &str, run_it: bool, patience: Duration) -> Result<Exit> {
    let resource = resource(want, vm)?;
    let started = Instant::now();
    host::engine()?;
    pacemaker::target(&resource, run_it)?;
    pacemaker::settle(patience)?;
    let engine = host::engine()?;
    let at = engine.vm(&resource).and_then(|at| at.nodes.first().cloned());
    match (run_it, at) {
        (true, Some(to)) => {
            let answer =
                Moved { schema: "pc.ha.move/1", vm: vm.into(), from: None, to, seconds: since(started) };
            emit(common.json, &answer)?;
            Ok(Exit::Done)
        }
        (false, None) => Ok(Exit::Done),
        (true, None) => Err(try_again(format!("vm {vm} does not run{}", remedy(want, &engine, vm)))),
        (false, Some(node)) => Err(try_again(format!("vm {vm} still runs on {node}\n  pc-ha status"))),
    }
}
