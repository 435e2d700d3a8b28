//! A disk that is copied out of an archive under its guest: who copies it, how far it is, and the one moment at which the copy
//! becomes the disk.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Bytes, Name};
use pc_cli::{log, refused};

use crate::borg::Borg;
use crate::child::{attend, bound_to_us, how};
use crate::hypervisor::copying::{self, Live};
use crate::naming;
use crate::queue;
use crate::restore::claim;
use crate::shown::Shown;
use crate::siblings;
use crate::site::{Site, tell};
use crate::stage::GuestFiles;
use crate::unfinished::Note;

/// How often somebody looks how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// How long it may say nothing of a guest, before that is stopped: a restart of libvirt, or its volume's, takes less.
const SILENCE: Duration = Duration::from_secs(300);
/// How often a copy is begun anew to which libvirt does not change over.
const TRIES: usize = 3;

/// What a copy is made with.
pub struct Run<'a, 'b> {
    /// Its repository.
    pub borg: &'a Borg<'b>,
    /// The archive below the overlay.
    pub shown: Shown,
    /// What is known of it, on the volume too.
    pub note: Note,
    /// The half copied disk, which is ours while this is open.
    pub half: &'a File,
    /// Nodes that are switched off for certain.
    pub dead: &'a [String],
}

impl Run<'_, '_> {
    /// An error when it is to end, or the archive is not shown any more.
    pub fn may_go_on(&mut self) -> Result<()> {
        (self.borg.may_go_on)()?;
        self.shown.still_there(self.borg)
    }
}

/// What came of a copy under a guest.
pub enum Copied {
    /// It is the disk; the guest's state.
    Whole(String),
    /// The guest runs on over the archive.
    Not,
    /// The guest does not run any more.
    Alone,
}

/// One VM, held by us.
pub struct Job<'a> {
    /// Where.
    pub site: &'a Site<'a>,
    /// Its name.
    pub name: &'a Name,
    /// Its files.
    pub files: GuestFiles,
    /// Of whoever copies: nobody else does, on any node.
    _lock: File,
    /// The same on this node, where it holds although a brick that was restarted has forgotten the other.
    _here: File,
}

