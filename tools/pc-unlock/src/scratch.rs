//! A directory for files that other programs insist on, in memory where the machine has `/run`. Never for a
//! passphrase: what goes there is encrypted by itself, or public.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use pc_cli::log;

const PREFIX: &str = "pc-unlock-";

/// Removed, with everything in it, when dropped; by the next one when this process was killed.
pub struct Scratch {
    directory: PathBuf,
    /// Whoever has this is alive. No program that we start inherits it.
    _lock: Flock<File>,
}

impl Scratch {
    /// A new one that only root may enter.
    pub fn new() -> Result<Scratch> {
        let run = Path::new("/run");
        Scratch::below(&if run.is_dir() { run.to_path_buf() } else { std::env::temp_dir() })
    }

    fn below(base: &Path) -> Result<Scratch> {
        if let Err(error) = sweep(base) {
            log::warning(format_args!("removing what was left in {}: {error}", base.display()));
        }
        // One that another process sweeps before it is locked is made again.
        for _ in 0..8 {
            let mut random = [0; 8];
            getrandom::getrandom(&mut random).context("reading random bytes from the kernel")?;
            let directory = base.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(random)));
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&directory)
                .with_context(|| format!("creating {}", directory.display()))?;
            let lock = lock(&directory).with_context(|| format!("locking {}", directory.display()))?;
            if let Some(lock) = lock.filter(|_| directory.exists()) {
                return Ok(Scratch { directory, _lock: lock });
            }
        }
        bail!("creating a directory in {}: swept again and again", base.display())
    }

    /// The path of a file in it, which need not exist.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next one tries again.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Removes the directories of processes that were killed: nobody holds their lock any more.
fn sweep(base: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let path = entry.path();
        let mine =
            || path.symlink_metadata().is_ok_and(|found| found.uid() == nix::unistd::geteuid().as_raw());
        if !ours || !mine() {
            continue;
        }
        if let Some(_lock) = lock(&path)? {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// `None`: somebody has it, or it is gone.
fn lock(directory: &Path) -> std::io::Result<Option<Flock<File>>> {
    let opened = File::options().read(true).custom_flags(O_DIRECTORY | O_NOFOLLOW).open(directory);
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_by_the_next_one() {
        let base = tempfile::tempdir().unwrap();
        let stale = base.path().join("pc-unlock-0123456789abcdef");
        std::fs::create_dir(&stale).unwrap();
        std::fs::write(stale.join("header"), "LUKS").unwrap();
        // Of others: never touched.
        std::fs::create_dir(base.path().join("pc-unlock-others")).unwrap();
        let alive = Scratch::below(base.path()).unwrap();
        assert!(!stale.exists());
        let file = alive.write("header", b"LUKS").unwrap();
        let second = Scratch::below(base.path()).unwrap();
        assert!(file.exists() && base.path().join("pc-unlock-others").exists());
        drop((alive, second));
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }
}
