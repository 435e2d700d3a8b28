//! `drill`: the newest archive of a VM is restored beside it, booted without a network card until it shows a sign of life,
//! and removed again. What that took is what a real loss would take (RTO), and how old the archive was is what would be lost
//! (RPO).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};
use cluster::{Heartbeat, Name, Vm};
use pc_cli::{Exit, refused, together, write_atomic};
use pc_run::Cost;
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use crate::archive::rfc3339;
use crate::boot;
use crate::cold;
use crate::records::{Drilled, Proven};
use crate::restore;
use crate::scratch::{self, Purpose, Scratch};
use crate::session;
use crate::siblings;
use crate::site::{Heal, Site, now, tell};
use crate::want::{Policy, Target, pairs, unknown};

/// How `drill` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// VMs (all by default), one after the other
    pub vms: Vec<String>,
    /// Out of this policy's repository (by default the one with the newest archive that can be reached)
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// The copy lies on this volume while it lasts (by default the VM's own)
    #[arg(long = "to", value_name = "VOLUME")]
    pub volume: Option<String>,
    /// How long a copy has to show a sign of life
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub wait: u64,
    /// Only VMs whose last drill was not within a week (what the timer does)
    #[arg(long)]
    pub due: bool,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.drill/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.borg.drill/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// VM by VM.
    pub drills: Vec<Entry>,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What became of one VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The VM.
    pub vm: String,
    /// Whose archive it was; null: it did not come to that.
    pub policy: Option<String>,
    /// `done`, `not_due`, `try_again`, `failed`.
    pub outcome: &'static str,
    /// Why it is not `done`.
    pub reason: Option<String>,
    /// What has been shown.
    pub proof: Option<Proof>,
}

/// A restore that came up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// The archive.
    pub archive: String,
    /// When its data was taken, RFC 3339 UTC.
    pub taken_at: String,
    /// The disk.
    pub disk_bytes: u64,
    /// What was written of it: the rest is zero.
    pub written_bytes: u64,
    /// The digest over its digests, as in the archive's manifest; every segment was compared with its own.
    pub digests_sha256: String,
    /// What showed that it is up, in the file's words.
    pub heartbeat: String,
    /// From the beginning to the disk's last byte.
    pub restore_seconds: f64,
    /// From then on to the sign of life.
    pub boot_seconds: f64,
    /// Both.
    pub rto_seconds: f64,
    /// How old the archive was when the restore began.
    pub rpo_seconds: u64,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { vm, outcome, reason, proof, .. } in &self.drills {
            if let Some(proof) = proof {
                writeln!(
                    f,
                    "{vm}: up {:.0} s after the beginning ({:.0} s restore, {:.0} s boot), as it was {} before: {}",
                    proof.rto_seconds,
                    proof.restore_seconds,
                    proof.boot_seconds,
                    age(proof.rpo_seconds),
                    proof.archive
                )?;
            } else {
                let reason = reason.as_deref().unwrap_or_default();
                writeln!(f, "{vm}: {}: {reason}", outcome.replace('_', " "))?;
            }
        }
        Ok(())
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

/// Drills; one that fails fails the whole, not the others.
pub fn drill(site: &Site, options: &Options) -> Result<(Answer, Result<()>)> {
    let started = Instant::now();
    // In the file's order, and only those that have a backup.
    let vms: BTreeSet<Name> = pairs(site.cluster(), &options.vms, options.policy.as_deref())?
        .into_iter()
        .map(|pair| pair.vm)
        .collect();
    // For a moment pc-borg recover may have it.
    let patience = std::time::Duration::from_secs(options.lock.lock_wait.max(10));
    let _alone = scratch::alone(site, Purpose::Drill, patience)?;
    let (mut drills, mut errors) = (Vec::new(), Vec::new());
    for name in &vms {
        if let Err(error) = site.interrupts.check() {
            errors.push(error);
            break;
        }
        let Some(vm) = site.cluster().vms.get(name) else { continue };
        let (policy, ended) = one(site, name, vm, options);
        let (outcome, reason, proof) = match ended {
            Ok(Ok(proof)) => ("done", None, Some(proof)),
            Ok(Err(why)) => ("not_due", Some(why), None),
            Err(error) => {
                let error = error.context(format!("vm {name}"));
                let outcome = if Exit::of(&error) == Exit::TryAgain { "try_again" } else { "failed" };
                let told = (outcome, Some(format!("{error:#}")), None);
                errors.push(error);
                told
            }
        };
        drills.push(Entry { vm: name.to_string(), policy, outcome, reason, proof });
    }
    let (node, cost) = (site.node().into(), Cost::since(started));
    Ok((Answer { schema: "pc.borg.drill/1", node, drills, cost }, together(errors)))
}