impl<'a> Job<'a> {
    /// 75 while somebody copies it.
    pub fn hold(site: &'a Site<'a>, name: &'a Name, files: GuestFiles) -> Result<Job<'a>> {
        let busy = format!("vm {name}: another pc-borg instant is copying its disk");
        let here = queue::on_node(site, &format!(".instant.{name}"), Duration::ZERO, &busy)?;
        let lock = claim(&files.copier())?;
        Ok(Job { site, name, files, _lock: lock, _here: here })
    }

    /// The lock goes with its file, which nobody needs any more.
    pub fn release(&self) {
        if matches!(self.files.note(), Ok(None)) {
            let _ = fs::remove_file(self.files.copier());
        }
    }

    /// What a run that was killed has left: done when all that was missing was to say so; otherwise a guest that runs here has
    /// lost the archive below its disk, and is stopped. `None`: nothing is unfinished.
    pub fn settle(&self) -> Result<Option<Note>> {
        let Some(note) = self.files.note()? else { return Ok(None) };
        let unfinished = self.settle_guest(note)?;
        Shown::recover(self.site, self.name.as_str())?;
        Ok(unfinished)
    }

    fn settle_guest(&self, mut note: Note) -> Result<Option<Note>> {
        let vm = self.name.as_str();
        let live = copying::live(vm)?;
        if !note.whole {
            match &live {
                None => {
                    // What stood still then does not any more; only where it ran that can be told.
                    if note.copied && note.node == self.site.node() {
                        note.copied = false;
                        self.files.set_note(&note)?;
                    }
                    return Ok(Some(note));
                }
                Some(live) if live.disk == self.files.overlay() => {
                    log::warning(format_args!(
                        "vm {vm}: whoever copied its disk is gone, and with it what was not copied: stopping it; what it wrote is kept"
                    ));
                    siblings::stop(self.site.common, vm, 0)?;
                    return Ok(Some(note));
                }
                Some(live) if live.disk == self.files.disk() && !note.started && note.copy.is_none() => {
                    log::info(format_args!("vm {vm}: runs from its own disk, and nothing was begun"));
                    self.files.forget_note()?;
                    return Ok(None);
                }
                Some(live) if live.disk == self.files.disk() && live.copy.is_none() => {
                    // Begun by hand from whatever has that name, it would be no changeover of ours.
                    self.require_ours(&note)?;
                    if !note.copied {
                        return Err(self.runs_from(&live.disk));
                    }
                    // It stands still since before it had the copy.
                    self.commit(&mut note)?;
                }
                // What somebody else does with it is his.
                Some(live) => {
                    return Err(refused(format!(
                        "it runs from {}, and not from what was copied for it",
                        live.disk.display()
                    )));
                }
            }
        }
        if live.is_some_and(|live| live.state == "paused" && live.disk == self.files.disk()) {
            copying::resume(vm)?;
        }
        self.files.forget_note()?;
        log::info(format_args!("vm {vm}: its disk is whole"));
        Ok(None)
    }

    /// It runs, and not from what was copied for it.
    fn runs_from(&self, disk: &Path) -> anyhow::Error {
        let vm = self.name;
        if disk.symlink_metadata().is_err() {
            return self.runs_unnamed();
        }
        refused(format!(
            "it runs from {}, which is not whole, and which pc-vm did not start it from\n  \
             pc-vm stop {vm}, then pc-borg instant {vm}",
            disk.display()
        ))
    }

    /// Whoever stops it throws away the last copy of its disk.
    pub fn runs_unnamed(&self) -> anyhow::Error {
        let to = self.files.directory.join("rescued.img");
        refused(format!(
            "it runs here, and still has its disk open, which has no name any more: do not stop it\n  \
             virsh blockcopy {} vda {} --transient-job --wait --verbose --pivot",
            self.name,
            to.display()
        ))
    }

    /// From here on `disk.img` is the disk.
    pub fn commit(&self, note: &mut Note) -> Result<()> {
        let disk = self.files.disk();
        let synced = File::open(&disk).and_then(|file| file.sync_all());
        synced.with_context(|| format!("writing {}", disk.display()))?;
        self.files.sync()?;
        note.whole = true;
        self.files.set_note(note)
    }

    /// Where the VM writes to; the one that is there is what it wrote. Its guest's data is for nobody else to read: it is made
    /// before qemu-img writes to it.
    pub fn overlay(&self, archive: &Path) -> Result<()> {
        let overlay = self.files.overlay();
        if overlay.exists() {
            return Ok(());
        }
        let new = self.files.directory.join(format!(".instant.qcow2.{}", std::process::id()));
        let making = || format!("making {}", new.display());
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(making),
            _ => (),
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
        let file = file.with_context(making)?;
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(archive).arg(&new);
        let made = pc_run::run(command).deadline(Duration::from_secs(120)).output();
        let named = made.context("making the file that the VM writes to").and_then(|_| {
            file.sync_all().with_context(|| format!("writing {}", new.display()))?;
            naming::name(&new, &overlay).with_context(|| format!("naming {}", overlay.display()))
        });
        if named.is_err() {
            let _ = fs::remove_file(&new);
        }
        named?;
        self.files.sync()
    }

    /// Asks libvirt until it says something of the guest: it may be restarted, or slow, and neither is a reason to stop a guest
    /// that runs.
    pub fn hear<T>(
        &self,
        ask: impl Fn() -> Result<T>,
        may_go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<T> {
        let mut since = None;
        loop {
            let error = match ask() {
                Err(error) if copying::is_silence(&error) => error,
                heard => return heard,
            };
            if since.is_none() {
                log::warning(format_args!("vm {}: {error:#}; it is asked again", self.name));
            }
            if since.get_or_insert_with(Instant::now).elapsed() >= SILENCE {
                return Err(error);
            }
            std::thread::sleep(LOOK);
            may_go_on()?;
        }
    }

    /// Copies everything, and changes over; the guest's state then.
    pub fn copy(&self, run: &mut Run) -> Result<String> {
        for _ in 0..TRIES {
            let ended = match self.copy_under(run)? {
                Copied::Whole(state) => return Ok(state),
                Copied::Not => None,
                Copied::Alone => Some(self.finish_without(run)?),
            };
            if let Some(state) = ended {
                return Ok(state);
            }
            log::warning(format_args!("vm {}: runs on as it did, and its disk is copied anew", self.name));
        }
        bail!("libvirt has not changed over to it {TRIES} times")
    }

    fn copy_under(&self, run: &mut Run) -> Result<Copied> {
        let (vm, disk, half) = (self.name.as_str(), self.files.disk(), self.files.half());
        self.empty_half(run.half, &mut run.note)?;
        // libvirt calls the disk what the file is called when it begins, and QEMU has it open: only then it loses the name again,
        // under which somebody could take it for a disk.
        naming::name(&half, &disk).with_context(|| format!("naming {}", disk.display()))?;
        let begun = copying::begin(vm, &disk, &run.shown.note("copy.xml"));
        // Whoever was cut off may have asked for it all the same.
        let live = match &begun {
            Err(error) if copying::is_silence(error) => Some(self.live(run)),
            _ => None,
        };
        naming::name(&disk, &half).with_context(|| format!("naming {}", half.display()))?;
        if let Err(error) = begun {
            match live.unwrap_or_else(|| self.live(run))? {
                // It switched itself off before that.
                None => return Ok(Copied::Alone),
                Some(live) if live.copy.is_none() => return Err(error),
                Some(_) => (),
            }
        }
        let (mut told, mut stuck) = (Instant::now(), false);
        loop {
            std::thread::sleep(LOOK);
            run.may_go_on()?;
            let Some(live) = self.live(run)? else { return Ok(Copied::Alone) };
            if live.disk != self.files.overlay() {
                bail!("it has {} for its disk by now", live.disk.display());
            }
            if live.stuck && !stuck {
                stuck = true;
                log::warning(format_args!(
                    "vm {vm}: stands still after an I/O error; it goes on when it has its disk"
                ));
            }
            match live.copy {
                Some(true) => break,
                Some(false) => (),
                None => bail!("libvirt gave it up before everything was there"),
            }
            if told.elapsed().as_secs() >= 2 {
                told = Instant::now();
                // Who asks how it is hears what is wrong.
                if let Ok((done, of)) = copying::progress(vm) {
                    let does = if stuck { "stands still" } else { "runs" };
                    tell(&format!("{vm} {does}; its disk is being copied: {} of {}", Bytes(done), Bytes(of)));
                }
            }
        }
        self.change_over(run)
    }

    /// The guest as libvirt says.
    pub fn live(&self, run: &mut Run) -> Result<Option<Live>> {
        self.hear(|| copying::live(self.name.as_str()), &mut || run.may_go_on())
    }

    /// The guest does not run: the same without it. Nobody starts it meanwhile, for the note is there.
    pub fn finish_without(&self, run: &mut Run) -> Result<String> {
        log::info(format_args!("vm {}: does not run; its disk is copied without it", self.name));
        siblings::require_idle(self.site.common, self.name.as_str(), run.dead)?;
        let (disk, half) = (self.files.disk(), self.files.half());
        self.empty_half(run.half, &mut run.note)?;
        let mut command = bound_to_us("qemu-img", "KILL");
        command.args(["convert", "-n", "-f", "qcow2", "-O", "raw", "--target-is-zero"]);
        command.arg(self.files.overlay()).arg(&half);
        let ended = attend(command, None, &mut |_| Ok(()), &mut |_| (), run.borg.may_go_on)?;
        if !ended.status.success() {
            bail!("qemu-img ({}): {}", how(ended.status), ended.stderr.join("; "));
        }
        naming::name(&half, &disk).with_context(|| format!("naming {}", disk.display()))?;
        self.commit(&mut run.note)?;
        Ok("shut off".into())
    }
}
