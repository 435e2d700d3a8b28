//! The state file: digest and time stamp of every segment as the last backup that worked has seen it.
//!
//! One line of JSON (`pc.segments.state/1`), then for each disk and segment 32 bytes of SHA-256 and 8 bytes of time
//! stamp (seconds, little endian; 0: not saved), then the SHA-256 of all that. Replaced atomically.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::geometry::{Geometry, valid_segment};
use crate::source::valid_name;

/// The schema of the first line.
pub const SCHEMA: &str = "pc.segments.state/1";
const RECORD: usize = 40;
const SUM: usize = 32;

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What it held.
    pub digest: Digest,
    /// mtime in the view: when a run that worked found it changed; 0 when none has saved it.
    pub stamp: u64,
}

/// A segment that no backup has: it counts as changed.
pub const LOST: Record = Record { digest: Digest([0; 32]), stamp: 0 };

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskState {
    /// Its name.
    pub name: String,
    /// Its size and that of its segments.
    pub geometry: Geometry,
    /// One for each segment.
    pub records: Vec<Record>,
}

/// What is known of the last backup that worked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Names this commit; empty before the first.
    pub id: String,
    /// Runs begun, failed ones too.
    pub runs: u64,
    /// The latest time stamp that was ever shown, sentinels too.
    pub last_stamp: u64,
    /// The checkpoint that belongs to it.
    pub checkpoint: Option<String>,
    /// Why the map is not to be believed: everything counts as changed.
    pub doubted: Option<String>,
    /// The disks.
    pub disks: Vec<DiskState>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    id: String,
    runs: u64,
    last_stamp: u64,
    checkpoint: Option<String>,
    doubted: Option<String>,
    disks: Vec<HeaderDisk>,
}

#[derive(Serialize, Deserialize)]
struct HeaderDisk {
    name: String,
    size_bytes: u64,
    segment_bytes: u64,
}

impl State {
    /// Reads it; `None` when there is none yet.
    ///
    /// # Errors
    /// It cannot be read, or is damaged. Nothing of a damaged one is believed.
    pub fn load(path: &Path) -> Result<Option<State>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        State::parse(&bytes).with_context(|| format!("{}: damaged", path.display())).map(Some)
    }

    /// Replaces the file; readers see the old one or this one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        pc_cli::write_atomic(path, &self.bytes()?, 0o600)
    }

    /// The disk of that name.
    pub fn disk(&self, name: &str) -> Option<&DiskState> {
        self.disks.iter().find(|disk| disk.name == name)
    }

    /// What [`State::save`] writes.
    ///
    /// # Errors
    /// None in practice.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let disk = |disk: &DiskState| HeaderDisk {
            name: disk.name.clone(),
            size_bytes: disk.geometry.size,
            segment_bytes: disk.geometry.segment,
        };
        let header = Header {
            schema: SCHEMA.into(),
            id: self.id.clone(),
            runs: self.runs,
            last_stamp: self.last_stamp,
            checkpoint: self.checkpoint.clone(),
            doubted: self.doubted.clone(),
            disks: self.disks.iter().map(disk).collect(),
        };
        let mut bytes = serde_json::to_vec(&header).context("writing the header of the state")?;
        bytes.push(b'\n');
        for record in self.disks.iter().flat_map(|disk| &disk.records) {
            bytes.extend_from_slice(&record.digest.0);
            bytes.extend_from_slice(&record.stamp.to_le_bytes());
        }
        let sum = Digest::of(&bytes);
        bytes.extend_from_slice(&sum.0);
        Ok(bytes)
    }

    /// Reads what [`State::bytes`] gives.
    ///
    /// # Errors
    /// Any bit of it is not as it was written.
    pub fn parse(bytes: &[u8]) -> Result<State> {
        let Some((body, sum)) = bytes.split_last_chunk::<SUM>() else { bail!("{} bytes", bytes.len()) };
        let line = bytes.iter().position(|byte| *byte == b'\n').context("no first line")?;
        let header: Header = serde_json::from_slice(&bytes[..line]).context("first line")?;
        if header.schema != SCHEMA {
            bail!("schema is {:?}, not {SCHEMA:?}", header.schema);
        }
        if Digest::of(body).0 != *sum {
            bail!("its sum is wrong");
        }
        let mut records = body.get(line + 1..).unwrap_or_default();
        let mut disks = Vec::new();
        for disk in header.disks {
            if !valid_name(&disk.name) || !valid_segment(disk.segment_bytes) {
                bail!("disk {:?} with segments of {} bytes", disk.name, disk.segment_bytes);
            }
            let geometry = Geometry { size: disk.size_bytes, segment: disk.segment_bytes };
            let length = usize::try_from(geometry.segments()).ok().and_then(|n| n.checked_mul(RECORD));
            let (own, rest) =
                length.and_then(|length| records.split_at_checked(length)).context("too short")?;
            records = rest;
            disks.push(DiskState {
                name: disk.name,
                geometry,
                records: own.chunks_exact(RECORD).map(record).collect(),
            });
        }
        if !records.is_empty() {
            bail!("{} bytes too long", records.len());
        }
        let Header { id, runs, last_stamp, checkpoint, doubted, .. } = header;
        Ok(State { id, runs, last_stamp, checkpoint, doubted, disks })
    }

    /// Begins a run: its identifier and its time stamp, later than any that was shown before. One second after the
    /// stamp is the sentinel's. The caller saves the state before it shows anything.
    pub fn begin(&mut self, now: u64) -> (String, u64) {
        self.runs += 1;
        let stamp = now.max(self.last_stamp + 1);
        self.last_stamp = stamp + 1;
        (format!("{stamp:x}-{}", self.runs), stamp)
    }
}

