//! What `pc-ha upgrade` answers: the plan, and how far it came. Pure.

use std::fmt;

use serde::Serialize;

use super::walk::{Doubt, Walk};

/// `pc.ha.upgrade/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.ha.upgrade/1`.
    pub schema: &'static str,
    /// Nothing was done: `--plan`.
    pub planned: bool,
    /// The node that walks.
    pub walker: String,
    /// In the order in which they are upgraded.
    pub nodes: Vec<NodeAnswer>,
    /// Why it cannot begin, or go on, now.
    pub in_the_way: Vec<String>,
    /// Every node is done.
    pub finished: bool,
    /// Why it stopped, when it did.
    pub stopped: Option<Stopped>,
    /// How long this run took.
    pub seconds: f64,
}

/// A node of the walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeAnswer {
    /// Its name.
    pub node: String,
    /// `to do`, a phase, or `done`.
    pub state: String,
    /// VMs that move away, or did.
    pub moved: Vec<String>,
    /// VMs that stop: their disk, or a device of them, is on this node only.
    pub stops: Vec<String>,
    /// What its upgrade runs; empty when that is not known, or no longer of interest.
    pub commands: Vec<Vec<String>>,
    /// Packages that its package manager did not upgrade.
    pub kept_back: Vec<String>,
}

/// Why it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// One line.
    pub reason: String,
    /// What to do next.
    pub remedy: String,
}

impl NodeAnswer {
    /// A node of which nothing is known but its name.
    pub fn new(node: &str) -> NodeAnswer {
        NodeAnswer {
            node: node.into(),
            state: "to do".into(),
            moved: Vec::new(),
            stops: Vec::new(),
            commands: Vec::new(),
            kept_back: Vec::new(),
        }
    }
}

impl Answer {
    /// How a walk stands.
    pub fn of(walk: &Walk, finished: bool, seconds: f64) -> Answer {
        let node = |name: &String| {
            let mut answer = NodeAnswer::new(name);
            if let Some(done) = walk.done.iter().find(|done| done.node == *name) {
                answer.state = "done".into();
                answer.moved.clone_from(&done.moved);
                answer.kept_back.clone_from(&done.kept_back);
            } else if let Some(current) = walk.current.as_ref().filter(|current| current.node == *name) {
                answer.state = current.phase.word().into();
                answer.moved.clone_from(&current.moved);
                answer.kept_back.clone_from(&current.kept_back);
            }
            answer
        };
        let stopped =
            |Doubt { reason, remedy, .. }: &Doubt| Stopped { reason: reason.clone(), remedy: remedy.clone() };
        Answer {
            schema: "pc.ha.upgrade/1",
            planned: false,
            walker: walk.walker.clone(),
            nodes: walk.nodes.iter().map(node).collect(),
            in_the_way: Vec::new(),
            finished,
            stopped: walk.stopped.as_ref().map(stopped),
            seconds,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            write!(f, "{:<12} {}", node.node, node.state)?;
            if node.state == "to do" && self.planned {
                let commands: Vec<String> = node.commands.iter().map(|words| words.join(" ")).collect();
                write!(f, ": drain, {}, reboot, wait until all is whole, undrain", commands.join(", "))?;
            }
            writeln!(f)?;
            for (what, names) in [
                (if self.planned { "move away" } else { "moved away" }, &node.moved),
                ("stop (their disk is there only)", &node.stops),
                ("kept back by the package manager", &node.kept_back),
            ] {
                if !names.is_empty() {
                    writeln!(f, "  {what}: {}", names.join(", "))?;
                }
            }
        }
        if self.finished {
            writeln!(f, "all are upgraded, in {:.0} s", self.seconds)?;
        }
        self.in_the_way.iter().try_for_each(|line| writeln!(f, "in the way: {line}"))?;
        match &self.stopped {
            Some(Stopped { reason, remedy }) => writeln!(f, "stopped: {reason}\n  {remedy}"),
            None => Ok(()),
        }
    }
}
