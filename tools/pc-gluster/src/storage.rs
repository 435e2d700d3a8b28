//! `/run/personal-cluster/storage.json`: all that pc-ha, pc-vm and pc-borg may know of the storage engine.
//! Nothing in it is Gluster's.

use serde::Serialize;

use crate::status::Status;

/// `pc.storage/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// `pc.storage/1`.
    pub schema: &'static str,
    /// When the look began that this is of, RFC 3339 UTC.
    pub measured_at: String,
    /// Nothing is missing anywhere.
    pub healthy: bool,
    /// Every volume can be written to.
    pub quorum: bool,
    /// Entries that wait for healing, all volumes together; null when unknown.
    pub heal_pending: Option<u64>,
    /// Volume by volume.
    pub volumes: Vec<StorageVolume>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageVolume {
    /// Its name; it is mounted on `/mnt/<name>`.
    pub name: String,
    /// It is mounted on this node and answers.
    pub mounted: bool,
    /// It can be written to.
    pub quorum: bool,
    /// Entries that wait for healing; null when unknown.
    pub heal_pending: Option<u64>,
}

impl Storage {
    /// The seam's view of a status; `local` are the local volumes of this node and whether they are mounted.
    pub fn new(status: &Status, local: &[(String, bool)], measured_at: String) -> Storage {
        let replicated = status.volumes.iter().map(|volume| StorageVolume {
            name: volume.name.clone(),
            mounted: volume.mounted,
            quorum: volume.quorum,
            heal_pending: volume.heal_pending,
        });
        let local = local.iter().map(|(name, mounted)| StorageVolume {
            name: name.clone(),
            mounted: *mounted,
            quorum: *mounted,
            heal_pending: Some(0),
        });
        let volumes: Vec<StorageVolume> = replicated.chain(local).collect();
        Storage {
            schema: "pc.storage/1",
            measured_at,
            healthy: status.healthy && volumes.iter().all(|volume| volume.mounted),
            quorum: volumes.iter().all(|volume| volume.quorum),
            heal_pending: volumes.iter().map(|volume| volume.heal_pending).sum(),
            volumes,
        }
    }
}
