//! A disk's own bytes: where they are not zero, whether somebody holds it, zeroing it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const MIB: u64 = 1 << 20;
/// The start: the LUKS2 header area (all that luksFormat writes), the partition table, RAID and ZFS labels.
const START: u64 = 16 * MIB;
/// What `wipe` zeroes at the end: the second partition table, RAID and ZFS labels.
const WIPED_END: u64 = 16 * MIB;
/// Where the first file system begins on many disks whose table was lost.
const BEGINNINGS: [u64; 5] = [16 * MIB, 17 * MIB, 32 * MIB, 64 * MIB, 128 * MIB];
/// The super blocks of ext4, XFS, NTFS, btrfs (at 64 KiB), LUKS and LVM lie in so much of their beginning.
const BEGINNING: u64 = 128 << 10;
/// Samples spread over the whole disk, in order: a hard disk reads them in about a second.
const SAMPLES: u64 = 150;
const SAMPLE: u64 = 4096;
/// blkid has woken the disk; one that takes so long fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Where a disk is not zero, of the places that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nowhere.
    Nowhere,
    /// In the first 16 MiB only.
    Start,
    /// Elsewhere, too.
    Beyond,
}

/// Offset and length of what is looked at behind the start. They follow from the size alone, so that `wipe` can zero
/// exactly these.
fn places(size: u64) -> Vec<(u64, u64)> {
    let beginnings = BEGINNINGS.into_iter().map(|offset| (offset, BEGINNING));
    // Whatever is aligned begins at a full MiB.
    let samples = (1..SAMPLES).map(|number| (size / SAMPLES * number / MIB * MIB, SAMPLE));
    let last = (size.saturating_sub(MIB).max(START), MIB);
    let mut places: Vec<_> = beginnings
        .chain(samples)
        .chain([last])
        .filter(|(offset, _)| (START..size).contains(offset))
        .map(|(offset, length)| (offset, length.min(size - offset)))
        .collect();
    places.sort_unstable();
    places
}

/// Looks at the first 16 MiB, the last MiB, the beginnings and the samples. An error when they cannot be read: blkid
/// calls an unreadable disk empty.
pub fn data(path: &Path, size: u64) -> Result<Data> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let started = Instant::now();
    let is_zero = |(offset, length)| {
        if started.elapsed() > LIMIT {
            bail!("reading {}: not done after {} s", path.display(), LIMIT.as_secs());
        }
        let mut piece = vec![0; usize::try_from(length)?];
        file.read_exact_at(&mut piece, offset)
            .with_context(|| format!("reading {} at {offset}", path.display()))?;
        Ok(piece.iter().all(|byte| *byte == 0))
    };
    let mut found = Data::Nowhere;
    for place in pieces(0, START.min(size)) {
        if !is_zero(place)? {
            found = Data::Start;
            break;
        }
    }
    for place in places(size) {
        if !is_zero(place)? {
            return Ok(Data::Beyond);
        }
    }
    Ok(found)
}

/// A range in pieces of at most a MiB.
fn pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut offset = start;
    std::iter::from_fn(move || {
        let length = (end - offset).min(MIB);
        offset += length;
        (length > 0).then_some((offset - length, length))
    })
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

/// Zeroes both ends and whatever `data` looks at, the start last: a wipe that was interrupted leaves nothing blank. Only
/// `wipe` calls this.
pub fn zero(path: &Path, size: u64) -> Result<()> {
    let doing = || format!("zeroing {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_EXCL)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let zeroes = vec![0; usize::try_from(MIB)?];
    let end = pieces(size.saturating_sub(WIPED_END), size);
    for (offset, length) in places(size).into_iter().chain(end).chain(pieces(0, START.min(size))) {
        file.write_all_at(&zeroes[..usize::try_from(length)?], offset).with_context(doing)?;
    }
    file.sync_all().with_context(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(image: &File, offset: u64) {
        image.write_all_at(&[1], offset).unwrap();
    }

    #[test]
    fn one_byte_at_any_place_counts_and_wiped_it_is_blank() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let size = 1 << 40;
        image.as_file().set_len(size).unwrap();
        let found = || data(image.path(), size).unwrap();
        assert_eq!(found(), Data::Nowhere);
        let start = [0, MIB - 1, MIB + 1024, 8 * MIB, START - 1].map(|offset| (offset, Data::Start));
        let sample = size / SAMPLES * 75 / MIB * MIB;
        // ext4 and btrfs at each beginning.
        let beginnings = BEGINNINGS.iter().flat_map(|offset| [offset + 1024, offset + 65600]);
        let beyond = beginnings.chain([START, sample, sample + 4095, size - MIB, size - 1]);
        for (offset, expected) in start.into_iter().chain(beyond.map(|offset| (offset, Data::Beyond))) {
            put(image.as_file(), offset);
            assert_eq!(found(), expected, "{offset}");
            put(image.as_file(), 0);
            assert_eq!(found(), expected, "{offset} and the start");
            zero(image.path(), size).unwrap();
            assert_eq!(found(), Data::Nowhere, "{offset}");
        }
        assert!(data(image.path(), size + MIB).is_err(), "unreadable is not zero");
    }

    #[test]
    fn a_file_system_leaves_traces_wherever_it_begins() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let size = 1 << 30;
        for begin in [16, 17, 100, 129].map(|begin| begin * MIB) {
            image.as_file().set_len(0).unwrap();
            image.as_file().set_len(size).unwrap();
            // As a file system in use is: something in each of its MiB.
            (begin..size).step_by(1 << 20).for_each(|offset| put(image.as_file(), offset + 1024));
            assert_eq!(data(image.path(), size).unwrap(), Data::Beyond, "{begin}");
        }
    }

    #[test]
    fn places_are_few_and_inside() {
        for size in [0, 512, MIB + 512, START, START + 512, 17 * MIB, 1 << 30, 20 << 40] {
            let places = places(size);
            assert!(places.len() <= 155, "{size}");
            assert!(
                places.iter().all(|(offset, length)| *offset >= START && offset + length <= size),
                "{size}"
            );
        }
        assert_eq!(places(20 << 40).len(), 155);
        // Smaller than what is read of others.
        let image = tempfile::NamedTempFile::new().unwrap();
        for size in [512, MIB + 512, 3 * MIB, START + 512] {
            image.as_file().set_len(0).unwrap();
            image.as_file().set_len(size).unwrap();
            assert_eq!(data(image.path(), size).unwrap(), Data::Nowhere);
            put(image.as_file(), size - 1);
            assert_ne!(data(image.path(), size).unwrap(), Data::Nowhere, "{size}");
            zero(image.path(), size).unwrap();
            assert_eq!(data(image.path(), size).unwrap(), Data::Nowhere, "{size}");
        }
    }
}
