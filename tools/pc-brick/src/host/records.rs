//! What this node remembers of its disks: `/var/lib/personal-cluster/brick` and `headers`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::facts::{Backup, Record, State};

/// The directories, below the machine's root.
#[derive(Debug, Clone)]
pub struct Records {
    state: PathBuf,
}

impl Records {
    /// `state` is `/var/lib/personal-cluster`.
    pub fn new(state: PathBuf) -> Records {
        Records { state }
    }

    /// Where the record of a disk stands.
    pub fn path(&self, disk: &str) -> PathBuf {
        self.state.join("brick").join(format!("{disk}.json"))
    }

    /// Where the header backup of a disk stands.
    pub fn header(&self, disk: &str) -> PathBuf {
        self.state.join("headers").join(format!("{disk}.img"))
    }

    /// The header backup: the encrypted one of pc-unlock, which is made anew after every change, or ours.
    pub fn header_backup(&self, disk: &str) -> Option<Backup> {
        self.current_headers(disk).find(|header| header.exists()).map(|header| backup(&header))
    }

    /// The newest backup of a header that was on this disk before it was forgotten.
    pub fn kept_backup(&self, disk: &str) -> Result<Option<Backup>> {
        let made = |header: &PathBuf| header.metadata().and_then(|metadata| metadata.modified()).ok();
        let newest = self.kept_headers(disk)?.into_iter().max_by_key(|header| (made(header), header.clone()));
        Ok(newest.map(|header| backup(&header)))
    }

    /// All of them, which are lost when the disk is wiped.
    pub fn backups(&self, disk: &str) -> Result<Vec<PathBuf>> {
        let current = self.current_headers(disk).filter(|header| header.exists());
        Ok(current.chain(self.kept_headers(disk)?).collect())
    }

    fn current_headers(&self, disk: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let image = self.header(disk);
        [image.with_file_name(format!("{disk}.jwe")), image].into_iter()
    }

    /// The record of a disk, if there is one. One that cannot be read is an error: guessing could format a disk twice.
    pub fn read(&self, disk: &str) -> Result<Option<Record>> {
        let path = self.path(disk);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        serde_json::from_str(&text).map(Some).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes a record so that it is on the disk when this returns.
    pub fn write(&self, disk: &str, record: &Record) -> Result<()> {
        let path = self.path(disk);
        make_private(&self.state.join("brick"))?;
        let mut text = serde_json::to_vec_pretty(record).context("writing the record as JSON")?;
        text.push(b'\n');
        pc_cli::write_atomic(&path, &text, 0o600)
    }

    /// Notes how far a disk has come.
    pub fn advance(&self, disk: &str, state: State) -> Result<()> {
        let mut record = self.required(disk)?;
        record.state = state;
        self.write(disk, &record)
    }

    /// The record that a step relies on.
    pub fn required(&self, disk: &str) -> Result<Record> {
        self.read(disk)?.with_context(|| format!("{} is gone", self.path(disk).display()))
    }

    /// The directory for header backups, made if it is not there.
    pub fn headers(&self) -> Result<PathBuf> {
        let directory = self.state.join("headers");
        make_private(&directory)?;
        Ok(directory)
    }

    /// The path for a new header backup beside the old one.
    pub fn new_header(&self, disk: &str) -> Result<PathBuf> {
        self.headers()?;
        let path = self.header(disk).with_extension("img.new");
        remove(&path)?;
        Ok(path)
    }

    /// Forgets a disk. Its header backups are kept under the header's UUID, or removed with the keys they hold, those that
    /// were kept before with them.
    pub fn forget(&self, disk: &str, keep_headers: bool) -> Result<bool> {
        let record = self.read(disk).ok().flatten().filter(|_| keep_headers);
        for header in self.current_headers(disk) {
            match &record {
                Some(record) if header.exists() => {
                    let kind = header.extension().unwrap_or_default().to_string_lossy();
                    let kept = header.with_file_name(format!("{disk}.{}.{kind}", record.luks_uuid));
                    std::fs::rename(&header, &kept)
                        .with_context(|| format!("renaming {}", header.display()))?;
                }
                _ => drop(remove(&header)?),
            }
        }
        if !keep_headers {
            self.kept_headers(disk)?.iter().try_for_each(|header| remove(header).map(drop))?;
        }
        remove(&self.path(disk))
    }

    /// `<disk>.<uuid>.jwe` and `.img`: of headers that were on this disk before it was forgotten.
    fn kept_headers(&self, disk: &str) -> Result<Vec<PathBuf>> {
        let directory = self.state.join("headers");
        let found = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => found.with_context(|| format!("reading {}", directory.display()))?,
        };
        let is_kept = |name: &str| {
            let uuid = name.strip_prefix(disk).and_then(|rest| rest.strip_prefix('.'));
            let uuid = uuid.and_then(|rest| rest.strip_suffix(".jwe").or_else(|| rest.strip_suffix(".img")));
            // 8-4-4-4-12 hexadecimal digits: ata-A.1 may be another disk.
            uuid.is_some_and(|uuid| {
                uuid.split('-').map(str::len).eq([8, 4, 4, 4, 12])
                    && uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
            })
        };
        let named = |entry: std::io::Result<std::fs::DirEntry>| entry.ok().map(|entry| entry.path());
        let kept = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_kept);
        Ok(found.filter_map(named).filter(kept).collect())
    }
}

