//! `instant`: a VM runs out of its archive at once, and its disk is copied under it. What it writes meanwhile goes to an overlay
//! on its volume and is kept whatever happens; one rename of a note makes the copy the disk (docs/decisions/instant.md).

use std::fmt;
use std::fs::{self, File};
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
use crate::copier::{Job, Run};
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
    #[arg(long, conflicts_with_all = ["at", "policy"])]
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
    /// Whether it runs: one that switched itself off meanwhile does not, nor does one that stands still.
    pub running: bool,
    /// virsh's word: `running`, `paused`, `shut off`; `unknown` where libvirt gives no answer.
    pub state: String,
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
        let state = match self.state.as_str() {
            "running" => "and runs on".into(),
            "shut off" => "and is switched off".into(),
            other => format!("and is {other}: virsh domstate {vm} --reason"),
        };
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
    site.require_volumes([&vm.volume], Heal::Ignored)?;
    let files = GuestFiles::of(site, name, &vm.volume);
    // What was begun before is finished all the same.
    if matches!(files.note(), Ok(None)) {
        may_start(site)?;
    }
    files.make()?;
    let job = Job::hold(site, name, files)?;
    let note = job.settle().with_context(|| format!("vm {name}"))?;
    let ended = if options.yes_lose_what_was_written_since {
        job.give_up(note, options, started)
    } else {
        job.run(options, note, started)
    };
    job.release();
    ended
}

