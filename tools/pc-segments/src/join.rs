//! The other way round: the segments of a view, as `borg mount` or `restic mount` shows them, put together to disks again. Each
//! segment is compared with its digest before a byte of it is handed out; where it is zero, nothing is read at all.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use pc_cli::{Exit, emit_heard, log, refused};
use sd_notify::NotifyState;
use segment_map::{Geometry, LARGEST};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::host::{self, Event};
use crate::join_fs::JoinedFs;
use crate::report::Mounted;
use crate::{Cli, Ended};

/// Bytes of segments that stay in memory: what boots reads near to what it has read.
const KEPT: u64 = 64 << 20;
/// The digests of 64 TiB in segments of 64 KiB would be more; nothing that we made is.
const LONGEST_LIST: u64 = 8 << 30;

/// `manifest.json` (pc.segments.manifest/1), as far as it matters here.
#[derive(Debug, Deserialize)]
struct Manifest {
    schema: String,
    disks: Vec<ManifestDisk>,
}

#[derive(Debug, Deserialize)]
struct ManifestDisk {
    name: String,
    size_bytes: u64,
    segment_bytes: u64,
    digests: String,
    digests_sha256: String,
}

/// A disk out of its segments.
#[derive(Debug)]
pub struct Joined {
    /// Its name.
    pub name: String,
    /// Its size and that of its segments.
    pub geometry: Geometry,
    directory: PathBuf,
    /// `None`: zero from its first byte to its last.
    digests: Vec<Option<[u8; 32]>>,
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// Where data or a hole begins (lseek(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// Shows the disks of a directory until somebody ends it.
pub fn run(cli: &Cli) -> Ended {
    let [directory, mount_point] = cli.places.as_slice() else {
        bail!(refused("--join takes one DIRECTORY with a manifest.json, and a MOUNTPOINT"));
    };
    let mount_point = host::prepare(Path::new(mount_point))?;
    let disks = disks(Path::new(directory))?;
    let size = disks.iter().map(|disk| disk.geometry.size).sum();
    let (sender, events) = host::events()?;
    host::mount_joined(JoinedFs::new(disks), &mount_point, sender)?;
    let shown = || -> Result<()> {
        let mounted = Mounted::of(&mount_point, size, 0);
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(false, &[NotifyState::Ready, NotifyState::Status(&mounted.to_string())]);
        emit_heard(cli.json, &mounted)?;
        host::silence()?;
        match events.recv().context("waiting for an end")? {
            Event::Unmounted(result) => result.context("serving the disks"),
            Event::Signal(_) | Event::Ended(_) => Ok(()),
        }
    };
    let ended = shown();
    let unmounted = host::unmount(&mount_point);
    ended?;
    unmounted?;
    Ok(Exit::Done)
}

/// The disks that a directory has.
pub fn disks(directory: &Path) -> Result<Vec<Joined>> {
    let path = directory.join("manifest.json");
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    if manifest.schema != "pc.segments.manifest/1" {
        bail!(refused(format!("{}: its schema is {:?}", path.display(), manifest.schema)));
    }
    manifest.disks.iter().map(|disk| Joined::of(directory, disk)).collect()
}

impl Joined {
    fn of(directory: &Path, disk: &ManifestDisk) -> Result<Joined> {
        let plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if !plain(&disk.name) || !plain(&disk.digests) {
            bail!(refused(format!("manifest.json: {:?} is no name of a disk", disk.name)));
        }
        // A whole one is held in memory.
        if !(1..=LARGEST).contains(&disk.segment_bytes) {
            let (name, bytes) = (&disk.name, disk.segment_bytes);
            bail!(refused(format!("manifest.json: disk {name}: segments of {bytes} bytes")));
        }
        let path = directory.join(&disk.digests);
        let list =
            read_limited(&path, LONGEST_LIST).with_context(|| format!("reading {}", path.display()))?;
        if format!("{:x}", Sha256::digest(&list)) != disk.digests_sha256 {
            bail!("{}: is not what the manifest says", path.display());
        }
        let geometry = Geometry::new(disk.size_bytes, Some(disk.segment_bytes));
        let list = std::str::from_utf8(&list).with_context(|| format!("reading {}", path.display()))?;
        let mut digests = Vec::new();
        for (index, line) in list.lines().enumerate() {
            let expected = format!("{}/{index:010}", disk.name);
            let digest = line.split_once("  ").filter(|(_, file)| *file == expected);
            let Some(digest) = digest.and_then(|(digest, _)| unhex(digest)) else {
                bail!("{}:{}: {line:?} is not the digest of {expected}", path.display(), index + 1);
            };
            digests.push(Some(digest));
        }
        if digests.len() as u64 != geometry.segments() {
            let (have, want) = (digests.len(), geometry.segments());
            bail!("{}: {have} digests, and {want} segments", path.display());
        }
        let holes = [disk.segment_bytes, geometry.length(geometry.segments().saturating_sub(1))];
        let zero = holes.map(zeros);
        let end = digests.len().saturating_sub(1);
        for (index, digest) in digests.iter_mut().enumerate() {
            if *digest == Some(zero[usize::from(index == end)]) {
                *digest = None;
            }
        }
        let directory = directory.join(&disk.name);
        Ok(Joined { name: disk.name.clone(), geometry, directory, digests, kept: Mutex::default() })
    }

