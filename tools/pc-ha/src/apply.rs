//! Carrying a plan out: files one by one, all rows of the CIB at once.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::{Common, log, refused, together, try_again};
use pc_plan::{Plan, Step, carry_out};

use crate::host::pacemaker::{Commit, Draft};
use crate::host::{self, files, pacemaker};
use crate::plan::{self, Action, Have, Outcome};
use crate::want::Want;
use crate::{cib, corosync, room, sbd, watchdog};

/// Pacemaker writes its own state all the time: a patch that came too late is made anew.
const ATTEMPTS: usize = 10;
/// corosync changes its times once it has answered, if not before: seconds.
const RELOADING: usize = 3;

/// What there is to do now.
pub fn outcome(common: &Common, want: &Want, lower: bool) -> Result<Outcome> {
    plan::plan(want, &host::look(common)?, lower)
}

/// Brings this node and the CIB to the file; `done` are the ids of the steps.
pub fn apply(
    common: &Common,
    want: &Want,
    lower: bool,
    printed: Option<&Plan<Action>>,
    done: &mut Vec<String>,
) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let have = host::look(common)?;
        let outcome = plan::plan(want, &have, lower)?;
        let steps = match printed {
            None => outcome.plan.steps,
            Some(printed) => printed.still_true(&outcome.plan).map_err(refused)?,
        };
        match carry(common, want, &have, lower, &steps, done)? {
            Commit::Stale => {}
            Commit::Done => {
                outcome.notes.iter().for_each(log::warning);
                let faults = outcome.faults.into_iter().map(refused);
                return together(faults.chain(outcome.waiting.into_iter().map(try_again)));
            }
        }
    }
    Err(try_again(format!("pacemaker's configuration changed {ATTEMPTS} times while it was to be changed")))
}

/// The files of a plan, without pacemaker: what it needs before it can start.
pub fn files(common: &Common, want: &Want, have: &Have, steps: &[Step<Action>]) -> Result<Vec<String>> {
    let carried = carry_out(steps, |step| perform(common, want, have, &step.action));
    let done = carried.done.clone();
    carried.result().map(|()| done)
}

fn carry(
    common: &Common,
    want: &Want,
    have: &Have,
    lower: bool,
    steps: &[Step<Action>],
    done: &mut Vec<String>,
) -> Result<Commit> {
    let (rows, rest): (Vec<Step<Action>>, Vec<Step<Action>>) =
        steps.iter().cloned().partition(|step| step.id.starts_with("cib/"));
    // A longer wait is in force before what it waits for gets slower: rows before sbd's and corosync's files. What gets
    // faster may come in any order, for the wait then stays until somebody says --lower.
    if commit(want, have, lower, &rows)? == Commit::Stale {
        return Ok(Commit::Stale);
    }
    let over = rows.iter().any(|step| step.action == Action::ShutdownOver);
    if over && have.cib.iter().any(|cib| cib.shutting_down.contains(&want.node)) {
        // Without the row it says nothing any more, until the next shutdown.
        pacemaker::forget_telling(&want.node, cib::SHUTS_DOWN)?;
    }
    done.extend(rows.into_iter().map(|step| step.id));
    done.append(&mut files(common, want, have, &rest)?);
    Ok(Commit::Done)
}

fn commit(want: &Want, have: &Have, lower: bool, steps: &[Step<Action>]) -> Result<Commit> {
    let (Some(seen), false) = (&have.cib, steps.is_empty()) else { return Ok(Commit::Done) };
    let wanted = plan::wanted_rows(want, have, seen, lower);
    let draft = Draft::new(&pacemaker::query()?)?;
    for step in steps {
        match &step.action {
            Action::CibCreate { row } | Action::CibChange { row, .. } => {
                let found = wanted.iter().find(|wanted| wanted.id == *row);
                let found = found.with_context(|| format!("the file asks for no {row}"))?;
                let there = seen.objects.get(row).map(String::as_str);
                draft.put(found.scope, &cib::patch(found, there)?)?;
            }
            Action::NodeMemory { of, memory_mib } => {
                let row = room::row(&seen.counted, of, *memory_mib);
                draft.put("nodes", &row.with_context(|| format!("pacemaker does not know {of}"))?)?;
            }
            Action::CibRemove { row } => draft.remove(row)?,
            Action::ShutdownOver => draft.remove(cib::SHUTDOWN)?,
            _ => {}
        }
    }
    let committed = draft.commit()?;
    if committed == Commit::Done {
        for step in steps {
            log::info(&step.action);
        }
    }
    Ok(committed)
}

fn perform(common: &Common, want: &Want, have: &Have, action: &Action) -> Result<()> {
    match action {
        Action::SbdWrite { .. } => {
            let chosen = watchdog::choose(&want.watchdog, &have.watchdogs).map_err(refused)?;
            files::write(&common.under_root(sbd::PATH), &sbd::render(want, chosen))
        }
        Action::WatchdogModule { module } => {
            let path = common.under_root(watchdog::MODULES);
            files::write(&path, &watchdog::modules_file(module)).map_err(|error| {
                // A /etc that is nothing but the system's own configuration.
                if files::is_read_only(&error) {
                    return refused(format!("{error:#}\n  NixOS: boot.kernelModules = [ \"{module}\" ];"));
                }
                error
            })
        }
        Action::CorosyncWrite => files::write(&common.under_root(corosync::PATH), &corosync::render(want)),
        Action::QuorumDevice { host: Some(host) } => {
            files::write(&common.under_root(corosync::QUORUM_DEVICE), &corosync::quorum_device(host))
        }
        Action::QuorumDevice { host: None } => files::remove(&common.under_root(corosync::QUORUM_DEVICE)),
        Action::QuorumDeviceStart => host::start_quorum_device(),
        Action::CorosyncReload => reload(want),
        Action::WatchdogTell { watchdog_seconds } => {
            pacemaker::tell_others(&want.node, cib::WATCHDOG, *watchdog_seconds)
        }
        Action::TokenTell { token_ms } => pacemaker::tell_others(&want.node, cib::TOKEN, *token_ms),
        row => bail!("{row}: rows are changed all at once"),
    }
}

/// corosync has been seen to call a reload done that changed nothing, after one that had failed.
fn reload(want: &Want) -> Result<()> {
    pacemaker::reload()?;
    let otherwise = || host::cmap::running().map(|running| running.otherwise(want)).unwrap_or_default();
    for _ in 0..RELOADING {
        if otherwise().is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let otherwise = otherwise();
    if otherwise.is_empty() {
        return Ok(());
    }
    Err(try_again(format!(
        "corosync was told to read its configuration again, and runs on with {}\n  restart this node: pc-ha drain {}",
        otherwise.join("; "),
        want.node
    )))
}
