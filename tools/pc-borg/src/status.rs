//! `status`: how old everything is, out of the records on the volumes. Asks no server, opens no repository.

use std::fmt;

use anyhow::Result;
use cluster::Heartbeat;
use serde::Serialize;

use crate::archive::rfc3339;
use crate::calendar;
use crate::site::{Site, now};
use crate::systemd;
use crate::want::{Policy, pairs};

/// `pc.borg.status/1`, also in /run/personal-cluster/borg.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `pc.borg.status/1`.
    pub schema: &'static str,
    /// Who looked.
    pub node: String,
    /// When, RFC 3339 UTC.
    pub measured_at: String,
    /// Nothing is overdue, damaged, or without a key elsewhere.
    pub healthy: bool,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
    /// By name.
    pub policies: Vec<StatusPolicy>,
    /// Policy by policy, VM by VM.
    pub backups: Vec<StatusBackup>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusPolicy {
    /// Its name.
    pub name: String,
    /// Its repository.
    pub repository: String,
    /// Its schedule.
    pub schedule: String,
    /// Somebody has vouched for a copy of its key; null: not known, its volume is not there.
    pub key_acknowledged: Option<bool>,
    /// Who works with it now.
    pub in_use_by: Option<InUse>,
    /// RFC 3339 UTC; null: never.
    pub pruned_at: Option<String>,
    /// Checked and found whole, RFC 3339 UTC; null: never.
    pub checked_at: Option<String>,
    /// Every chunk read and found whole, RFC 3339 UTC; null: never.
    pub data_checked_at: Option<String>,
    /// What the last check found.
    pub damage: Option<String>,
}

/// Who works with a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InUse {
    /// The node.
    pub node: String,
    /// The verb.
    pub what: String,
    /// RFC 3339 UTC.
    pub since: String,
}

/// One VM in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusBackup {
    /// The VM.
    pub vm: String,
    /// The policy.
    pub policy: String,
    /// The newest archive; null: none.
    pub archive: Option<String>,
    /// When its data was taken, RFC 3339 UTC.
    pub taken_at: Option<String>,
    /// How old that is.
    pub age_seconds: Option<i64>,
    /// `stopped`, `frozen`, `crash`.
    pub consistency: Option<String>,
    /// The node that made it.
    pub made_by: Option<String>,
    /// It is older than the schedule allows, or there is none; null: not known, its volume is not there, or its records are
    /// another node's.
    pub overdue: Option<bool>,
    /// What the last attempt said, when it failed.
    pub last_error: Option<String>,
    /// When that was, RFC 3339 UTC.
    pub last_error_at: Option<String>,
    /// When an archive was read last as a restore would read it, RFC 3339 UTC; null: never.
    pub verified_at: Option<String>,
    /// What was wrong with it.
    pub verify_error: Option<String>,
    /// The file does not say that its restore is not to be rehearsed.
    pub drill_wanted: bool,
    /// When a restored copy came up last, RFC 3339 UTC; null: never.
    pub drilled_at: Option<String>,
    /// How long that took from the beginning of the restore on.
    pub drill_rto_seconds: Option<u64>,
    /// How old its archive was then.
    pub drill_rpo_seconds: Option<u64>,
    /// Why the last drill did not end well; null: it did, or there was none.
    pub drill_error: Option<String>,
}

/// Looks.
pub fn status(site: &Site) -> Result<Status> {
    let mut problems = Vec::new();
    let (pairs, mut policies, mut backups) = (pairs(site.cluster(), &[], None)?, Vec::new(), Vec::new());
    for policy in &site.policies {
        let mut of = pairs.iter().filter(|pair| pair.policy == *policy.name).peekable();
        // Of a policy that no VM has, whoever can look at it tells what is wrong.
        let ours = of.peek().is_none() || of.any(|pair| is_ours(site, policy, pair.vm.as_str()));
        policies.push(of_policy(site, policy, ours, &mut problems));
    }
    for pair in pairs {
        let policy = site.policy(pair.policy.as_str())?;
        backups.push(of_pair(site, policy, pair.vm.as_str(), &mut problems)?);
    }
    Ok(Status {
        schema: "pc.borg.status/1",
        node: site.node().into(),
        measured_at: rfc3339(now())?,
        healthy: problems.is_empty(),
        problems,
        policies,
        backups,
    })
}

