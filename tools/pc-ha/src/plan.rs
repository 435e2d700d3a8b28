//! The pure heart: what is wanted and what is there, in; steps, waits and faults, out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use pc_plan::{Plan, Step};
use serde::{Deserialize, Serialize};

use crate::cib::{self, Cib};
use crate::lowering::{self, Kept};
use crate::rows::Row;
use crate::running::{self, Running};
use crate::want::Want;
use crate::watchdog::{self, Watchdog};
use crate::{corosync, room, rows, sbd};

/// Schema of a printed plan.
pub const SCHEMA: &str = "pc.ha.plan/1";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Write sbd's environment.
    SbdWrite {
        /// The watchdog.
        device: String,
        /// How long it waits.
        watchdog_seconds: u64,
    },
    /// Have every boot load the driver of the watchdog.
    WatchdogModule {
        /// The kernel's module.
        module: String,
    },
    /// A row of the CIB is made.
    CibCreate {
        /// Its id.
        row: String,
    },
    /// A row of the CIB is changed.
    CibChange {
        /// Its id.
        row: String,
        /// What becomes what.
        changes: Vec<String>,
    },
    /// A row of ours that nothing of the file asks for any more goes.
    CibRemove {
        /// Its id.
        row: String,
    },
    /// Pacemaker is told how much of a node's memory is its guests'.
    NodeMemory {
        /// The node, which need not be this one. Not `node`: a plan has one of that name.
        of: String,
        /// How much.
        memory_mib: u64,
    },
    /// The option that `shutdown --all` left goes: guests may start again.
    ShutdownOver,
    /// Tell the other nodes how long the watchdog that runs here waits.
    WatchdogTell {
        /// How long.
        watchdog_seconds: u64,
    },
    /// Tell the other nodes the longest token that corosync may run with here.
    TokenTell {
        /// How long.
        token_ms: u64,
    },
    /// Let corosync-qdevice start, or keep it from it.
    QuorumDevice {
        /// The host of the third vote; none: the file names none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// Start corosync-qdevice.
    QuorumDeviceStart,
    /// Write corosync.conf.
    CorosyncWrite,
    /// Have the running corosync of all nodes read it.
    CorosyncReload,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::SbdWrite { device, watchdog_seconds } => {
                write!(f, "{}: watchdog {device}, {watchdog_seconds} s", sbd::PATH)
            }
            Action::WatchdogModule { module } => write!(f, "{}: {module}", watchdog::MODULES),
            Action::CibCreate { row } => write!(f, "pacemaker: create {row}"),
            Action::CibChange { row, changes } => {
                write!(f, "pacemaker: change {row}: {}", changes.join(", "))
            }
            Action::CibRemove { row } => write!(f, "pacemaker: remove {row}"),
            Action::NodeMemory { of, memory_mib } => {
                write!(f, "pacemaker: guests of {of} may have {memory_mib} MiB")
            }
            Action::ShutdownOver => {
                write!(f, "pacemaker: the shutdown of the cluster is over, guests may start")
            }
            Action::WatchdogTell { watchdog_seconds } => {
                write!(
                    f,
                    "pacemaker: tell the other nodes that this node's watchdog waits {watchdog_seconds} s"
                )
            }
            Action::TokenTell { token_ms } => {
                write!(f, "pacemaker: tell the other nodes that this node's token is {token_ms} ms")
            }
            Action::QuorumDevice { host: Some(host) } => write!(f, "{}: {host}", corosync::QUORUM_DEVICE),
            Action::QuorumDevice { host: None } => write!(f, "{}: remove", corosync::QUORUM_DEVICE),
            Action::QuorumDeviceStart => write!(f, "{}: start", corosync::QDEVICE),
            Action::CorosyncWrite => write!(f, "{}: write", corosync::PATH),
            Action::CorosyncReload => write!(f, "corosync: read its configuration again, on every node"),
        }
    }
}

/// What this node looks like. Nothing in here changes by itself on a quiet machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Have {
    /// corosync.conf.
    pub corosync: Option<String>,
    /// corosync runs.
    pub corosync_runs: bool,
    /// What it runs with, as far as it says.
    pub running: Option<Running>,
    /// `shutdown --all` is at work on this node.
    pub shuts_down: bool,
    /// What lets corosync-qdevice start.
    pub quorum_device: Option<String>,
    /// It has registered its vote.
    pub quorum_device_votes: bool,
    /// sbd's environment.
    pub sbd: Option<String>,
    /// What the kernel has.
    pub watchdogs: Vec<Watchdog>,
    /// Modules that every boot loads because a file says so.
    pub boot_modules: BTreeSet<String>,
    /// The CIB; none while pacemaker does not run here.
    pub cib: Option<Cib>,
    /// VMs that pacemaker knows to be running (or does not know not to be), by resource, and where.
    pub active: BTreeMap<String, Vec<String>>,
    /// The memory that this node's kernel has.
    pub memory_bytes: Option<u64>,
}

