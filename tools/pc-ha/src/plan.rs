//! The pure heart: what is wanted and what is there, in; steps, waits and faults, out.

use std::fmt;

use anyhow::Result;
use pc_plan::{Plan, Step};
use serde::{Deserialize, Serialize};

use crate::cib::{self, Cib};
use crate::rows::Row;
use crate::want::Want;
use crate::watchdog::{self, Watchdog};
use crate::{corosync, rows, sbd};

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
    /// The option that `shutdown --all` left goes: guests may start again.
    ShutdownOver,
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
            Action::CibCreate { row } => write!(f, "pacemaker: create {row}"),
            Action::CibChange { row, changes } => {
                write!(f, "pacemaker: change {row}: {}", changes.join(", "))
            }
            Action::CibRemove { row } => write!(f, "pacemaker: remove {row}"),
            Action::ShutdownOver => {
                write!(f, "pacemaker: the shutdown of the cluster is over, guests may start")
            }
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
    /// sbd's environment.
    pub sbd: Option<String>,
    /// What the kernel has.
    pub watchdogs: Vec<Watchdog>,
    /// The CIB; none while pacemaker does not run here.
    pub cib: Option<Cib>,
    /// VMs that pacemaker knows to be running (or does not know not to be), by resource.
    pub active: Vec<String>,
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
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        self.waiting.iter().try_for_each(|line| writeln!(f, "waiting: {line}"))?;
        self.faults.iter().try_for_each(|line| writeln!(f, "fault: {line}"))
    }
}

/// Compares and decides. `lower` says that every node was restarted since the file asked for shorter times.
pub fn plan(want: &Want, have: &Have, lower: bool) -> Result<Outcome> {
    let (mut steps, mut waiting, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    let mut step = |id: String, action: Action| steps.push(Step { id, needs: Vec::new(), action });
    match watchdog::choose(&want.watchdog, &have.watchdogs) {
        Ok(chosen) => {
            if have.sbd.as_deref() != Some(sbd::render(want, chosen).as_str()) {
                let watchdog_seconds = want.timing.watchdog_ms / 1000;
                step("sbd".into(), Action::SbdWrite { device: chosen.device.clone(), watchdog_seconds });
            }
        }
        Err(fault) => faults.push(fault),
    }
    match &have.cib {
        None => waiting.push("pacemaker does not run on this node\n  pc-ha enable".into()),
        // A longer wait must be in force before anything that it waits for becomes slower: the CIB comes first.
        Some(cib) => rows_of(want, have, cib, lower, &mut step, &mut faults)?,
    }
    if !corosync::is_free(have.corosync.as_deref()) {
        faults.push(format!(
            "{} is somebody else's cluster: it is not touched\n  mv {0} {0}.old",
            corosync::PATH
        ));
    } else if have.corosync.as_deref() != Some(corosync::render(want).as_str()) {
        step("corosync".into(), Action::CorosyncWrite);
        if have.corosync_runs {
            step("corosync-reload".into(), Action::CorosyncReload);
        }
    }
    if let Some(reload) = steps.iter_mut().find(|step| step.action == Action::CorosyncReload) {
        reload.needs = vec!["corosync".into()];
    }
    Ok(Outcome { plan: Plan::new(SCHEMA, &want.node, have, steps), waiting, faults })
}

/// The longer `stonith-watchdog-timeout` that is in force and stays.
fn kept(want: &Want, cib: &Cib, lower: bool) -> Option<u64> {
    cib.fencing_seconds.filter(|now| now * 1000 > want.timing.fencing_ms && !lower)
}

/// The rows that can be put in force now: all that the file asks for, except that fencing gets no faster by itself.
pub fn wanted_rows(want: &Want, cib: &Cib, lower: bool) -> Vec<Row> {
    let mut want = want.clone();
    if let Some(seconds) = kept(&want, cib, lower) {
        want.timing.fencing_ms = seconds * 1000;
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
    let wanted = wanted_rows(want, cib, lower);
    let fencing = want.timing.fencing_ms / 1000;
    if let Some(now) = kept(want, cib, lower) {
        faults.push(format!(
            "stonith-watchdog-timeout stays {now} s, the file asks for {fencing} s: while any node's watchdog still waits \
             as long as before, its VMs would run twice\n  restart every node in turn (pc-ha drain), then: pc-ha apply --lower"
        ));
    }
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
    if cib.shut_down {
        step("cib/shutdown-over".into(), Action::ShutdownOver);
    }
    let stale: Vec<&String> =
        cib.objects.keys().filter(|id| !wanted.iter().any(|row| row.id == **id)).collect();
    let runs = |id: &str| have.active.iter().any(|active| active == id);
    // A VM that has left the file while it runs: its agent would no longer know how to stop it well, and nobody asked to.
    let running: Vec<&String> =
        stale.iter().copied().filter(|id| id.starts_with("pc-vm-") && runs(id)).collect();
    for id in &running {
        let vm = rows::vm_of(id);
        faults.push(format!(
            "vm {vm} runs and the file does not name it any more: it stays\n  put it back, then pc-ha stop {vm}, then take it out"
        ));
    }
    let held = |id: &str| {
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
        .filter(|id| !held(id))
        .partition(|id| id.starts_with("pc-vm-") || id.starts_with("pc-clone-"));
    for id in constraints.into_iter().chain(resources) {
        step(format!("cib/{id}"), Action::CibRemove { row: id.clone() });
    }
    Ok(())
}
