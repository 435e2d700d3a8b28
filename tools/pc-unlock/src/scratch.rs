//! A directory for files that other programs insist on, in memory where the machine has `/run`. Never for a
//! passphrase: what goes there is encrypted by itself, or public.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Removed, with everything in it, when dropped.
pub struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    /// A new one that only root may enter.
    pub fn new() -> Result<Scratch> {
        let run = Path::new("/run");
        let base = if run.is_dir() { run.to_path_buf() } else { std::env::temp_dir() };
        let mut random = [0; 8];
        getrandom::getrandom(&mut random).context("reading random bytes from the kernel")?;
        let directory = base.join(format!("pc-unlock-{:016x}", u64::from_ne_bytes(random)));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        Ok(Scratch { directory })
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
        // A left-over in memory is untidy, not a leak.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
