//! The answer of `apply`: what was done, and what that cost.

use std::fmt;

use pc_cli::{Exit, log};
use pc_run::Cost;
use serde::Serialize;

/// For example `pc.vm.apply/1`. People have read in the log what was done, line by line: they are told how much it was.
#[derive(Debug, Serialize)]
pub struct Applied {
    schema: &'static str,
    node: String,
    done: Vec<String>,
    #[serde(flatten)]
    cost: Cost,
}

impl Applied {
    /// `done` are the ids of the steps that were done, in order.
    pub fn new(schema: &'static str, node: &str, done: Vec<String>, cost: Cost) -> Applied {
        Applied { schema, node: node.into(), done, cost }
    }

    /// Prints the answer, also of work of which a part failed: how it ended counts, even when nobody reads the answer.
    ///
    /// # Errors
    /// Those of the work; otherwise that stdout cannot be written, though not that its reader has gone.
    pub fn end(&self, json: bool, result: anyhow::Result<()>) -> anyhow::Result<Exit> {
        log::debug(self.cost);
        if let Err(error) = result {
            if let Err(unheard) = pc_cli::emit_heard(json, self) {
                log::debug(format_args!("{unheard:#}"));
            }
            return Err(error);
        }
        pc_cli::emit(json, self).map(|()| Exit::Done)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.done.len() {
            0 => Ok(()),
            1 => writeln!(f, "1 step done, {}", self.cost),
            count => writeln!(f, "{count} steps done, {}", self.cost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(done: &[&str]) -> Applied {
        let cost = Cost { seconds: 1.5, external_calls: 2, external_seconds: 1.25 };
        Applied::new("pc.t.apply/1", "node1", done.iter().map(ToString::to_string).collect(), cost)
    }

    #[test]
    fn the_answer_ends_with_what_it_cost() {
        let text = serde_json::to_string(&applied(&["a", "b"])).unwrap();
        assert_eq!(
            text,
            "{\"schema\":\"pc.t.apply/1\",\"node\":\"node1\",\"done\":[\"a\",\"b\"],\
             \"seconds\":1.5,\"external_calls\":2,\"external_seconds\":1.25}"
        );
        assert_eq!(applied(&["a"]).to_string(), "1 step done, 2 external calls took 1.25 of 1.50 s\n");
        assert_eq!(applied(&["a", "b"]).to_string(), "2 steps done, 2 external calls took 1.25 of 1.50 s\n");
        assert_eq!(applied(&[]).to_string(), "", "converged: silence");
    }
}
