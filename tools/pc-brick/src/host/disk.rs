//! A disk's own bytes: whether its ends read as zero, whether somebody holds it, zeroing it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const MIB: u64 = 1 << 20;
/// What `wipe` zeroes at each end: the LUKS2 header area, both partition tables, RAID and ZFS labels.
const WIPED: u64 = 16 * MIB;

/// What `ends_are_zero` reads at the start, of which `wipe` must leave nothing. The first partition, whose table may be
/// lost, begins at 1 MiB on most disks, and at 4 MiB on images for small boards.
const READ: u64 = 8 * MIB;
const _: () = assert!(READ <= WIPED, "a wiped disk is blank");

/// Whether the first 8 MiB and the last MiB read as zero. An error when they cannot be read: blkid calls an
/// unreadable disk empty.
pub fn ends_are_zero(path: &Path, size: u64) -> Result<bool> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut piece = vec![0; usize::try_from(MIB.min(size)).unwrap_or(0)];
    let last = size.saturating_sub(MIB);
    let starts = (0..READ.min(size)).step_by(piece.len().max(1));
    for offset in starts.map(|start| start.min(last)).chain([last]) {
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut piece))
            .with_context(|| format!("reading {} at {offset}", path.display()))?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the kernel gives the device to us alone: not while it is mounted, in a RAID, a volume group, a
/// device-mapper table, or held likewise by another program (`O_EXCL` on a block device, open(2)).
pub fn is_free(path: &Path) -> Result<bool> {
    match OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("opening {}", path.display())),
    }
}

/// Zeroes both ends. Only `wipe` calls this.
pub fn zero_ends(path: &Path, size: u64) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_EXCL)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let piece = vec![0; usize::try_from(MIB).unwrap_or(0)];
    for start in [0, size.saturating_sub(WIPED)] {
        file.seek(SeekFrom::Start(start)).with_context(|| format!("zeroing {}", path.display()))?;
        let mut left = WIPED.min(size - start);
        while left > 0 {
            let now = left.min(MIB);
            let bytes = &piece[..usize::try_from(now).unwrap_or(0)];
            file.write_all(bytes).with_context(|| format!("zeroing {}", path.display()))?;
            left -= now;
        }
    }
    file.sync_all().with_context(|| format!("zeroing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_at_either_end_counts() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let size = 64 * MIB;
        image.as_file().set_len(size).unwrap();
        assert!(ends_are_zero(image.path(), size).unwrap());
        for offset in [0, MIB - 1, MIB, MIB + 1024, READ - 1, size - MIB, size - 1] {
            let mut file = OpenOptions::new().write(true).open(image.path()).unwrap();
            file.seek(SeekFrom::Start(offset)).unwrap();
            file.write_all(&[1]).unwrap();
            assert!(!ends_are_zero(image.path(), size).unwrap(), "{offset}");
            zero_ends(image.path(), size).unwrap();
            assert!(ends_are_zero(image.path(), size).unwrap());
        }
        assert!(ends_are_zero(image.path(), size + MIB).is_err(), "unreadable is not zero");
        // Smaller than what is read of others.
        for size in [512, MIB + 512, 3 * MIB] {
            image.as_file().set_len(0).unwrap();
            image.as_file().set_len(size).unwrap();
            assert!(ends_are_zero(image.path(), size).unwrap());
            std::os::unix::fs::FileExt::write_all_at(image.as_file(), &[1], size / 2).unwrap();
            assert!(!ends_are_zero(image.path(), size).unwrap(), "{size}");
        }
    }
}
