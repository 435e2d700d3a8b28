//! What a mounted file system tells of itself. A dead disk can block its reader for good, so a thread asks.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::facts::Directory;

/// A disk that sleeps takes seconds to spin up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room in a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub size: u64,
    /// What is left.
    pub available: u64,
    /// It takes no writes.
    pub read_only: bool,
}

/// The directory that Gluster uses, in a brick that is mounted. XFS that could not write its log shuts itself down: it stays
/// mounted, statfs(2) answers as ever (`xfs_fs_statfs`), and stat(2) of anything in it ends in EIO (`xfs_vn_getattr`).
pub fn directory(mount_point: &Path, directory: &Path) -> Directory {
    let (mount_point, directory) = (mount_point.to_path_buf(), directory.to_path_buf());
    let look = move || {
        std::fs::metadata(mount_point)?;
        match std::fs::metadata(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Directory::Gone),
            found => Ok(if found?.is_dir() { Directory::There } else { Directory::Gone }),
        }
    };
    answer(PATIENCE, look).unwrap_or_else(Directory::Unknown)
}

/// How much room is left; an error in words.
pub fn space(mount_point: &Path) -> Result<Space, String> {
    let mount_point = mount_point.to_path_buf();
    let look = move || {
        let told = statvfs(&mount_point)?;
        Ok(Space {
            size: told.blocks() * told.fragment_size(),
            available: told.blocks_available() * told.fragment_size(),
            read_only: told.flags().contains(FsFlags::ST_RDONLY),
        })
    };
    answer(PATIENCE, look)
}

fn answer<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more when it comes too late.
    std::thread::spawn(move || drop(sender.send(ask())));
    match receiver.recv_timeout(patience) {
        Ok(answer) => answer.map_err(|error| match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).desc().to_string(),
            None => error.to_string(),
        }),
        Err(_) => Err(format!("no answer after {} s", patience.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_not_gone() {
        let disk = tempfile::tempdir().unwrap();
        let brick = disk.path().join("brick");
        let look = || directory(disk.path(), &brick);
        assert_eq!(look(), Directory::Gone);
        std::fs::create_dir(&brick).unwrap();
        assert_eq!(look(), Directory::There);
        assert!(space(disk.path()).unwrap().size > 0);
        std::fs::remove_dir(&brick).unwrap();
        // No file system that is shut down can be had here: a link that leads to itself ends in an error as well.
        std::os::unix::fs::symlink("brick", &brick).unwrap();
        let why = Errno::ELOOP.desc().to_string();
        assert_eq!(look(), Directory::Unknown(why.clone()));
        assert_eq!(directory(&brick, disk.path()), Directory::Unknown(why.clone()), "the mount point itself");
        assert_eq!(space(&brick), Err(why));
    }

    #[test]
    fn a_silent_disk_is_given_up() {
        let (release, hangs) = mpsc::channel::<()>();
        let answer = answer(Duration::from_millis(10), move || Ok(hangs.recv().is_ok()));
        assert_eq!(answer, Err("no answer after 0 s".into()));
        drop(release);
    }
}
