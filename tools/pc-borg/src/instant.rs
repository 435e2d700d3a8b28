//! `instant`: a VM runs out of its archive at once, and its disk is copied under it. What it writes meanwhile goes to an overlay
//! on its volume and is kept whatever happens; one rename of a note makes the copy the disk (docs/decisions/instant.md).

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::time::Instant;

use anyhow::{Context, Result};
use cluster::{Bytes, paths};
use pc_cli::{Exit, log, refused, together};
use pc_run::Cost;
use serde::Serialize;
use time::OffsetDateTime;

use crate::archive::{self, Archive, rfc3339};
use crate::borg::Borg;
use crate::copier::Job;
use crate::hypervisor::copying;
use crate::restore::{contents, policy_of};
use crate::session::{self, Session};
use crate::shown::Shown;
use crate::siblings;
use crate::site::{Heal, Site, now, tell};
use crate::stage::GuestFiles;
use crate::unfinished::Note;
use crate::want::unknown;

/// How `instant` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The VM, which the file has, and which has no disk
    pub vm: String,
    /// The newest archive that is not later: 2026-11-21, "2026-11-21 18:00", 2026-11-21T18:00:00Z (UTC)
    #[arg(long, value_name = "TIME", value_parser = archive::parse_at)]
    pub at: Option<OffsetDateTime>,
    /// Out of this policy's repository (by default the one with the newest archive)
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// NODE is switched off for certain, as pc-vm start takes it. Once for each node
    #[arg(long, value_name = "NODE")]
    pub owner_is_dead: Vec<String>,
    /// Of one that was cut off: throws away what the VM has written since, and what was copied, and ends
    #[arg(long, conflicts_with_all = ["at", "policy", "owner_is_dead"])]
    pub yes_lose_what_was_written_since: bool,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.instant.run/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.borg.instant.run/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// Where it came from.
    pub policy: String,
    /// The archive.
    pub archive: String,
    /// When its data was taken, RFC 3339 UTC.
    pub taken_at: String,
    /// One that was cut off was gone on with: what the VM had written is there.
    pub resumed: bool,
    /// Whether its disk is whole now; false: it was given up.
    pub whole: bool,
    /// Whether it runs: one that switched itself off meanwhile does not.
    pub running: bool,
    /// From the beginning until its QEMU ran; null: it was not started.
    pub started_seconds: Option<f64>,
    /// The disk.
    pub disk: String,
    /// Its size.
    pub disk_bytes: u64,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { vm, taken_at, disk, disk_bytes, .. } = self;
        if !self.whole {
            return writeln!(f, "{vm}: what it wrote over {} is thrown away", self.archive);
        }
        let state = if self.running { "and runs on" } else { "and is switched off" };
        match self.started_seconds {
            Some(seconds) => {
                let whole = self.cost.seconds;
                let size = Bytes(*disk_bytes);
                writeln!(
                    f,
                    "{vm} as of {taken_at}: started after {seconds:.1} s, has its disk of {size} in {disk} after {whole:.0} s, {state}"
                )
            }
            None => writeln!(f, "{vm} as of {taken_at}: has its disk in {disk}, {state}"),
        }
    }
}

/// Starts it, copies, changes over.
pub fn instant(site: &Site, options: &Options) -> Result<Answer> {
    let started = Instant::now();
    let vms = &site.cluster().vms;
    let Some((name, vm)) = vms.get_key_value(options.vm.as_str()) else {
        return Err(unknown("vm", &options.vm, vms.keys()));
    };
    refuse_pacemaker(site)?;
    site.require_volumes([&vm.volume], Heal::Ignored)?;
    let files = GuestFiles::of(site, name, &vm.volume);
    fs::create_dir_all(&files.directory).with_context(|| format!("making {}", files.directory.display()))?;
    let job = Job::hold(site, name, files)?;
    let note = job.settle().with_context(|| format!("vm {name}"))?;
    let ended = if options.yes_lose_what_was_written_since {
        job.give_up(note, started)
    } else {
        job.run(options, note, started)
    };
    job.release();
    ended
}

/// pacemaker alone starts VMs, and would stop one that it did not start.
fn refuse_pacemaker(site: &Site) -> Result<()> {
    // One that cannot be looked at may be there.
    let marker = || site.at(paths::HA_ENABLED).try_exists().unwrap_or(true);
    if site.cluster().ha.is_some() && marker() {
        return Err(refused(
            "[ha] is enabled: pacemaker is the only starter\n  pc-borg restore, then pc-ha start",
        ));
    }
    Ok(())
}

/// Takes back what runs that were killed have left with the VMs of this node; what is at work is let alone.
pub fn recover(site: &Site) -> Result<()> {
    let (mounts, mut errors) = (site.mounts()?, Vec::new());
    for (name, vm) in &site.cluster().vms {
        let files = GuestFiles::of(site, name, &vm.volume);
        if !mounts.has(&paths::volume_mount(&vm.volume)) || !matches!(files.note(), Ok(Some(_)) | Err(_)) {
            continue;
        }
        let job = match Job::hold(site, name, files) {
            Ok(job) => job,
            Err(error) if Exit::of(&error) == Exit::TryAgain => continue,
            Err(error) => {
                errors.push(error.context(format!("vm {name}")));
                continue;
            }
        };
        let settled = job.settle();
        job.release();
        if let Err(error) = settled {
            errors.push(error.context(format!("vm {name}")));
        }
    }
    together(errors)
}

