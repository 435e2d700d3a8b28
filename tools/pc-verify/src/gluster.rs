//! `pc-gluster status` as findings: peers, then volumes, then bricks whose peer is there.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::there;
use crate::told::Told;

/// `pc.gluster.status/1`.
#[derive(Deserialize)]
pub struct Status {
    glusterd: bool,
    peers: Vec<Peer>,
    volumes: Vec<Volume>,
    waiting: Vec<String>,
    faults: Vec<String>,
}

#[derive(Deserialize)]
struct Peer {
    node: String,
    member: bool,
    connected: bool,
}

#[allow(clippy::struct_excessive_bools, reason = "a foreign shape")]
#[derive(Deserialize)]
struct Volume {
    name: String,
    exists: bool,
    started: bool,
    mounted: bool,
    quorum: bool,
    heal_pending: Option<u64>,
    split_brain: Option<u64>,
    sets: Vec<Vec<Brick>>,
}

#[derive(Deserialize)]
struct Brick {
    brick: String,
    online: bool,
}

const STATUS: &str = "pc-gluster status";

/// The volumes of an answer, as they are shown. Without glusterd nothing is known of them.
pub fn volumes(answer: &Value) -> Vec<there::Volume> {
    let Ok(status) = Status::deserialize(answer) else { return Vec::new() };
    let known = status.volumes.into_iter().filter(|_| status.glusterd);
    known
        .map(|volume| there::Volume {
            started: volume.exists && volume.started,
            mounted: volume.mounted,
            quorum: volume.quorum,
            bricks: volume.sets.iter().flatten().count(),
            bricks_online: volume.sets.iter().flatten().filter(|brick| brick.online).count(),
            heal_pending: volume.heal_pending,
            split_brain: volume.split_brain,
            name: volume.name,
        })
        .collect()
}

/// What is wrong; an own brick that is not mounted is told by pc-brick where that has answered.
pub fn read(status: &Status, bricks_are_told: bool) -> Vec<Told> {
    let unmounted = |fault: &&String| fault.starts_with("brick ") && fault.contains(": is not mounted");
    let faults = status.faults.iter().filter(|fault| !(bricks_are_told && unmounted(fault)));
    let mut told: Vec<Told> = faults
        .map(|fault| {
            let daemon = fault.starts_with("glusterd does not answer");
            let remedy = if daemon { "systemctl status glusterd.service" } else { STATUS };
            Told::sentence(crate::verdict::Severity::Problem, fault, remedy)
        })
        .collect();
    if !status.glusterd {
        // Nothing is known of peers and volumes then.
        return told;
    }
    let waits = |text: &String| Told::problem(format!("waits: {}", first(text)), STATUS);
    told.extend(status.waiting.iter().map(waits));
    let away: BTreeSet<&str> = status
        .peers
        .iter()
        .filter(|peer| !(peer.member && peer.connected))
        .map(|peer| peer.node.as_str())
        .collect();
    for peer in &away {
        let fault = format!("peer {peer} is not connected");
        told.push(Told::problem(fault, format!("systemctl status glusterd.service, on {peer}")));
    }
    for volume in &status.volumes {
        told.extend(of_volume(volume, &away));
    }
    told
}

fn first(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn of_volume(volume: &Volume, away: &BTreeSet<&str>) -> Vec<Told> {
    let name = &volume.name;
    let problem = |what: &str, remedy: &str| Told::problem(format!("volume {name} {what}"), remedy);
    if !volume.exists || !volume.started {
        let what = if volume.exists { "is not started" } else { "does not exist" };
        return vec![problem(what, "pc-gluster apply")];
    }
    let mut told = Vec::new();
    if !volume.quorum {
        told.push(problem("has no quorum: nothing can be written", STATUS));
    }
    if !volume.mounted {
        told.push(problem(
            "is not mounted here, or its client does not answer",
            "systemctl status pc-gluster.service",
        ));
    }
    for brick in volume.sets.iter().flatten().filter(|brick| !brick.online) {
        let node = brick.brick.split(':').next().unwrap_or_default();
        // The peer that is away is told already.
        if !away.contains(node) {
            told.push(Told::problem(
                format!("brick {} is offline", brick.brick),
                format!("pc-gluster apply, on {node}"),
            ));
        }
    }
    match (volume.split_brain, volume.heal_pending) {
        (Some(count @ 1..), _) => {
            let what = format!("has {count} entries in split-brain");
            told.push(problem(&what, &format!("gluster volume heal {name} info split-brain")));
        }
        (_, Some(count @ 1..)) => {
            let what = format!("has {count} entries that wait for healing");
            let back: Vec<&str> = away.iter().copied().collect();
            let remedy = match back.as_slice() {
                [] => format!("pc-gluster heal {name} --wait 3600"),
                nodes => format!("they heal by themselves once {} is back", nodes.join(", ")),
            };
            told.push(problem(&what, &remedy));
        }
        (_, None) if away.is_empty() => told.push(problem("does not tell what waits for healing", STATUS)),
        _ => {}
    }
    told
}
