//! pc-brick: disks as bricks, their thin pools and file systems.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_brick_healthy" [] "1 when every brick of this node is mounted and has no problem.";
    MOUNTED: Gauge "pc_brick_mounted" ["disk", "volume"] "1 when the brick is in service.";
    FOREIGN: Gauge "pc_brick_foreign" ["disk", "volume"] "1 when the disk holds what pc-brick did not make.";
    PROBLEMS: Gauge "pc_brick_problems" ["disk", "volume"] "What is wrong with the brick, counted; pc-brick status says it in words.";
    BOUND: Gauge "pc_brick_bound" ["disk", "volume"] "1 when a Clevis token is in the disk's LUKS header.";
    SIZE: Gauge "pc_brick_size_bytes" ["disk", "volume"] "Size of the disk.";
    POOL_DATA: Gauge "pc_brick_pool_data_used_ratio" ["disk", "volume"] "Used part of the thin pool's data, 0 to 1.";
    POOL_METADATA: Gauge "pc_brick_pool_metadata_used_ratio" ["disk", "volume"] "Used part of the thin pool's metadata, 0 to 1; a full one stops every write.";
    ANSWERS: Gauge "pc_brick_file_system_answers" ["disk", "volume"] "1 when the file system of a brick that is mounted can be read; 0 when it has shut itself down, or its disk is silent.";
    FILE_SYSTEM: Gauge "pc_brick_file_system_size_bytes" ["disk", "volume"] "Size of the brick's file system.";
    AVAILABLE: Gauge "pc_brick_file_system_available_bytes" ["disk", "volume"] "Room that is left in the brick's file system.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    bricks: Vec<Brick>,
}

#[derive(Deserialize)]
struct Brick {
    disk: String,
    volume: String,
    state: String,
    problems: Vec<String>,
    bound: Option<bool>,
    size_bytes: Option<u64>,
    pool_data_percent: Option<f64>,
    pool_metadata_percent: Option<f64>,
    file_system_answers: Option<bool>,
    file_system_size_bytes: Option<u64>,
    file_system_available_bytes: Option<u64>,
}

/// `pc.brick.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    for brick in &status.bricks {
        let labels = [brick.disk.as_str(), brick.volume.as_str()];
        samples.truth(&MOUNTED, &labels, brick.state == "mounted");
        samples.truth(&FOREIGN, &labels, brick.state == "foreign");
        samples.length(&PROBLEMS, &labels, &brick.problems);
        if let Some(bound) = brick.bound {
            samples.truth(&BOUND, &labels, bound);
        }
        if let Some(answers) = brick.file_system_answers {
            samples.truth(&ANSWERS, &labels, answers);
        }
        let sizes = [
            (&SIZE, brick.size_bytes),
            (&FILE_SYSTEM, brick.file_system_size_bytes),
            (&AVAILABLE, brick.file_system_available_bytes),
        ];
        for (family, bytes) in sizes {
            if let Some(bytes) = bytes {
                samples.count(family, &labels, bytes);
            }
        }
        let percents = [(&POOL_DATA, brick.pool_data_percent), (&POOL_METADATA, brick.pool_metadata_percent)];
        for (family, percent) in percents {
            if let Some(percent) = percent {
                samples.number(family, &labels, percent / 100.0);
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exposition::{Format, render};

    /// As pc-brick tells of one that has shut itself down, and of one that nobody has mounted.
    #[test]
    fn a_file_system_that_does_not_answer() {
        let brick =
            |disk: &str, state: &str| json!({"disk": disk, "volume": "vms", "state": state, "problems": []});
        let (mut silent, mut well) = (brick("ata-A", "mounted"), brick("ata-B", "mounted"));
        silent["file_system_answers"] = json!(false);
        well["file_system_answers"] = json!(true);
        let status = json!({"healthy": false, "bricks": [silent, well, brick("ata-C", "locked")]});
        let text = render(&read(status).unwrap().0, Format::Text);
        let answers = |line: &&str| line.starts_with("pc_brick_file_system_answers{");
        let of: Vec<&str> = text.lines().filter(answers).collect();
        let sample = |disk: &str, value| {
            format!("pc_brick_file_system_answers{{disk=\"{disk}\",volume=\"vms\"}} {value}")
        };
        assert_eq!(of, [sample("ata-A", 0), sample("ata-B", 1)]);
    }
}
