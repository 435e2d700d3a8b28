//! The half copied disk: nobody else's from the first moment on, and known again by what is written on it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use pc_cli::refused;
use rustix::fs::{XattrFlags, fsetxattr, lgetxattr};
use rustix::io::Errno;

use crate::copier::Job;
use crate::naming;
use crate::restore::claim;
use crate::unfinished::Note;

/// The extended attribute that says which run made it.
const TOKEN: &str = "user.pc-instant";
/// QEMU locks bytes of its images from here on (block/file-posix.c, `RAW_LOCK_PERM_BASE`): they are left to it.
const QEMUS: libc::off_t = 100;

impl Job<'_> {
    /// The half copied disk, which no restore writes to while this file is open: it claims every byte.
    #[allow(clippy::cast_possible_truncation, reason = "constants of fcntl(2), all of them small")]
    pub fn take_half(&self) -> Result<File> {
        let half = self.files.half();
        let file = claim(&half)?;
        let rest = libc::flock {
            l_type: libc::F_UNLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: QEMUS,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_SETLK(&rest)).with_context(|| format!("locking {}", half.display()))?;
        Ok(file)
    }

    /// Makes it an empty one of the disk's size, which the note knows before it has the name of a disk.
    pub fn empty_half(&self, file: &File, note: &mut Note) -> Result<()> {
        let (disk, half) = (self.files.disk(), self.files.half());
        let making = || format!("making {}", half.display());
        let held = file.metadata().with_context(making)?.ino();
        let is_held = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.ino() == held);
        self.require_ours(note)?;
        if is_held(&disk) && !is_held(&half) {
            naming::name(&disk, &half).with_context(|| format!("naming {}", half.display()))?;
        }
        match fs::remove_file(&disk) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", disk.display()));
            }
            _ => (),
        }
        if !is_held(&half) {
            bail!("{}: somebody else has put another file there", half.display());
        }
        file.set_len(0).and_then(|()| file.set_len(note.disk_bytes)).with_context(making)?;
        note.copied = false;
        note.copy = Some(held);
        note.token = mark(file).with_context(making)?;
        self.files.set_note(note)
    }

    /// Whatever is called `disk.img` beside a note is the half that was copied, or nothing of ours.
    pub fn require_ours(&self, note: &Note) -> Result<()> {
        let disk = self.files.disk();
        match disk.symlink_metadata() {
            Ok(meta) if Some(meta.ino()) != note.copy || !bears(&disk, note.token.as_deref()) => {
                Err(refused(format!(
                    "{}: is there, and was not made by the run that was cut off\n  move it away",
                    disk.display()
                )))
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("looking at {}", disk.display()))
            }
            _ => Ok(()),
        }
    }

    /// Nothing is called `disk.img`.
    pub fn require_no_disk(&self) -> Result<()> {
        let (disk, vm) = (self.files.disk(), self.name);
        if disk.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(());
        }
        Err(refused(format!(
            "{} is there, and is not written over\n  pc-borg restore {vm} --as {vm}-restored",
            disk.display()
        )))
    }
}

/// Writes a new token on it; `None` where files have no such attributes.
fn mark(file: &File) -> Result<Option<String>> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let token = format!("{:032x}", u128::from_be_bytes(bytes));
    match fsetxattr(file, TOKEN, token.as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(Some(token)),
        Err(Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn bears(path: &Path, token: Option<&str>) -> bool {
    let Some(token) = token else { return true };
    let mut found = [0; 64];
    lgetxattr(path, TOKEN, &mut found).is_ok_and(|length| found.get(..length) == Some(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_what_is_written_on_it() {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = directory.path().join("half");
        let file = File::create(&path).unwrap();
        // Linux before 6.6 has none on a tmpfs.
        let Some(token) = mark(&file).unwrap() else { return };
        assert!(token.len() == 32 && bears(&path, Some(&token)));
        assert_ne!(mark(&file).unwrap().unwrap(), token);
        assert!(!bears(&path, Some(&token)), "of another run");
        fs::write(directory.path().join("other"), "").unwrap();
        assert!(!bears(&directory.path().join("other"), Some(&token)));
    }
}
