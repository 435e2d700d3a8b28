//! Carrying a plan out: disk by disk, so that one that fails darkens only itself.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::Brick;
use pc_cli::{Exit, log};
use pc_plan::{Plan, Step};
use serde::Serialize;

use crate::answer::{Action, Answer, Refusal};
use crate::host::Host;
use crate::key::Keys;

/// `pc.brick.apply/1`: what was done, and what was not.
#[derive(Debug, Serialize)]
pub struct Applied {
    schema: &'static str,
    node: String,
    done: Vec<String>,
    failed: Vec<Failure>,
    refused: Vec<Refusal>,
    missing: Vec<String>,
    /// Only in the run that generated it: this is the one time it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
    #[serde(flatten)]
    cost: pc_run::Cost,
}

/// A step that did not work; steps that need it were not tried.
#[derive(Debug, Serialize)]
pub struct Failure {
    step: String,
    error: String,
    #[serde(skip)]
    exit: Exit,
}

impl Applied {
    /// A disk that is late, or cannot be examined, counts like one that failed.
    pub fn exit(&self) -> Exit {
        let failed = self.failed.iter().map(|failure| failure.exit);
        let refused =
            self.refused.iter().map(|refusal| if refusal.passing { Exit::Failed } else { Exit::Refused });
        let missing = self.missing.iter().map(|_| Exit::Failed);
        Exit::of_parts(failed.chain(refused).chain(missing))
    }

    /// The key was in this answer.
    pub fn shows_key(&self) -> bool {
        self.recovery_key.is_some()
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.recovery_key {
            writeln!(
                f,
                "RECOVERY KEY, SHOWN ONCE. WRITE IT DOWN: IT OPENS EVERY DISK WITHOUT THE UNLOCK SERVERS."
            )?;
            writeln!(f, "\n    {key}\n")?;
        }
        match self.done.len() {
            0 if self.failed.is_empty() && self.refused.is_empty() && self.missing.is_empty() => {
                writeln!(f, "nothing to do")
            }
            0 => Ok(()),
            1 => writeln!(f, "1 step done, {}", self.cost),
            count => writeln!(f, "{count} steps done, {}", self.cost),
        }
    }
}

/// Where a run is to be killed, for tests of exactly that.
#[derive(Debug, Default)]
pub struct Stop {
    /// After this step.
    pub after: Option<String>,
    /// Within this step, so many milliseconds after its start.
    pub within: Option<(String, u64)>,
}

impl Stop {
    fn die() {
        // SIGKILL on ourselves: nothing is flushed, dropped or unlocked on the way out.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }

    fn before(&self, step: &str) {
        if let Some((_, millis)) = self.within.as_ref().filter(|(id, _)| id == step) {
            let pause = Duration::from_millis(*millis);
            std::thread::spawn(move || {
                std::thread::sleep(pause);
                Stop::die();
            });
        }
    }

    fn after(&self, step: &str) {
        if self.after.as_deref() == Some(step) {
            Stop::die();
        }
    }
}

/// The steps to do: all of a fresh plan, or what somebody left of a printed one. What was left out of a printed plan was
/// left out on purpose: other disks' refusals are not this run's.
pub fn choose(mut fresh: Answer, printed: Option<&Plan<Action>>) -> Result<Answer> {
    if let Some(printed) = printed {
        fresh.plan.steps = printed.still_true(&fresh.plan).map_err(pc_cli::refused)?;
        fresh.refused.clear();
        fresh.missing.clear();
    }
    Ok(fresh)
}

/// Does all steps.
///
/// # Errors
/// Only what concerns no single disk: a recovery key that cannot be read.
pub fn apply(
    host: &Host,
    bricks: &[Brick],
    answer: Answer,
    keys: &mut Keys,
    stop: &Stop,
    started: Instant,
) -> Result<Applied> {
    for disk in &answer.missing {
        log::error(format_args!("{disk}: missing"));
    }
    for refusal in &answer.refused {
        log::error(refusal);
    }
    let perform = |step: &Step<Action>| {
        let Step { id, action, .. } = step;
        let brick = bricks.iter().find(|brick| brick.name() == action.disk);
        let brick = brick.with_context(|| format!("{id}: no such brick"))?;
        // Best effort: there may be no service manager to tell.
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(&action.to_string())]);
        stop.before(id);
        let done = host.perform(action.verb, brick, keys).with_context(|| id.clone());
        if let Err(error) = &done {
            log::error(format_args!("{error:#}"));
        }
        stop.after(id);
        done
    };
    let pc_plan::Carried { done, failed } = pc_plan::carry_out(&answer.plan.steps, perform);
    let failure = |(step, error): (String, anyhow::Error)| Failure {
        step,
        exit: Exit::of(&error),
        error: format!("{error:#}"),
    };
    let recovery_key = keys.take_to_show()?;
    let cost = pc_run::Cost::since(started);
    log::debug(cost);
    Ok(Applied {
        schema: "pc.brick.apply/1",
        node: answer.plan.node,
        done,
        failed: failed.into_iter().map(failure).collect(),
        refused: answer.refused,
        missing: answer.missing,
        recovery_key,
        cost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(failed: &[Exit], refused: &[bool], missing: usize) -> Exit {
        let failure = |exit: &Exit| Failure { step: "a/open".into(), error: "broken".into(), exit: *exit };
        let refusal = |passing: &bool| Refusal {
            disk: "b".into(),
            found: "ext4".into(),
            remedy: "lsblk".into(),
            passing: *passing,
        };
        let applied = Applied {
            schema: "pc.brick.apply/1",
            node: "node1".into(),
            done: Vec::new(),
            failed: failed.iter().map(failure).collect(),
            refused: refused.iter().map(refusal).collect(),
            missing: vec!["c".into(); missing],
            recovery_key: None,
            cost: pc_run::Cost { seconds: 0.0, external_calls: 0, external_seconds: 0.0 },
        };
        applied.exit()
    }

    #[test]
    fn a_refused_disk_does_not_stop_the_retries_of_the_others() {
        use Exit::{Done, Failed, Refused, TryAgain};
        assert_eq!(exit(&[], &[], 0), Done);
        assert_eq!(exit(&[], &[false], 0), Refused);
        assert_eq!(exit(&[], &[false], 1), Failed, "a disk is late");
        assert_eq!(exit(&[Failed], &[false], 0), Failed);
        assert_eq!(exit(&[], &[false, true], 0), Failed, "a disk could not be examined");
        assert_eq!(exit(&[Refused], &[], 0), Refused);
        assert_eq!(exit(&[Refused, Failed], &[], 0), Failed);
        assert_eq!(exit(&[Refused, Failed, TryAgain], &[false], 1), TryAgain);
    }
}
