//! The gate before a drain or a reboot: open only while this node can be missed. What must hold before a brick is
//! replaced is `replace`'s.

use std::fmt;

use serde::Serialize;

use crate::have::set_has_quorum;
use crate::status::{Status, VolumeStatus};
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

/// Judges a status in which every brick was asked.
pub fn gate(status: &Status, leaving: &str) -> Gate {
    let mut reasons = Vec::new();
    let mut stops = Vec::new();
    if !status.glusterd {
        reasons.push("glusterd does not answer on this node".to_string());
    }
    if !status.volumes.is_empty() {
        let left = status.peers.iter().filter(|peer| peer.connected && peer.node != leaving).count();
        let pool = status.peers.iter().filter(|peer| peer.member).count();
        if pool > 1 && left * 2 <= pool {
            reasons.push(format!(
                "without {leaving} only {left} of {pool} peers are connected: no server quorum"
            ));
        }
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
    match (replicated, volume.heal_scope, volume.heal_pending) {
        (false, ..) | (true, "all", Some(0)) => {}
        (true, "all", Some(count)) => reasons.push(format!("volume {name}: {count} entries to heal")),
        _ => reasons.push(format!("volume {name}: its bricks could not be asked what is left to heal")),
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.open { "may leave" } else { "must stay" };
        writeln!(f, "{}: {word}", self.leaving)?;
        self.reasons.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        self.stops.iter().try_for_each(|line| writeln!(f, "  stops: {line}"))
    }
}
