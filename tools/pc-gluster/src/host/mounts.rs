//! Mount points and mounts of volumes, and what a mounted client itself says about its bricks.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use pc_run::timed;
use rustix::fs::{IFlags, Mode, OFlags};
use rustix::io::Errno;

use super::bounded::bounded;
use crate::have::Mount;

/// A FUSE client that waits for bricks answers within its ping-timeout.
const CLIENT: Duration = Duration::from_secs(45);

/// The directory a volume is mounted on.
pub fn point(volume: &str) -> PathBuf {
    Path::new("/mnt").join(volume)
}

/// Mount points of this mount namespace with their file system type (`proc_pid_mountinfo(5)`); the last one
/// mounted on a directory counts.
fn mounted() -> BTreeMap<PathBuf, String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(PathBuf, String)> {
    let (fields, rest) = line.split_once(" - ")?;
    let point = fields.split(' ').nth(4)?.replace("\\040", " ");
    Some((PathBuf::from(point), rest.split(' ').next()?.to_string()))
}

/// Whether something is mounted exactly there. Reads a table, never the file system itself.
pub fn is_mount_point(path: &Path) -> bool {
    mounted().contains_key(path)
}

/// The state of a volume's mount.
pub fn state(volume: &str) -> Mount {
    let path = point(volume);
    match mounted().get(&path).map(String::as_str) {
        Some(_) if !has_client(&path) => Mount::Dead,
        Some(_) => {
            let answers = timed(|| bounded(CLIENT, move || rustix::fs::statfs(&path).is_ok()));
            if answers == Some(true) { Mount::Mounted } else { Mount::Silent }
        }
        None if is_prepared(&path) => Mount::Prepared,
        None => Mount::Unprepared,
    }
}

/// Whether a client process serves this mount point. The error of a client that reaches no brick is the same as
/// that of one that has died, so the process is what tells.
fn has_client(point: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    entries.flatten().any(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        let is_client = words.first().is_some_and(|first| first.ends_with(b"/glusterfs"));
        is_client && words.last().is_some_and(|last| *last == point.as_os_str().as_bytes())
    })
}

fn is_prepared(path: &Path) -> bool {
    match flags(path) {
        Ok(flags) => flags.contains(IFlags::IMMUTABLE),
        // The file system knows no such flag: a directory is all there can be.
        Err(error) => error != Errno::NOENT && is_unsupported(error) && path.is_dir(),
    }
}

fn is_unsupported(error: Errno) -> bool {
    [Errno::NOTTY, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL].contains(&error)
}

fn flags(path: &Path) -> rustix::io::Result<IFlags> {
    let directory =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::ioctl_getflags(&directory)
}

/// Makes the directory, and makes it immutable, so that nothing can be written beneath a missing mount.
pub fn prepare(volume: &str) -> Result<()> {
    let path = point(volume);
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    let entries = std::fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?.count();
    if entries > 0 {
        pc_cli::log::warning(format_args!(
            "{}: holds {entries} entries that the mount will hide",
            path.display()
        ));
    }
    let set = || -> rustix::io::Result<()> {
        let directory =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = rustix::fs::ioctl_getflags(&directory)?;
        rustix::fs::ioctl_setflags(&directory, flags | IFlags::IMMUTABLE)
    };
    match set() {
        Err(error) if is_unsupported(error) => Ok(()),
        other => other.with_context(|| format!("making {} immutable", path.display())),
    }
}

/// The bricks (`node:/path`) that the mounted client is connected to, out of its own `.meta` directory;
/// `None` when it does not answer. No other node is asked.
pub fn connected_bricks(volume: &str) -> Option<BTreeSet<String>> {
    let graph = point(volume).join(".meta/graphs/active");
    let prefix = format!("{volume}-client-");
    let ask = move || {
        let mut connected = BTreeSet::new();
        for entry in std::fs::read_dir(&graph).ok()?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                continue;
            }
            let read = |name: &str| std::fs::read_to_string(entry.path().join(name));
            if read("private").ok()?.lines().any(|line| line.trim() == "connected = 1") {
                let host = read("options/remote-host").ok()?;
                let path = read("options/remote-subvolume").ok()?;
                connected.insert(format!("{}:{}", host.trim(), path.trim()));
            }
        }
        Some(connected)
    };
    timed(|| bounded(CLIENT, ask)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo() {
        let line = "137 67 0:56 / /mnt/vms rw,relatime shared:5 - fuse.glusterfs node1:/vms rw,user_id=0";
        assert_eq!(parse_line(line), Some((PathBuf::from("/mnt/vms"), "fuse.glusterfs".to_string())));
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self")));
    }
}
