//! The answers of `gluster --xml` as types. Pure: text in, values out.
//!
//! The format has no written specification: cli/src/cli-xml-output.c of Gluster produces it, and recorded
//! answers of the versions we run on stand in `fixtures/`. The program exits with 0 even when it refuses;
//! only `opRet` tells.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What Gluster refused, or an answer that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `opRet` was not 0.
    #[error("gluster refuses: {message}")]
    Refused {
        /// `opErrstr`, on one line.
        message: String,
        /// `opErrno`.
        errno: i32,
    },
    /// Not XML, or not of the shape that is expected.
    #[error("reading gluster's answer: {0}")]
    Malformed(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CliOutput {
    op_ret: i32,
    #[serde(default)]
    op_errno: i32,
    #[serde(default)]
    op_errstr: String,
    output: Option<String>,
    peer_status: Option<PeerStatus>,
    vol_info: Option<VolInfo>,
    vol_status: Option<VolStatus>,
    heal_info: Option<HealInfo>,
}

fn answer(text: &str) -> Result<CliOutput, Fault> {
    // Some commands print a sentence before the document.
    let start = text.find("<?xml").unwrap_or(0);
    let parsed: CliOutput =
        quick_xml::de::from_str(&text[start..]).map_err(|error| Fault::Malformed(error.to_string()))?;
    if parsed.op_ret == 0 {
        return Ok(parsed);
    }
    let said =
        if parsed.op_errstr.trim().is_empty() { parsed.output.unwrap_or_default() } else { parsed.op_errstr };
    let message = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = if message.is_empty() { "no reason given".into() } else { message };
    Err(Fault::Refused { message, errno: parsed.op_errno })
}

/// An answer of which only the success matters.
pub fn done(text: &str) -> Result<(), Fault> {
    answer(text).map(drop)
}

/// A member of the trusted pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Peer {
    /// Gluster's identity of the node.
    pub uuid: String,
    /// Every name or address the pool knows it by.
    pub names: Vec<String>,
    /// Its glusterd answers.
    pub connected: bool,
    /// Fully accepted ("Peer in Cluster", state 3 of glusterd's friend state machine).
    pub member: bool,
    /// Turned away ("Peer Rejected", state 6): it has another identity or other volumes than the pool remembers.
    pub rejected: bool,
}

#[derive(Debug, Deserialize)]
struct PeerStatus {
    #[serde(default, rename = "peer")]
    peers: Vec<XmlPeer>,
}

#[derive(Debug, Deserialize)]
struct XmlPeer {
    uuid: String,
    hostname: String,
    hostnames: Option<Hostnames>,
    connected: i32,
    state: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Hostnames {
    #[serde(default, rename = "hostname")]
    names: Vec<String>,
}

const PEER_IN_CLUSTER: i32 = 3;
const PEER_REJECTED: i32 = 6;

/// `peer status`: the other members, by name.
pub fn peers(text: &str) -> Result<Vec<Peer>, Fault> {
    let status = answer(text)?.peer_status.ok_or_else(|| missing("peerStatus"))?;
    let peer = |peer: XmlPeer| {
        let mut names = peer.hostnames.map(|hostnames| hostnames.names).unwrap_or_default();
        if !names.contains(&peer.hostname) {
            names.insert(0, peer.hostname);
        }
        let is = |state| peer.state == Some(state);
        let (member, rejected) = (is(PEER_IN_CLUSTER), is(PEER_REJECTED));
        Peer { uuid: peer.uuid, names, connected: peer.connected == 1, member, rejected }
    };
    let mut peers: Vec<Peer> = status.peers.into_iter().map(peer).collect();
    peers.sort_by(|a, b| a.names.cmp(&b.names));
    Ok(peers)
}

/// A volume as the pool knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeInfo {
    /// Its UUID, which every brick carries in `trusted.glusterfs.volume-id`.
    pub id: String,
    /// Started, as opposed to created or stopped.
    pub started: bool,
    /// Bricks of one replica set, the arbiter among them; 1 when not replicated.
    pub replica: usize,
    /// Arbiters among them, 0 or 1.
    pub arbiter: usize,
    /// `node:/path` of every brick, in Gluster's order: a set is `replica` consecutive ones.
    pub bricks: Vec<String>,
    /// Options that were set, by whomever.
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct VolInfo {
    volumes: XmlVolumes,
}

#[derive(Debug, Deserialize)]
struct XmlVolumes {
    #[serde(default, rename = "volume")]
    volumes: Vec<XmlVolume>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlVolume {
    name: String,
    id: String,
    status: i32,
    replica_count: usize,
    #[serde(default)]
    arbiter_count: usize,
    bricks: XmlBricks,
    options: Option<XmlOptions>,
}

#[derive(Debug, Deserialize)]
struct XmlBricks {
    #[serde(default, rename = "brick")]
    bricks: Vec<XmlBrick>,
}

#[derive(Debug, Deserialize)]
struct XmlBrick {
    name: String,
}

#[derive(Debug, Deserialize)]
struct XmlOptions {
    #[serde(default, rename = "option")]
    options: Vec<XmlOption>,
}

#[derive(Debug, Deserialize)]
struct XmlOption {
    name: String,
    #[serde(default)]
    value: String,
}

const STARTED: i32 = 1;

/// `volume info`: every volume by name.
pub fn volumes(text: &str) -> Result<BTreeMap<String, VolumeInfo>, Fault> {
    let info = answer(text)?.vol_info.ok_or_else(|| missing("volInfo"))?;
    let volume = |volume: XmlVolume| {
        let options = volume.options.map(|options| options.options).unwrap_or_default();
        let info = VolumeInfo {
            id: volume.id,
            started: volume.status == STARTED,
            replica: volume.replica_count.max(1),
            arbiter: volume.arbiter_count,
            bricks: volume.bricks.bricks.into_iter().map(|brick| brick.name).collect(),
            options: options.into_iter().map(|option| (option.name, option.value)).collect(),
        };
        (volume.name, info)
    };
    Ok(info.volumes.volumes.into_iter().map(volume).collect())
}

#[derive(Debug, Deserialize)]
struct VolStatus {
    volumes: StatusVolumes,
}

#[derive(Debug, Deserialize)]
struct StatusVolumes {
    #[serde(default, rename = "volume")]
    volumes: Vec<StatusVolume>,
}

#[derive(Debug, Deserialize)]
struct StatusVolume {
    #[serde(default, rename = "node")]
    nodes: Vec<StatusNode>,
}

#[derive(Debug, Deserialize)]
struct StatusNode {
    hostname: String,
    path: String,
    status: i32,
    port: Option<String>,
}

impl StatusNode {
    fn address(&self) -> String {
        format!("{}:{}", self.hostname, self.path)
    }

