//! A disk that pc-borg is still copying out of an archive, while the guest writes to an overlay beside it.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Result;
use pc_cli::try_again;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::{Lock, Store};

impl Store {
    /// An error, 75, while its disk is being copied out of an archive, or was until somebody pulled the plug: whatever lies there
    /// is not the disk yet. Only `pc-borg instant`, which goes on with it, starts such a VM.
    pub fn require_whole(&self) -> Result<()> {
        let Some(archive) = self.unfinished()? else { return Ok(()) };
        let vm = &self.vm;
        Err(try_again(format!(
            "vm {vm}: its disk is not whole: it is being copied out of {archive}, or that was cut off\n  \
             pc-borg instant {vm}    (where it is being copied this says so, else goes on)"
        )))
    }

    /// The archive that its disk is still being copied out of. A note that nobody can read is one.
    pub fn unfinished(&self) -> Result<Option<String>> {
        let path = self.at(&self.places.unfinished);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unwritable(&error)),
        };
        let note: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        // All that is left to do is to take the overlay away.
        if note["whole"] == true {
            return Ok(None);
        }
        Ok(Some(note["archive"].as_str().unwrap_or("an archive").to_string()))
    }

    /// What the guest writes meanwhile: until its disk is whole there is no other copy of that.
    pub fn overlay(&self) -> PathBuf {
        self.at(&self.places.overlay)
    }

    /// Keeps pc-borg from copying; 75 while it does. `None`: it never did.
    pub fn lock_copier(&self) -> Result<Option<Lock>> {
        let path = self.at(&self.places.copier);
        let file: File = match OpenOptions::new().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unwritable(&error)),
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::AGAIN | Errno::ACCESS) => {
                Err(try_again(format!("vm {}: pc-borg instant is copying its disk", self.vm)))
            }
            Err(error) => Err(self.unwritable(&error.into())),
        }
    }
}