/// Whether this node speaks for a VM's archives. Where each node has records of its own, the node that the VM is at home on does.
fn is_ours(site: &Site, policy: &Policy, vm: &str) -> bool {
    let home = site.cluster().vms.get(vm).and_then(|vm| site.cluster().home_of(vm));
    policy.is_shared(site.cluster()) || home.is_some_and(|home| home.name.as_str() == site.node())
}

/// Whether the volume with the policy's records can be looked at: an empty mount point would tell "never".
fn readable(site: &Site, policy: &Policy) -> Result<()> {
    let Some(volume) = &policy.state.volume else { return Ok(()) };
    let mount = cluster::paths::volume_mount(volume);
    if site.mounts()?.has(&mount) { Ok(()) } else { anyhow::bail!("{mount} is not mounted") }
}

/// `ours`: a VM that this node speaks for is backed up there. What no backup of ours needs is not missed.
fn of_policy(site: &Site, policy: &Policy, ours: bool, problems: &mut Vec<String>) -> StatusPolicy {
    let mut known = StatusPolicy {
        name: policy.name.to_string(),
        repository: policy.settings.repository.clone(),
        schedule: policy.settings.schedule.clone(),
        key_acknowledged: None,
        in_use_by: None,
        pruned_at: None,
        checked_at: None,
        data_checked_at: None,
        damage: None,
    };
    let mut look = || -> Result<()> {
        readable(site, policy)?;
        let records = site.records(policy);
        let acknowledged = records.key()?.is_some();
        known.key_acknowledged = Some(acknowledged).filter(|known| *known || ours);
        if !acknowledged && ours {
            problems.push(format!("backup.{}: no copy of its key is elsewhere: no backup runs", policy.name));
        }
        let holder = site.lock_files(policy).holder()?;
        known.in_use_by =
            holder.map(|holder| InUse { node: holder.node, what: holder.what, since: holder.since });
        let upkeep = records.upkeep()?;
        if let Some(damage) = &upkeep.damage {
            problems.push(format!("backup.{}: {}", policy.name, damage.lines().next().unwrap_or_default()));
        }
        known.pruned_at = upkeep.pruned_at;
        known.checked_at = upkeep.checked_at;
        known.data_checked_at = upkeep.data_checked_at;
        known.damage = upkeep.damage;
        Ok(())
    };
    if let Some(error) = look().err().filter(|_| ours) {
        problems.push(format!("backup.{}: {error:#}", policy.name));
    }
    known
}

