//! `prune` and `check`: what a repository needs besides archives.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use cluster::{Name, Use, Vm, paths};
use pc_cli::{log, together};
use pc_run::Cost;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::archive::rfc3339;
use crate::calendar;
use crate::session::{self, Session};
use crate::site::{Site, now, tell};
use crate::stage::GuestFiles;
use crate::want::Policy;

/// How `prune` is asked.
#[derive(Debug, clap::Args)]
pub struct PruneOptions {
    /// Policies (all by default)
    pub policies: Vec<String>,
    /// Delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only where the last time was not within a day (what the timer does)
    #[arg(long)]
    pub due: bool,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// How `check` is asked.
#[derive(Debug, clap::Args)]
pub struct CheckOptions {
    /// Policies (all by default)
    pub policies: Vec<String>,
    /// Read, decrypt and authenticate every chunk
    #[arg(long)]
    pub data: bool,
    /// Only where the last time was not within a week; every chunk once a month (what the timer does)
    #[arg(long, conflicts_with = "data")]
    pub due: bool,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.upkeep.run/1`: what `prune` and `check` did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Done {
    /// `pc.borg.upkeep.run/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// `prune` or `check`.
    pub verb: &'static str,
    /// Policy by policy.
    pub policies: Vec<Entry>,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The policy.
    pub policy: String,
    /// `done`, `not_due`, `failed`.
    pub outcome: &'static str,
    /// What went wrong, or when it was done last.
    pub reason: Option<String>,
    /// Archives that were deleted, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Vec<String>>,
    /// Every chunk was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<bool>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { policy, outcome, reason, deleted, data } in &self.policies {
            let outcome = match (*outcome, self.verb, deleted) {
                ("done", "prune", Some(deleted)) => format!("{} archives deleted", deleted.len()),
                ("done", ..) if *data == Some(true) => "every chunk is whole".into(),
                ("done", ..) => "whole".into(),
                (other, ..) => other.replace('_', " "),
            };
            match reason {
                Some(reason) => writeln!(f, "{policy}: {outcome}: {reason}")?,
                None => writeln!(f, "{policy}: {outcome}")?,
            }
        }
        Ok(())
    }
}

fn chosen<'s, 'a>(site: &'s Site<'a>, names: &[String]) -> Result<Vec<&'s Policy<'a>>> {
    if names.is_empty() {
        return Ok(site.policies.iter().collect());
    }
    names.iter().map(|name| site.policy(name)).collect()
}

/// Whether something that was done at `last` is due again after `gap`.
fn is_due(last: Option<&str>, gap: Duration) -> bool {
    let last = last.and_then(|last| OffsetDateTime::parse(last, &Rfc3339).ok());
    last.is_none_or(|last| (now() - last).abs() >= gap)
}

/// Runs `work` on each policy; one that fails fails the whole, not the others.
fn each(
    site: &Site,
    verb: &'static str,
    policies: &[&Policy],
    mut work: impl FnMut(&Policy) -> Result<Entry>,
) -> (Done, Result<()>) {
    let started = Instant::now();
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for policy in policies {
        if let Err(error) = site.interrupts.check() {
            errors.push(error);
            break;
        }
        match work(policy) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                entries.push(Entry {
                    policy: policy.name.to_string(),
                    outcome: "failed",
                    reason: Some(format!("{error:#}")),
                    deleted: None,
                    data: None,
                });
                errors.push(error);
            }
        }
    }
    let cost = Cost::since(started);
    let done =
        Done { schema: "pc.borg.upkeep.run/1", node: site.node().into(), verb, policies: entries, cost };
    (done, together(errors))
}

fn not_due(policy: &Policy, last: Option<String>) -> Entry {
    let reason = last.map(|last| format!("done on {last}"));
    Entry { policy: policy.name.to_string(), outcome: "not_due", reason, deleted: None, data: None }
}

