//! `backup`: policy by policy, VM by VM. One VM that fails fails the run, not the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cluster::{Cluster, Name};
use pc_cli::{Exit, log, refused, together, try_again};
use pc_run::Cost;

use crate::archive::{Holdings, rfc3339};
use crate::borg::Borg;
use crate::calendar;
use crate::cold;
use crate::duty::{Duty, Guest, duty};
use crate::freeze::Freezer;
use crate::key;
use crate::making::Work;
use crate::moment;
use crate::queue;
use crate::records::Failure;
use crate::report::{Entry, Made, Summary};
use crate::session::{self, Session};
use crate::siblings;
use crate::site::{Heal, Site, now};
use crate::stage::{GuestFiles, Stage};
use crate::systemd;
use crate::want::{Pair, Policy, Target, pairs, unknown};

/// How `backup` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// VMs (by default all that this node runs, and stopped ones whose home it is)
    pub vms: Vec<String>,
    /// The VMs of this group, as of one moment
    #[arg(long, value_name = "GROUP", conflicts_with = "vms")]
    pub group: Option<String>,
    /// Only to this policy's repository
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Only VMs whose schedule had an event since their last archive (what the timer does)
    #[arg(long)]
    pub due: bool,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// Runs; the answer says what became of each VM, and the error is the one that decides the exit code.
pub fn backup(site: &Site, options: &Options) -> Result<(Summary, Result<()>)> {
    let started = Instant::now();
    let started_at = now();
    let vms = match &options.group {
        Some(group) => group_of(site.cluster(), group)?,
        None => options.vms.clone(),
    };
    let pairs = pairs(site.cluster(), &vms, options.policy.as_deref())?;
    let named = !vms.is_empty();
    let mut run = Run { site, options, named, guests: None, entries: Vec::new(), errors: Vec::new() };
    let mut policies: Vec<&Name> = pairs.iter().map(|pair| &pair.policy).collect();
    policies.dedup();
    for policy in policies {
        let own: Vec<&Pair> = pairs.iter().filter(|pair| pair.policy == *policy).collect();
        run.policy(site.policy(policy.as_str())?, &own)?;
    }
    let Run { entries, errors, .. } = run;
    let summary = Summary {
        schema: "pc.borg.backup/1",
        node: site.node().into(),
        started_at: rfc3339(started_at)?,
        nothing: Summary::why_nothing(&entries),
        backups: entries,
        cost: Cost::since(started),
    };
    Ok((summary, together(errors)))
}

struct Run<'a> {
    site: &'a Site<'a>,
    options: &'a Options,
    /// Somebody asked for exactly these VMs.
    named: bool,
    /// Where every VM runs; asked once, when it matters.
    guests: Option<BTreeMap<String, Guest>>,
    entries: Vec<Entry>,
    errors: Vec<anyhow::Error>,
}