/// The policy, as soon as it is known, and how it ended; the inner error is why nothing is due.
fn one(
    site: &Site,
    name: &Name,
    vm: &Vm,
    options: &Options,
) -> (Option<String>, Result<Result<Proof, String>>) {
    let sign = match vm.heartbeat() {
        None | Some(Heartbeat::Never) if options.due => {
            return (None, Ok(Err("heartbeat = \"none\"".into())));
        }
        None | Some(Heartbeat::Never) => {
            let why = "heartbeat = \"none\": nothing would show that it is up\n  write \"agent\" or \"console:TEXT\"";
            return (None, Err(refused(why)));
        }
        Some(sign) => sign,
    };
    let policy = match source(site, name, vm, options) {
        Ok(Ok(policy)) => policy,
        Ok(Err(why)) => return (None, Ok(Err(why))),
        Err(error) => return (None, Err(error)),
    };
    let attempt = || -> Result<Result<Proof, String>> {
        if let Some(why) = not_due(site, name, policy, options)? {
            return Ok(Err(why));
        }
        let proven = rehearse(site, name, vm, policy, sign, options);
        // What could not be reached, or is not ours to touch now, says nothing about the archive.
        let wrong = proven.as_ref().err().filter(|error| Exit::of(error) == Exit::Failed);
        let ended = match (&proven, wrong) {
            (Ok(proof), _) => Some(Ok(noted(proof))),
            (_, Some(error)) => Some(Err(format!("{error:#}"))),
            _ => None,
        };
        if let Some(ended) = ended {
            site.records(policy).set_drilled(name.as_str(), site.node(), now(), ended)?;
        }
        proven.map(Ok)
    };
    (Some(policy.name.to_string()), attempt())
}

/// For the record, where whole seconds are enough.
fn noted(proof: &Proof) -> Proven {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time that has passed")]
    let rto_seconds = proof.rto_seconds.ceil() as u64;
    Proven { archive: proof.archive.clone(), at: now(), rto_seconds, rpo_seconds: proof.rpo_seconds }
}

/// The policy with the newest archive among those that can be reached, or, of what is due, one whose last drill failed: a
/// failure counts until one out of the same repository goes well. The inner error is why there is none today.
fn source<'s, 'a>(
    site: &'s Site<'a>,
    name: &Name,
    vm: &Vm,
    options: &Options,
) -> Result<Result<&'s Policy<'a>, String>> {
    if let Some(policy) = &options.policy {
        return site.policy(policy).map(Ok);
    }
    let is_here = |policy: &&Policy| match &policy.target {
        Target::Disk { label } => cold::is_plugged(site, label),
        _ => true,
    };
    let mut reached: Vec<&Policy> =
        site.policies.iter().filter(|policy| vm.backup.contains(policy.name)).filter(is_here).collect();
    let newest = |policy: &&Policy| {
        let record = site.records(policy).vm(name.as_str()).ok();
        record.and_then(|record| record.last).map(|last| last.taken_at)
    };
    reached.sort_by_key(newest);
    match reached.pop() {
        Some(policy) if options.due => {
            let last = |policy: &Policy| site.records(policy).drilled(name.as_str()).ok().flatten();
            let failed: Vec<(&Policy, Option<Drilled>)> = reached
                .into_iter()
                .map(|policy| (policy, last(policy)))
                .filter(|(_, last)| last.as_ref().is_some_and(|last| last.error.is_some()))
                .collect();
            Ok(Ok(first_due((policy, last(policy)), failed, now())))
        }
        Some(policy) => Ok(Ok(policy)),
        None if options.due => Ok(Err("its archives are on disks that are not plugged in".into())),
        None => Err(pc_cli::try_again("its archives are on disks that are not plugged in: plug one in")),
    }
}

