//! The only module that touches the machine.

pub mod blkid;
pub mod copies;
pub mod cryptsetup;
pub mod disk;
pub mod file_system;
pub mod lsblk;
mod luks2;
pub mod lvm;
pub mod mounts;
mod perform;
mod probe;
pub mod records;
pub mod systemd;
mod udev;
pub mod unlock;
pub mod wipefs;
pub mod xfs;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::Brick;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use xshell::Shell;

pub use probe::Volumes;
use records::Records;

/// The machine, below a root that is `/` except in tests.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    sh: Shell,
    /// What it remembers of its disks.
    pub records: Records,
    is_bound: bool,
    /// How `pc-unlock` is told which file and node are meant.
    pub unlock: unlock::Unlock,
}

/// Held while disks are changed. Programs that we start inherit it, so that a run that was killed keeps the
/// next one out until the luksFormat or mkfs that it started has ended.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<std::fs::File>,
}

impl Host {
    /// `common` says where the root is.
    pub fn new(common: &pc_cli::Common) -> Result<Host> {
        let host = Host {
            root: common.root.clone(),
            sh: Shell::new().context("asking for the working directory")?,
            records: Records::new(common.under_root(cluster::paths::STATE)),
            is_bound: false,
            unlock: unlock::Unlock::new(common),
        };
        // Disks can be read by root only.
        if !host.is_stage() {
            pc_cli::require_root()?;
        }
        Ok(host)
    }

    /// Not a machine but a directory that stands in for one: its disks may be image files.
    pub fn is_stage(&self) -> bool {
        self.root != Path::new("/")
    }

    /// Whether bricks are bound to unlock servers: the file has `[unlock]`.
    #[must_use]
    pub fn bound(mut self, bound: bool) -> Host {
        self.is_bound = bound;
        self
    }

    /// A path of the machine, below the root.
    pub fn under(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// For the modules that run programs.
    pub fn shell(&self) -> &Shell {
        &self.sh
    }

    /// The brick's open LUKS device.
    pub fn mapper(&self, brick: &Brick) -> PathBuf {
        self.under(&format!("/dev/mapper/{}", brick.mapper()))
    }

    /// Only one process changes disks at a time; another is told to come back (75).
    pub fn lock(&self) -> Result<Lock> {
        let directory = self.under("/run/personal-cluster");
        std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join("brick.lock");
        let file = std::fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => pc_cli::try_again(format!(
                "{}: another pc-brick, or a program it started, is at work",
                path.display()
            )),
            errno => anyhow::Error::new(errno).context(format!("locking {}", path.display())),
        })?;
        fcntl(&*file, FcntlArg::F_SETFD(FdFlag::empty()))
            .with_context(|| format!("keeping {} open", path.display()))?;
        Ok(Lock { _file: file })
    }

    /// Waits for a device node: udev makes it some time after the kernel has the device.
    fn wait_for(&self, path: &str) -> Result<()> {
        const DEADLINE: Duration = Duration::from_secs(60);
        let (path, until) = (self.under(path), Instant::now() + DEADLINE);
        while !path.exists() {
            if Instant::now() >= until {
                bail!("waiting for {}: not there after {} s", path.display(), DEADLINE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