/// pacemaker alone starts VMs, and would stop one that it did not start.
fn may_start(site: &Site) -> Result<()> {
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
    fn give_up(&self, note: Option<Note>, options: &Options, started: Instant) -> Result<Answer> {
        let Some(note) = note else {
            return Err(refused(format!("vm {}: nothing was cut off", self.name)));
        };
        siblings::require_idle(self.site.common, self.name.as_str(), &options.owner_is_dead)?;
        self.require_ours(&note)?;
        match fs::remove_file(self.files.disk()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", self.files.disk().display()));
            }
            _ => (),
        }
        self.files.forget_note()?;
        log::warning(format_args!("vm {}: threw away what it wrote over {}", self.name, note.archive));
        self.answer(&note, None, started, true, "shut off")
    }

    /// Whether there is something to begin, or to go on with.
    fn may_begin(&self, options: &Options, note: Option<&Note>) -> Result<()> {
        let vm = self.name;
        let Some(note) = note else {
            self.require_no_disk()?;
            return match copying::live(vm.as_str())? {
                None => Ok(()),
                Some(live) if live.disk == self.files.disk() => {
                    Err(self.runs_unnamed().context(format!("vm {vm}")))
                }
                Some(live) => Err(refused(format!("vm {vm}: runs here, from {}", live.disk.display()))),
            };
        };
        if options.policy.as_ref().is_some_and(|policy| *policy != note.policy) || options.at.is_some() {
            return Err(refused(format!(
                "vm {vm}: what it wrote lies over {} of {}\n  go on with that: pc-borg instant {vm}\n  \
                 lose it: pc-borg instant {vm} --yes-lose-what-was-written-since",
                note.archive, note.policy
            )));
        }
        self.require_ours(note)
    }

    fn run(&self, options: &Options, note: Option<Note>, started: Instant) -> Result<Answer> {
        let (site, vm) = (self.site, self.name.as_str());
        self.may_begin(options, note.as_ref())?;
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
                    "vm {vm}: {} is gone, and with it the disk below what it wrote\n  \
                     pc-borg instant {vm} --yes-lose-what-was-written-since",
                    note.archive
                ))
            })?,
            None => archive::choose(&archives, vm, options.at, now())?,
        };
        let (manifest, _) = contents(&borg, archive)?;
        let half = self.take_half()?;
        let resumed = note.is_some();
        let note = if let Some(note) = note {
            Note { node: site.node().into(), ..note }
        } else {
            let (policy, since) = (policy.name.as_str(), rfc3339(now())?);
            Note::new(vm, site.node(), policy, &archive.name, manifest.size_bytes, since)
        };
        let ended = self.go_on(options, (&borg, archive, &half), note, resumed, started);
        if ended.is_err() && matches!(self.files.note(), Ok(None)) {
            // Half a disk is nobody's.
            let _ = fs::remove_file(self.files.half());
        }
        ended
    }

    /// With a half that is ours: from here on no restore makes this VM another disk.
    fn go_on(
        &self,
        options: &Options,
        (borg, archive, half): (&Borg, &Archive, &File),
        note: Note,
        resumed: bool,
        started: Instant,
    ) -> Result<Answer> {
        let (site, vm) = (self.site, self.name.as_str());
        tell(&format!("{vm}: showing {}", archive.name));
        let shown = Shown::open(site, borg, &archive.name, vm)?;
        let mut run = Run { borg, shown, note, half, dead: &options.owner_is_dead };
        // And from here on nobody else does.
        self.files.set_note(&run.note)?;
        let with_guest = may_start(site).is_ok();
        if with_guest {
            self.begin(&mut run, archive, resumed)?;
        } else {
            log::info(format_args!("vm {vm}: [ha] is enabled: its disk is copied without it"));
            self.overlay(&run.shown.file())?;
        }
        let began = with_guest.then(|| started.elapsed().as_secs_f64());
        let copied = match began {
            Some(began) => {
                log::info(format_args!(
                    "vm {vm} runs out of {}, {began:.1} s after the beginning; its disk is being copied",
                    archive.name
                ));
                self.copy(&mut run)
            }
            None => self.finish_without(&mut run),
        };
        let state = match copied {
            Ok(state) => state,
            Err(error) => {
                let error = error.context(format!("vm {vm}: copying its disk{}", run.shown.complaint()));
                self.stop(with_guest);
                return Err(error);
            }
        };
        let Run { shown, note, .. } = run;
        drop(shown);
        if let Err(error) = self.files.forget_note() {
            log::warning(format_args!("vm {vm}: its disk is whole; {error:#}\n  pc-borg recover"));
        }
        log::info(format_args!("{}: whole, out of {}", self.files.disk().display(), archive.name));
        if !with_guest {
            log::info(format_args!("vm {vm}: has its disk\n  pc-ha start {vm}"));
        }
        let mut answer = self.answer(&note, began, started, resumed, &state)?;
        answer.taken_at = rfc3339(archive.taken_at)?;
        Ok(answer)
    }

    /// Until it runs. One that never did leaves nothing: there is nothing to go on with.
    fn begin(&self, run: &mut Run, archive: &Archive, resumed: bool) -> Result<()> {
        let vm = self.name.as_str();
        let variables = self.files.directory.join("nvram.fd");
        let has_variables = variables.exists();
        let started = self.start(run, archive, resumed);
        let Err(error) = started else { return Ok(()) };
        match copying::live(vm) {
            Ok(Some(live)) if live.disk == self.files.overlay() => self.stop(true),
            Ok(_) if !resumed => {
                self.files.forget_note()?;
                if !has_variables {
                    let _ = fs::remove_file(variables);
                }
            }
            // What is not known is kept.
            _ => (),
        }
        Err(error)
    }

    fn start(&self, run: &mut Run, archive: &Archive, resumed: bool) -> Result<()> {
        if !resumed {
            // Showing it took a while, and the note was not there.
            self.require_no_disk()?;
        }
        self.variables(run.borg, archive)?;
        self.overlay(&run.shown.file())?;
        run.note.started = true;
        self.files.set_note(&run.note)?;
        siblings::start_over(self.site.common, self.name.as_str(), &run.shown.file(), run.dead)
    }

    /// Without the archive it cannot run; what it wrote is kept.
    fn stop(&self, runs: bool) {
        let vm = self.name.as_str();
        if runs {
            // Who stands still hears no button.
            let hears = !copying::live(vm).is_ok_and(|live| live.is_some_and(|live| live.state == "paused"));
            if let Err(also) = siblings::stop(self.site.common, vm, if hears { 60 } else { 0 }) {
                log::error(format_args!("vm {vm}: stopping it: {also:#}"));
            }
        }
        log::warning(format_args!("vm {vm}: does not run, what it wrote is kept\n  pc-borg instant {vm}"));
    }

    fn answer(
        &self,
        note: &Note,
        began: Option<f64>,
        started: Instant,
        resumed: bool,
        state: &str,
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
            running: state == "running",
            state: state.into(),
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
