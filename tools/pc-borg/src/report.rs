//! What a run did: `pc.borg.backup/1`, for people and for programs.

use std::fmt;

use cluster::Bytes;
use pc_run::Cost;
use serde::Serialize;

/// `pc.borg.backup/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `pc.borg.backup/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// When it began, RFC 3339 UTC.
    pub started_at: String,
    /// Policy by policy, VM by VM.
    pub backups: Vec<Entry>,
    /// Why nothing was backed up; null when something was.
    pub nothing: Option<String>,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What became of one VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The VM.
    pub vm: String,
    /// The policy.
    pub policy: String,
    /// `done`, `failed`, `refused`, `try_again`, or, not tried: `elsewhere`, `not_due`.
    pub outcome: &'static str,
    /// Why it is not `done`.
    pub reason: Option<String>,
    /// The new archive.
    pub archive: Option<Made>,
}

/// A new archive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// When the data was taken, RFC 3339 UTC.
    pub taken_at: String,
    /// `stopped`: the VM did not run; `frozen`: its file systems were; `crash`: as after a power cut.
    pub consistency: &'static str,
    /// The group whose VMs were saved as of the same moment, this one among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How changes were found: `bitmap`, `digest`, `full`.
    pub method: String,
    /// Why so.
    pub method_reason: String,
    /// The disk, as the guest sees it.
    pub disk_bytes: u64,
    /// What had changed.
    pub changed_bytes: u64,
    /// What was read from the disk to find out and to save it.
    pub read_bytes: u64,
    /// What the repository grew by.
    pub added_bytes: u64,
    /// Wall time of this VM.
    pub seconds: f64,
}

impl Summary {
    /// Why a run that made no archive made none.
    pub fn why_nothing(entries: &[Entry]) -> Option<String> {
        if entries.iter().any(|entry| entry.archive.is_some()) {
            return None;
        }
        if entries.is_empty() {
            return Some("no VM of the file names a backup".into());
        }
        let tried = entries.iter().any(|entry| !matches!(entry.outcome, "elsewhere" | "not_due"));
        if tried {
            return Some("every attempt failed".into());
        }
        let count = |outcome: &str| entries.iter().filter(|entry| entry.outcome == outcome).count();
        Some(match (count("not_due"), count("elsewhere")) {
            (_, 0) => "none is due yet".into(),
            (0, _) => "other nodes back them up".into(),
            _ => "those of this node are not due yet, other nodes back up the others".into(),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { vm, policy, outcome, reason, archive } in &self.backups {
            if let Some(made) = archive {
                writeln!(
                    f,
                    "{vm} to {policy}: {} changed of {}, {} added, {}, {:.1} s",
                    Bytes(made.changed_bytes),
                    Bytes(made.disk_bytes),
                    Bytes(made.added_bytes),
                    made.consistency,
                    made.seconds
                )?;
            } else {
                let reason = reason.as_deref().unwrap_or_default();
                writeln!(f, "{vm} to {policy}: {}: {reason}", outcome.replace('_', " "))?;
            }
        }
        if let Some(nothing) = &self.nothing {
            writeln!(f, "nothing was backed up: {nothing}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_nothing_says_why() {
        let entry = |outcome| Entry {
            vm: "mail".into(),
            policy: "daily".into(),
            outcome,
            reason: Some("x".into()),
            archive: None,
        };
        let why = |outcomes: &[&'static str]| {
            Summary::why_nothing(&outcomes.iter().map(|outcome| entry(outcome)).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(why(&[]), "no VM of the file names a backup");
        assert_eq!(why(&["not_due"]), "none is due yet");
        assert_eq!(why(&["elsewhere"]), "other nodes back them up");
        assert_eq!(
            why(&["not_due", "elsewhere"]),
            "those of this node are not due yet, other nodes back up the others"
        );
        assert_eq!(why(&["not_due", "failed"]), "every attempt failed");
    }
}
