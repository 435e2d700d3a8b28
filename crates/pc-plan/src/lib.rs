//! A plan that can be printed as JSON, filtered with jq, and applied only while it is still true.
//!
//! Never touches the machine and knows no tool: actions are the tool's own type.

mod applied;
mod carry;
mod input;

use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use applied::Applied;
pub use carry::{Carried, carry_out};

/// One action with what must be done before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step<A> {
    /// Unique within the plan, stable between runs: `<disk>/luks-format`.
    pub id: String,
    /// Steps that must come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What is to be done.
    #[serde(flatten)]
    pub action: A,
}

/// What would bring this node to the file, in order, and a digest of what the machine looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan<A> {
    /// For example `pc.brick.plan/1`.
    pub schema: String,
    /// The node this plan is for.
    pub node: String,
    /// SHA-256 of what the tool saw; a machine that has changed since makes the plan stale.
    pub digest: String,
    /// In the order in which they will be done.
    pub steps: Vec<Step<A>>,
}

/// Why a plan that was read back is not carried out. All of these end a tool with exit code 2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a plan at all.
    #[error("reading the plan: {0}")]
    Malformed(String),
    /// Made by another tool, another version, or for another node.
    #[error("plan is {field} {found:?}, expected {expected:?}")]
    Foreign {
        /// `schema` or `node`.
        field: &'static str,
        /// What the plan says.
        found: String,
        /// What it would have to say.
        expected: String,
    },
    /// The machine changed since the plan was made.
    #[error("plan is stale: the machine has changed since it was made\n  make a new one with `plan --json`")]
    Stale,
    /// A step that the tool would not plan now: edited, or invented.
    #[error("step {0:?} is not part of the present plan: steps can be left out, not changed")]
    Unknown(String),
    /// The same step twice.
    #[error("step {0:?} stands in the plan twice")]
    Twice(String),
    /// A subset that lacks what one of its steps needs.
    #[error("step {step:?} needs {missing:?}, which was left out")]
    Lacks {
        /// The step that was kept.
        step: String,
        /// The step that was dropped.
        missing: String,
    },
}

impl<A: Clone + PartialEq + Serialize + DeserializeOwned> Plan<A> {
    /// Makes a plan; `have` is everything the decision was made on, in a stable order.
    pub fn new(schema: &str, node: &str, have: &impl Serialize, steps: Vec<Step<A>>) -> Plan<A> {
        // Serialising our own plain types to JSON cannot fail; an empty digest would only read as stale.
        let bytes = serde_json::to_vec(have).unwrap_or_default();
        let digest = format!("{:x}", Sha256::digest(bytes));
        Plan { schema: schema.into(), node: node.into(), digest, steps }
    }

    /// Reads a plan that somebody printed, and perhaps filtered.
    pub fn read(text: &str) -> Result<Plan<A>, Error> {
        serde_json::from_str(text).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// Accepts `self` (read back) only if it is a subset of `fresh` (made just now) that can stand alone:
    /// same tool, node and digest, no step changed, nothing left out that a kept step needs.
    /// Gives the steps in the order of `fresh`.
    pub fn still_true(&self, fresh: &Plan<A>) -> Result<Vec<Step<A>>, Error> {
        let same = |field, found: &str, expected: &str| {
            if found == expected {
                return Ok(());
            }
            Err(Error::Foreign { field, found: found.into(), expected: expected.into() })
        };
        same("schema", &self.schema, &fresh.schema)?;
        same("node", &self.node, &fresh.node)?;
        if self.digest != fresh.digest {
            return Err(Error::Stale);
        }
        let mut kept = BTreeSet::new();
        for step in &self.steps {
            if !fresh.steps.contains(step) {
                return Err(Error::Unknown(step.id.clone()));
            }
            if !kept.insert(step.id.as_str()) {
                return Err(Error::Twice(step.id.clone()));
            }
        }
        let steps: Vec<Step<A>> =
            fresh.steps.iter().filter(|step| kept.contains(step.id.as_str())).cloned().collect();
        for step in &steps {
            if let Some(missing) = step.needs.iter().find(|need| !kept.contains(need.as_str())) {
                return Err(Error::Lacks { step: step.id.clone(), missing: missing.clone() });
            }
        }
        Ok(steps)
    }
}

impl<A: fmt::Display> fmt::Display for Plan<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return writeln!(f, "nothing to do");
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", step.action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(have: &str) -> Plan<String2> {
        let step = |id: &str, needs: &[&str]| Step {
            id: id.into(),
            needs: needs.iter().map(ToString::to_string).collect(),
            action: String2 { action: id.to_uppercase() },
        };
        Plan::new("t/1", "n", &have, vec![step("a", &[]), step("b", &["a"]), step("c", &[])])
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct String2 {
        action: String,
    }

    #[test]
    fn a_printed_plan_is_read_back_and_filtered() {
        let fresh = plan("have");
        let mut read = Plan::read(&serde_json::to_string(&fresh).unwrap()).unwrap();
        assert_eq!(read.still_true(&fresh).unwrap().len(), 3);
        read.steps.remove(1);
        assert_eq!(read.still_true(&fresh).unwrap().len(), 2);
        read.steps.reverse();
        let ids: Vec<String> = read.still_true(&fresh).unwrap().into_iter().map(|step| step.id).collect();
        assert_eq!(ids, ["a", "c"]);
    }

    #[test]
    fn refuses_stale_edited_doubled_and_incomplete_plans() {
        let fresh = plan("have");
        assert_eq!(plan("changed").still_true(&fresh), Err(Error::Stale));
        let mut edited = plan("have");
        edited.steps[0].action.action = "rm -rf".into();
        assert_eq!(edited.still_true(&fresh), Err(Error::Unknown("a".into())));
        let mut doubled = plan("have");
        doubled.steps.push(doubled.steps[2].clone());
        assert_eq!(doubled.still_true(&fresh), Err(Error::Twice("c".into())));
        let mut lacking = plan("have");
        lacking.steps.remove(0);
        let lacks = Error::Lacks { step: "b".into(), missing: "a".into() };
        assert_eq!(lacking.still_true(&fresh), Err(lacks));
        let mut foreign = plan("have");
        foreign.node = "other".into();
        assert!(matches!(foreign.still_true(&fresh), Err(Error::Foreign { field: "node", .. })));
    }
}
