//! This node's own bricks: mounted or not, running or not, what they are marked with, what waits for healing.
//! Nothing here asks glusterd, so nothing here can hang on it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::bounded::bounded;
use super::mounts::is_mount_point;
use crate::have::{Mark, OwnBrick};
use crate::want::path_of;

/// Gluster's mark on a brick: the volume's UUID, 16 bytes.
const VOLUME_ID: &str = "trusted.glusterfs.volume-id";
/// Where a mark is kept that was taken off: on the file system's root, which is not part of the volume.
const UNMARKED: &str = "trusted.personal-cluster.unmarked";
/// How long the leader leaves its own leftover mark: longer than other nodes pause between two tries (the
/// `RestartMaxDelaySec=` of pc-gluster.service), so that theirs are gone when it tries again.
const SETTLED: Duration = Duration::from_secs(45);
/// A dead disk can block its reader for good.
const DISK: Duration = Duration::from_secs(20);

/// Looks at one brick (`node:/path`, path `<mount point>/brick`).
pub fn look(address: &str, processes: &BTreeMap<PathBuf, Pid>) -> OwnBrick {
    let path = PathBuf::from(path_of(address));
    let running = processes.contains_key(&path);
    let marks = move || {
        is_readable(&path)?;
        let unmarked = identity(path.parent()?, UNMARKED).map(uuid);
        Some((mark(&path), unmarked))
    };
    let seen = bounded(DISK, marks).flatten();
    let mounted = seen.is_some();
    let (marked, unmarked) = seen.unwrap_or_default();
    OwnBrick { address: address.to_string(), mounted, running, lost: false, marked, unmarked }
}

/// The brick's file system is mounted, and answers.
fn is_readable(path: &Path) -> Option<()> {
    let mount_point = path.parent()?;
    if !is_mount_point(mount_point) {
        return None;
    }
    std::fs::read_dir(mount_point).ok()?.next().transpose().ok().map(drop)
}

fn mark(path: &Path) -> Option<Mark> {
    let bytes = identity(path, VOLUME_ID)?;
    let ctime = std::os::unix::fs::MetadataExt::ctime;
    let age = std::fs::metadata(path).ok().and_then(|data| changed(ctime(&data), SystemTime::now()));
    let settled = age.is_some_and(|age| age > SETTLED);
    Some(Mark { volume_id: uuid(bytes), empty: is_empty(path), settled })
}

fn identity(path: &Path, attribute: &str) -> Option<[u8; 16]> {
    let mut bytes = [0_u8; 16];
    let length = rustix::fs::getxattr(path, attribute, &mut bytes).ok()?;
    (length == 16).then_some(bytes)
}

/// Time since an inode's attributes changed. A clock that was set back in between says nothing: waiting for that
/// moment to come again could take years.
fn changed(ctime: i64, now: SystemTime) -> Option<Duration> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(ctime).ok()?);
    Some(now.duration_since(at).unwrap_or(Duration::MAX))
}

