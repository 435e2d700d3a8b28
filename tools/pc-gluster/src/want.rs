//! What the cluster file asks of Gluster: members, volumes, replica sets, options.

use std::collections::BTreeMap;

use cluster::sets::{replica_sets, set_size};
use cluster::{NodeView, Use};

use crate::options;

/// A node of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, which the pool shall know it by.
    pub name: String,
    /// Its address without prefix length, by which the pool may know it at first.
    pub address: String,
}

/// A replicated volume of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, in the file and in Gluster.
    pub name: String,
    /// Bricks of one set, the arbiter among them.
    pub set_size: usize,
    /// The last brick of each set holds names and sizes only.
    pub arbiter: bool,
    /// `node:/path` of every brick, set by set.
    pub sets: Vec<Vec<String>>,
    /// Options that shall be set.
    pub options: BTreeMap<String, String>,
    /// What it is for.
    pub purpose: Use,
}

/// Everything this tool wants, seen from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// This node.
    pub node: String,
    /// All nodes in the order of the file; the first one that is connected leads.
    pub members: Vec<Member>,
    /// The replicated volumes.
    pub volumes: Vec<Volume>,
    /// Local volumes that this node has a disk for: only their mount is looked at.
    pub local: Vec<String>,
}

/// Derives what is wanted from the file; `tls` tells whether this cluster has certificates. Fails with one
/// line per volume that cannot be built.
pub fn want(view: &NodeView<'_>, tls: bool) -> Result<Want, String> {
    let file = view.cluster;
    let members: Vec<Member> = file.nodes.iter().map(member).collect();
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut volumes = Vec::new();
    let mut faults = Vec::new();
    for (name, volume) in file.volumes.iter().filter(|(_, volume)| volume.purpose != Use::Local) {
        match replica_sets(file, name) {
            Ok(sets) => volumes.push(Volume {
                name: name.to_string(),
                set_size: set_size(volume),
                arbiter: volume.arbiter,
                sets: sets
                    .iter()
                    .map(|set| set.iter().map(cluster::sets::PlacedBrick::address).collect())
                    .collect(),
                options: options::wanted(volume.purpose, set_size(volume), tls.then_some(&names)),
                purpose: volume.purpose,
            }),
            Err(fault) => faults.push(format!("volume.{name}: {fault}")),
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    let mut local: Vec<String> = view
        .bricks()
        .iter()
        .filter(|brick| brick.purpose == Use::Local)
        .map(|brick| brick.volume.to_string())
        .collect();
    local.dedup();
    Ok(Want { node: view.node.name.to_string(), members, volumes, local })
}

fn member(node: &cluster::Node) -> Member {
    let address = node.address.split('/').next().unwrap_or_default();
    Member { name: node.name.to_string(), address: address.to_string() }
}

impl Want {
    /// Whether a brick (`node:/path`) lies on this node.
    pub fn is_own(&self, brick: &str) -> bool {
        node_of(brick) == self.node
    }
}

/// The node of `node:/path`.
pub fn node_of(brick: &str) -> &str {
    brick.split_once(":/").map_or(brick, |(node, _)| node)
}

/// The path of `node:/path`.
pub fn path_of(brick: &str) -> &str {
    brick.find(":/").map_or(brick, |at| &brick[at + 1..])
}