    /// Hands out bytes; fewer than asked for only at the end of the disk.
    pub fn read(&self, offset: u64, length: u64) -> IoResult<Vec<u8>> {
        let end = offset.saturating_add(length).min(self.geometry.size);
        let mut bytes = Vec::with_capacity(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
        let mut at = offset;
        while at < end {
            let index = at / self.geometry.segment;
            let begin = self.geometry.offset(index);
            let until = end.min(begin + self.geometry.length(index));
            let range = place(at - begin)?..place(until - begin)?;
            match self.segment(index)? {
                Some(segment) => bytes.extend_from_slice(&segment[range]),
                None => bytes.resize(bytes.len() + range.len(), 0),
            }
            at = until;
        }
        Ok(bytes)
    }

    /// The next place of that kind at `offset` or behind it: the end of a disk is a hole (lseek(2)). `None`: there is none.
    pub fn seek(&self, offset: u64, wanted: Seek) -> Option<u64> {
        if offset >= self.geometry.size {
            return None;
        }
        let first = offset / self.geometry.segment;
        let found = (first..self.geometry.segments()).find(|index| {
            let hole = usize::try_from(*index).is_ok_and(|index| self.digests.get(index) == Some(&None));
            hole == (wanted == Seek::Hole)
        });
        match (found, wanted) {
            (Some(index), _) => Some(self.geometry.offset(index).max(offset)),
            (None, Seek::Hole) => Some(self.geometry.size),
            (None, Seek::Data) => None,
        }
    }

    /// A whole segment, as its digest says; `None` when it is zero.
    fn segment(&self, index: u64) -> IoResult<Option<Arc<[u8]>>> {
        let digest = self.digests.get(place(index)?).copied();
        let Some(digest) = digest.ok_or(ErrorKind::UnexpectedEof)? else { return Ok(None) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(number, _)| *number == index) {
            // What is asked for again stays.
            if let Some(entry) = kept.remove(at) {
                let bytes = entry.1.clone();
                kept.push_back(entry);
                return Ok(Some(bytes));
            }
        }
        let path = self.directory.join(format!("{index:010}"));
        let bytes = read_limited(&path, self.geometry.length(index))?;
        if bytes.len() as u64 != self.geometry.length(index) || *Sha256::digest(&bytes) != digest {
            let said = format!("{}: is not what was backed up: its digest differs", path.display());
            return Err(Error::new(ErrorKind::InvalidData, said));
        }
        let bytes: Arc<[u8]> = bytes.into();
        kept.push_back((index, bytes.clone()));
        while kept.len() as u64 > (KEPT / self.geometry.segment).max(4) {
            kept.pop_front();
        }
        Ok(Some(bytes))
    }
}

fn place(number: u64) -> IoResult<usize> {
    usize::try_from(number).map_err(|_| ErrorKind::InvalidInput.into())
}

/// All of a file, and one byte more than `limit` when it is longer.
fn read_limited(path: &Path, limit: u64) -> IoResult<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The digest of so many zeros.
fn zeros(length: u64) -> [u8; 32] {
    let (block, mut hash) = ([0; 1 << 12], Sha256::new());
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len() as u64);
        hash.update(&block[..usize::try_from(now).unwrap_or(block.len())]);
        left -= now;
    }
    hash.finalize().into()
}

/// Told once for each read: the reader only hears that it failed.
pub fn told(disk: &Joined, error: &Error) {
    log::error(format_args!("disk {}: {error}", disk.name));
}
