//! drain, undrain: a node that nothing needs any more, and one that takes VMs again.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Common, Exit, emit, log, try_again};
use serde::Serialize;

use crate::engine::Engine;
use crate::gate;
use crate::host::{self, pacemaker, tell};
use crate::moving::{self, known, since};
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

/// Moves everything off a node, and waits until nothing needs it any more.
pub fn drain(common: &Common, want: &Want, node: &str, patience: Duration) -> Result<Exit> {
    known(want, node)?;
    let engine = host::engine()?;
    let quorum = host::quorum().ok();
    let reasons = gate::reasons(node, &engine, quorum.as_ref(), &host::storage(&common.root));
    if !reasons.is_empty() {
        return Err(missed(node, &reasons));
    }
    emit(common.json, &empty(common, want, node, patience)?)?;
    Ok(Exit::Done)
}

/// Marks a node that can be missed, and waits until nothing needs it. Asked for again, it goes on where it was.
pub fn empty(common: &Common, want: &Want, node: &str, patience: Duration) -> Result<DrainAnswer> {
    let (started, engine) = (Instant::now(), host::engine()?);
    let moved = engine.vms_on(node);
    let pinned = |vm: &String| want.vm(vm).is_some_and(|vm| vm.pinned);
    let (stopping, leaving): (Vec<String>, Vec<String>) = moved.iter().cloned().partition(pinned);
    if !stopping.is_empty() {
        log::warning(format_args!(
            "{}: stops, for its disk or a device of it is on {node} only",
            stopping.join(", ")
        ));
    }
    let drained = engine.node(node).is_some_and(|node| node.drained);
    if !drained {
        no_room(want, node, &engine)?.map_or(Ok(()), |why| Err(try_again(why)))?;
    }
    let marked = mark(node)?;
    tell(&format!("draining {node}: {} to move", moved.len()));
    let until = started + patience;
    // What left before this was asked for again is not known any more.
    let all = || want.vms.iter().filter(|vm| !vm.pinned).map(|vm| vm.name.clone()).collect();
    let leaving = if drained { all() } else { leaving };
    leave(node, &leaving, started, until)?;
    // What the guests wrote while they moved may still be on its way to the other copies.
    let (left, touched) = (Instant::now(), drained || !moved.is_empty());
    while let Some(reason) = unhealed(common, touched.then_some(left)) {
        tell(&format!("draining {node}: {}", reason.lines().next().unwrap_or_default()));
        if Instant::now() >= until {
            return Err(try_again(format!("{node} has no VM any more, but: {reason}{}", undo(node))));
        }
        std::thread::sleep(PAUSE);
    }
    // Somebody else may have drained another one without asking, or sent it down.
    let engine = host::engine()?;
    let others = gate::others_drained(node, &engine);
    if !others.is_empty() {
        if marked {
            pacemaker::standby(node, false)?;
        }
        return Err(missed(node, &others));
    }
    if !engine.node(node).is_some_and(|node| node.drained) {
        return Err(try_again(format!(
            "{node} takes VMs again: somebody has undrained it\n  pc-ha drain {node}"
        )));
    }
    log::info(format_args!("drained {node}"));
    let seconds = since(started);
    Ok(DrainAnswer { schema: "pc.ha.drain/1", node: node.into(), drained: true, moved, seconds })
}

fn missed(node: &str, reasons: &[String]) -> anyhow::Error {
    try_again(format!("{node} cannot be missed now: {}", reasons.join("; ")))
}

fn undo(node: &str) -> String {
    format!("\n  to give up: pc-ha undrain {node}")
}

/// Marks a node as drained, in one step with the look that no other one is: of two who ask at once one is told. Whether the mark
/// is new.
fn mark(node: &str) -> Result<bool> {
    let mut new = false;
    pacemaker::change(|cib, draft| {
        let engine = crate::engine::read(&draft.monitor()?)?;
        let others = gate::others_drained(node, &engine);
        if !others.is_empty() {
            return Err(missed(node, &others));
        }
        new = !crate::cib::is_drained(cib, node)?;
        draft.standby(node).map(|()| true)
    })?;
    Ok(new)
}

/// Waits until no VM is on a node, and those that were are on another one.
fn leave(node: &str, leaving: &[String], started: Instant, until: Instant) -> Result<()> {
    let mut before = Vec::new();
    loop {
        pacemaker::settle(until.saturating_duration_since(Instant::now()))?;
        let engine = host::engine()?;
        let (left, lost) = (engine.vms_on(node), lost(node, leaving, &engine));
        let over = Instant::now() >= until || is_file();
        if !left.is_empty() && over {
            return Err(try_again(format!(
                "{} still on {node} after {:.0} s{}",
                left.join(", "),
                since(started),
                undo(node)
            )));
        }
        if left.is_empty() {
            let Some((vm, _)) = lost.first() else { return Ok(()) };
            // Pacemaker has nothing left to do, twice: it has given up.
            if over || lost == before {
                let each: Vec<String> = lost.iter().map(|(vm, at)| format!("vm {vm} {at}")).collect();
                return Err(try_again(format!(
                    "{node} has no VM any more, but {}\n  crm_resource --resource {} --why; to give up: pc-ha undrain {node}",
                    each.join(", "),
                    vm_resource(vm)
                )));
            }
            before = lost;
        }
        std::thread::sleep(PAUSE);
    }
}

/// VMs that are to run and do not, on exactly one node that is not this one; and where they are.
fn lost(node: &str, vms: &[String], engine: &Engine) -> Vec<(String, String)> {
    let stray = |vm: &String| {
        let at = engine.vm(&vm_resource(vm))?;
        let arrived = at.role == "Started" && at.nodes.len() == 1 && at.nodes[0] != node;
        if arrived || at.told_to_stop || engine.stops_all {
            return None;
        }
        let place = match at.nodes.as_slice() {
            [] => "runs nowhere".into(),
            nodes => format!("is {} on {}", at.role.to_lowercase(), nodes.join(" and ")),
        };
        Some((vm.clone(), place))
    };
    vms.iter().filter_map(stray).collect()
}

/// Why the others cannot take the VMs of a node, by what pacemaker would do without it.
pub fn no_room(want: &Want, node: &str, engine: &Engine) -> Result<Option<String>> {
    let (without, counted) = host::without(node)?;
    if let Some(why) = room::no_room(want, node, engine, &without) {
        return Ok(Some(why));
    }
    let crowded = room::crowded(want, node, engine, &without, &counted);
    for name in &crowded.unknown {
        log::warning(format_args!(
            "whether {name} has memory for what would come to it is not known\n  on {name}: pc-ha apply, or in the file: memory of its [[node]]"
        ));
    }
    Ok(crowded.why)
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
                moving::carry(&vm.name, node, started + patience)?;
                moved.push(vm.name.clone());
            }
        }
    }
    let seconds = since(started);
    Ok(DrainAnswer { schema: "pc.ha.drain/1", node: node.into(), drained: false, moved, seconds })
}
