//! Locks of dpkg and apt, which are fcntl's (apt-pkg/contrib/fileutl.cc): whether somebody else is at the packages of this
//! machine. apt-get waits for two of the four when it is told to (`DPkg::Lock::Timeout`), dpkg for none.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pc_cli::{Common, log};
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
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let lock = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))
            .with_context(|| format!("asking who holds {}", path.display()))?;
        if let Some(lock) = lock {
            let process = lock.pid.map(|pid| pid.as_raw_nonzero().get()).filter(|pid| *pid > 0);
            return Ok(Some(Held { path, process }));
        }
    }
    Ok(None)
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
