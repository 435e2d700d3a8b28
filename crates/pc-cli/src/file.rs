//! Writing small files so that a reader, or a power cut, sees the old or the new one.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

/// How many files this process has written: two threads that write the same one get a temporary file each.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Replaces `path` atomically: temporary file beside it, mode, fsync, rename, fsync of the directory.
/// The directory must exist.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let directory = match path.parent() {
        // A bare file name lies in the working directory.
        Some(none) if none.as_os_str().is_empty() => Path::new("."),
        Some(directory) => directory,
        None => bail!("{} has no directory", path.display()),
    };
    let name = path.file_name().with_context(|| format!("{} has no file name", path.display()))?;
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let temporary = directory.join(format!(".{}.{}.{number}", name.to_string_lossy(), std::process::id()));
    let written = (|| -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: the original error is the one worth telling.
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("writing {}", path.display()))
}

/// Leaves a tool's last status at `/run/personal-cluster/<noun>.json` (below `root`) for its siblings.
/// Readable by everyone: a status holds no secret.
pub fn write_status<T: serde::Serialize>(root: &Path, noun: &str, status: &T) -> Result<()> {
    let directory = root.join("run/personal-cluster");
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let mut text = serde_json::to_vec_pretty(status).context("writing the status as JSON")?;
    text.push(b'\n');
    write_atomic(&directory.join(format!("{noun}.json")), &text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn threads_that_write_the_same_file_do_not_meet() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let whole = |byte: u8| vec![byte; 10_000];
        std::thread::scope(|scope| {
            for byte in 0..8 {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write_atomic(path, &whole(byte), 0o600).unwrap()));
            }
        });
        let last = std::fs::read(&path).unwrap();
        assert_eq!(last, whole(last[0]), "one of them, whole");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write_atomic(Path::new("/nonexistent/x/y"), b"", 0o600).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/x/y"));
    }
}
