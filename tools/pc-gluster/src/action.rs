//! The single things this tool can do, and how they are told to people.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One change. None of them removes a peer, a brick or a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Takes a node into the pool.
    PeerProbe {
        /// Its name.
        node: String,
    },
    /// Makes the pool know a member by name that it knows by address only.
    PeerRename {
        /// Its name.
        node: String,
    },
    /// Removes the mark that a refused create left on an empty brick of this node.
    BrickUnmark {
        /// `node:/path`.
        brick: String,
    },
    /// Puts a mark back: the create that it belonged to had succeeded after all.
    BrickMark {
        /// `node:/path`.
        brick: String,
        /// The volume's UUID.
        volume_id: String,
    },
    /// Creates a volume.
    VolumeCreate {
        /// Its name.
        volume: String,
        /// Bricks of one set, the arbiter among them.
        set_size: usize,
        /// The last of each set is an arbiter.
        arbiter: bool,
        /// All bricks, set by set.
        bricks: Vec<String>,
    },
    /// Sets options, all in one call.
    VolumeSet {
        /// The volume.
        volume: String,
        /// What differs.
        options: BTreeMap<String, String>,
    },
    /// Starts a volume that is created or stopped.
    VolumeStart {
        /// The volume.
        volume: String,
    },
    /// Adds bricks: whole sets, or more copies for the sets there are.
    BrickAdd {
        /// The volume.
        volume: String,
        /// Bricks of one set afterwards.
        set_size: usize,
        /// The last of each set is an arbiter.
        arbiter: bool,
        /// These become sets of their own, over which new files shall be spread.
        new_sets: bool,
        /// The bricks.
        bricks: Vec<String>,
    },
    /// Starts bricks of this node that are mounted but do not run (`volume start NAME force`).
    BrickStart {
        /// The volume.
        volume: String,
        /// Which ones, `node:/path`.
        bricks: Vec<String>,
    },
    /// Ends bricks of this node whose port glusterd has lost, and starts them again.
    BrickRestart {
        /// The volume.
        volume: String,
        /// Which ones, `node:/path`.
        bricks: Vec<String>,
    },
    /// Starts this node's self-heal daemon for a volume, which glusterd does not start again by itself (`volume start NAME
    /// force`).
    HealerStart {
        /// The volume.
        volume: String,
    },
    /// Makes the mount point, immutable while nothing is mounted.
    MountPoint {
        /// The volume.
        volume: String,
    },
    /// Mounts the volume on this node, once its bricks have quorum.
    Mount {
        /// The volume.
        volume: String,
    },
    /// Mounts it again: the client behind the mount is gone.
    Remount {
        /// The volume.
        volume: String,
    },
    /// Tells the rest of the machine that storage is there.
    StorageTarget,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::PeerProbe { node } => write!(f, "peer {node}: take into the pool"),
            Action::PeerRename { node } => write!(f, "peer {node}: make known by name"),
            Action::BrickUnmark { brick } => {
                write!(f, "brick {brick}: remove the mark of a volume that was never created")
            }
            Action::BrickMark { brick, volume_id } => {
                write!(f, "brick {brick}: put back the mark {volume_id}")
            }
            Action::VolumeCreate { volume, set_size, arbiter, bricks } => {
                write!(f, "volume {volume}: create, {}: {}", copies(*set_size, *arbiter), bricks.join(" "))
            }
            Action::VolumeSet { volume, options } => {
                let pairs: Vec<String> =
                    options.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "volume {volume}: set {}", pairs.join(" "))
            }
            Action::VolumeStart { volume } => write!(f, "volume {volume}: start"),
            Action::BrickAdd { volume, set_size, arbiter, bricks, .. } => {
                write!(
                    f,
                    "volume {volume}: add bricks, {}: {}",
                    copies(*set_size, *arbiter),
                    bricks.join(" ")
                )
            }
            Action::BrickStart { volume, bricks } => {
                write!(f, "volume {volume}: start the offline bricks {}", bricks.join(" "))
            }
            Action::BrickRestart { volume, bricks } => {
                write!(
                    f,
                    "volume {volume}: start anew, for glusterd has lost their ports: {}",
                    bricks.join(" ")
                )
            }
            Action::HealerStart { volume } => {
                write!(f, "volume {volume}: start this node's self-heal daemon")
            }
            Action::MountPoint { volume } => write!(f, "mount /mnt/{volume}: prepare the directory"),
            Action::Mount { volume } => write!(f, "mount /mnt/{volume}: mount"),
            Action::Remount { volume } => write!(f, "mount /mnt/{volume}: mount again, its client is gone"),
            Action::StorageTarget => f.write_str("reach pc-storage.target"),
        }
    }
}

fn copies(set_size: usize, arbiter: bool) -> String {
    if arbiter {
        format!("{} copies and an arbiter", set_size.saturating_sub(1))
    } else {
        format!("copies {set_size}")
    }
}