impl Run<'_> {
    /// All pairs of one policy, under one lock. An error here ends the whole run: nothing more may be begun.
    fn policy(&mut self, policy: &Policy, pairs: &[&Pair]) -> Result<()> {
        let mut mine = Vec::new();
        for pair in pairs {
            match self.sort_out(policy, pair) {
                Ok(true) => mine.push(*pair),
                Ok(false) => (),
                Err(error) => self.failed(pair, error),
            }
        }
        if mine.is_empty() {
            return Ok(());
        }
        let session = match Session::open(self.site, policy, "backup", &self.options.lock) {
            Ok(session) => session,
            Err(error) => {
                // Each of them was not backed up for the same reason, told once.
                let told = format!("{error:#}");
                for pair in mine {
                    self.entries.push(entry(pair, outcome(&error), Some(told.clone()), None));
                }
                self.errors.push(error);
                return Ok(());
            }
        };
        let mut held = None;
        for batch in batches(self.site.cluster(), &mine) {
            self.site.interrupts.check()?;
            session.lock.still_ours()?;
            self.warn_of_others(policy, &batch);
            let results = self.batch(&session, policy, &batch, &mut held);
            for (pair, result) in batch.into_iter().zip(results) {
                match result {
                    Ok(made) => self.entries.push(entry(pair, "done", None, Some(made))),
                    Err(error) => {
                        let failure =
                            Failure { at: now(), node: self.site.node().into(), error: format!("{error:#}") };
                        if let Err(also) = self.site.records(policy).failed(pair.vm.as_str(), failure) {
                            log::warning(format_args!("noting the failure: {also:#}"));
                        }
                        self.failed(pair, error);
                    }
                }
            }
        }
        Ok(())
    }

    /// A group whose VMs are on several nodes is saved as of several moments: never silently.
    fn warn_of_others(&self, policy: &Policy, batch: &[&Pair]) {
        let Some(group) = batch.first().and_then(|pair| group(self.site.cluster(), pair)) else { return };
        let is_other = |entry: &&Entry| {
            let vm = self.site.cluster().vms.get(entry.vm.as_str());
            entry.outcome == "elsewhere"
                && entry.policy == policy.name.as_str()
                && vm.is_some_and(|vm| vm.group.as_ref() == Some(group))
        };
        for Entry { vm, reason, .. } in self.entries.iter().filter(is_other) {
            let reason = reason.as_deref().unwrap_or_default();
            log::warning(format_args!("group {group}: vm {vm} {reason}: its archives are of another moment"));
        }
    }

    fn failed(&mut self, pair: &Pair, error: anyhow::Error) {
        let error = error.context(format!("vm {} to {}", pair.vm, pair.policy));
        self.entries.push(entry(pair, outcome(&error), Some(format!("{error:#}")), None));
        self.errors.push(error);
    }

    /// Whether this node backs the VM up now; `false` is an entry. Hours may pass before its turn comes: it is asked for
    /// again then.
    fn sort_out(&mut self, policy: &Policy, pair: &Pair) -> Result<bool> {
        // First, for it asks no other node.
        if self.options.due {
            if let Some(reason) = why_not_due(self.site, policy, pair)? {
                self.entries.push(entry(pair, "not_due", Some(reason), None));
                return Ok(false);
            }
        }
        let named = self.named;
        let guests = match &self.guests {
            Some(guests) => guests,
            None => &*self.guests.insert(siblings::guests(self.site.common)?),
        };
        match duty(self.site.node(), guests.get(pair.vm.as_str()), named) {
            Duty::Running | Duty::Stopped => Ok(true),
            Duty::Elsewhere(node) if named => {
                bail!(refused(format!("runs on {node}\n  ssh {node} pc-borg backup {}", pair.vm)))
            }
            Duty::Elsewhere(node) => {
                self.entries.push(entry(pair, "elsewhere", Some(format!("runs on {node}")), None));
                Ok(false)
            }
            Duty::Home(home) => {
                let reason = format!("does not run, and its home is {home}");
                self.entries.push(entry(pair, "elsewhere", Some(reason), None));
                Ok(false)
            }
            Duty::Unknown(reason) => {
                bail!(try_again(format!("nobody knows where it runs: {reason}\n  pc-vm list")))
            }
        }
    }

    /// VMs that are saved as of one moment: the archive of each, in their order.
    fn batch(
        &self,
        session: &Session,
        policy: &Policy,
        batch: &[&Pair],
        held: &mut Option<Holdings>,
    ) -> Vec<Result<Made>> {
        let site = self.site;
        let may_go_on = session.guard(site);
        let borg = session.borg(site, policy, &may_go_on);
        let ready: Vec<Result<Ready>> =
            batch.iter().map(|pair| self.prepare(&borg, policy, pair, held)).collect();
        let of_many = ready.iter().flatten().count() > 1;
        let mut works = Vec::new();
        for (pair, ready) in batch.iter().zip(&ready) {
            let Ok(ready) = ready else { continue };
            let work = Work {
                site,
                policy,
                pair,
                stage: &ready.stage,
                files: &ready.files,
                freezer: &ready.freezer,
                records: site.records(policy),
                lock: &session.lock,
                group: group(site.cluster(), pair).filter(|_| of_many),
            };
            works.push((work, ready.running));
        }
        let asked: Vec<(&Work, bool)> = works.iter().map(|(work, running)| (work, *running)).collect();
        let mut begun = moment::begin(&asked).into_iter();
        let mut made = Vec::new();
        for (work, running) in &works {
            let Some(begun) = begun.next() else { break };
            let archived = site.interrupts.check().and(begun);
            let archived = archived.and_then(|begun| work.archive(&borg, begun, &may_go_on));
            made.push(tidy_up(&borg, work, *running, archived, held.as_ref()));
        }
        let mut made = made.into_iter();
        let lost = || Err(try_again("it did not come to that"));
        ready.into_iter().map(|ready| ready.and_then(|_| made.next().unwrap_or_else(lost))).collect()
    }

    /// Everything that one VM needs before its moment.
    fn prepare(
        &self,
        borg: &Borg,
        policy: &Policy,
        pair: &Pair,
        held: &mut Option<Holdings>,
    ) -> Result<Ready> {
        let site = self.site;
        let Some(vm) = site.cluster().vms.get(&pair.vm) else { bail!("is not in the file") };
        site.require_volumes([&vm.volume], Heal::Awaited)?;
        let files = GuestFiles::of(site, &pair.vm, &vm.volume);
        files.require_whole()?;
        if !files.disk().exists() {
            bail!(refused(format!(
                "{} is not there: it was never started\n  pc-vm start {}",
                files.disk().display(),
                pair.vm
            )));
        }
        if held.is_none() {
            // Once for all VMs: which repository it is, and what earlier runs did not finish in it.
            *held = Some(key::require_same(borg, &site.records(policy), policy)?);
        }
        let patience = Duration::from_secs(self.options.lock.lock_wait);
        let turn = queue::of_vm(site, pair.vm.as_str(), patience)?;
        let running = runs_now(site, pair.vm.as_str())?;
        let freezer = Freezer::of(pair.vm.as_str(), &files, site.me()?);
        if running {
            // It is worth telling, and no reason to do without a backup as well.
            if let Err(error) = freezer.recover() {
                log::error(format_args!("{error:#}"));
            }
        } else {
            // A guest that runs nowhere is not frozen, either.
            freezer.forget()?;
        }
        let stage = Stage::of(site, pair);
        stage.begin(site)?;
        Ok(Ready { stage, files, freezer, running, _turn: turn })
    }
}

