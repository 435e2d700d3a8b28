//! The verbs that make, copy, grow or remove a VM's disk.

mod clone;
mod delete;
mod export;
pub mod foreign;
mod import;
mod loss;
mod ova;
pub mod resize;
mod snapshot;

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use cluster::Bytes;
use pc_cli::{Exit, require_root};
use pc_run::Cost;
use serde::Serialize;

use crate::idle::Claims;
use crate::site::Site;

/// What is to become of a disk.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a VM's disk of an image or an appliance: raw, qcow2, VMDK or OVA. The VM has none yet
    Import {
        /// The VM, which the file has
        name: String,
        /// The image, on this node
        #[arg(value_name = "FILE")]
        image: PathBuf,
        #[command(flatten)]
        options: import::Options,
    },
    /// Grow a VM's disk to the size that the file gives it, also while it runs
    Resize {
        /// The VM
        name: String,
        #[command(flatten)]
        claims: Claims,
    },
    /// Copy a stopped VM's disk into a file
    Export {
        /// The VM
        name: String,
        /// The file, on this node, which must not exist
        #[arg(value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        options: export::Options,
    },
    /// Copy a stopped VM's disk to a VM of the file that has none yet
    Clone {
        /// The VM whose disk is copied
        #[arg(value_name = "FROM")]
        from: String,
        /// The VM that gets the copy
        #[arg(value_name = "TO")]
        to: String,
        #[command(flatten)]
        claims: Claims,
    },
    /// States of a stopped VM's disk to come back to
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Remove the directory of a VM that has left the file, with its disk
    Delete {
        /// The VM
        name: String,
        #[command(flatten)]
        options: delete::Options,
    },
}

/// `pc.vm.disk/1`: what became of a disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.vm.disk/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// What was done.
    pub did: Did,
    /// The disk.
    pub disk: String,
    /// Its size, as the guest sees it.
    pub size_bytes: u64,
    /// Its size before, when that has changed.
    pub was_bytes: Option<u64>,
    /// The file or the VM that it was made of.
    pub from: Option<String>,
    /// The file that was made of it.
    pub to: Option<String>,
    /// The VM ran meanwhile.
    pub running: bool,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// Made out of a file.
    Imported,
    /// Grown.
    Grown,
    /// Left as it was: it has the size of the file.
    Nothing,
    /// Copied into a file.
    Exported,
    /// Made out of another VM's.
    Cloned,
    /// Removed, with all that lay beside it.
    Deleted,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vm, size) = (&self.vm, Bytes(self.size_bytes));
        let from = self.from.as_deref().unwrap_or_default();
        match self.did {
            Did::Imported => writeln!(f, "vm {vm}: made its disk of {size} out of {from}"),
            Did::Grown => {
                let was = Bytes(self.was_bytes.unwrap_or_default());
                writeln!(f, "vm {vm}: grew its disk from {was} to {size}")?;
                let when = if self.running { "now" } else { "once it runs" };
                writeln!(
                    f,
                    "inside, {when}: grow its partition and file system (cloud-init does so at a boot)"
                )
            }
            Did::Nothing => writeln!(f, "vm {vm}: its disk has {size} already"),
            Did::Exported => {
                writeln!(
                    f,
                    "vm {vm}: copied its disk of {size} to {}",
                    self.to.as_deref().unwrap_or_default()
                )
            }
            Did::Cloned => writeln!(f, "vm {vm}: made its disk of {size} out of that of vm {from}"),
            Did::Deleted => writeln!(f, "vm {vm}: removed its disk of {size}, {}", self.disk),
        }
    }
}

/// Does it.
pub fn run(site: &Site, verb: Verb) -> Result<Exit> {
    require_root()?;
    site.require_self()?;
    match verb {
        Verb::Snapshot(verb) => snapshot::run(site, verb),
        Verb::Import { name, image, options } => import::import(site, &name, &image, &options),
        Verb::Resize { name, claims } => resize::resize(site, &name, &claims),
        Verb::Export { name, to, options } => export::export(site, &name, &to, &options),
        Verb::Clone { from, to, claims } => clone::clone(site, &from, &to, &claims),
        Verb::Delete { name, options } => delete::delete(site, &name, &options),
    }
}

/// For the samples of every output.
#[cfg(test)]
pub fn sample() -> snapshot::Snapshots {
    let state = snapshot::Snapshot {
        name: "before-upgrade".into(),
        made_at: "2026-01-01T00:00:00Z".into(),
        allocated_bytes: 3_221_225_472,
    };
    snapshot::Snapshots { schema: "pc.vm.snapshots/1", vm: "mail".into(), kept: vec![state] }
}
