//! A disk that is copied out of an archive under its guest: who copies it, how far it is, and the one moment at which the copy
//! becomes the disk.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Bytes, Name};
use pc_cli::{log, refused, try_again};

use crate::borg::Borg;
use crate::child::{attend, bound_to_us, how};
use crate::duty::{Duty, duty};
use crate::hypervisor::copying;
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
        let live = copying::live(self.name.as_str())?;
        if !note.whole {
            match &live {
                None => return Ok(Some(note)),
                Some(live) if live.disk == self.files.disk() && live.copy.is_none() => {
                    // Begun by hand from whatever has that name, it would be no changeover of ours.
                    self.require_ours(&note)?;
                    if !note.copied {
                        return Err(refused(format!(
                            "it runs from {}, which is not whole, and which pc-vm did not start it from\n  \
                             pc-vm stop {}, then pc-borg instant {1}",
                            live.disk.display(),
                            self.name
                        )));
                    }
                    // It stands still since before it had the copy.
                    self.commit(&mut note)?;
                }
                Some(_) => {
                    log::warning(format_args!(
                        "vm {}: whoever copied its disk is gone, and with it what was not copied: stopping it; what it wrote is kept",
                        self.name
                    ));
                    siblings::stop(self.site.common, self.name.as_str(), 0)?;
                    return Ok(Some(note));
                }
            }
        }
        if live.is_some_and(|live| live.state == "paused" && live.disk == self.files.disk()) {
            copying::resume(self.name.as_str())?;
        }
        self.files.forget_note()?;
        log::info(format_args!("vm {}: its disk is whole", self.name));
        Ok(None)
    }

    /// From here on `disk.img` is the disk.
    fn commit(&self, note: &mut Note) -> Result<()> {
        let disk = self.files.disk();
        let synced = File::open(&disk).and_then(|file| file.sync_all());
        synced.with_context(|| format!("writing {}", disk.display()))?;
        self.files.sync()?;
        note.whole = true;
        self.files.set_note(note)
    }

    /// Nobody runs it, as all nodes say.
    pub fn require_idle(&self) -> Result<()> {
        let guests = siblings::guests(self.site.common)?;
        match duty(self.site.node(), guests.get(self.name.as_str()), true) {
            Duty::Stopped | Duty::Home(_) => Ok(()),
            Duty::Running => Err(refused(format!("vm {}: runs here\n  pc-vm stop {0}", self.name))),
            Duty::Elsewhere(node) => {
                Err(refused(format!("vm {}: runs on {node}\n  pc-vm stop {0}", self.name)))
            }
            Duty::Unknown(why) => Err(try_again(format!("vm {}: may run: {why}\n  pc-vm list", self.name))),
        }
    }

    /// Whatever is called `disk.img` beside a note is the half that was copied, or nothing of ours.
    pub fn require_ours(&self, note: &Note) -> Result<()> {
        let disk = self.files.disk();
        match disk.symlink_metadata() {
            Ok(meta) if Some(meta.ino()) != note.copy => Err(refused(format!(
                "{}: is there, and was not made by the run that was cut off\n  move it away",
                disk.display()
            ))),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("looking at {}", disk.display()))
            }
            _ => Ok(()),
        }
    }

    /// Where the VM writes to; the one that is there is what it wrote.
    pub fn overlay(&self, archive: &Path) -> Result<()> {
        let overlay = self.files.overlay();
        if overlay.exists() {
            return Ok(());
        }
        let new = self.files.directory.join(format!(".instant.qcow2.{}", std::process::id()));
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(archive).arg(&new);
        let made = pc_run::run(command).deadline(Duration::from_secs(120)).output();
        made.context("making the file that the VM writes to")?;
        let synced = File::open(&new).and_then(|file| file.sync_all());
        synced.with_context(|| format!("writing {}", new.display()))?;
        naming::name(&new, &overlay).with_context(|| format!("naming {}", overlay.display()))?;
        self.files.sync()
    }

    /// Copies everything, and changes over; whether the guest runs then.
    pub fn copy(&self, borg: &Borg, note: &mut Note, shown: &mut Shown) -> Result<bool> {
        let (vm, disk, half) = (self.name.as_str(), self.files.disk(), self.files.half());
        // The guest runs here, over the overlay: nobody has a half that was copied before open.
        let file = self.new_half(note)?;
        drop(file);
        // libvirt calls the disk what the file is called when it begins, and QEMU has it open: only then it loses the name again,
        // under which somebody could take it for a disk.
        naming::name(&half, &disk).with_context(|| format!("naming {}", disk.display()))?;
        let begun = copying::begin(vm, &disk, &shown.note("copy.xml"));
        naming::name(&disk, &half).with_context(|| format!("naming {}", half.display()))?;
        if let Err(error) = begun {
            // It switched itself off before that.
            return if copying::live(vm)?.is_none() { self.finish_without(borg, note) } else { Err(error) };
        }
        let mut told = Instant::now();
        loop {
            std::thread::sleep(LOOK);
            (borg.may_go_on)()?;
            shown.still_there()?;
            match copying::live(vm)? {
                None => return self.finish_without(borg, note),
                Some(live) if live.disk != self.files.overlay() => {
                    bail!("it has {} for its disk by now", live.disk.display())
                }
                Some(live) if live.copy == Some(true) => break,
                Some(live) if live.copy.is_none() => bail!("libvirt gave it up before everything was there"),
                Some(_) => (),
            }
            if told.elapsed().as_secs() >= 2 {
                told = Instant::now();
                let (done, of) = copying::progress(vm)?;
                tell(&format!("{vm} runs; its disk is being copied: {} of {}", Bytes(done), Bytes(of)));
            }
        }
        self.change_over(note)
    }

    /// An empty one of the disk's size, whose inode is noted before it has the name of a disk.
    fn new_half(&self, note: &mut Note) -> Result<File> {
        let (disk, half) = (self.files.disk(), self.files.half());
        for path in [&disk, &half] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => (),
            }
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half);
        let file = file.with_context(|| format!("making {}", half.display()))?;
        file.set_len(note.disk_bytes).with_context(|| format!("making {}", half.display()))?;
        note.copied = false;
        note.copy = Some(file.metadata().with_context(|| format!("looking at {}", half.display()))?.ino());
        self.files.set_note(note)?;
        Ok(file)
    }

    /// While the guest stands still: whoever dies in between leaves two disks that are the same, and a note that says which counts.
    fn change_over(&self, note: &mut Note) -> Result<bool> {
        let (vm, disk, half) = (self.name.as_str(), self.files.disk(), self.files.half());
        let ran = copying::live(vm)?.is_some_and(|live| live.state == "running");
        if ran {
            copying::suspend(vm)?;
        }
        note.copied = true;
        self.files.set_note(note)?;
        naming::name(&half, &disk).with_context(|| format!("naming {}", disk.display()))?;
        copying::pivot(vm, &disk)?;
        self.commit(note)?;
        if ran {
            copying::resume(vm)?;
        }
        Ok(true)
    }

    /// The guest switched itself off: the same without it. Nobody starts it meanwhile, for the note is there.
    fn finish_without(&self, borg: &Borg, note: &mut Note) -> Result<bool> {
        log::info(format_args!("vm {}: switched itself off; its disk is copied without it", self.name));
        self.require_idle()?;
        let (disk, half) = (self.files.disk(), self.files.half());
        drop(self.new_half(note)?);
        let mut command = bound_to_us("qemu-img", "KILL");
        command.args(["convert", "-n", "-f", "qcow2", "-O", "raw", "--target-is-zero"]);
        command.arg(self.files.overlay()).arg(&half);
        let ended = attend(command, None, &mut |_| Ok(()), &mut |_| (), borg.may_go_on)?;
        if !ended.status.success() {
            bail!("qemu-img ({}): {}", how(ended.status), ended.stderr.join("; "));
        }
        naming::name(&half, &disk).with_context(|| format!("naming {}", disk.display()))?;
        self.commit(note)?;
        Ok(false)
    }
}
