//! The gate before a drain or a reboot: open only while this node can be missed. What must hold before a brick is
//! replaced is `replace`'s.

use std::fmt;

use serde::Serialize;

use crate::have::set_has_quorum;
use crate::status::{PeerStatus, Status, VolumeStatus};
use crate::want::node_of;

/// `pc.gluster.gate/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// `pc.gluster.gate/1`.
    pub schema: &'static str,
    /// The node that wants to leave for a while.
    pub leaving: String,
    /// It may.
    pub open: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What stops with the node although it may leave: data of which there is one copy only.
    pub stops: Vec<String>,
}

/// Judges a status for which every brick was asked. What is not known keeps it closed.
pub fn gate(status: &Status, leaving: &str) -> Gate {
    let mut reasons = Vec::new();
    let mut stops = Vec::new();
    if !status.glusterd {
        reasons.push("glusterd does not answer on this node".to_string());
    }
    if !status.volumes.is_empty() {
        reasons.extend(server_quorum(status, leaving));
    }
    for volume in status.volumes.iter().filter(|volume| volume.exists) {
        judge(volume, leaving, &mut reasons, &mut stops);
    }
    Gate {
        schema: "pc.gluster.gate/1",
        leaving: leaving.to_string(),
        open: reasons.is_empty(),
        reasons,
        stops,
    }
}

/// Server quorum without the one that leaves, as glusterd counts it: over its whole pool, whatever the file names.
fn server_quorum(status: &Status, leaving: &str) -> Option<String> {
    let known = status.peers.iter().filter(|peer| peer.member || peer.rejected);
    let pool: Vec<&PeerStatus> = known.chain(&status.strangers).collect();
    let left = pool.iter().filter(|peer| peer.connected && peer.node != leaving).count();
    if pool.len() < 2 || left * 2 > pool.len() {
        return None;
    }
    let away: Vec<&str> =
        status.strangers.iter().filter(|peer| !peer.connected).map(|peer| peer.node.as_str()).collect();
    let reason =
        format!("without {leaving} only {left} of {} peers are connected: no server quorum", pool.len());
    Some(match away.first() {
        Some(first) => {
            format!("{reason} (not in the file: {})\n  gluster peer detach {first}", away.join(", "))
        }
        None => reason,
    })
}

fn judge(volume: &VolumeStatus, leaving: &str, reasons: &mut Vec<String>, stops: &mut Vec<String>) {
    let name = &volume.name;
    let sets: Vec<Vec<String>> =
        volume.sets.iter().map(|set| set.iter().map(|brick| brick.brick.clone()).collect()).collect();
    let single = |set: &&Vec<String>| set.len() == 1;
    if sets.iter().filter(single).flatten().any(|brick| node_of(brick) == leaving) {
        stops.push(format!("volume {name}: keeps one copy, which is on {leaving}"));
    }
    if !volume.quorum {
        reasons.push(format!("volume {name}: no quorum even now"));
    }
    let online = |brick: &str| {
        let runs = volume.sets.iter().flatten().any(|known| known.brick == brick && known.online);
        runs && node_of(brick) != leaving
    };
    if sets.iter().filter(|set| set.len() > 1).any(|set| !set_has_quorum(set, &online)) {
        reasons.push(format!("volume {name}: loses its quorum without {leaving}"));
    }
    let replicated = sets.iter().any(|set| set.len() > 1);
    if !replicated {
        return;
    }
    if volume.heal_scope != "all" {
        reasons.push(format!("volume {name}: its bricks could not be asked what is left to heal"));
    }
    if let Some(count) = volume.heal_pending.filter(|count| *count > 0) {
        reasons.push(format!("volume {name}: {count} entries to heal"));
    }
    // A brick of the leaving node that is offline anyway is missed already: what only it holds cannot be healed from it.
    let gone = |brick: &str| {
        let known = volume.sets.iter().flatten().find(|known| known.brick == brick);
        node_of(brick) == leaving && known.is_some_and(|known| !known.online)
    };
    for brick in volume.heal_unknown.iter().filter(|brick| !gone(brick)) {
        reasons.push(format!("volume {name}: what is left to heal on {brick} is not known"));
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.open { "may leave" } else { "must stay" };
        writeln!(f, "{}: {word}", self.leaving)?;
        self.reasons.iter().try_for_each(|line| writeln!(f, "  {}", line.replace('\n', "\n  ")))?;
        self.stops.iter().try_for_each(|line| writeln!(f, "  stops: {line}"))
    }
}
