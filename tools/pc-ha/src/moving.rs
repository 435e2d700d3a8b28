//! move, start, stop: one VM at a time, each with a deadline and an answer.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Common, Exit, emit, log, refused, try_again};
use serde::Serialize;
use time::OffsetDateTime;

use crate::engine::Engine;
use crate::host::{self, pacemaker, tell};
use crate::rows::vm_resource;
use crate::sending;
use crate::want::Want;

/// For what follows a move that took all its time.
const BEYOND: Duration = Duration::from_secs(300);

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

/// Seconds, to the tenth.
pub fn since(started: Instant) -> f64 {
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
pub fn carry(vm: &str, node: &str, until: Instant) -> Result<()> {
    let resource = vm_resource(vm);
    tell(&format!("moving vm {vm} to {node}"));
    let left = until.saturating_duration_since(Instant::now());
    // It ends by itself should nobody take it away.
    let end = sending::stamp(OffsetDateTime::now_utc() + left + BEYOND)?;
    pacemaker::put(&sending::row(vm, &resource, node, &end))?;
    let settled = pacemaker::settle(left);
    let arrived = host::engine();
    pacemaker::take_away(&sending::id(vm))?;
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
