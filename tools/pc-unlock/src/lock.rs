//! One process changes a device's header at a time: what was read of it must still hold when it is written.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(&path);
    let file = opened.with_context(|| format!("creating {}", path.display()))?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
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
    if nix::unistd::access(&directory, nix::unistd::AccessFlags::W_OK).is_ok() {
        return Ok(directory);
    }
    match created {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => {
            Err(error).with_context(|| format!("creating {}", directory.display()))
        }
        _ => {
            let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            own.filter(|own| own.is_absolute() && Path::is_dir(own)).ok_or_else(|| {
                refused(format!("{} is not writable\n  {}", directory.display(), pc_cli::as_root()))
            })
        }
    }
}
