//! Carries a plan out: step by step, a failed step darkens only what needs it, then looks again.

use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::try_again;
use pc_plan::{Plan, Step};

use crate::action::Action;
use crate::heal;
use crate::host::{self, Seen};
use crate::plan::{Outcome, plan};
use crate::report::{self, Depth};
use crate::want::Want;

/// A volume is created, tuned, started and mounted in one round; a second one sees what that made possible.
const ROUNDS: usize = 4;

/// Brings this node to the file and says in `done` by which steps; `printed` is a plan that somebody filtered.
pub fn apply(root: &Path, want: &Want, printed: Option<&Plan<Action>>, done: &mut Vec<String>) -> Result<()> {
    let _lock = host::lock(root)?;
    let result = match printed {
        Some(plan) => filtered(want, plan, done).map(|()| None),
        None => converge(want, done).map(Some),
    };
    // The look that found nothing to do is as good as a new one.
    let (seen, result) = match result {
        Ok(Some((outcome, seen))) => (seen, Ok(outcome.waiting)),
        Ok(None) => (host::look(want), Ok(Vec::new())),
        Err(error) => (host::look(want), Err(error)),
    };
    let status = report::gather(root, want, &seen, Depth::AsNeeded);
    heal::nudge(&status, &report::last_pending(root));
    report::publish(root, want, &status, seen.since, result.as_ref().err())?;
    report::tell(status.to_string().lines().next().unwrap_or_default());
    let waiting = result?;
    if let Some(line) = waiting.first() {
        report::tell(line);
        return Err(try_again(waiting.join("\n")));
    }
    Ok(())
}

/// What this node sees and would do; an unreachable glusterd is an error of its own.
pub fn outcome(want: &Want) -> Result<(Outcome, Seen)> {
    let mut seen = host::look(want);
    match seen.glusterd.take() {
        None => Ok((plan(want, &seen.have), seen)),
        Some(error) => Err(error),
    }
}

fn filtered(want: &Want, printed: &Plan<Action>, done: &mut Vec<String>) -> Result<()> {
    let steps = printed.still_true(&outcome(want)?.0.plan).map_err(pc_cli::refused)?;
    carry_out(want, &steps, done)
}

/// Rounds until nothing is left to do here; gives what was seen then.
fn converge(want: &Want, done: &mut Vec<String>) -> Result<(Outcome, Seen)> {
    let mut before: Vec<Step<Action>> = Vec::new();
    for _ in 0..ROUNDS {
        let (outcome, seen) = outcome(want)?;
        if outcome.plan.steps.is_empty() {
            return Ok((outcome, seen));
        }
        if outcome.plan.steps == before {
            break;
        }
        carry_out(want, &outcome.plan.steps, done)?;
        before = outcome.plan.steps;
    }
    let left: Vec<String> = before.iter().map(|step| step.action.to_string()).collect();
    Err(try_again(format!("done, yet it is not so: {}", left.join("; "))))
}

fn carry_out(want: &Want, steps: &[Step<Action>], done: &mut Vec<String>) -> Result<()> {
    let perform = |step: &Step<Action>| {
        let what = step.action.to_string();
        report::tell(&what);
        host::carry_out(want, &step.action).context(what)
    };
    let mut carried = pc_plan::carry_out(steps, perform);
    done.append(&mut carried.done);
    carried.result()
}
