//! A guest whose file systems are frozen stands still. That it is about to be is noted beside its disk first, where every
//! node sees it: whoever comes next on the node where the guest runs thaws it, however the run ended that froze it, and
//! wherever the guest has gone since.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pc_cli::{log, write_atomic};
use serde::{Deserialize, Serialize};

use crate::hypervisor;
use crate::lock::{self, Me};
use crate::stage::GuestFiles;

const SCHEMA: &str = "pc.borg.frozen/1";

/// `pc.borg.frozen/1`: who froze a guest, or was about to.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    schema: String,
    vm: String,
    node: String,
    boot_id: String,
    pid: u32,
    started_ticks: u64,
    /// RFC 3339 UTC.
    since: String,
}

/// Freezes and thaws one VM.
#[derive(Debug)]
pub struct Freezer {
    vm: String,
    note: PathBuf,
    me: Me,
}

impl Freezer {
    /// That of a VM.
    pub fn of(vm: &str, files: &GuestFiles, me: Me) -> Freezer {
        Freezer { vm: vm.into(), note: files.directory.join("backup-frozen.json"), me }
    }

    /// Freezes. `false` where there is no agent: a guest without one is backed up as a power cut would leave it.
    ///
    /// # Errors
    /// When nobody can tell whether it is frozen now; the note stays then.
    pub fn freeze(&self) -> Result<bool> {
        let vm = &self.vm;
        let noted_before = self.note.exists();
        let note = Note {
            schema: SCHEMA.into(),
            vm: vm.clone(),
            node: self.me.node.clone(),
            boot_id: self.me.boot_id.clone(),
            pid: self.me.pid,
            started_ticks: self.me.started_ticks,
            since: crate::archive::rfc3339(time::OffsetDateTime::now_utc())?,
        };
        let mut text = serde_json::to_vec_pretty(&note).context("writing a note as JSON")?;
        text.push(b'\n');
        write_atomic(&self.note, &text, 0o600)?;
        let Err(error) = hypervisor::freeze(vm) else { return Ok(true) };
        log::warning(format_args!("vm {vm}: not frozen, its archive is as after a power cut: {error}"));
        match hypervisor::thaw(vm) {
            Ok(()) => self.forget()?,
            // The agent, or libvirt for want of one, has said no: nothing was frozen.
            Err(_) if error.code().is_some() && !noted_before => self.forget()?,
            // It was asked before, and the answer is known to nobody.
            Err(_) if error.code().is_some() => (),
            Err(thaw) => {
                let told =
                    format!("vm {vm}: its agent was asked to freeze, gave no answer, and does not thaw");
                return Err(thaw).with_context(|| format!("{told}\n  virsh domfsthaw {vm}"));
            }
        }
        Ok(false)
    }

    /// Thaws, and takes the note away when that has worked.
    pub fn thaw(&self) -> Result<()> {
        let vm = &self.vm;
        match hypervisor::thaw(vm) {
            Ok(()) => self.forget(),
            // A guest that has no agent at all is not the one that was frozen.
            Err(error) if error.stderr().contains("agent is not configured") => self.forget(),
            Err(error) => Err(error)
                .with_context(|| format!("thawing the file systems of {vm}\n  virsh domfsthaw {vm}")),
        }
    }

    /// Thaws a guest that runs here when an earlier run left a note; one that runs elsewhere is thawed there.
    pub fn recover(&self) -> Result<()> {
        let text = match fs::read(&self.note) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.note.display())),
        };
        // A note that cannot be read is a note all the same.
        let note: Option<Note> = serde_json::from_slice(&text).ok();
        if note.is_some_and(|note| self.is_another_run(&note)) {
            log::debug(format_args!("vm {}: another run is freezing it", self.vm));
            return Ok(());
        }
        if !hypervisor::runs_here(&self.vm)? {
            return Ok(());
        }
        self.thaw()?;
        log::info(format_args!("vm {}: thawed, after a backup that was cut off", self.vm));
        Ok(())
    }

    fn is_another_run(&self, note: &Note) -> bool {
        note.node == self.me.node
            && note.boot_id == self.me.boot_id
            && note.pid != self.me.pid
            && lock::started(Path::new("/proc"), note.pid) == Some(note.started_ticks)
    }

    /// Nobody is frozen: it was thawed, or runs nowhere.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.note.display()))
            }
            _ => Ok(()),
        }
    }
}
