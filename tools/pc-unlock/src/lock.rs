//! One process changes a device's header, or this node's secrets, at a time: what was read must still hold when it is
//! written.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::libc::O_NOFOLLOW;
use nix::sys::stat::{major, minor};
use pc_cli::{Common, refused, try_again};

use crate::device::Device;

/// Held until it is dropped, and by every cryptsetup that was started meanwhile until that one has ended: killed alone,
/// pc-unlock leaves one behind that still writes.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Waits for nobody: whoever comes second is told to come back (75).
pub fn alone(common: &Common, device: &Device) -> Result<Lock> {
    device.require_present()?;
    let path = directory(common)?.join(file_name(device)?);
    let file =
        Flock::lock(open(&path)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => try_again(format!(
                "{}: another pc-unlock, or a program it started, changes its header",
                device.name
            )),
            errno => anyhow::Error::new(errno).context(format!("locking {}", path.display())),
        })?;
    fcntl(&*file, FcntlArg::F_SETFD(FdFlag::empty()))
        .with_context(|| format!("keeping {} open", path.display()))?;
    Ok(Lock { _file: file })
}

/// The lock on this node's secrets at `path`. It is held for a few writes and never while a server is asked, so others are
/// waited for; after `patience` one is told to come back (75).
pub fn secrets(path: &Path, patience: Duration) -> Result<Flock<File>> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    let mut file = open(path)?;
    let until = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= until => {
                let seconds = patience.as_secs_f64();
                return Err(try_again(format!(
                    "waiting for {}: another pc-unlock has held it for {seconds} s",
                    path.display()
                )));
            }
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => {
                return Err(anyhow::Error::new(errno).context(format!("locking {}", path.display())));
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW);
    options.open(path).with_context(|| format!("creating {}", path.display()))
}

/// By its number, whatever link it was named by.
fn file_name(device: &Device) -> Result<String> {
    let found = std::fs::metadata(&device.path).with_context(|| format!("looking at {}", device.name))?;
    Ok(if found.file_type().is_block_device() {
        format!("unlock-{}-{}.lock", major(found.rdev()), minor(found.rdev()))
    } else {
        format!("unlock-file-{:x}-{:x}.lock", found.dev(), found.ino())
    })
}

/// Root's is the machine's; others, who have images of their own at most, have one of their own.
fn directory(common: &Common) -> Result<PathBuf> {
    let directory = common.under_root("/run/personal-cluster");
    let created = std::fs::create_dir_all(&directory);
    let Err(errno) = nix::unistd::access(&directory, nix::unistd::AccessFlags::W_OK) else {
        return Ok(directory);
    };
    match created {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => {
            Err(error).with_context(|| format!("creating {}", directory.display()))
        }
        _ => {
            let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            own.filter(|own| own.is_absolute() && Path::is_dir(own))
                .ok_or_else(|| unwritable(&directory, errno))
        }
    }
}

/// Only who lacks a permission can do better as root.
fn unwritable(directory: &Path, errno: Errno) -> anyhow::Error {
    let directory = directory.display();
    match errno {
        Errno::EACCES | Errno::EPERM => {
            refused(format!("{directory} is not writable\n  {}", pc_cli::as_root()))
        }
        _ => anyhow::Error::new(std::io::Error::from(errno)).context(format!("writing to {directory}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Exit;

    #[test]
    fn root_is_no_remedy_for_a_read_only_file_system() {
        let directory = Path::new("/run/personal-cluster");
        let error = unwritable(directory, Errno::EROFS);
        assert_eq!(Exit::of(&error), Exit::Failed);
        let said = format!("{error:#}");
        assert!(said.starts_with("writing to /run/personal-cluster: Read-only file system"), "{said}");
        let error = unwritable(directory, Errno::EACCES);
        assert!(Exit::of(&error) == Exit::Refused && error.to_string().contains("sudo"), "{error}");
    }
}
