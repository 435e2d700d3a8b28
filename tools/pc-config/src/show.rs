//! show, nodes, schema: the file in its normal form, or what one node is to be.

use std::fmt;

use anyhow::{Context, Result};
use cluster::{Brick, Cluster, NodeView};
use pc_cli::{Common, Exit, refused};
use serde::Serialize;

use crate::check::load;

/// The file as TOML in its normal form: defaults left out, keys in the order of the documentation.
pub fn normal_form(cluster: &Cluster) -> Result<String> {
    toml::to_string_pretty(cluster).context("writing the file as TOML")
}

/// The whole file; its own first field is its schema.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Whole {
    cluster: Cluster,
    #[serde(skip)]
    text: String,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What one node is to be, `pc.config.node/1`.
#[derive(Debug, Serialize)]
struct Slice {
    schema: &'static str,
    cluster: String,
    domain: String,
    name: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<SliceNetwork>,
    bricks: Vec<SliceBrick>,
    nics: std::collections::BTreeMap<String, Vec<String>>,
    /// VMs that it starts when there is no `[ha]`.
    home_vms: Vec<String>,
    peers: Vec<Peer>,
}

/// The network that carries the node's own traffic.
#[derive(Debug, Serialize)]
struct SliceNetwork {
    name: String,
    prefix_length: u8,
}

#[derive(Debug, Serialize)]
struct SliceBrick {
    name: String,
    volume: String,
    device: String,
    mapper: String,
    block_device: String,
    mount_point: String,
}

#[derive(Debug, Serialize)]
struct Peer {
    name: String,
    address: String,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "node {} of {}", self.name, self.cluster)?;
        match &self.network {
            Some(network) => {
                writeln!(
                    f,
                    "address {}/{} on network {}",
                    self.address, network.prefix_length, network.name
                )?;
            }
            None => writeln!(f, "address {}", self.address)?,
        }
        for (uplink, nics) in &self.nics {
            writeln!(f, "uplink {uplink}: {}", nics.join(", "))?;
        }
        for brick in &self.bricks {
            writeln!(
                f,
                "brick {} of volume {}: {} at {}",
                brick.name, brick.volume, brick.device, brick.mount_point
            )?;
        }
        for vm in &self.home_vms {
            writeln!(f, "home of VM {vm}")?;
        }
        self.peers.iter().try_for_each(|peer| writeln!(f, "peer {} {}", peer.name, peer.address))
    }
}

fn slice_brick(brick: &Brick) -> SliceBrick {
    SliceBrick {
        name: brick.name().into(),
        volume: brick.volume.to_string(),
        device: brick.device.to_string(),
        mapper: brick.mapper(),
        block_device: brick.block_device(),
        mount_point: brick.mount_point(),
    }
}

fn slice(view: &NodeView<'_>) -> Slice {
    let network = view.cluster.node_network(view.node);
    let peer = |node: &cluster::Node| Peer { name: node.name.to_string(), address: address(node) };
    Slice {
        schema: "pc.config.node/1",
        cluster: view.cluster.name.to_string(),
        domain: view.cluster.domain.clone(),
        name: view.node.name.to_string(),
        address: address(view.node),
        network: network
            .map(|found| SliceNetwork { name: found.name.to_string(), prefix_length: found.prefix }),
        bricks: view.bricks().iter().map(slice_brick).collect(),
        nics: view.node.nics.iter().map(|(uplink, nics)| (uplink.to_string(), nics.clone())).collect(),
        home_vms: view.home_vms().map(|(name, _)| name.to_string()).collect(),
        peers: view.peers().map(peer).collect(),
    }
}

/// The address without its prefix length.
pub fn address(node: &cluster::Node) -> String {
    node.ip().map_or_else(|| node.address.clone(), |ip| ip.to_string())
}

/// `pc-config show [--node NAME]`.
pub fn show(common: &Common) -> Result<Exit> {
    let cluster = load(common)?;
    if let Some(node) = &common.node {
        pc_cli::emit(common.json, &slice(&cluster.view(node).map_err(refused)?))?;
    } else {
        let text = normal_form(&cluster)?;
        pc_cli::emit(common.json, &Whole { cluster, text })?;
    }
    Ok(Exit::Done)
}

/// `pc.config.nodes/1`.
#[derive(Debug, Serialize)]
struct Nodes {
    schema: &'static str,
    nodes: Vec<Peer>,
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| writeln!(f, "{}", node.name))
    }
}

/// `pc-config nodes`.
pub fn nodes(common: &Common) -> Result<Exit> {
    let cluster = load(common)?;
    let peer = |node: &cluster::Node| Peer { name: node.name.to_string(), address: address(node) };
    let nodes = Nodes { schema: "pc.config.nodes/1", nodes: cluster.nodes.iter().map(peer).collect() };
    pc_cli::emit(common.json, &nodes)?;
    Ok(Exit::Done)
}

/// `pc-config schema`.
pub fn schema() -> Result<Exit> {
    let mut text = serde_json::to_string_pretty(cluster::json_schema()).context("writing the schema")?;
    text.push('\n');
    pc_cli::emit_raw(text.as_bytes())?;
    Ok(Exit::Done)
}
