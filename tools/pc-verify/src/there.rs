//! What is there on a node, beside what is wrong: its volumes, virtual machines and backups, out of the same answers.
//! Nothing is judged here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gluster;
use crate::judge::{Answer, Asked};
use crate::tools;

/// A replicated volume, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// It exists and is started.
    pub started: bool,
    /// Mounted on this node, and its client answers.
    pub mounted: bool,
    /// It can be written.
    pub quorum: bool,
    /// Its bricks.
    pub bricks: usize,
    /// Those that can be reached.
    pub bricks_online: usize,
    /// Entries that wait for healing; none: not known.
    pub heal_pending: Option<u64>,
    /// Entries in split-brain; none: not every brick was asked.
    pub split_brain: Option<u64>,
}

/// A virtual machine of the file, as one node sees it: `vms` of `pc.vm.status/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// virsh's word, `undefined` or `unknown`.
    pub state: String,
    /// Why it is paused or unknown.
    pub reason: Option<String>,
    /// It runs on this node.
    pub here: bool,
    /// It should; none: pacemaker decides.
    pub should_run_here: Option<bool>,
}

/// The newest backup of a virtual machine under a policy: `backups` of `pc.borg.status/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Whose.
    pub vm: String,
    /// Of which policy.
    pub policy: String,
    /// When the newest archive was begun, RFC 3339 UTC; none: there is none, or it is not known.
    pub taken_at: Option<String>,
    /// Older than its schedule allows; none: not known.
    pub overdue: Option<bool>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When an archive was last read as a restore reads it.
    #[serde(default)]
    pub verified_at: Option<String>,
    /// Whether a restore is to be rehearsed.
    #[serde(default)]
    pub drill_wanted: Option<bool>,
    /// When a restored copy came up last.
    #[serde(default)]
    pub drilled_at: Option<String>,
    /// How long that took.
    #[serde(default)]
    pub drill_rto_seconds: Option<u64>,
    /// Why the last rehearsal did not end well.
    #[serde(default)]
    pub drill_error: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct There {
    /// Replicated volumes of the file.
    pub volumes: Vec<Volume>,
    /// Virtual machines of the file.
    pub vms: Vec<Vm>,
    /// Their backups.
    pub backups: Vec<Backup>,
}

/// Out of what the tools have answered. An answer that cannot be read is told as a fault, and shows nothing here.
pub fn of(asked: &[Asked]) -> There {
    let answer = |name: &str| {
        let of_tool = asked.iter().find(|asked| asked.name == name)?;
        match &of_tool.answer {
            Answer::Status(value) if tools::is_ours(name, value) => Some(value),
            _ => None,
        }
    };
    There {
        volumes: answer("gluster").map(gluster::volumes).unwrap_or_default(),
        vms: rows(answer("vm"), "vms"),
        backups: rows(answer("borg"), "backups"),
    }
}

fn rows<T: for<'a> Deserialize<'a>>(answer: Option<&Value>, key: &str) -> Vec<T> {
    let rows = answer.and_then(|answer| answer.get(key)).cloned();
    rows.and_then(|rows| serde_json::from_value(rows).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of_one(name: &'static str, answer: Answer) -> There {
        of(&[Asked { name, seconds: 0.1, answer }])
    }

    fn golden(tool: &str, file: &str) -> Answer {
        let path = format!("{}/../pc-{tool}/tests/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
        Answer::Status(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    #[test]
    fn the_tools_recorded_answers() {
        let there = of_one("gluster", golden("gluster", "status-degraded"));
        let vms = Volume {
            name: "vms".into(),
            started: true,
            mounted: true,
            quorum: true,
            bricks: 3,
            bricks_online: 2,
            heal_pending: Some(14),
            split_brain: None,
        };
        assert_eq!(there, There { volumes: vec![vms], ..There::default() });
        let mail = &of_one("vm", golden("vm", "status")).vms[0];
        assert_eq!((mail.name.as_str(), mail.state.as_str(), mail.here), ("mail", "paused", true));
        assert_eq!(
            (mail.reason.as_deref(), mail.should_run_here),
            (Some("I/O error on its disk"), Some(false))
        );
        let there = of_one("borg", golden("borg", "status"));
        assert_eq!(there.backups.len(), 2);
        assert_eq!(there.backups[1].taken_at.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!((there.backups[1].overdue, &there.backups[1].verified_at), (Some(false), &None));
    }

    #[test]
    fn an_answer_that_is_none_shows_nothing() {
        assert_eq!(of(&[]), There::default());
        assert_eq!(of_one("vm", Answer::Silent("no answer within 3 s".into())), There::default());
        assert_eq!(
            of_one("vm", Answer::Status(json!({"schema": "pc.vm.status/2", "vms": [{}]}))),
            There::default()
        );
        let bad = json!({"schema": "pc.borg.status/1", "problems": [], "backups": [{"vm": 1}]});
        assert_eq!(of_one("borg", Answer::Status(bad)), There::default());
        // glusterd is down: of its volumes nothing is known, and that is told as a fault.
        let Answer::Status(mut down) = golden("gluster", "status-degraded") else { panic!("no status") };
        down["glusterd"] = json!(false);
        assert_eq!(of_one("gluster", Answer::Status(down)), There::default());
    }
}
