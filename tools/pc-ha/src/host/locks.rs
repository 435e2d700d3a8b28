//! The lock of a shutdown of the cluster; and locks of dpkg and apt, which are fcntl's (apt-pkg/contrib/fileutl.cc): whether somebody else is at the packages of this
//! machine. apt-get waits for two of the four when it is told to (`DPkg::Lock::Timeout`), dpkg for none.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pc_cli::{Common, log, try_again};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::tell;

const LOCKS: [&str; 4] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
];
/// Between two looks: fcntl wakes only those who queue for a lock, without a deadline, and hold up others once they have it.
const PAUSE: Duration = Duration::from_secs(1);

/// Held by `shutdown --all` while it is at work.
const SHUTDOWN: &str = "/run/personal-cluster/ha-shutdown.lock";

/// Taken until this is dropped, or its process ends.
#[derive(Debug)]
pub struct Shutdown(#[expect(dead_code, reason = "holding it is its use")] File);

/// Takes the lock of a shutdown.
pub fn shut_down(common: &Common) -> Result<Shutdown> {
    let path = common.under_root(SHUTDOWN);
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Shutdown(file)),
        Err(Errno::ACCESS | Errno::AGAIN) => {
            Err(try_again("another pc-ha shutdown is at work on this node\n  pc-ha status"))
        }
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// Whether somebody has it.
pub fn shuts_down(common: &Common) -> Result<bool> {
    Ok(holder(&common.under_root(SHUTDOWN))?.is_some())
}

/// A lock that another process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    path: PathBuf,
    process: Option<i32>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process} holds {}", self.path.display()),
            None => write!(f, "somebody holds {}", self.path.display()),
        }
    }
}

/// The first lock that somebody has; it is looked at, and not taken.
pub fn held(common: &Common) -> Result<Option<Held>> {
    for path in LOCKS.map(|path| common.under_root(path)) {
        if let Some(lock) = holder(&path)? {
            let process = lock.pid.map(|pid| pid.as_raw_nonzero().get()).filter(|pid| *pid > 0);
            return Ok(Some(Held { path, process }));
        }
    }
    Ok(None)
}

fn holder(path: &Path) -> Result<Option<Flock>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
    };
    fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))
        .with_context(|| format!("asking who holds {}", path.display()))
}

/// Until nobody has one.
pub fn wait(common: &Common, until: Instant) -> Result<()> {
    let mut told = None;
    while let Some(held) = held(common)? {
        if Instant::now() >= until {
            bail!("{held}, and has not let go of it");
        }
        if told.as_ref() != Some(&held) {
            log::info(format_args!("waiting: {held}"));
            tell(&format!("waiting: {held}"));
            told = Some(held);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
