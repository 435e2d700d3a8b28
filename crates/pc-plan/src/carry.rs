//! Carrying steps out: one that fails darkens only what needs it.

use std::collections::BTreeSet;
use std::fmt::Display;

use pc_cli::log;

use crate::Step;

/// What became of the steps that were tried.
#[derive(Debug, Default)]
pub struct Carried {
    /// Ids of the steps that were done.
    pub done: Vec<String>,
    /// Ids of the steps that failed, and why. What needs one of them was not tried.
    pub failed: Vec<(String, anyhow::Error)>,
}

/// Does all steps in order, one log line per step that was done. Steps whose needs failed are skipped.
pub fn carry_out<A: Display>(
    steps: &[Step<A>],
    mut perform: impl FnMut(&Step<A>) -> anyhow::Result<()>,
) -> Carried {
    let mut carried = Carried::default();
    let mut undone: BTreeSet<&str> = BTreeSet::new();
    for step in steps {
        if step.needs.iter().any(|need| undone.contains(need.as_str())) {
            undone.insert(&step.id);
            continue;
        }
        match perform(step) {
            Ok(()) => {
                log::info(&step.action);
                carried.done.push(step.id.clone());
            }
            Err(error) => {
                undone.insert(&step.id);
                carried.failed.push((step.id.clone(), error));
            }
        }
    }
    carried
}

impl Carried {
    /// All errors in one, as [`pc_cli::together`] ranks them.
    ///
    /// # Errors
    /// When a step failed.
    pub fn result(self) -> anyhow::Result<()> {
        pc_cli::together(self.failed.into_iter().map(|(_, error)| error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::{TryAgain, try_again};

    fn carried(failing: &[(&str, bool)]) -> Carried {
        let step = |id: &str, needs: &[&str]| Step {
            id: id.into(),
            needs: needs.iter().map(ToString::to_string).collect(),
            action: id.to_string(),
        };
        let steps = [step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &[])];
        carry_out(&steps, |step| match failing.iter().find(|(id, _)| *id == step.id) {
            Some((id, true)) => Err(try_again(format!("{id} waits"))),
            Some((id, false)) => Err(anyhow::anyhow!("{id} is broken")),
            None => Ok(()),
        })
    }

    #[test]
    fn a_step_that_fails_darkens_only_what_needs_it() {
        let all = carried(&[]);
        assert_eq!(all.done, ["a", "b", "c", "d"]);
        all.result().unwrap();
        let some = carried(&[("a", false)]);
        assert_eq!(some.done, ["d"], "c needs b, which was not done either");
        assert_eq!(some.failed[0].0, "a");
    }

    #[test]
    fn a_step_that_may_succeed_later_decides() {
        let end = |failing: &[(&str, bool)]| carried(failing).result().unwrap_err().to_string();
        assert_eq!(end(&[("a", true), ("d", false)]), "a waits");
        assert_eq!(end(&[("a", false), ("d", true)]), "d waits");
        assert_eq!(end(&[("a", false), ("d", false)]), "a is broken");
        assert!(carried(&[("d", true)]).result().unwrap_err().is::<TryAgain>());
    }
}
