//! The answer: one verdict, its reasons, and what to do about each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::there::{Backup, Vm, Volume};

/// Schema of the answer.
pub const SCHEMA: &str = "pc.verify/1";

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is wrong, or could not be looked at: not healthy.
    Problem,
    /// It works; a person should look.
    Warning,
}

/// One thing that is wrong, or risky.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Problem or warning.
    pub severity: Severity,
    /// Which check tells it: `brick` is `pc-brick status`, `machine` a look of our own.
    pub check: String,
    /// The nodes that tell it.
    pub nodes: Vec<String>,
    /// What is wrong.
    pub fault: String,
    /// The one thing to do, or to look at, next.
    pub remedy: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Looked, and nothing was wrong.
    Well,
    /// It has warnings.
    Warning,
    /// It has problems.
    Problem,
    /// It gave no answer.
    Silent,
    /// Its tool is not installed.
    Absent,
}

/// One check on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub state: State,
    /// How long it took.
    pub seconds: f64,
}

/// One node, as it was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// Its name.
    pub node: String,
    /// It gave a verdict; false: nothing below is known.
    pub reachable: bool,
    /// When, by its own clock, RFC 3339 UTC.
    pub measured_at: Option<String>,
    /// Its version of this program.
    pub version: Option<String>,
    /// The generation of the cluster file that is in force there.
    pub generation: Option<u64>,
    /// SHA-256 of that file.
    pub sha256: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// Replicated volumes, as this node sees them. A node with an older version tells none of these.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Virtual machines of the file, likewise.
    #[serde(default)]
    pub vms: Vec<Vm>,
    /// Their backups, likewise.
    #[serde(default)]
    pub backups: Vec<Backup>,
}

impl Looked {
    /// A node of which nothing is known.
    pub fn unreachable(node: String) -> Looked {
        Looked {
            node,
            reachable: false,
            measured_at: None,
            version: None,
            generation: None,
            sha256: None,
            seconds: 0.0,
            checks: Vec::new(),
            volumes: Vec::new(),
            vms: Vec::new(),
            backups: Vec::new(),
        }
    }
}

/// `pc.verify/1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `pc.verify/1`.
    pub schema: String,
    /// The cluster's name.
    pub cluster: String,
    /// The node that was asked.
    pub node: String,
    /// When, RFC 3339 UTC.
    pub measured_at: String,
    /// No finding is a problem.
    pub healthy: bool,
    /// How many are.
    pub problems: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// How long it took.
    pub seconds: f64,
    /// This node, or with `--cluster` every node of the file.
    pub nodes: Vec<Looked>,
    /// Problems first.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Out of what was found on these nodes. The same found on several nodes is told once.
    pub fn new(
        cluster: &str,
        node: &str,
        measured_at: String,
        nodes: Vec<Looked>,
        found: Vec<Finding>,
    ) -> Verdict {
        let mut findings: Vec<Finding> = Vec::new();
        for finding in found {
            let same = |known: &&mut Finding| {
                known.severity == finding.severity
                    && known.check == finding.check
                    && known.fault == finding.fault
                    && known.remedy == finding.remedy
            };
            match findings.iter_mut().find(same) {
                Some(known) => known.nodes.extend(finding.nodes),
                None => findings.push(finding),
            }
        }
        // Within a severity they stay in the order in which one boots: what is told first is nearer the cause.
        findings.sort_by_key(|finding| finding.severity);
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
        let seconds = nodes.iter().map(|node| node.seconds).fold(0.0, f64::max);
        Verdict {
            schema: SCHEMA.into(),
            cluster: cluster.into(),
            node: node.into(),
            measured_at,
            healthy: problems == 0,
            problems,
            warnings,
            seconds,
            nodes,
            findings,
        }
    }
}

/// `2 problems`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl Verdict {
    /// More than one node was asked.
    pub fn is_whole(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Of what the verdict is: the cluster, or a node.
    pub fn subject(&self) -> &str {
        if self.is_whole() { &self.cluster } else { &self.node }
    }

    /// `not healthy, 2 problems, 2 of 3 nodes looked at`.
    pub fn sentence(&self) -> String {
        let mut parts = vec![if self.healthy { "healthy" } else { "not healthy" }.to_string()];
        parts.extend((self.problems > 0).then(|| counted(self.problems, "problem")));
        parts.extend((self.warnings > 0).then(|| counted(self.warnings, "warning")));
        if self.is_whole() {
            let reached = self.nodes.iter().filter(|node| node.reachable).count();
            parts.push(format!("{reached} of {} nodes looked at", self.nodes.len()));
        }
        parts.join(", ")
    }

    /// `problem on node1, node2`.
    pub fn place(&self, finding: &Finding) -> String {
        let severity = match finding.severity {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
        };
        match finding.nodes.len() {
            _ if !self.is_whole() => severity.into(),
            all if all == self.nodes.len() => format!("{severity} everywhere"),
            _ => format!("{severity} on {}", finding.nodes.join(", ")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.subject(), self.sentence())?;
        for finding in &self.findings {
            let Finding { check, fault, remedy, .. } = finding;
            writeln!(f, "{}: {check}: {fault}\n  {remedy}", self.place(finding))?;
        }
        Ok(())
    }
}
