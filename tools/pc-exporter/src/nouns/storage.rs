//! The seam to storage, whatever engine is behind it: `/run/personal-cluster/storage.json`.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::{parsed, timestamp};
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_storage_healthy" [] "1 when no volume misses anything anywhere.";
    QUORUM: Gauge "pc_storage_quorum" [] "1 when every volume can be written to.";
    MEASURED: Gauge "pc_storage_measured_timestamp_seconds" [] "When storage was last looked at.";
    VOLUME_MOUNTED: Gauge "pc_storage_volume_mounted" ["volume"] "1 when the volume is mounted on this node and answers.";
    VOLUME_QUORUM: Gauge "pc_storage_volume_quorum" ["volume"] "1 when the volume can be written to.";
    VOLUME_HEAL: Gauge "pc_storage_volume_heal_pending_entries" ["volume"] "Entries of the volume that wait for healing.";
}

#[derive(Deserialize)]
struct Storage {
    measured_at: String,
    healthy: bool,
    quorum: bool,
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
struct Volume {
    name: String,
    mounted: bool,
    quorum: bool,
    heal_pending: Option<u64>,
}

/// `pc.storage/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let storage: Storage = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], storage.healthy);
    samples.truth(&QUORUM, &[], storage.quorum);
    samples.number(&MEASURED, &[], timestamp(&storage.measured_at)?);
    for volume in &storage.volumes {
        let name = [volume.name.as_str()];
        samples.truth(&VOLUME_MOUNTED, &name, volume.mounted);
        samples.truth(&VOLUME_QUORUM, &name, volume.quorum);
        if let Some(entries) = volume.heal_pending {
            samples.count(&VOLUME_HEAL, &name, entries);
        }
    }
    Ok(samples)
}
