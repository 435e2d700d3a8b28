//! What was found on the machine: everything the planner decides on, and nothing that changes by itself
//! (no fill levels), because a plan's digest is made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All disks that the file names for this node, by the brick's name.
pub type Have = BTreeMap<String, Facts>;

/// One disk and what this node remembers of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Facts {
    /// What was written down before and while it was formatted.
    pub record: Option<Record>,
    /// `None`: no such device.
    pub device: Option<Device>,
    /// The header backup in `/var/lib/personal-cluster/headers`.
    pub header_backup: Option<Backup>,
    /// Of a disk without a record: the newest backup of a header that it had before it was forgotten.
    pub kept_backup: Option<Backup>,
    /// Where it is to be mounted.
    pub mount: Mount,
}

/// A backup of a LUKS header, by its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backup {
    /// Encrypted to the recovery key: pc-unlock puts it back.
    Sealed(String),
    /// As cryptsetup makes it.
    Image(String),
}

/// How far this node has come with a disk. Written, with fsync, before anything that it permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing was written to the disk yet: it must be as blank as it was.
    Claimed,
    /// From just before the first write to the disk until LUKS is complete. Older versions wrote this for a mere claim.
    Formatting,
    /// LUKS is complete, the file system is not. Only now may volume group, pool and file system be made.
    Formatted,
    /// The file system is complete and may hold data: from here on nothing is ever made again.
    Made,
    /// Mounted once, with its brick directory.
    Done,
}

impl State {
    /// LUKS is not complete: only now may `luksFormat` run.
    pub fn is_unformatted(self) -> bool {
        matches!(self, State::Claimed | State::Formatting)
    }
}

/// `/var/lib/personal-cluster/brick/<disk>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `pc.brick.record/1`.
    pub schema: String,
    /// The disk, by its stable path.
    pub device: String,
    /// UUID of the LUKS header, chosen before it is written: what makes a disk recognisably ours.
    pub luks_uuid: String,
    /// UUID of the file system, chosen likewise; absent for a brick that was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system_uuid: Option<String>,
    /// Size of the disk when it was claimed.
    pub size_bytes: u64,
    /// How far it has come.
    pub state: State,
    /// When it was claimed (RFC 3339, UTC).
    pub claimed: String,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Device {
    /// What the kernel calls it today: for people, never for decisions.
    pub kernel_name: String,
    /// Its size.
    pub size_bytes: u64,
    /// Spinning, as far as the kernel knows.
    pub rotational: bool,
    /// It takes discards (TRIM).
    pub discard: bool,
    /// Write-protected.
    pub read_only: bool,
    /// What is on it.
    pub content: Content,
    /// What uses it, other than our own stack: mounts, swap, holders.
    pub users: Vec<String>,
    /// Its partitions.
    pub partitions: Vec<String>,
    /// What is inside, as far as that can be seen: nothing while it is locked.
    pub stack: Stack,
}

/// What a device carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// blkid and wipefs find nothing, and every place that is looked at reads as zero.
    #[default]
    Blank,
    /// blkid and wipefs find nothing, yet there is data.
    Unknown,
    /// The same, but only in the first 16 MiB: what an interrupted luksFormat leaves.
    UnknownStart,
    /// A LUKS2 header.
    Luks2(Luks),
    /// Anything else, each in words: `ext4 file system "data"`.
    Found(Vec<String>),
    /// It cannot be examined: a dying disk, a device that is no disk.
    Unreadable(String),
}

/// A LUKS2 header, read without a key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Luks {
    /// UUID of the header.
    pub uuid: String,
    /// `personal-cluster` when one of our tools made it.
    pub subsystem: String,
    /// Keyslots in its metadata; 0 while it is being formatted.
    pub keyslots: usize,
    /// A clevis token is bound to it.
    pub bound: bool,
}

/// What is above the LUKS device: which of its layers are there.
#[allow(clippy::struct_excessive_bools, reason = "one flag per layer, each seen by itself")]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stack {
    /// The LUKS device is open under the brick's name.
    pub open: bool,
    /// The volume group is there and on this device.
    pub volume_group: bool,
    /// The thin pool is there, and nothing half-made in its place.
    pub pool: bool,
    /// The thin volume is there.
    pub volume: bool,
    /// The thin volume is active.
    pub active: bool,
    /// The XFS file system is there and its making was finished.
    pub file_system: bool,
}

/// The directory that Gluster uses, in a brick that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directory {
    /// It is there.
    There,
    /// The file system answers, and has none.
    Gone,
    /// The file system does not answer, in words: it has shut itself down, or its disk is silent.
    Unknown(String),
}

/// Where a brick is mounted, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mount {
    /// Nothing there, not even the directory.
    #[default]
    Absent,
    /// A directory that could be written to by mistake.
    Writable,
    /// An immutable directory, or one on a file system that has no such flag.
    Ready,
    /// The brick is mounted there.
    Mounted {
        /// The directory that Gluster uses.
        directory: Directory,
    },
    /// Something else is mounted there.
    Foreign(String),
}
