//! What this node sees of Gluster and of its own disks: the input of the plan.
//!
//! Nothing in here changes by itself on a quiet machine (no counters, no process ids), so that its digest
//! tells whether a printed plan still holds.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::want::{Member, Want};
use crate::xml::{Peer, VolumeInfo};

/// One of this node's bricks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnBrick {
    /// `node:/path`.
    pub address: String,
    /// The file system that holds it is mounted and can be read.
    pub mounted: bool,
    /// Its glusterfsd runs.
    pub running: bool,
    /// It runs, and this node's glusterd has lost its port: no new client finds it.
    pub lost: bool,
    /// It carries the identity of a volume.
    pub marked: Option<Mark>,
    /// The identity that this tool took off it as a leftover, should it turn out to have been none.
    pub unmarked: Option<String>,
}

/// The volume identity (`trusted.glusterfs.volume-id`) that a brick carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// The volume's UUID.
    pub volume_id: String,
    /// There is not one file in the brick: what a create that was refused elsewhere leaves behind.
    pub empty: bool,
    /// It was made so long ago that every other node has had time to clean up as well.
    pub settled: bool,
}

/// A volume's mount point on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mount {
    /// No directory yet, or one that could still be written to.
    Unprepared,
    /// An empty directory that nobody can write to.
    Prepared,
    /// Mounted and answering.
    Mounted,
    /// Mounted, its client lives but does not answer: it reaches too few bricks, or waits for one.
    Silent,
    /// Mounted, but its client process is gone.
    Dead,
}

/// Everything the plan is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Have {
    /// The other members of the pool.
    pub peers: Vec<Peer>,
    /// Every volume, also those that the file does not name.
    pub volumes: BTreeMap<String, VolumeInfo>,
    /// This node's bricks of replicated volumes, as the file names them.
    pub bricks: Vec<OwnBrick>,
    /// Replicated volumes of the file that this node's self-heal daemon looks after, or is about to: glusterd starts it after
    /// the bricks.
    pub healed: BTreeSet<String>,
    /// Bricks of any node that are known to be online.
    pub online: BTreeSet<String>,
    /// Mount points of the file's replicated volumes.
    pub mounts: BTreeMap<String, Mount>,
    /// `pc-storage.target` is active.
    pub storage_target: bool,
}

impl Have {
    /// The pool's entry for a node of the file, by name or by address.
    pub fn peer(&self, member: &Member) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.names.iter().any(|name| is(name, member)))
    }

    /// Whether a node of the file is this one, or a full member that answers.
    pub fn is_connected(&self, member: &Member, node: &str) -> bool {
        member.name == node || self.peer(member).is_some_and(|peer| peer.connected && peer.member)
    }

    /// Server quorum as glusterd counts it: more than half of the pool, this node among it, is connected.
    pub fn server_quorum(&self) -> bool {
        let connected = 1 + self.peers.iter().filter(|peer| peer.connected && !peer.rejected).count();
        connected * 2 > self.peers.len() + 1
    }

    /// This node's brick at `address`.
    pub fn own_brick(&self, address: &str) -> Option<&OwnBrick> {
        self.bricks.iter().find(|brick| brick.address == address)
    }

    /// Who makes pools and volumes. A node that belongs to no pool yet leads only when it is the first of
    /// the file: else each of three blank nodes would found a cluster of its own.
    pub fn leader<'a>(&self, want: &'a Want) -> Option<&'a str> {
        let first = if self.peers.is_empty() {
            want.members.first()
        } else {
            want.members.iter().find(|member| self.is_connected(member, &want.node))
        };
        first.map(|member| member.name.as_str())
    }
}

/// Whether the pool's name for a peer is the name or address of this node of the file.
pub fn is(name: &str, member: &Member) -> bool {
    name == member.address || by_name(name, member)
}

/// Whether the pool knows a peer by the node's name (with or without a domain).
pub fn by_name(name: &str, member: &Member) -> bool {
    name == member.name || name.strip_prefix(&member.name).is_some_and(|rest| rest.starts_with('.'))
}

/// Client quorum of one replica set (`cluster.quorum-type auto`): more than half, or exactly half with the
/// first brick among it.
pub fn set_has_quorum(set: &[String], online: &impl Fn(&str) -> bool) -> bool {
    let up = set.iter().filter(|brick| online(brick)).count();
    up * 2 > set.len() || (up * 2 == set.len() && set.first().is_some_and(|first| online(first)))
}