fn not_due(site: &Site, name: &Name, policy: &Policy, options: &Options) -> Result<Option<String>> {
    if !options.due {
        return Ok(None);
    }
    // Records on a volume that is away tell nothing.
    site.require_policy(policy, Heal::Awaited)?;
    let records = site.records(policy);
    if records.vm(name.as_str())?.last.is_none() {
        return Ok(Some("there is no archive yet".into()));
    }
    Ok(match records.drilled(name.as_str())? {
        Some(last) if !is_due(&last, now()) => Some(format!("done on {}", rfc3339(last.at)?)),
        _ => None,
    })
}

fn is_due(last: &Drilled, now: OffsetDateTime) -> bool {
    let gap = if last.error.is_some() { Duration::hours(20) } else { Duration::days(6) };
    (now - last.at).abs() >= gap
}

/// Of those that are due the one that was drilled longest ago, so that one which fails for ever keeps no other from its
/// turn; the newest when nothing is due.
fn first_due<T>(newest: (T, Option<Drilled>), failed: Vec<(T, Option<Drilled>)>, now: OffsetDateTime) -> T {
    let is_due = |last: &Option<Drilled>| last.as_ref().is_none_or(|last| is_due(last, now));
    let mut others = failed;
    others.retain(|(_, last)| is_due(last));
    others.sort_by_key(|(_, last)| last.as_ref().map(|last| last.at));
    let Some((other, since)) = others.into_iter().next() else { return newest.0 };
    let (newest, last) = newest;
    let at = |last: &Option<Drilled>| last.as_ref().map(|last| last.at);
    if is_due(&last) && at(&last) <= at(&since) { newest } else { other }
}

/// The volume that the copy is on while it lasts.
fn volume<'a>(site: &Site<'a>, vm: &'a Vm, options: &Options) -> Result<&'a Name> {
    let Some(wanted) = &options.volume else { return Ok(&vm.volume) };
    let volumes = &site.cluster().volumes;
    match volumes.get_key_value(wanted.as_str()) {
        Some((volume, _)) => Ok(volume),
        None => Err(unknown("volume", wanted, volumes.keys())),
    }
}

fn rehearse(
    site: &Site,
    name: &Name,
    vm: &Vm,
    policy: &Policy,
    sign: Heartbeat,
    options: &Options,
) -> Result<Proof> {
    let volume = volume(site, vm, options)?;
    // A rehearsal is the last thing that a volume under repair needs.
    site.require_volumes([volume], Heal::Awaited)?;
    scratch::require_memory(site, vm.memory)?;
    let (begun, begun_at) = (Instant::now(), now());
    let scratch = Scratch::make(site, Purpose::Drill, name, volume)?;
    let small = ["nvram.fd", "seed.img"];
    let wanted =
        restore::Wanted { vm: name, policy, at: None, small: &small, verb: "drill", lock: &options.lock };
    let restored = restore::copy(site, &wanted, &scratch)?;
    let restore_seconds = begun.elapsed().as_secs_f64();
    // Restoring took long: the VMs of a node that died meanwhile may be here by now.
    scratch::require_memory(site, vm.memory)?;
    tell(&format!("{name}: booting a copy of {}", restored.archive.name));
    let definition = siblings::definition(
        site.common,
        name.as_str(),
        &scratch.domain,
        &scratch.directory,
        &scratch.console(),
    )?;
    write_atomic(&scratch.at("domain.xml"), definition.as_bytes(), 0o600)?;
    let may_go_on = || {
        site.interrupts.check()?;
        scratch.require_room()
    };
    let wait = std::time::Duration::from_secs(options.wait);
    let took = boot::boot(&scratch, sign, wait, &may_go_on)
        .with_context(|| format!("booting a copy of {}", restored.archive.name))?;
    let boot_seconds = took.as_secs_f64();
    Ok(Proof {
        taken_at: rfc3339(restored.archive.taken_at)?,
        rpo_seconds: rpo(restored.archive.taken_at, begun_at),
        archive: restored.archive.name,
        disk_bytes: restored.disk.size_bytes,
        written_bytes: restored.written_bytes,
        digests_sha256: restored.disk.digests_sha256,
        heartbeat: boot::words(sign),
        restore_seconds,
        boot_seconds,
        rto_seconds: restore_seconds + boot_seconds,
    })
}

fn rpo(taken_at: OffsetDateTime, begun_at: OffsetDateTime) -> u64 {
    u64::try_from((begun_at - taken_at).whole_seconds()).unwrap_or(0)
}

#[cfg(test)]
#[path = "drill_tests.rs"]
mod tests;
