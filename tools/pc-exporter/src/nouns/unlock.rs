//! pc-unlock: disks and sealed secrets.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_unlock_healthy" [] "1 when every disk of the file and every sealed secret is open.";
    OPEN: Gauge "pc_unlock_disk_open" ["disk"] "1 when the disk's LUKS device is open.";
    MISSING: Gauge "pc_unlock_disk_missing" ["disk"] "1 when the disk is not there.";
    BINDINGS: Gauge "pc_unlock_disk_bindings" ["disk"] "Clevis tokens in the disk's LUKS header.";
    SECRET: Gauge "pc_unlock_secret_open" ["secret"] "1 when the sealed secret is open.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    devices: Vec<Device>,
    secrets: Vec<Secret>,
}

#[derive(Deserialize)]
struct Device {
    #[serde(rename = "device")]
    path: String,
    state: String,
    bindings: Vec<Value>,
}

#[derive(Deserialize)]
struct Secret {
    name: String,
    state: String,
}

/// `pc.unlock.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    for device in &status.devices {
        let disk = [device.path.rsplit('/').next().unwrap_or_default()];
        samples.truth(&OPEN, &disk, device.state == "open");
        samples.truth(&MISSING, &disk, device.state == "missing");
        samples.length(&BINDINGS, &disk, &device.bindings);
    }
    for secret in &status.secrets {
        samples.truth(&SECRET, &[&secret.name], secret.state == "open");
    }
    Ok(samples)
}