fn backup(header: &Path) -> Backup {
    let path = header.display().to_string();
    if header.extension().is_some_and(|kind| kind == "jwe") {
        Backup::Sealed(path)
    } else {
        Backup::Image(path)
    }
}

/// The directory itself is private; what it stands in is made as usual.
fn make_private(directory: &Path) -> Result<()> {
    let parent = directory.parent().unwrap_or(directory);
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("creating {}", directory.display()))
}

/// Whether it was there.
pub fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forgotten, the backups of a disk are kept; wiped, none of its headers is left to open what the disk may still hold.
    #[test]
    fn headers_are_kept_of_a_disk_that_is_forgotten_and_of_no_disk_that_is_wiped() {
        let uuid = "8a6f0a02-7d1f-4b3c-9a56-0d1f2e3c4b5a";
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path().into());
        let headers = records.headers().unwrap();
        let left = || {
            let mut names: Vec<_> = std::fs::read_dir(&headers)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        for name in ["ata-A.jwe", "ata-A.1.jwe", &format!("ata-A.1.{uuid}.jwe"), "ata-AB.jwe"] {
            std::fs::write(headers.join(name), "{}").unwrap();
        }
        let record = Record {
            schema: "pc.brick.record/1".into(),
            device: "/dev/disk/by-id/ata-A".into(),
            luks_uuid: uuid.into(),
            file_system_uuid: None,
            size_bytes: 1,
            state: State::Done,
            claimed: "2025-01-01T00:00:00Z".into(),
        };
        records.write("ata-A", &record).unwrap();
        assert!(records.forget("ata-A", true).unwrap());
        let others = [format!("ata-A.1.{uuid}.jwe"), "ata-A.1.jwe".into(), "ata-AB.jwe".into()];
        let mut kept = others.to_vec();
        kept.push(format!("ata-A.{uuid}.jwe"));
        kept.sort();
        assert_eq!(left(), kept);
        let path = headers.join(format!("ata-A.{uuid}.jwe"));
        assert_eq!(records.kept_backup("ata-A").unwrap(), Some(Backup::Sealed(path.display().to_string())));
        assert_eq!(records.backups("ata-A").unwrap(), [path]);
        assert_eq!((records.header_backup("ata-A"), records.kept_backup("ata-AB").unwrap()), (None, None));
        records.forget("ata-A", false).unwrap();
        assert_eq!(left(), others);
    }
}
