//! What the kernel says of a device's mapper: a name below `/dev/mapper` may belong to another device, or to one that
//! was pulled out.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::libc::O_NONBLOCK;
use nix::sys::stat::{major, minor};
use pc_cli::try_again;

use crate::device::Device;
use crate::{luks2, silent};

/// The state of a device's mapper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapper {
    /// There is none.
    Closed,
    /// It is this device's.
    Open,
    /// It is this device's, and another header was written to the device since.
    Changed,
    /// It is that of a device which is not there any more, this one or its like.
    Stale,
    /// Another device has it.
    Foreign,
    /// There is one, and the disk does not say whether it is its own.
    Silent,
}

impl Device {
    /// What the kernel knows; sysfs is never wrong about a name, a link in `/dev` may be.
    pub fn mapper_state(&self) -> Mapper {
        let Some(entry) = find(&self.sysfs, &self.mapper) else { return Mapper::Closed };
        let read = |device: &Device| Some((std::fs::metadata(&device.path).ok()?, uuid(&device.path)));
        let (found, uuid) = match self.ask(read) {
            Ok(Some(both)) => both,
            Ok(None) => return Mapper::Stale,
            Err(_) => return Mapper::Silent,
        };
        let mapped = std::fs::read_to_string(entry.join("dm/uuid")).unwrap_or_default();
        match uuid {
            // Whoever may not read the device, or whose header is damaged, is left with what lies below.
            None => {}
            Some(uuid) if of_dm(&mapped).is_some_and(|mapped| mapped == uuid) => {}
            Some(_) if is_below(&entry, &found) => return Mapper::Changed,
            Some(_) => return Mapper::Foreign,
        }
        if lies_on(&entry, &found) { Mapper::Open } else { Mapper::Stale }
    }

    /// The UUID of the header that its mapper was made by, without dashes.
    pub fn mapped_uuid(&self) -> Option<String> {
        of_dm(&std::fs::read_to_string(find(&self.sysfs, &self.mapper)?.join("dm/uuid")).ok()?)
    }

    /// Its mapper, once found open, is still there and lies on it. Nothing is read from the disk, which may sleep.
    pub fn stays_open(&self) -> bool {
        let found = std::fs::metadata(&self.path);
        find(&self.sysfs, &self.mapper).is_some_and(|entry| found.is_ok_and(|found| lies_on(&entry, &found)))
    }

    /// Its mapper's name is free, or its own.
    pub fn may_be_opened(&self) -> Result<()> {
        let said = match self.mapper_state() {
            Mapper::Closed | Mapper::Open => return Ok(()),
            Mapper::Changed => bail!(
                "{0} is open, and another header was written to it since: as long as it is open the kernel has its key, do not close it\n  \
                 pc-unlock header restore {0}",
                self.name
            ),
            Mapper::Stale => "belongs to a disk that was pulled out",
            Mapper::Foreign => "belongs to another device",
            Mapper::Silent => return Err(try_again(format!("{} {}", self.name, silent::SAID))),
        };
        bail!("/dev/mapper/{0} {said}\n  cryptsetup close {0}    (when nothing uses it)", self.mapper)
    }

    /// Its mapper exists, and is its own.
    pub fn is_open(&self) -> bool {
        self.mapper_state() == Mapper::Open
    }
}

/// `/sys/block/dm-N` of the mapper with this name.
fn find(sysfs: &Path, mapper: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(sysfs).ok()?.flatten().map(|entry| entry.path());
    let mut ours = entries.filter(|path| {
        let name = std::fs::read_to_string(path.join("dm/name"));
        name.is_ok_and(|name| name.trim_end_matches('\n') == mapper)
    });
    ours.next()
}

/// A file that holds a header lies below nothing that the kernel names by number.
fn lies_on(entry: &Path, device: &Metadata) -> bool {
    let below = below(entry);
    below.is_empty() || below.contains(&number(device))
}

/// The kernel says that it lies on this very device.
fn is_below(entry: &Path, device: &Metadata) -> bool {
    below(entry).contains(&number(device))
}

/// As sysfs writes it; of a file one that no device has.
fn number(device: &Metadata) -> String {
    if device.file_type().is_block_device() {
        format!("{}:{}", major(device.rdev()), minor(device.rdev()))
    } else {
        format!("file:{}", device.ino())
    }
}

/// The numbers of the devices that a mapper lies on.
fn below(entry: &Path) -> Vec<String> {
    let Ok(slaves) = std::fs::read_dir(entry.join("slaves")) else { return Vec::new() };
    // One that has no number any more has gone, and is none of ours.
    let number = |path: PathBuf| std::fs::read_to_string(path.join("dev")).unwrap_or_default();
    slaves.flatten().map(|slave| number(slave.path()).trim().to_string()).collect()
}

/// `CRYPT-LUKS2-<32 hexadecimal digits>-<name>`, as libcryptsetup names its mappers.
fn of_dm(text: &str) -> Option<String> {
    let rest = text.strip_prefix("CRYPT-LUKS")?.get(2..)?;
    Some(rest.split('-').next()?.to_ascii_lowercase())
}

/// The UUID of a header, of either version, without its dashes.
fn uuid(path: &Path) -> Option<String> {
    let mut file = File::options().read(true).custom_flags(O_NONBLOCK).open(path).ok()?;
    let copies = luks2::copies(&mut file).ok()?;
    let copy = copies.iter().find(|copy| copy.sound).or(copies.first())?;
    Some(plain(&copy.uuid))
}

/// A UUID as the kernel writes it.
pub fn plain(uuid: &str) -> String {
    uuid.replace('-', "").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libcryptsetup() {
        let uuid = "0b6a81aadb9c4c3a8e4c4a3c8d8d1f10";
        assert_eq!(of_dm(&format!("CRYPT-LUKS2-{uuid}-pc-ata-A\n")).as_deref(), Some(uuid));
        assert_eq!(of_dm(&format!("CRYPT-LUKS1-{uuid}-pc-ata-A\n")).as_deref(), Some(uuid));
        assert_eq!(of_dm("CRYPT-PLAIN-pc-ata-A"), None);
        assert_eq!(of_dm("LVM-abc"), None);
        assert_eq!(of_dm("CRYPT-LUKS"), None);
    }
}
