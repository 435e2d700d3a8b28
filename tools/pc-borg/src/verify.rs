//! `verify`: the newest archive of a VM, read from its first byte to its last as a restore would read it, every segment
//! compared with its digest. Writes nothing, and needs no room.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};
use cluster::Bytes;
use pc_cli::{Exit, together};
use pc_run::Cost;
use serde::Serialize;
use time::Duration;

use crate::archive::{self, Archive, rfc3339};
use crate::borg::Borg;
use crate::cold;
use crate::restore;
use crate::session::{self, Session};
use crate::site::{Heal, Site, now, tell};
use crate::want::{Pair, Policy, Target, pairs};

/// How `verify` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// VMs (all by default)
    pub vms: Vec<String>,
    /// Only in this policy's repository
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Only where the last time was not within a week (what the timer does)
    #[arg(long)]
    pub due: bool,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.verify/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// `pc.borg.verify/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// Policy by policy, VM by VM.
    pub archives: Vec<Entry>,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// One VM in one repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The VM.
    pub vm: String,
    /// The policy.
    pub policy: String,
    /// `done`, `not_due`, `failed`.
    pub outcome: &'static str,
    /// What went wrong, or why it was not tried.
    pub reason: Option<String>,
    /// The archive that is whole.
    pub archive: Option<Whole>,
}

/// An archive that was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Whole {
    /// Its name.
    pub name: String,
    /// When its data was taken, RFC 3339 UTC.
    pub taken_at: String,
    /// The disk.
    pub disk_bytes: u64,
    /// What of it is not zero.
    pub data_bytes: u64,
    /// How long it took to read: a restore takes this, and the writing.
    pub seconds: f64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { vm, policy, outcome, reason, archive } in &self.archives {
            if let Some(Whole { name, data_bytes, seconds, .. }) = archive {
                let bytes = Bytes(*data_bytes);
                writeln!(f, "{vm} in {policy}: {name} is whole: {bytes} of data read in {seconds:.1} s")?;
            } else {
                let reason = reason.as_deref().unwrap_or_default();
                writeln!(f, "{vm} in {policy}: {}: {reason}", outcome.replace('_', " "))?;
            }
        }
        Ok(())
    }
}

/// Verifies; one that fails fails the whole, not the others.
pub fn verify(site: &Site, options: &Options) -> Result<(Verified, Result<()>)> {
    let started = Instant::now();
    let (mut archives, mut errors) = (Vec::new(), Vec::new());
    for pair in pairs(site.cluster(), &options.vms, options.policy.as_deref())? {
        if let Err(error) = site.interrupts.check() {
            errors.push(error);
            break;
        }
        let policy = site.policy(pair.policy.as_str())?;
        let entry = |outcome, reason, archive| Entry {
            vm: pair.vm.to_string(),
            policy: pair.policy.to_string(),
            outcome,
            reason,
            archive,
        };
        match one(site, policy, &pair, options) {
            Ok(Ok(whole)) => archives.push(entry("done", None, Some(whole))),
            Ok(Err(why)) => archives.push(entry("not_due", Some(why), None)),
            Err(error) => {
                let error = error.context(format!("vm {} in {}", pair.vm, pair.policy));
                archives.push(entry("failed", Some(format!("{error:#}")), None));
                errors.push(error);
            }
        }
    }
    let (node, cost) = (site.node().into(), Cost::since(started));
    Ok((Verified { schema: "pc.borg.verify/1", node, archives, cost }, together(errors)))
}

/// The repository is ours for one VM only: backups get their turn in between. The inner error is why nothing is due.
fn one(site: &Site, policy: &Policy, pair: &Pair, options: &Options) -> Result<Result<Whole, String>> {
    let (vm, records) = (pair.vm.as_str(), site.records(policy));
    if options.due {
        if let Target::Disk { label } = &policy.target {
            if !cold::is_plugged(site, label) {
                return Ok(Err(format!("no disk is labelled {label:?}")));
            }
        }
        // It reads everything, as a backup may.
        site.require_policy(policy, Heal::Awaited)?;
        if records.vm(vm)?.last.is_none() {
            return Ok(Err("there is no archive yet".into()));
        }
        if let Some(last) = records.verified(vm)? {
            let gap = if last.error.is_some() { Duration::hours(20) } else { Duration::days(6) };
            if (now() - last.at).abs() < gap {
                return Ok(Err(format!("done on {}", rfc3339(last.at)?)));
            }
        }
    }
    let session = Session::open(site, policy, "verify", &options.lock)?;
    let guard = session.guard(site);
    let borg = session.borg(site, policy, &guard);
    let archives = borg.list()?;
    let chosen = archive::choose(&archives, vm, None, now())?;
    tell(&format!("reading {}", chosen.name));
    let read = read_through(&borg, chosen);
    // What could not be reached, or is not ours to touch now, says nothing about the archive.
    let wrong = read.as_ref().err().filter(|error| Exit::of(error) == Exit::Failed);
    if read.is_ok() || wrong.is_some() {
        let wrong = wrong.map(|error| format!("{error:#}"));
        records.set_verified(vm, &chosen.name, site.node(), now(), wrong)?;
    }
    read.map(Ok)
}

fn read_through(borg: &Borg, archive: &Archive) -> Result<Whole> {
    let begun = Instant::now();
    let (disk, digests) = restore::contents(borg, archive)?;
    for path in ["vm/archive.json", "vm/cluster.json"] {
        let content = borg.extract_file(&archive.name, path)?;
        if serde_json::from_slice::<serde_json::Value>(&content).is_err() {
            bail!("{}: {path} is not what was backed up", archive.name);
        }
    }
    let data_bytes = restore::read(borg, archive, &disk, digests, None)?;
    Ok(Whole {
        name: archive.name.clone(),
        taken_at: rfc3339(archive.taken_at)?,
        disk_bytes: disk.size_bytes,
        data_bytes,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
