//! pc-gluster: peers, volumes, bricks, heal backlog and quorum.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_gluster_healthy" [] "1 when every peer, brick and mount is there, with quorum, and nothing waits for healing.";
    DAEMON: Gauge "pc_gluster_daemon_up" [] "1 when glusterd answers on this node.";
    SERVER_QUORUM: Gauge "pc_gluster_server_quorum" [] "1 when more than half of the pool is connected.";
    FAULTS: Gauge "pc_gluster_faults" [] "What needs a person, counted; pc-gluster status says it in words.";
    WAITING: Gauge "pc_gluster_waiting" [] "What has to happen on other nodes first, counted.";
    MEMBER: Gauge "pc_gluster_peer_member" ["peer"] "1 when the node belongs to the pool.";
    CONNECTED: Gauge "pc_gluster_peer_connected" ["peer"] "1 when the node's glusterd answers.";
    STARTED: Gauge "pc_gluster_volume_started" ["volume"] "1 when the volume is started.";
    MOUNTED: Gauge "pc_gluster_volume_mounted" ["volume"] "1 when the volume is mounted on this node and its client answers.";
    QUORUM: Gauge "pc_gluster_volume_quorum" ["volume"] "1 when the volume can be written to.";
    TLS: Gauge "pc_gluster_volume_tls" ["volume"] "1 when the volume's I/O is encrypted and authenticated.";
    HEAL: Gauge "pc_gluster_volume_heal_pending_entries" ["volume"] "Entries that wait for healing, once per brick that holds them back.";
    SPLIT_BRAIN: Gauge "pc_gluster_volume_split_brain_entries" ["volume"] "Entries in split-brain; known only when every brick was asked.";
    BRICK: Gauge "pc_gluster_brick_online" ["volume", "brick"] "1 when the brick's process runs and can be reached.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    glusterd: bool,
    server_quorum: bool,
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

#[derive(Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "they are facts of the answer, each a metric")]
struct Volume {
    name: String,
    started: bool,
    mounted: bool,
    quorum: bool,
    tls: bool,
    heal_pending: Option<u64>,
    split_brain: Option<u64>,
    sets: Vec<Vec<Brick>>,
}

#[derive(Deserialize)]
struct Brick {
    brick: String,
    online: bool,
}

/// `pc.gluster.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    samples.truth(&DAEMON, &[], status.glusterd);
    samples.length(&FAULTS, &[], &status.faults);
    samples.length(&WAITING, &[], &status.waiting);
    // Without glusterd the rest is not known, and a 0 would be a claim.
    if !status.glusterd {
        return Ok(samples);
    }
    samples.truth(&SERVER_QUORUM, &[], status.server_quorum);
    for peer in &status.peers {
        samples.truth(&MEMBER, &[&peer.node], peer.member);
        samples.truth(&CONNECTED, &[&peer.node], peer.connected);
    }
    for volume in &status.volumes {
        let name = [volume.name.as_str()];
        samples.truth(&STARTED, &name, volume.started);
        samples.truth(&MOUNTED, &name, volume.mounted);
        samples.truth(&QUORUM, &name, volume.quorum);
        samples.truth(&TLS, &name, volume.tls);
        if let Some(entries) = volume.heal_pending {
            samples.count(&HEAL, &name, entries);
        }
        if let Some(entries) = volume.split_brain {
            samples.count(&SPLIT_BRAIN, &name, entries);
        }
        for brick in volume.sets.iter().flatten() {
            samples.truth(&BRICK, &[&volume.name, &brick.brick], brick.online);
        }
    }
    Ok(samples)
}
