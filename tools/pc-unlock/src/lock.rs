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

/// By a cryptsetup, too, that outlived the one that started it.
const HELD: &str = "another pc-unlock, or a program it started, opens it or changes its header";

/// Held until it is dropped, and by every cryptsetup that was started meanwhile until that one has ended: killed alone,
/// pc-unlock leaves one behind that still writes.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Waits for nobody: whoever comes second is told to come back (75).
pub fn alone(common: &Common, device: &Device) -> Result<Lock> {
    let (path, file) = of(common, device)?;
    let file = wait(file, Duration::ZERO).map_err(|errno| match errno {
        Errno::EWOULDBLOCK => try_again(format!("{}: {HELD}", device.name)),
        errno => failed(&path, errno),
    })?;
    fcntl(&*file, FcntlArg::F_SETFD(FdFlag::empty()))
        .with_context(|| format!("keeping {} open", path.display()))?;
    Ok(Lock { _file: file })
}

/// For whoever opens the device, so that nobody writes a header meanwhile. Others, who change one for seconds or open it as well,
/// are waited for up to `patience`; then one is told to come back (75). No program inherits it: that of another disk, which
/// may hang, is started at the same time.
pub fn opening(common: &Common, device: &Device, patience: Duration) -> Result<Flock<File>> {
    let (path, file) = of(common, device)?;
    wait(file, patience).map_err(|errno| match errno {
        Errno::EWOULDBLOCK => try_again(HELD),
        errno => failed(&path, errno),
    })
}

/// The lock on this node's secrets at `path`. It is held for a few writes and never while a server is asked, so others are
/// waited for; after `patience` one is told to come back (75).
pub fn secrets(path: &Path, patience: Duration) -> Result<Flock<File>> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    wait(open(path)?, patience).map_err(|errno| match errno {
        Errno::EWOULDBLOCK => try_again(format!(
            "waiting for {}: another pc-unlock has held it for {} s",
            path.display(),
            patience.as_secs_f64()
        )),
        errno => failed(path, errno),
    })
}

fn of(common: &Common, device: &Device) -> Result<(PathBuf, File)> {
    device.require_present()?;
    device.require_answer()?;
    let path = directory(common)?.join(file_name(device)?);
    let file = open(&path)?;
    Ok((path, file))
}

/// `EWOULDBLOCK`: somebody had it all the time.
fn wait(mut file: File, patience: Duration) -> Result<Flock<File>, Errno> {
    let until = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EINTR)) => file = back,
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < until => file = back,
            Err((_, errno)) => return Err(errno),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn failed(path: &Path, errno: Errno) -> anyhow::Error {
    anyhow::Error::new(errno).context(format!("locking {}", path.display()))
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
