//! status: which generation is in force, and whether somebody has edited the file since.

use std::fmt;

use anyhow::Result;
use pc_cli::{Common, Exit, log};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::plan::Have;

/// `pc.config.status/1`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub schema: String,
    /// The host name, or `--node`.
    pub node: String,
    /// The generation in force; absent when no file was ever put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// SHA-256 of the file in force, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether a node's key signed it.
    #[serde(default)]
    pub signed: bool,
    /// Whether the boot units have a file.
    #[serde(default)]
    pub applied: bool,
    /// Whether cluster.toml differs from the file in force.
    #[serde(default)]
    pub edited: bool,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            Some(generation) => {
                let signed = if self.signed { "signed" } else { "not signed" };
                writeln!(f, "generation {generation} is in force on {}, {signed}", self.node)?;
            }
            None if self.applied => writeln!(f, "a file without a number is in force on {}", self.node)?,
            None => writeln!(f, "no file is in force on {}: pc-config put FILE", self.node)?,
        }
        if self.edited {
            writeln!(f, "{} has been edited since: pc-config push, or put", pc_cli::CLUSTER_FILE)?;
        }
        Ok(())
    }
}

/// The status of a machine that has this.
pub fn of(have: &Have, node: &str) -> Status {
    let kept = have.kept.as_ref().map(|(kept, _)| kept);
    Status {
        schema: "pc.config.status/1".into(),
        node: node.into(),
        generation: kept.map(|kept| kept.generation),
        sha256: kept.map(|kept| kept.sha256.clone()),
        signed: have.kept.as_ref().is_some_and(|(_, signed)| *signed),
        applied: have.applied.is_some(),
        edited: have.file.is_some() && have.file.as_deref() != kept.map(|kept| kept.file.as_bytes()),
    }
}

/// `pc-config status`.
pub fn status(common: &Common, exit_code: bool) -> Result<Exit> {
    let status = of(&Host::new(common).have()?, &common.node_name()?);
    if let Err(error) = pc_cli::write_status(&common.root, "config", &status) {
        // Somebody who may only look has no place to leave it.
        log::debug(format_args!("not kept: {error:#}"));
    }
    pc_cli::emit(common.json, &status)?;
    Ok(Exit::of_answer(exit_code, status.edited || !status.applied))
}