impl Job<'_> {
    fn give_up(&self, note: Option<Note>, started: Instant) -> Result<Answer> {
        let Some(note) = note else {
            return Err(refused(format!("vm {}: nothing was cut off", self.name)));
        };
        self.require_idle()?;
        self.require_ours(&note)?;
        match fs::remove_file(self.files.disk()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", self.files.disk().display()));
            }
            _ => (),
        }
        self.files.forget_note()?;
        log::warning(format_args!("vm {}: threw away what it wrote over {}", self.name, note.archive));
        self.answer(&note, None, started, true, false)
    }

    fn run(&self, options: &Options, note: Option<Note>, started: Instant) -> Result<Answer> {
        let (site, vm) = (self.site, self.name.as_str());
        match &note {
            Some(note) => {
                let other = options.policy.as_ref().is_some_and(|policy| *policy != note.policy);
                if other || options.at.is_some() {
                    return Err(refused(format!(
                        "vm {vm}: what it wrote lies over {} of {}\n  go on with that: pc-borg instant {vm}\n  \
                         lose it: pc-borg instant {vm} --yes-lose-what-was-written-since",
                        note.archive, note.policy
                    )));
                }
                self.require_ours(note)?;
            }
            None if self.files.disk().symlink_metadata().is_ok() => {
                return Err(refused(format!(
                    "{} is there, and is not written over\n  pc-borg restore {vm} --as {vm}-restored",
                    self.files.disk().display()
                )));
            }
            None => (),
        }
        let resumed = note.is_some();
        let policy = match &note {
            Some(note) => site.policy(&note.policy)?,
            None => policy_of(site, vm, options.policy.as_deref())?,
        };
        let session = Session::open(site, policy, "instant", &options.lock)?;
        let may_go_on = session.guard(site);
        let borg = session.borg(site, policy, &may_go_on);
        let archives = borg.list()?;
        let archive = match &note {
            Some(note) => archives.iter().find(|archive| archive.name == note.archive).ok_or_else(|| {
                refused(format!(
                    "vm {vm}: {} is gone, and with it the disk below what it wrote",
                    note.archive
                ))
            })?,
            None => archive::choose(&archives, vm, options.at, now())?,
        };
        let (manifest, _) = contents(&borg, archive)?;
        let mut note = if let Some(note) = note {
            Note { node: site.node().into(), ..note }
        } else {
            let (policy, since) = (policy.name.as_str(), rfc3339(now())?);
            Note::new(vm, site.node(), policy, &archive.name, manifest.size_bytes, since)
        };
        // First of all: from here on nobody makes this VM another disk.
        self.files.set_note(&note)?;
        let mut shown = match self.begin(&borg, archive, options) {
            Ok(shown) => shown,
            Err(error) => {
                // It never ran: there is nothing to go on with.
                if !resumed && copying::live(vm).is_ok_and(|live| live.is_none()) {
                    self.files.forget_note()?;
                }
                return Err(error);
            }
        };
        let began = started.elapsed().as_secs_f64();
        log::info(format_args!(
            "vm {vm} runs out of {}, {began:.1} s after the beginning; its disk is being copied",
            archive.name
        ));
        let copied = self.copy(&borg, &mut note, &mut shown);
        let running = match copied {
            Ok(running) => running,
            Err(error) => {
                // Without the archive it cannot run; what it wrote is kept.
                let error = error.context(format!("vm {vm}: copying its disk{}", shown.complaint()));
                let next = format!("\n  pc-borg instant {vm}");
                let stopped = siblings::stop(site.common, vm, 60).context("stopping it");
                if let Err(also) = stopped {
                    log::error(format_args!("vm {vm}: {also:#}"));
                }
                log::warning(format_args!("vm {vm}: stopped, what it wrote is kept{next}"));
                return Err(error);
            }
        };
        drop(shown);
        if let Err(error) = self.files.forget_note() {
            log::warning(format_args!("vm {vm}: its disk is whole; {error:#}\n  pc-borg recover"));
        }
        log::info(format_args!("{}: whole, out of {}", self.files.disk().display(), archive.name));
        let mut answer = self.answer(&note, Some(began), started, resumed, running)?;
        answer.taken_at = rfc3339(archive.taken_at)?;
        Ok(answer)
    }

    /// Until it runs.
    fn begin(&self, borg: &Borg, archive: &Archive, options: &Options) -> Result<Shown> {
        let (site, vm) = (self.site, self.name.as_str());
        self.variables(borg, archive)?;
        tell(&format!("{vm}: showing {}", archive.name));
        let shown = Shown::open(site, borg, &archive.name, vm)?;
        self.overlay(&shown.file())?;
        siblings::start_over(site.common, vm, &shown.file(), &options.owner_is_dead)?;
        Ok(shown)
    }

    fn answer(
        &self,
        note: &Note,
        began: Option<f64>,
        started: Instant,
        resumed: bool,
        running: bool,
    ) -> Result<Answer> {
        let taken_at = archive::parse_name(&note.archive).map(|(_, taken_at)| taken_at);
        Ok(Answer {
            schema: "pc.borg.instant.run/1",
            vm: self.name.to_string(),
            policy: note.policy.clone(),
            archive: note.archive.clone(),
            taken_at: taken_at.map(rfc3339).transpose()?.unwrap_or_default(),
            resumed,
            whole: note.whole,
            running,
            started_seconds: began,
            disk: self.files.disk().display().to_string(),
            disk_bytes: note.disk_bytes,
            cost: Cost::since(started),
        })
    }

    /// The UEFI variables, unless there are some.
    fn variables(&self, borg: &Borg, archive: &Archive) -> Result<()> {
        let path = self.files.directory.join("nvram.fd");
        if path.exists() {
            return Ok(());
        }
        let content = borg.extract_file(&archive.name, "vm/nvram.fd")?;
        if content.is_empty() { Ok(()) } else { pc_cli::write_atomic(&path, &content, 0o600) }
    }
}
