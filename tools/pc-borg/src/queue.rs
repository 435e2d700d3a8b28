//! Waiting for a lock that the kernel gives and takes back: POSIX locks on the volumes, across nodes; flock on this node.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::try_again;
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

use crate::site::{STAGE, Site, tell};

/// Which kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of a process, seen by every node that has the file's volume.
    Posix,
    /// Of an open file, seen on this node.
    Flock,
}

impl Kind {
    fn ask(self, file: &File, operation: FlockOperation) -> rustix::io::Result<()> {
        match self {
            Kind::Posix => fcntl_lock(file, operation),
            Kind::Flock => flock(file, operation),
        }
    }

    /// Takes it unless somebody has it: then `false`.
    pub fn now(self, file: &File) -> rustix::io::Result<bool> {
        match self.ask(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The file with its lock, or `None` when nobody gave it up in time. The kernel wakes whoever waits: a thread does, for
/// waiting itself knows no deadline. When the deadline passes the caller ends, and the thread with it.
pub fn take(
    file: File,
    kind: Kind,
    patience: Duration,
    may_go_on: &dyn Fn() -> Result<()>,
) -> Result<Option<File>> {
    if kind.now(&file)? {
        return Ok(Some(file));
    }
    if patience.is_zero() {
        return Ok(None);
    }
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let locked = loop {
            match kind.ask(&file, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => (),
                other => break other,
            }
        };
        // Nobody listens any more after the deadline: the file is closed then, and the lock given back.
        let _ = sender.send(locked.map(|()| file));
    });
    let until = Instant::now() + patience;
    pc_run::timed(|| {
        loop {
            may_go_on()?;
            let left = until.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left.min(Duration::from_millis(500))) {
                Ok(Ok(file)) => return Ok(Some(file)),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if left.is_zero() => return Ok(None),
                Err(_) => (),
            }
        }
    })
}

/// One backup of a VM at a time on this node, to whichever repository: libvirt has one backup job for it.
pub fn of_vm(site: &Site, vm: &str, patience: Duration) -> Result<File> {
    if !patience.is_zero() {
        tell(&format!("{vm}: waiting for another backup of it"));
    }
    on_node(
        site,
        vm,
        patience,
        "another backup of it is at work on this node\n  wait for it: --lock-wait 3600",
    )
}

/// A lock of this node; `busy` is what is told when somebody has it.
pub fn on_node(site: &Site, name: &str, patience: Duration, busy: &str) -> Result<File> {
    let path = site.at(&format!("{STAGE}/.locks/{name}"));
    if let Some(directory) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("making {}", directory.display()))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let taken = take(file, Kind::Flock, patience, &|| site.interrupts.check());
    taken.with_context(|| format!("locking {}", path.display()))?.ok_or_else(|| try_again(busy))
}