    fn has_port(&self) -> bool {
        self.port.as_deref() != Some("N/A")
    }
}

/// Bricks of nodes that are not connected do not appear at all; self-heal daemons and the like do, with a host name as their
/// path.
fn status_of_bricks(text: &str) -> Result<Vec<StatusNode>, Fault> {
    let status = answer(text)?.vol_status.ok_or_else(|| missing("volStatus"))?;
    let nodes = status.volumes.volumes.into_iter().flat_map(|volume| volume.nodes);
    Ok(nodes.filter(|node| node.path.starts_with('/')).collect())
}

/// `volume status NAME`: `node:/path` of every brick that answered, and whether its process runs and glusterd knows the port
/// that clients ask for.
pub fn bricks_online(text: &str) -> Result<BTreeMap<String, bool>, Fault> {
    let is_online = |node: &StatusNode| node.status == 1 && node.has_port();
    Ok(status_of_bricks(text)?.iter().map(|node| (node.address(), is_online(node))).collect())
}

/// Those whose process runs, and whose port glusterd has lost.
pub fn bricks_lost(text: &str) -> Result<BTreeSet<String>, Fault> {
    let is_lost = |node: &&StatusNode| node.status == 1 && !node.has_port();
    Ok(status_of_bricks(text)?.iter().filter(is_lost).map(StatusNode::address).collect())
}

/// What one brick of a volume says about healing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrickHeal {
    /// `node:/path`.
    pub brick: String,
    /// Whether it could be asked.
    pub connected: bool,
    /// Entries that another brick still has to get from it; absent when it could not be asked.
    pub pending: Option<u64>,
    /// Entries among them that no rule can decide.
    pub split_brain: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct HealInfo {
    bricks: HealBricks,
}

#[derive(Debug, Deserialize)]
struct HealBricks {
    #[serde(default, rename = "brick")]
    bricks: Vec<HealBrick>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HealBrick {
    name: String,
    status: String,
    total_number_of_entries: Option<String>,
    number_of_entries_in_split_brain: Option<String>,
}

/// `volume heal NAME info summary`.
pub fn heal(text: &str) -> Result<Vec<BrickHeal>, Fault> {
    let info = answer(text)?.heal_info.ok_or_else(|| missing("healInfo"))?;
    // A brick that cannot be asked has "-" for every number.
    let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let brick = |brick: HealBrick| {
        // What was counted before the answer broke off is no count.
        let connected = brick.status == "Connected";
        let known = |text: Option<String>| number(text).filter(|_| connected);
        BrickHeal {
            connected,
            pending: known(brick.total_number_of_entries),
            split_brain: known(brick.number_of_entries_in_split_brain),
            brick: brick.name,
        }
    };
    Ok(info.bricks.bricks.into_iter().map(brick).collect())
}

fn missing(element: &str) -> Fault {
    Fault::Malformed(format!("there is no <{element}>"))
}

#[cfg(test)]
#[path = "xml_tests.rs"]
mod tests;