fn record(bytes: &[u8]) -> Record {
    let (digest, stamp) = bytes.split_at(32);
    let mut record = LOST;
    record.digest.0.copy_from_slice(digest);
    record.stamp = stamp.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    record
}

/// Keeps other runs from the state; let go when dropped, also by a kill.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes `STATE.lock`.
    ///
    /// # Errors
    /// Another run has it (try again later), or it cannot be made.
    pub fn take(state: &Path) -> Result<Lock> {
        let mut name = state.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(pc_cli::try_again(format!("{}: another run has it", path.display())))
            }
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> State {
        let geometry = Geometry { size: (1 << 17) + 1, segment: 1 << 16 };
        let records =
            (0..3).map(|i| Record { digest: Digest::of(&[i]), stamp: 1_700_000_000 + u64::from(i) });
        State {
            id: "65f-7".into(),
            runs: 9,
            last_stamp: 1_700_000_003,
            checkpoint: Some("pc-7".into()),
            doubted: None,
            disks: vec![
                DiskState { name: "vda".into(), geometry, records: records.collect() },
                DiskState {
                    name: "empty".into(),
                    geometry: Geometry { size: 0, segment: 1 << 16 },
                    records: vec![],
                },
            ],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.state");
        assert_eq!(State::load(&path).unwrap(), None);
        sample().save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), Some(sample()));
    }

    #[test]
    fn any_damage_is_seen() {
        let bytes = sample().bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(State::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(State::parse(&bytes).is_err(), "bit at {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(State::parse(&longer).is_err());
    }

    #[test]
    fn time_stamps_only_grow_whatever_the_clock_says() {
        let mut state = State::default();
        let (_, first) = state.begin(1000);
        let (_, second) = state.begin(500);
        let (id, third) = state.begin(1_000_000);
        assert_eq!((first, second, third), (1000, 1002, 1_000_000));
        assert_eq!(id, "f4240-3");
    }

    #[test]
    fn one_run_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.state");
        let lock = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert_eq!(pc_cli::Exit::of(&error), pc_cli::Exit::TryAgain);
        drop(lock);
        Lock::take(&path).unwrap();
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_not_believed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(State::parse(&bytes).is_err());
        }
    }
}
