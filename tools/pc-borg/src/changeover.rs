//! The one moment at which a guest gets the copy for its disk.

use anyhow::{Context, Result, bail};
use pc_cli::log;

use crate::copier::{Copied, Job, Run};
use crate::hypervisor::copying::{self, Live};
use crate::naming;

impl Job<'_> {
    /// While the guest stands still: whoever dies in between leaves two disks that are the same, and a note that says which counts.
    pub fn change_over(&self, run: &mut Run) -> Result<Copied> {
        let vm = self.name.as_str();
        self.require_no_disk().context("nothing may have its name")?;
        let Some(before) = self.live(run)? else { return Ok(Copied::Alone) };
        // One that somebody has halted stays so.
        let goes_on = before.state == "running" || before.stuck;
        let halted = self.suspend().and_then(|()| self.announce(run));
        if let Err(error) = halted {
            if self.now()?.is_none() {
                return Ok(Copied::Alone);
            }
            self.resume(goes_on);
            return Err(error);
        }
        let pivoted = copying::pivot(vm);
        let (disk, overlay) = (self.files.disk(), self.files.overlay());
        // Only what it has now counts, whatever the answer was, and whether there was one.
        match self.now()? {
            Some(live) if live.disk == disk && live.copy.is_none() => (),
            Some(live) if live.disk == overlay => {
                if let Err(error) = pivoted {
                    log::warning(format_args!("vm {vm}: {error:#}"));
                }
                self.take_back(run, &live)?;
                self.resume(goes_on);
                return Ok(Copied::Not);
            }
            None => return Ok(Copied::Alone),
            Some(other) => bail!("{vm} has not changed over to {}: {other:?}", disk.display()),
        }
        self.commit(&mut run.note)?;
        self.resume(goes_on);
        Ok(Copied::Whole(self.state_after(before.stuck)))
    }

    /// The copy has the name of a disk, and the note says that everything is in it: the guest stands still.
    fn announce(&self, run: &mut Run) -> Result<()> {
        let (disk, half) = (self.files.disk(), self.files.half());
        naming::name(&half, &disk).with_context(|| format!("naming {}", disk.display()))?;
        run.note.copied = true;
        let noted = self.files.set_note(&run.note);
        if noted.is_err() {
            // The guest goes on, and it is nothing.
            run.note.copied = false;
            naming::name(&disk, &half).with_context(|| format!("naming {}", half.display()))?;
        }
        noted
    }

    /// The guest keeps its overlay, and the copy is nothing; before that it must not go on, for what it writes may go to either.
    fn take_back(&self, run: &mut Run, live: &Live) -> Result<()> {
        let (vm, disk, half) = (self.name.as_str(), self.files.disk(), self.files.half());
        if live.copy.is_some() {
            let aborted = self.hear(|| copying::abort(vm), &mut || Ok(()));
            match self.now()? {
                Some(live) if live.disk == self.files.overlay() && live.copy.is_none() => (),
                other => {
                    aborted?;
                    bail!("{vm} has not given the copy up: {other:?}");
                }
            }
        }
        run.note.copied = false;
        self.files.set_note(&run.note)?;
        naming::name(&disk, &half).with_context(|| format!("naming {}", half.display()))
    }

    fn suspend(&self) -> Result<()> {
        self.hear(|| copying::suspend(self.name.as_str()), &mut || Ok(()))
    }

    /// What was asked for was done, or not: that it does not go on is told, and changes nothing of it.
    fn resume(&self, goes_on: bool) {
        let vm = self.name.as_str();
        if !goes_on {
            return;
        }
        if let Err(error) = self.hear(|| copying::resume(vm), &mut || Ok(())) {
            log::error(format_args!("vm {vm}: {error:#}"));
        }
    }

    /// Whoever stands still waits for this answer, and not for whoever wants us to end.
    fn now(&self) -> Result<Option<Live>> {
        self.hear(|| copying::live(self.name.as_str()), &mut || Ok(()))
    }

    /// One that stood still after an I/O error may do so again, of its own disk.
    fn state_after(&self, stuck: bool) -> String {
        let vm = self.name.as_str();
        if stuck {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        let state = match self.now() {
            Ok(live) => live.map_or_else(|| "shut off".to_string(), |live| live.state),
            Err(error) => {
                log::warning(format_args!("vm {vm}: {error:#}"));
                "unknown".into()
            }
        };
        if state == "paused" {
            log::warning(format_args!("vm {vm}: stands still\n  virsh resume {vm}"));
        }
        state
    }
}