fn uuid(bytes: [u8; 16]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Not one file of a user, and nothing in Gluster's own directory but empty directories.
fn is_empty(path: &Path) -> bool {
    fn no_files(path: &Path, depth: u8) -> bool {
        let Ok(entries) = std::fs::read_dir(path) else { return false };
        entries.flatten().all(|entry| {
            depth > 0
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
                && no_files(&entry.path(), depth - 1)
        })
    }
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    entries.flatten().all(|entry| entry.file_name() == ".glusterfs" && no_files(&entry.path(), 2))
}

/// Everything in a brick's directory, Gluster's own included; nothing when there is no directory yet.
pub fn contents(address: &str) -> Result<Vec<String>> {
    let path = PathBuf::from(path_of(address));
    let shown = path.display().to_string();
    let names = bounded(DISK, move || names(&path));
    names
        .with_context(|| format!("reading {shown}: no answer after {} s", DISK.as_secs()))?
        .with_context(|| format!("reading {shown}"))
}

fn names(path: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = entries.map(name).collect::<std::io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Takes the mark off an empty brick and remembers it; looks again right before, and refuses when files have
/// appeared.
pub fn unmark(address: &str) -> Result<()> {
    let path = Path::new(path_of(address));
    let bytes = identity(path, VOLUME_ID).with_context(|| format!("{}: has no mark", path.display()))?;
    anyhow::ensure!(is_empty(path), "{}: is not empty any more", path.display());
    write(path.parent().unwrap_or(path), UNMARKED, &bytes)?;
    rustix::fs::removexattr(path, VOLUME_ID)
        .with_context(|| format!("{}: removing {VOLUME_ID}", path.display()))
}

/// Puts the mark back that [`unmark`] took off: it had crossed with a create on another node.
pub fn mark_again(address: &str, volume_id: &str) -> Result<()> {
    let path = Path::new(path_of(address));
    let bytes = identity(path.parent().unwrap_or(path), UNMARKED).filter(|bytes| uuid(*bytes) == volume_id);
    write(path, VOLUME_ID, &bytes.with_context(|| format!("{}: never had this mark", path.display()))?)
}

fn write(path: &Path, attribute: &str, bytes: &[u8]) -> Result<()> {
    rustix::fs::setxattr(path, attribute, bytes, rustix::fs::XattrFlags::empty())
        .with_context(|| format!("{}: writing {attribute}", path.display()))
}

/// Entries that other bricks still have to get from this one: names in the index that are not its base file
/// (xlators/features/index of Gluster). `None` when the brick cannot be read.
pub fn heal_backlog(address: &str) -> Option<u64> {
    let path = PathBuf::from(path_of(address));
    bounded(DISK, move || {
        is_readable(&path)?;
        let mut entries = match std::fs::read_dir(path.join(".glusterfs/indices/xattrop")) {
            Ok(entries) => entries,
            // No volume has used it yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Some(0),
            Err(_) => return None,
        };
        let waits = |name: &OsStr| !name.as_bytes().starts_with(b"xattrop-");
        entries.try_fold(0, |count, entry| Some(count + u64::from(waits(&entry.ok()?.file_name()))))
    })
    .flatten()
}

/// glusterfsd processes by the brick directory they serve (`--brick-name`, set by glusterd).
pub fn processes() -> BTreeMap<PathBuf, Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    entries.flatten().filter_map(|entry| brick_process(&entry)).collect()
}

fn brick_process(entry: &std::fs::DirEntry) -> Option<(PathBuf, Pid)> {
    let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
    let command = std::fs::read(entry.path().join("cmdline")).ok()?;
    let mut words = command.split(|byte| *byte == 0);
    if !Path::new(OsStr::from_bytes(words.next()?)).ends_with("glusterfsd") {
        return None;
    }
    let path = words.skip_while(|word| *word != b"--brick-name").nth(1)?;
    Some((PathBuf::from(OsStr::from_bytes(path)), pid))
}

/// Ends the processes of these bricks with SIGTERM, so that clients see a closed connection at once instead
/// of a silent one, and waits for them. Gives those that were running.
pub fn stop(bricks: &[PathBuf], deadline: Duration) -> Result<Vec<PathBuf>> {
    let running: Vec<(PathBuf, Pid)> =
        processes().into_iter().filter(|(path, _)| bricks.contains(path)).collect();
    for (path, pid) in &running {
        pc_cli::log::info(format_args!("brick {}: stopping", path.display()));
        // It may have ended by itself since it was listed.
        let _ = kill_process(*pid, Signal::TERM);
    }
    let until = Instant::now() + deadline;
    while let Some((path, _)) = still(&running) {
        anyhow::ensure!(
            Instant::now() < until,
            "brick {}: still runs after {} s",
            path.display(),
            deadline.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(running.into_iter().map(|(path, _)| path).collect())
}

fn still(started_with: &[(PathBuf, Pid)]) -> Option<(PathBuf, Pid)> {
    let now = processes();
    started_with.iter().find(|(path, pid)| now.get(path) == Some(pid)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(changed(990, now), Some(Duration::from_secs(10)));
        assert!(changed(2_000_000_000, now) > Some(SETTLED));
    }

    #[test]
    fn a_uuid_is_written_as_gluster_writes_it() {
        let bytes = *b"\x0e\x5a\x56\xf5\x1a\x07\x49\xdf\xa9\x8b\xf2\xf2\x1a\x02\xb2\x3e";
        assert_eq!(uuid(bytes), "0e5a56f5-1a07-49df-a98b-f2f21a02b23e");
    }

    #[test]
    fn everything_in_a_brick_is_listed() {
        let disk = tempfile::tempdir().unwrap();
        let address = format!("n1:{}/brick", disk.path().display());
        assert_eq!(contents(&address).unwrap(), Vec::<String>::new(), "not made yet");
        std::fs::create_dir_all(disk.path().join("brick/.glusterfs")).unwrap();
        std::fs::write(disk.path().join("brick/disk.img"), "").unwrap();
        assert_eq!(contents(&address).unwrap(), [".glusterfs", "disk.img"]);
    }

    #[test]
    fn a_brick_with_any_file_is_not_empty() {
        let brick = tempfile::tempdir().unwrap();
        assert!(is_empty(brick.path()));
        std::fs::create_dir_all(brick.path().join(".glusterfs/indices")).unwrap();
        assert!(is_empty(brick.path()));
        std::fs::write(brick.path().join(".glusterfs/indices/x"), "").unwrap();
        assert!(!is_empty(brick.path()));
        std::fs::remove_dir_all(brick.path().join(".glusterfs")).unwrap();
        std::fs::create_dir(brick.path().join("vms")).unwrap();
        assert!(!is_empty(brick.path()), "a user's directory counts");
    }
}
