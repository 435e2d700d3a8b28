//! pc-ha: whether pacemaker has taken over here, and what is wrong with that.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_ha_healthy" [] "1 when nothing is wrong with membership, fencing and what pacemaker runs, as far as this node knows.";
    ENABLED: Gauge "pc_ha_enabled" [] "1 where pacemaker has taken over (pc-ha enable), whether it runs just now or not.";
    PROBLEMS: Gauge "pc_ha_problems" [] "What is wrong with it, counted; pc-ha status says it in words.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    enabled: bool,
    problems: Vec<String>,
}

/// `pc.ha.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    samples.truth(&ENABLED, &[], status.enabled);
    samples.length(&PROBLEMS, &[], &status.problems);
    Ok(samples)
}