fn of_pair(site: &Site, policy: &Policy, vm: &str, problems: &mut Vec<String>) -> Result<StatusBackup> {
    let mut known = StatusBackup {
        vm: vm.into(),
        policy: policy.name.to_string(),
        archive: None,
        taken_at: None,
        age_seconds: None,
        consistency: None,
        made_by: None,
        overdue: None,
        last_error: None,
        last_error_at: None,
        verified_at: None,
        verify_error: None,
        drill_wanted: site.cluster().vms.get(vm).and_then(cluster::Vm::heartbeat) != Some(Heartbeat::Never),
        drilled_at: None,
        drill_rto_seconds: None,
        drill_rpo_seconds: None,
        drill_error: None,
    };
    // Told once, with the policy.
    if readable(site, policy).is_err() {
        return Ok(known);
    }
    let record = match site.records(policy).vm(vm) {
        Ok(record) => record,
        Err(error) => {
            problems.push(format!("vm {vm}: {error:#}"));
            return Ok(known);
        }
    };
    match site.records(policy).verified(vm) {
        Ok(verified) => {
            if let Some(error) = verified.as_ref().and_then(|verified| verified.error.as_deref()) {
                let first = error.lines().next().unwrap_or_default();
                problems.push(format!("vm {vm}: an archive in {} is not whole: {first}", policy.name));
            }
            known.verified_at = verified.as_ref().map(|verified| rfc3339(verified.at)).transpose()?;
            known.verify_error = verified.and_then(|verified| verified.error);
        }
        Err(error) => problems.push(format!("vm {vm}: {error:#}")),
    }
    match site.records(policy).drilled(vm) {
        Ok(None) => (),
        Ok(Some(drilled)) => {
            if let Some(error) = &drilled.error {
                let first = error.lines().next().unwrap_or_default();
                problems
                    .push(format!("vm {vm}: the last drill with {} did not end well: {first}", policy.name));
            }
            if let Some(proven) = &drilled.proven {
                known.drilled_at = Some(rfc3339(proven.at)?);
                known.drill_rto_seconds = Some(proven.rto_seconds);
                known.drill_rpo_seconds = Some(proven.rpo_seconds);
            }
            known.drill_error = drilled.error;
        }
        Err(error) => problems.push(format!("vm {vm}: {error:#}")),
    }
    let now = now();
    let gap = systemd::gap(&policy.settings.schedule)?;
    let last = record.last.as_ref().map(|last| last.taken_at);
    let overdue = calendar::is_overdue(last, gap, now);
    // One that has moved is backed up where it is: the archive that it left here says nothing, but for a fresh one.
    let known_here = !overdue || is_ours(site, policy, vm);
    if overdue && known_here {
        let age = match last {
            None => "there is none".to_string(),
            Some(last) if calendar::is_ahead(last, now) => {
                format!("the last one is dated {}: a clock is, or was, wrong", rfc3339(last)?)
            }
            Some(last) => format!("the last one is {} old", words(now - last)),
        };
        problems.push(format!("vm {vm}: no archive in {} in time: {age}", policy.name));
    }
    known.overdue = known_here.then_some(overdue);
    if let Some(failure) = record.failure {
        known.last_error_at = Some(rfc3339(failure.at)?);
        known.last_error = Some(failure.error);
    }
    if let Some(last) = record.last {
        known.age_seconds = Some((now - last.taken_at).whole_seconds());
        known.taken_at = Some(rfc3339(last.taken_at)?);
        known.archive = Some(last.archive);
        known.consistency = Some(last.consistency);
        known.made_by = Some(last.node);
    }
    Ok(known)
}

/// `26 hours`: one unit is enough.
fn words(age: time::Duration) -> String {
    let minutes = age.whole_minutes();
    match minutes {
        ..=119 => format!("{minutes} minutes"),
        120..=2880 => format!("{} hours", age.whole_hours()),
        _ => format!("{} days", age.whole_days()),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.node, if self.healthy { "healthy" } else { "not healthy" })?;
        for backup in &self.backups {
            let age = backup.age_seconds.map(|age| words(time::Duration::seconds(age)));
            let age = age.map_or("no archive".into(), |age| format!("{age} old"));
            let overdue = match backup.overdue {
                Some(true) => ", OVERDUE",
                Some(false) => "",
                None => ", not known here",
            };
            writeln!(f, "{} in {}: {age}{overdue}", backup.vm, backup.policy)?;
            if let Some(error) = &backup.last_error {
                writeln!(f, "  last attempt: {}", error.lines().next().unwrap_or_default())?;
            }
        }
        for policy in &self.policies {
            if let Some(InUse { node, what, since }) = &policy.in_use_by {
                writeln!(f, "{}: {what} on {node} since {since}", policy.name)?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn ages_are_in_words() {
        assert_eq!(words(Duration::minutes(5)), "5 minutes");
        assert_eq!(words(Duration::hours(26)), "26 hours");
        assert_eq!(words(Duration::days(9)), "9 days");
    }
}
