//! Pacemaker takes over on this node.

use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Common, Exit, log, refused, together, try_again};

use crate::host::{self, files, systemd, units};
use crate::plan;
use crate::want::Want;
use crate::{apply, corosync, watchdog};

/// corosync, sbd and pacemaker start within this.
const START: Duration = Duration::from_secs(600);
/// Makes the rows; goes on by itself when there is no quorum yet.
const UNIT: &str = "pc-ha.service";

/// Checks everything that could end badly, writes what the engine reads, hands the guests over and starts the engine.
pub fn enable(common: &Common, want: &Want) -> Result<Exit> {
    let have = host::look(common)?;
    let outcome = plan::plan(want, &have, false)?;
    together(outcome.faults.iter().map(refused))?;
    let applied = common.under_root(pc_cli::APPLIED_FILE);
    if cluster::load_applied(&applied).ok().is_none_or(|file| file.ha.is_none()) {
        return Err(refused(format!(
            "{} has no [ha]: units read that file\n  pc-config push",
            applied.display()
        )));
    }
    let key = common.under_root(corosync::KEY);
    if !key.exists() {
        return Err(try_again(format!("{} is not open\n  pc-trust status", key.display())));
    }
    if watchdog::choose(&want.watchdog, &have.watchdogs).is_ok_and(|chosen| !chosen.hardware) {
        log::warning(
            "the watchdog is softdog: a kernel that hangs does not reset itself, and is taken for dead",
        );
    }
    let local = |id: &str| ["watchdog-module", "sbd", "corosync", "quorum-device"].contains(&id);
    let steps: Vec<_> = outcome.plan.steps.into_iter().filter(|step| local(&step.id)).collect();
    apply::files(common, want, &have, &steps)?;
    files::enable(&common.root)?;
    units::hand_over()?;
    for unit in ["corosync.service", "pacemaker.service"] {
        systemd::start(unit, START)?;
    }
    let started = Instant::now();
    // The members find each other, and one is elected: a few times what they wait for each other.
    let patience = Duration::from_millis(3 * (want.timing.token_ms + want.timing.consensus_ms) + 10_000);
    loop {
        match (host::engine(), host::quorum()) {
            (Ok(engine), Ok(quorum)) if quorum.quorate && engine.dc.is_some() => break,
            (Err(error), _) if started.elapsed() >= START => return Err(error),
            (Ok(_), _) if started.elapsed() >= patience => {
                systemd::request(UNIT)?;
                return Err(try_again(format!(
                    "waiting for the other nodes: more than half of them are needed, and {UNIT} goes on when they are there\n  \
                     on each of them: pc-ha enable"
                )));
            }
            // Neither program can wait for a daemon, or for a member, that is not there yet.
            _ => std::thread::sleep(Duration::from_millis(500)),
        }
    }
    apply::apply(common, want, false, None, &mut Vec::new())?;
    systemd::request(UNIT)?;
    if host::engine()?.maintenance {
        return Err(try_again(
            "pacemaker leaves everything alone: maintenance mode is on, from before\n  \
             pc-ha enable on every node, then on one of them: pc-ha maintenance off",
        ));
    }
    Ok(Exit::Done)
}
