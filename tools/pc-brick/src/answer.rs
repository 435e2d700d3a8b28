//! What a plan consists of and how it is printed.

use std::fmt;

use pc_plan::Plan;
use serde::{Deserialize, Serialize};

/// Schema of the printed plan.
pub const SCHEMA: &str = "pc.brick.plan/1";

/// One thing to do to one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Write down, durably, that this disk is about to be formatted, and with which UUIDs.
    Claim,
    /// Make the LUKS2 header.
    LuksFormat,
    /// Bind it to the Tang servers.
    Bind,
    /// Save the header outside the disk.
    HeaderBackup,
    /// Open the LUKS device.
    Open,
    /// Make the volume group.
    Vg,
    /// Make the thin pool.
    Pool,
    /// Make the thin volume.
    Lv,
    /// Activate the thin volume.
    Activate,
    /// Make the file system.
    Mkfs,
    /// Make the mount point, immutable.
    Mountpoint,
    /// Mount it.
    Mount,
    /// Make the directory that Gluster uses.
    Directory,
    /// Write down that the brick is complete.
    Record,
}

impl Verb {
    /// As in the step's id and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Claim => "claim",
            Verb::LuksFormat => "luks-format",
            Verb::Bind => "bind",
            Verb::HeaderBackup => "header-backup",
            Verb::Open => "open",
            Verb::Vg => "vg",
            Verb::Pool => "pool",
            Verb::Lv => "lv",
            Verb::Activate => "activate",
            Verb::Mkfs => "mkfs",
            Verb::Mountpoint => "mountpoint",
            Verb::Mount => "mount",
            Verb::Directory => "directory",
            Verb::Record => "record",
        }
    }
}

/// A step's content in the printed plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What.
    #[serde(rename = "action")]
    pub verb: Verb,
    /// The brick's name.
    pub disk: String,
    /// The volume it belongs to.
    pub volume: String,
    /// The disk by its stable path.
    pub device: String,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.verb {
            Verb::Claim => "write down that this disk becomes a brick",
            Verb::LuksFormat => "encrypt (LUKS2): the first write to this disk",
            Verb::Bind => "bind to the unlock servers",
            Verb::HeaderBackup => "save the LUKS header",
            Verb::Open => "open",
            Verb::Vg => "make the volume group",
            Verb::Pool => "make the thin pool",
            Verb::Lv => "make the thin volume",
            Verb::Activate => "activate the thin volume",
            Verb::Mkfs => "make the XFS file system",
            Verb::Mountpoint => "make the mount point, immutable",
            Verb::Mount => "mount",
            Verb::Directory => "make the brick directory",
            Verb::Record => "write down that the brick is complete",
        };
        write!(f, "{} ({}): {text}", self.disk, self.volume)
    }
}

/// Why nothing is done to a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The brick's name.
    pub disk: String,
    /// What was found.
    pub found: String,
    /// The command to run next; where there is a choice, a line each, the safest first.
    pub remedy: String,
    /// It could not be examined, which another attempt may change.
    #[serde(skip)]
    pub passing: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: refused: {}\n  {}", self.disk, self.found, self.remedy)
    }
}

/// The plan with what it leaves out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Steps for all disks that can be worked on.
    #[serde(flatten)]
    pub plan: Plan<Action>,
    /// Disks that are left alone.
    pub refused: Vec<Refusal>,
    /// Disks that are not there.
    pub missing: Vec<String>,
}

impl Answer {
    /// Everything is as the file says.
    pub fn converged(&self) -> bool {
        self.plan.steps.is_empty() && self.refused.is_empty() && self.missing.is_empty()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.converged() || !self.plan.steps.is_empty() {
            self.plan.fmt(f)?;
        }
        self.missing.iter().try_for_each(|disk| writeln!(f, "{disk}: missing"))?;
        self.refused.iter().try_for_each(|refusal| writeln!(f, "{refusal}"))
    }
}