/// What there is to do, and what cannot be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What this node can do now, in order.
    #[serde(flatten)]
    pub plan: Plan<Action>,
    /// What has to happen first.
    pub waiting: Vec<String>,
    /// What needs a person; nothing of it is touched.
    pub faults: Vec<String>,
    /// What is left as it is, for it would cost VMs that run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        self.waiting.iter().try_for_each(|line| writeln!(f, "waiting: {line}"))?;
        self.faults.iter().try_for_each(|line| writeln!(f, "fault: {line}"))?;
        self.notes.iter().try_for_each(|line| writeln!(f, "note: {line}"))
    }
}

/// Compares and decides. `lower` says that every node was restarted since the file asked for shorter times.
pub fn plan(want: &Want, have: &Have, lower: bool) -> Result<Outcome> {
    let (mut steps, mut waiting, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    let mut step = |id: String, action: Action| steps.push(Step { id, needs: Vec::new(), action });
    match &have.cib {
        None => waiting.push("pacemaker does not run on this node\n  pc-ha enable".into()),
        // A longer wait must be in force before anything that it waits for becomes slower: the CIB comes first.
        Some(cib) => rows_of(want, have, cib, lower, &mut step, &mut faults)?,
    }
    let slower = Slower::of(want, have);
    watchdog_of(want, have, &slower, &mut step, &mut waiting, &mut faults);
    running::plan(want, have, &slower, &mut step, &mut waiting, &mut faults);
    quorum_device_of(want, have, &mut step);
    let options = format!("cib/{}", rows::OPTIONS);
    // Counted without a node's memory, none of its VMs would have room.
    let memory: Vec<String> =
        steps.iter().map(|step| step.id.clone()).filter(|id| id.starts_with("cib/memory-")).collect();
    let cib = have.cib.as_ref();
    let mut notes: Vec<String> =
        cib.and_then(|cib| room::placement(want, have, cib).note).into_iter().collect();
    let by = cib.filter(|cib| cib.shut_down).and_then(|cib| shut_down_by(want, have, cib));
    notes.extend(by.map(|node| {
        format!("a shutdown of the cluster is under way on {node}: guests stay stopped\n  on {node}, when it has ended: pc-ha apply")
    }));
    let wait_changes = steps.iter().any(|step| step.id == options);
    // It reads the host of the third vote from the corosync that runs.
    let before_device: Vec<String> = ["quorum-device", "corosync-reload"]
        .into_iter()
        .filter(|id| steps.iter().any(|step| step.id == *id))
        .map(String::from)
        .collect();
    let there = |id: &str| steps.iter().any(|step| step.id == id).then(|| id.to_string());
    let (written, told) = (there("corosync"), there("token"));
    let longer = (wait_changes && slower.token).then(|| options.clone());
    for step in &mut steps {
        match step.action {
            _ if step.id == options => step.needs.extend(memory.iter().cloned()),
            Action::CorosyncReload => step.needs.extend(written.clone().or(longer.clone())),
            Action::QuorumDeviceStart => step.needs.extend(before_device.iter().cloned()),
            Action::SbdWrite { .. } if wait_changes && slower.watchdog => step.needs.push(options.clone()),
            Action::CorosyncWrite => {
                step.needs.extend(longer.clone());
                step.needs.extend(told.clone());
            }
            _ => {}
        }
    }
    Ok(Outcome { plan: Plan::new(SCHEMA, &want.node, have, steps), waiting, faults, notes })
}

/// What the file wants slower than the files that were written before: this node would reset itself later.
pub struct Slower {
    watchdog: bool,
    /// Of the token that is written, or that runs.
    pub token: bool,
}

impl Slower {
    fn of(want: &Want, have: &Have) -> Slower {
        let watchdog = have.sbd.as_deref().and_then(sbd::seconds);
        let file = have.corosync.as_deref().filter(|text| corosync::is_ours(text));
        let runs = have.running.as_ref().filter(|_| file.is_some()).map(|running| running.token_ms);
        let token = file.and_then(corosync::token_ms).into_iter().chain(runs).min();
        Slower {
            watchdog: watchdog.is_some_and(|now| now * 1000 < want.timing.watchdog_ms),
            token: token.is_some_and(|now| now < want.timing.token_ms),
        }
    }
}

/// Why a slower time is not even written: at the next boot it would be in force, and the others' wait perhaps not.
pub fn held(path: &str) -> String {
    format!(
        "{path} stays as it is: the file asks for longer times, and pacemaker, which has to wait longer first, does not answer\n  \
         systemctl status corosync pacemaker"
    )
}

fn watchdog_of(
    want: &Want,
    have: &Have,
    slower: &Slower,
    step: &mut impl FnMut(String, Action),
    waiting: &mut Vec<String>,
    faults: &mut Vec<String>,
) {
    let watchdog_seconds = want.timing.watchdog_ms / 1000;
    let chosen = watchdog::choose(&want.watchdog, &have.watchdogs);
    let chosen = match chosen.and_then(|chosen| chosen.takes(watchdog_seconds).map(|()| chosen)) {
        Ok(chosen) => chosen,
        Err(fault) => return faults.push(fault),
    };
    if let Some(module) = chosen.module.as_ref().filter(|module| !have.boot_modules.contains(*module)) {
        step("watchdog-module".into(), Action::WatchdogModule { module: module.clone() });
    }
    if have.sbd.as_deref() != Some(sbd::render(want, chosen).as_str()) {
        if slower.watchdog && have.cib.is_none() {
            waiting.push(held(sbd::PATH));
        } else {
            step("sbd".into(), Action::SbdWrite { device: chosen.device.clone(), watchdog_seconds });
        }
    }
    if let (Some(cib), Some(runs)) = (&have.cib, chosen.runs_with()) {
        if cib.watchdogs.get(&want.node) != Some(&runs) {
            step("watchdog".into(), Action::WatchdogTell { watchdog_seconds: runs });
        }
    }
}

fn quorum_device_of(want: &Want, have: &Have, step: &mut impl FnMut(String, Action)) {
    let wanted = want.quorum_device.as_deref();
    if have.quorum_device != wanted.map(corosync::quorum_device) {
        step("quorum-device".into(), Action::QuorumDevice { host: wanted.map(String::from) });
    }
    if wanted.is_some() && have.corosync_runs && !have.quorum_device_votes {
        step("quorum-device-start".into(), Action::QuorumDeviceStart);
    }
}

/// The node that shuts the cluster down. One that was killed in the middle, or its node with it, does not.
fn shut_down_by<'a>(want: &Want, have: &Have, cib: &'a Cib) -> Option<&'a String> {
    cib.shutting_down.iter().find(|node| **node != want.node || have.shuts_down)
}

