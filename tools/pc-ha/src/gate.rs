//! Whether a node can be missed. Pure. Of the storage it knows what storage.json says and nothing else.

use serde::Deserialize;

use crate::engine::{Engine, Quorum};

/// Older than this, nobody knows how the storage is: it is measured every minute.
pub const FRESH_SECONDS: u64 = 300;

/// `/run/personal-cluster/storage.json` (`pc.storage/1`), as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Storage {
    /// When it was measured, RFC 3339.
    pub measured_at: String,
    /// Nothing is missing anywhere.
    pub healthy: bool,
    /// Every volume can be written to.
    pub quorum: bool,
    /// Entries that wait for healing; null when unknown.
    pub heal_pending: Option<u64>,
}

/// What is known of the storage: the report and its age in seconds, or why there is none.
pub type Known = Result<(Storage, u64), String>;

/// Why `node` cannot be missed now; empty when it can.
pub fn reasons(node: &str, engine: &Engine, quorum: Option<&Quorum>, storage: &Known) -> Vec<String> {
    let mut reasons = storage_reasons(storage);
    reasons.extend(others_drained(node, engine));
    if engine.maintenance {
        reasons.push("maintenance mode is on: pacemaker moves nothing\n  pc-ha maintenance off".into());
    }
    if let Some(lost) = engine.nodes.iter().find(|other| other.unclean) {
        reasons.push(format!("{} was lost and is not yet known to be dead", lost.name));
    }
    let present = engine.node(node).is_some_and(|node| node.online);
    match quorum {
        None => reasons.push("corosync does not tell its quorum".into()),
        Some(quorum) if !quorum.quorate => reasons.push("the cluster has no quorum".into()),
        // Each node has one vote.
        Some(quorum) if present && quorum.votes.saturating_sub(1) < quorum.needed => reasons.push(format!(
            "without {node} the cluster would lose its quorum: {} of {} votes are there, {} are needed",
            quorum.votes, quorum.expected, quorum.needed
        )),
        Some(_) => {}
    }
    if !engine.nodes.iter().any(|other| other.name != node && other.online && !other.drained) {
        reasons.push(format!("no other node is there to take the VMs of {node} over"));
    }
    reasons
}

/// Other nodes that may be switched off at any time, or are about to be: they still vote and hold their bricks, so that neither the
/// quorum nor the storage says that both can be missed.
pub fn others_drained(node: &str, engine: &Engine) -> Vec<String> {
    let others = engine.nodes.iter().filter(|other| other.name != node && other.online && other.drained);
    others
        .map(|other| format!("{0} is drained: one node at a time\n  pc-ha undrain {0}", other.name))
        .collect()
}

/// A report that was made within the last `seconds`; its own number of them is rounded down.
pub fn measured_within(storage: Known, seconds: u64) -> Known {
    storage.and_then(|(storage, age)| {
        if age < seconds {
            Ok((storage, age))
        } else {
            Err("it is measured every minute, and was not yet".into())
        }
    })
}

/// What is wrong with the storage, or why nobody knows.
pub fn storage_reasons(storage: &Known) -> Vec<String> {
    let (storage, age) = match storage {
        Err(reason) => return vec![format!("nobody knows how the storage is: {reason}")],
        Ok((_, age)) if *age > FRESH_SECONDS => {
            return vec![format!("nobody knows how the storage is: its last report is {age} s old")];
        }
        Ok((storage, age)) => (storage, age),
    };
    let mut reasons = Vec::new();
    if !storage.quorum {
        reasons.push("a volume has no quorum".to_string());
    }
    match storage.heal_pending {
        None => reasons.push("nobody knows what waits for healing".into()),
        Some(0) if storage.healthy => {}
        Some(0) => reasons.push("the storage is not healthy\n  pc-gluster status".into()),
        Some(count) => reasons.push(format!(
            "{count} entries wait for healing (measured {age} s ago): {} may have the only current copy",
            "the node that leaves"
        )),
    }
    reasons
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