/// Deletes what `keep` does not keep of the VMs of the file, and gives the space back.
pub fn prune(site: &Site, options: &PruneOptions) -> Result<(Done, Result<()>)> {
    let policies = chosen(site, &options.policies)?;
    Ok(each(site, "prune", &policies, |policy| {
        let records = site.records(policy);
        if options.due {
            let last = records.upkeep()?.pruned_at;
            if !is_due(last.as_deref(), Duration::hours(20)) {
                return Ok(not_due(policy, last));
            }
        }
        let session = Session::open(site, policy, "prune", &options.lock)?;
        let guard = session.guard(site);
        let borg = session.borg(site, policy, &guard);
        let archives = borg.list()?;
        let now = now();
        let (mut deleted, mut left) = (Vec::new(), Vec::new());
        for (vm, section) in &site.cluster().vms {
            // What left the file, or this policy, is nobody's to delete but a person's.
            let own = || archives.iter().filter(|archive| archive.vm.as_deref() == Some(vm.as_str()));
            if !section.backup.contains(policy.name) || own().next().is_none() {
                continue;
            }
            if let Some(why) = held(site, policy, vm, section) {
                log::warning(format_args!(
                    "backup.{}: {vm} was left alone: {why}\n  pc-borg instant {vm}",
                    policy.name
                ));
                left.push(format!("{vm} was left alone: {why}"));
            } else if let Some(home) = elsewhere(site, section) {
                // Whichever node comes first prunes: one day that is this VM's.
                left.push(format!("{vm} was left alone: its volume is {home}'s own"));
            // borg would keep it for the newest of its day, month and year, and delete real ones in its favour.
            } else if let Some(ahead) = own().find(|archive| calendar::is_ahead(archive.taken_at, now)) {
                let told = format!("{vm} was left alone: {} is dated in the future", ahead.name);
                log::warning(format_args!(
                    "backup.{}: {told}\n  borg delete REPOSITORY::{}",
                    policy.name, ahead.name
                ));
                left.push(told);
            } else {
                tell(&format!("pruning {vm} of {}", policy.name));
                deleted.extend(borg.prune(vm.as_str(), &policy.settings.keep, options.dry_run)?);
            }
        }
        if !options.dry_run {
            tell(&format!("compacting {}", policy.name));
            borg.compact()?;
            let mut upkeep = records.upkeep()?;
            upkeep.pruned_at = Some(rfc3339(now)?);
            records.set_upkeep(&upkeep)?;
            for archive in &deleted {
                log::info(format_args!("backup.{}: {archive} deleted", policy.name));
            }
        }
        Ok(Entry {
            policy: policy.name.to_string(),
            outcome: "done",
            reason: (!left.is_empty()).then(|| left.join(", ")),
            deleted: Some(deleted),
            data: None,
        })
    }))
}

/// Why none of a VM's archives may go now: what it has written since lies over one of them. Asked while the repository is ours,
/// so that nobody begins meanwhile.
fn held(site: &Site, policy: &Policy, vm: &Name, section: &Vm) -> Option<String> {
    let mount = paths::volume_mount(&section.volume);
    if !site.mounts().is_ok_and(|mounts| mounts.has(&mount)) {
        return Some(format!("{mount} is not mounted, where what it wrote may lie over one of them"));
    }
    match GuestFiles::of(site, vm, &section.volume).note() {
        Ok(Some(note)) if !note.whole && note.policy == policy.name.as_str() => {
            Some(format!("what it wrote lies over {}", note.archive))
        }
        Ok(_) => None,
        Err(error) => Some(format!("what it wrote may lie over one of them: {error:#}")),
    }
}

/// The node that alone sees what a VM wrote, when that is another one.
fn elsewhere<'a>(site: &Site<'a>, section: &Vm) -> Option<&'a str> {
    let cluster = site.cluster();
    let volume = cluster.volumes.get(&section.volume)?;
    let home = cluster.home_of(section)?.name.as_str();
    (volume.purpose == Use::Local && home != site.node()).then_some(home)
}

/// Checks repositories.
pub fn check(site: &Site, options: &CheckOptions) -> Result<(Done, Result<()>)> {
    let policies = chosen(site, &options.policies)?;
    Ok(each(site, "check", &policies, |policy| {
        let records = site.records(policy);
        let mut data = options.data;
        if options.due {
            let upkeep = records.upkeep()?;
            data = is_due(upkeep.data_checked_at.as_deref(), Duration::days(30));
            if !data && !is_due(upkeep.checked_at.as_deref(), Duration::days(6)) {
                return Ok(not_due(policy, upkeep.checked_at));
            }
        }
        let session = Session::open(site, policy, "check", &options.lock)?;
        let guard = session.guard(site);
        let borg = session.borg(site, policy, &guard);
        tell(&format!("checking {}", policy.name));
        let result = borg.check(data);
        let mut upkeep = records.upkeep()?;
        match &result {
            Ok(()) => {
                let at = rfc3339(now())?;
                upkeep.checked_at = Some(at.clone());
                if data {
                    upkeep.data_checked_at = Some(at);
                }
                upkeep.damage = None;
            }
            Err(error) if pc_cli::Exit::of(error) == pc_cli::Exit::Failed => {
                upkeep.damage = Some(format!("{error:#}"));
            }
            // Not reached, or not ours to touch now: that says nothing about it.
            Err(_) => (),
        }
        records.set_upkeep(&upkeep)?;
        result?;
        Ok(Entry {
            policy: policy.name.to_string(),
            outcome: "done",
            reason: None,
            deleted: None,
            data: Some(data),
        })
    }))
}
