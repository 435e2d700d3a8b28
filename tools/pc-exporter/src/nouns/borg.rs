//! pc-borg: how old the archives of every VM are, and what is wrong with the repositories.
//!
//! The records lie on the volumes: every node that has them mounted tells the same.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::{parsed, timestamp};
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_backup_healthy" [] "1 when no backup is overdue, no repository damaged, and every key has a copy elsewhere.";
    OVERDUE: Gauge "pc_backup_overdue" ["vm", "policy"] "1 when the VM has no archive there, or an older one than the schedule allows.";
    LAST: Gauge "pc_backup_last_success_timestamp_seconds" ["vm", "policy"] "When the data of the newest archive was taken; no series before the first.";
    FAILED: Gauge "pc_backup_last_attempt_failed" ["vm", "policy"] "1 when the last attempt failed; pc-borg status says why.";
    FAILURE: Gauge "pc_backup_last_failure_timestamp_seconds" ["vm", "policy"] "When the last attempt failed; no series after one that did not.";
    VERIFIED: Gauge "pc_backup_verified_timestamp_seconds" ["vm", "policy"] "When an archive of the VM was read last from its first byte to its last, as a restore would read it.";
    UNREADABLE: Gauge "pc_backup_archive_damaged" ["vm", "policy"] "1 when the archive that was read last in this way is not what was backed up.";
    DRILL_WANTED: Gauge "pc_backup_drill_wanted" ["vm", "policy"] "1 when there is an archive whose restore is to be rehearsed: the file does not say heartbeat = none.";
    DRILLED: Gauge "pc_backup_drill_success_timestamp_seconds" ["vm", "policy"] "When a restored copy of the VM came up last (pc-borg drill); no series before the first.";
    DRILL_FAILED: Gauge "pc_backup_drill_failed" ["vm", "policy"] "1 when the last drill did not end well: the copy was not restored, or showed no sign of life; no series before the first drill.";
    RTO: Gauge "pc_backup_drill_rto_seconds" ["vm", "policy"] "How long the last good drill took from the beginning of the restore to the sign of life.";
    RPO: Gauge "pc_backup_drill_rpo_seconds" ["vm", "policy"] "How old the archive was when the last good drill began: what would have been lost.";
    KEY: Gauge "pc_backup_key_acknowledged" ["policy"] "1 when somebody has vouched for a copy of the repository's key; without it no backup runs.";
    DAMAGED: Gauge "pc_backup_repository_damaged" ["policy"] "1 when the last check of the repository found damage.";
    PRUNED: Gauge "pc_backup_pruned_timestamp_seconds" ["policy"] "When the repository was pruned last.";
    CHECKED: Gauge "pc_backup_checked_timestamp_seconds" ["policy"] "When the repository was checked last and found whole.";
    DATA_CHECKED: Gauge "pc_backup_data_checked_timestamp_seconds" ["policy"] "When every chunk of the repository was read last and found whole.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    policies: Vec<Policy>,
    backups: Vec<Backup>,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    key_acknowledged: Option<bool>,
    pruned_at: Option<String>,
    checked_at: Option<String>,
    data_checked_at: Option<String>,
    damage: Option<String>,
}

#[derive(Deserialize)]
struct Backup {
    vm: String,
    policy: String,
    taken_at: Option<String>,
    overdue: Option<bool>,
    last_error: Option<String>,
    last_error_at: Option<String>,
    verified_at: Option<String>,
    verify_error: Option<String>,
    drill_wanted: Option<bool>,
    drilled_at: Option<String>,
    drill_rto_seconds: Option<f64>,
    drill_rpo_seconds: Option<f64>,
    drill_error: Option<String>,
}

/// `pc.borg.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    for backup in &status.backups {
        let of = [backup.vm.as_str(), backup.policy.as_str()];
        // Nobody can know while the volume with the records is away.
        if let Some(overdue) = backup.overdue {
            samples.truth(&OVERDUE, &of, overdue);
            samples.truth(&FAILED, &of, backup.last_error.is_some());
            if let Some(wanted) = backup.drill_wanted {
                samples.truth(&DRILL_WANTED, &of, wanted && backup.taken_at.is_some());
            }
        }
        if backup.verified_at.is_some() {
            samples.truth(&UNREADABLE, &of, backup.verify_error.is_some());
        }
        if backup.drilled_at.is_some() || backup.drill_error.is_some() {
            samples.truth(&DRILL_FAILED, &of, backup.drill_error.is_some());
        }
        for (family, seconds) in [(&RTO, backup.drill_rto_seconds), (&RPO, backup.drill_rpo_seconds)] {
            if let Some(seconds) = seconds {
                samples.number(family, &of, seconds);
            }
        }
        let times = [
            (&LAST, &backup.taken_at),
            (&FAILURE, &backup.last_error_at),
            (&VERIFIED, &backup.verified_at),
            (&DRILLED, &backup.drilled_at),
        ];
        for (family, at) in times {
            if let Some(at) = at {
                samples.number(family, &of, timestamp(at)?);
            }
        }
    }
    for policy in &status.policies {
        let name = [policy.name.as_str()];
        if let Some(acknowledged) = policy.key_acknowledged {
            samples.truth(&KEY, &name, acknowledged);
            samples.truth(&DAMAGED, &name, policy.damage.is_some());
        }
        let times = [
            (&PRUNED, &policy.pruned_at),
            (&CHECKED, &policy.checked_at),
            (&DATA_CHECKED, &policy.data_checked_at),
        ];
        for (family, at) in times {
            if let Some(at) = at {
                samples.number(family, &name, timestamp(at)?);
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_not_told() {
        let answer = serde_json::json!({"schema": "pc.borg.status/1", "node": "node1", "healthy": false, "policies": [
                {"name": "daily", "key_acknowledged": null, "pruned_at": null, "checked_at": null,
                 "data_checked_at": null, "damage": null}],
            "backups": [
                {"vm": "mail", "policy": "daily", "taken_at": null, "overdue": null, "last_error": null},
                {"vm": "web", "policy": "daily", "taken_at": "1970-01-01T01:00:00Z", "overdue": true, "last_error": "full",
                 "last_error_at": "1970-01-01T02:00:00Z", "verified_at": "1970-01-01T00:00:09Z", "drill_wanted": true, "drilled_at": "1970-01-01T00:00:08Z", "drill_rto_seconds": 90,
                 "drill_rpo_seconds": 45000, "drill_error": null}]});
        let told: Vec<(&str, String, f64)> = read(answer)
            .unwrap()
            .0
            .iter()
            .map(|sample| (sample.family.name, sample.labels.join(" "), sample.value))
            .collect();
        let web = || "web daily".to_string();
        assert_eq!(
            told,
            [
                ("pc_backup_healthy", String::new(), 0.0),
                ("pc_backup_overdue", web(), 1.0),
                ("pc_backup_last_attempt_failed", web(), 1.0),
                ("pc_backup_drill_wanted", web(), 1.0),
                ("pc_backup_archive_damaged", web(), 0.0),
                ("pc_backup_drill_failed", web(), 0.0),
                ("pc_backup_drill_rto_seconds", web(), 90.0),
                ("pc_backup_drill_rpo_seconds", web(), 45000.0),
                ("pc_backup_last_success_timestamp_seconds", web(), 3600.0),
                ("pc_backup_last_failure_timestamp_seconds", web(), 7200.0),
                ("pc_backup_verified_timestamp_seconds", web(), 9.0),
                ("pc_backup_drill_success_timestamp_seconds", web(), 8.0),
            ]
        );
    }
}