/// The rows that can be put in force now: all that the file asks for, except that fencing gets no faster by itself, and that
/// memory is not counted while that would stop what runs.
pub fn wanted_rows(want: &Want, have: &Have, cib: &Cib, lower: bool) -> Vec<Row> {
    let placement = room::placement(want, have, cib).strategy;
    let mut want = Want { placement, ..want.clone() };
    match lowering::kept(&want, cib, lower) {
        Some(Kept::Longer(now)) => want.timing.fencing_ms = now * 1000,
        Some(Kept::Unread(_)) => want.fencing_stays = true,
        None => {}
    }
    rows::rows(&want)
}

fn rows_of(
    want: &Want,
    have: &Have,
    cib: &Cib,
    lower: bool,
    step: &mut impl FnMut(String, Action),
    faults: &mut Vec<String>,
) -> Result<()> {
    let wanted = wanted_rows(want, have, cib, lower);
    for (of, memory_mib) in room::changed(want, have, &cib.counted) {
        step(format!("cib/memory-{of}"), Action::NodeMemory { of, memory_mib });
    }
    faults.extend(lowering::fault(want, cib, lower));
    for row in &wanted {
        let action = match cib.objects.get(&row.id) {
            None => Action::CibCreate { row: row.id.clone() },
            Some(there) => {
                let changes = cib::differences(row, there)?;
                if changes.is_empty() {
                    continue;
                }
                Action::CibChange { row: row.id.clone(), changes }
            }
        };
        step(format!("cib/{}", row.id), action);
    }
    if cib.shut_down && shut_down_by(want, have, cib).is_none() {
        step("cib/shutdown-over".into(), Action::ShutdownOver);
    }
    for id in &cib.left {
        step(format!("cib/{id}"), Action::CibRemove { row: id.clone() });
    }
    let stale: Vec<&String> =
        cib.objects.keys().filter(|id| !wanted.iter().any(|row| row.id == **id)).collect();
    let runs = |id: &str| have.active.contains_key(id);
    // A VM that has left the file while it runs: its agent would no longer know how to stop it well, and nobody asked to.
    let running: Vec<&String> =
        stale.iter().copied().filter(|id| id.starts_with("pc-vm-") && runs(id)).collect();
    for id in &running {
        let vm = rows::vm_of(id);
        faults.push(format!(
            "vm {vm} runs and the file does not name it any more: it stays\n  put it back, then pc-ha stop {vm}, then take it out"
        ));
    }
    let stays = |id: &str| {
        // What a VM that stays hangs on stays as well.
        running.iter().any(|vm| {
            let vm = rows::vm_of(vm);
            let by_name = ["pc-vm-", "pc-order-", "pc-with-", "pc-home-"].iter();
            by_name.into_iter().any(|kind| id == format!("{kind}{vm}"))
        }) || (!running.is_empty() && (id.starts_with("pc-clone-") || id.starts_with("pc-not-")))
    };
    // Constraints first: a resource that something refers to cannot go.
    let (resources, constraints): (Vec<&String>, Vec<&String>) = stale
        .into_iter()
        .filter(|id| !stays(id))
        .partition(|id| id.starts_with("pc-vm-") || id.starts_with("pc-clone-"));
    for id in constraints.into_iter().chain(resources) {
        step(format!("cib/{id}"), Action::CibRemove { row: id.clone() });
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
