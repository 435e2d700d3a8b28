//! Small files: made with the right mode from the start, written atomically.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// Keeps a second pc-trust from changing the same machine for as long as the value lives. The lock is on `/etc`
/// itself, so that a run that is refused leaves nothing behind, not even a lock file.
pub fn alone(root: &Path) -> Result<Flock<fs::File>> {
    let etc = root.join("etc");
    let directory = if etc.is_dir() { etc.as_path() } else { root };
    let file = fs::File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| pc_cli::try_again("another pc-trust is changing this machine"))
}

/// Makes a directory and what is above it, 0755 whatever the umask; those that exist keep their mode.
pub fn make_public(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_public(parent)?;
    }
    match fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755))) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result.with_context(|| format!("creating {}", path.display())),
    }
}

/// Makes a directory that only root enters; what is above it is public.
pub fn make_private(path: &Path) -> Result<()> {
    make_mode(path, 0o700)
}

/// Makes a directory with this mode, or gives an existing one this mode.
pub fn make_mode(path: &Path, mode: u32) -> Result<()> {
    let doing = || format!("creating {}", path.display());
    if let Some(parent) = path.parent() {
        make_public(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).with_context(doing)?;
            anyhow::ensure!(metadata.is_dir(), "{} is not a directory", path.display());
            if metadata.permissions().mode() & 0o7777 != mode {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(doing)?;
            }
            Ok(())
        }
        result => result.with_context(doing),
    }
}

/// Replaces a public file (0644) when it differs; says whether it did.
pub fn put_public(path: &Path, content: &str) -> Result<bool> {
    put(path, content.as_bytes(), 0o644)
}

/// Replaces a file that only root reads when it differs; says whether it did.
pub fn put_private(path: &Path, content: &[u8]) -> Result<bool> {
    put(path, content, 0o600)
}

fn put(path: &Path, content: &[u8], mode: u32) -> Result<bool> {
    let same_mode = fs::symlink_metadata(path)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o7777 == mode);
    if same_mode && fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    pc_cli::write_atomic(path, content, mode)?;
    Ok(true)
}

/// Reads a text; `None` when the file is not there.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
