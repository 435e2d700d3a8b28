//! pc-config: which generation of the cluster file is in force here.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    GENERATION: Gauge "pc_config_generation" [] "Number of the cluster file that is in force.";
    INFO: Info "pc_config_info" ["sha256"] "Digest of the cluster file that is in force: the same on every node.";
    SIGNED: Gauge "pc_config_signed" [] "1 when a node of the cluster has signed the file in force.";
    APPLIED: Gauge "pc_config_applied" [] "1 when the boot units have a file.";
    EDITED: Gauge "pc_config_edited" [] "1 when cluster.toml differs from the file in force.";
}

#[derive(Deserialize)]
struct Status {
    generation: Option<u64>,
    sha256: Option<String>,
    signed: bool,
    applied: bool,
    edited: bool,
}

/// `pc.config.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    if let Some(generation) = status.generation {
        samples.count(&GENERATION, &[], generation);
    }
    if let Some(digest) = &status.sha256 {
        samples.info(&INFO, &[digest]);
    }
    samples.truth(&SIGNED, &[], status.signed);
    samples.truth(&APPLIED, &[], status.applied);
    samples.truth(&EDITED, &[], status.edited);
    Ok(samples)
}