/// A VM whose moment may come.
struct Ready {
    stage: Stage,
    files: GuestFiles,
    freezer: Freezer,
    running: bool,
    /// Of this node: libvirt has one job for it.
    _turn: File,
}

/// The view and the export are gone by now; what is left are copies on a tmpfs.
fn tidy_up(
    borg: &Borg,
    work: &Work,
    running: bool,
    archived: Result<Made>,
    held: Option<&Holdings>,
) -> Result<Made> {
    let cleared = work.stage.clear(work.site);
    // A thaw that did not work is tried again, now that the job is gone.
    let thawed = if running { work.freezer.recover() } else { Ok(()) };
    let made = archived?;
    thawed?;
    cleared?;
    // Only now: until then they spare borg from writing the same data again.
    let vm = work.pair.vm.as_str();
    let unfinished = held.map_or(&[][..], |held| &held.unfinished);
    for (_, name) in unfinished.iter().filter(|(whose, _)| whose == vm) {
        match borg.delete(name) {
            Ok(()) => log::info(format_args!("vm {vm}: {name} deleted, it was never finished")),
            Err(error) => log::warning(format_args!("vm {vm}: deleting {name}: {error:#}")),
        }
    }
    Ok(made)
}

/// The group of a VM.
fn group<'a>(cluster: &'a Cluster, pair: &Pair) -> Option<&'a Name> {
    cluster.vms.get(&pair.vm)?.group.as_ref()
}

/// VMs of a group go together, in the place of the first of them; every other one goes alone.
fn batches<'p>(cluster: &Cluster, pairs: &[&'p Pair]) -> Vec<Vec<&'p Pair>> {
    let mut batches: Vec<Vec<&Pair>> = Vec::new();
    for &pair in pairs {
        let own = group(cluster, pair);
        let mates = batches
            .iter_mut()
            .find(|batch| own.is_some() && batch.first().is_some_and(|first| group(cluster, first) == own));
        match mates {
            Some(batch) => batch.push(pair),
            None => batches.push(vec![pair]),
        }
    }
    batches
}

/// The VMs of a group, by name.
fn group_of(cluster: &Cluster, wanted: &str) -> Result<Vec<String>> {
    let is_in = |vm: &cluster::Vm| vm.group.as_ref().is_some_and(|group| group.as_str() == wanted);
    let vms: Vec<String> =
        cluster.vms.iter().filter(|(_, vm)| is_in(vm)).map(|(name, _)| name.to_string()).collect();
    if vms.is_empty() {
        let known: BTreeSet<&Name> = cluster.vms.values().filter_map(|vm| vm.group.as_ref()).collect();
        return Err(unknown("group", wanted, known.into_iter()));
    }
    Ok(vms)
}

/// Whether the VM runs here, as of now; 75 when it is no longer this node's.
pub fn runs_now(site: &Site, vm: &str) -> Result<bool> {
    match duty(site.node(), siblings::guests(site.common)?.get(vm), true) {
        Duty::Running => Ok(true),
        Duty::Stopped => Ok(false),
        Duty::Elsewhere(node) => Err(try_again(format!("runs on {node} by now"))),
        Duty::Home(home) => Err(try_again(format!("is {home}'s by now"))),
        Duty::Unknown(reason) => {
            Err(try_again(format!("nobody knows where it runs: {reason}\n  pc-vm list")))
        }
    }
}

/// Why a run by the clock leaves a VM alone; `None` when it is due.
fn why_not_due(site: &Site, policy: &Policy, pair: &Pair) -> Result<Option<String>> {
    if let Target::Disk { label } = &policy.target {
        if !cold::is_plugged(site, label) {
            return Ok(Some(format!("no disk is labelled {label:?}")));
        }
    }
    site.require_policy(policy, Heal::Awaited)?;
    let record = site.records(policy).vm(pair.vm.as_str())?;
    let last = record.last.as_ref().map(|last| last.taken_at);
    let next = last.map(|last| systemd::next(&policy.settings.schedule, last)).transpose()?.flatten();
    let failed = record.failure.map(|failure| failure.at);
    // Not in whole seconds: an archive of this second is none of the future.
    if calendar::is_due(last, next, failed, time::OffsetDateTime::now_utc()) {
        return Ok(None);
    }
    Ok(Some(match last.map(rfc3339).transpose()? {
        Some(last) => format!("the last archive is of {last}"),
        None => "the last attempt failed within the hour".into(),
    }))
}

fn outcome(error: &anyhow::Error) -> &'static str {
    match Exit::of(error) {
        Exit::Refused => "refused",
        Exit::TryAgain => "try_again",
        _ => "failed",
    }
}

fn entry(pair: &Pair, outcome: &'static str, reason: Option<String>, archive: Option<Made>) -> Entry {
    Entry { vm: pair.vm.to_string(), policy: pair.policy.to_string(), outcome, reason, archive }
}
