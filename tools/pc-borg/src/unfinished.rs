//! The note beside a disk that is being copied out of an archive under its guest. While it is there, and does not say that the
//! disk is whole, the overlay over the archive is the truth: pc-vm starts nobody, and whatever is called `disk.img` is nothing.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pc_cli::{try_again, write_atomic};
use serde::{Deserialize, Serialize};

use crate::stage::GuestFiles;

/// Schema of the note.
const SCHEMA: &str = "pc.borg.instant/1";

/// `pc.borg.instant/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// `pc.borg.instant/1`.
    pub schema: String,
    /// The VM.
    pub vm: String,
    /// The node that copies, or did last.
    pub node: String,
    /// Out of its repository.
    pub policy: String,
    /// The archive that the overlay lies over.
    pub archive: String,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// When it was begun, RFC 3339 UTC.
    pub since: String,
    /// The guest may have been started over the archive: before that, nothing that runs is ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
    /// The extended attribute of the half copied disk: a file system gives an inode to another file when the first one is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The inode of the half copied disk, before that is called `disk.img` for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<u64>,
    /// Everything is in it, and the guest stands still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// Everything is in `disk.img`, and the guest has that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl Note {
    /// One that is begun.
    pub fn new(vm: &str, node: &str, policy: &str, archive: &str, disk_bytes: u64, since: String) -> Note {
        Note {
            schema: SCHEMA.into(),
            vm: vm.into(),
            node: node.into(),
            policy: policy.into(),
            archive: archive.into(),
            disk_bytes,
            since,
            started: false,
            copy: None,
            token: None,
            copied: false,
            whole: false,
        }
    }
}

impl GuestFiles {
    /// What the guest writes meanwhile.
    pub fn overlay(&self) -> PathBuf {
        self.directory.join("instant.qcow2")
    }

    /// The half copied disk.
    pub fn half(&self) -> PathBuf {
        self.directory.join("disk.img.restoring")
    }

    /// Held by whoever copies, on whichever node.
    pub fn copier(&self) -> PathBuf {
        self.directory.join("instant.lock")
    }

    fn note_path(&self) -> PathBuf {
        self.directory.join("instant.json")
    }

    /// The note, when there is one.
    pub fn note(&self) -> Result<Option<Note>> {
        let path = self.note_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let note: Note =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
        if note.schema != SCHEMA {
            bail!("{}: its schema is {:?}, not {SCHEMA}", path.display(), note.schema);
        }
        Ok(Some(note))
    }

    /// Writes it, atomically and onto stable storage.
    pub fn set_note(&self, note: &Note) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(note).context("writing a note as JSON")?;
        text.push(b'\n');
        write_atomic(&self.note_path(), &text, 0o644)
    }

    /// 75 while the disk is not whole.
    pub fn require_whole(&self) -> Result<()> {
        match self.note()? {
            Some(Note { whole: false, vm, archive, node, .. }) => Err(try_again(format!(
                "its disk is being copied out of {archive} by {node}, or that was cut off\n  pc-borg instant {vm}"
            ))),
            _ => Ok(()),
        }
    }

    /// Takes away what the disk does not need any more, the note last.
    pub fn forget_note(&self) -> Result<()> {
        for path in [self.overlay(), self.half(), self.note_path()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => (),
            }
        }
        self.sync()
    }

    /// Names in the directory are on stable storage.
    pub fn sync(&self) -> Result<()> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.with_context(|| format!("writing {}", self.directory.display()))
    }
}
