//! An appliance (DMTF DSP0243, OVF): a tar archive (POSIX.1-2017, pax; "ustar") of which only the places of its members
//! matter. Nothing is unpacked: qemu-img reads the disk where it lies.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use pc_cli::refused;

const BLOCK: u64 = 512;

/// A file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name; the beginning of a long one.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}

/// Whether a file begins as an archive does.
pub fn is_archive(head: &[u8]) -> bool {
    head.get(257..262).is_some_and(|mark| mark == b"ustar")
}

/// The files of an archive of this length.
pub fn members(file: &File, length: u64, called: &str) -> Result<Vec<Member>> {
    let damaged = |what: &str| refused(format!("{called}: {what}\n  fetch it again"));
    let mut members = Vec::new();
    let (mut at, mut size_of_next) = (0, None);
    while at + BLOCK <= length {
        let mut header = [0; 512];
        file.read_exact_at(&mut header, at).with_context(|| format!("reading {called}"))?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        if number(&header[148..156]) != Some(checksum(&header)) {
            return Err(damaged("is damaged: the checksum of a member does not match"));
        }
        let bytes = size_of_next.take().or_else(|| number(&header[124..136]));
        let offset = at + BLOCK;
        let end = bytes.and_then(|bytes| offset.checked_add(bytes)).filter(|end| *end <= length);
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(damaged("is cut off: a member ends behind its end"));
        };
        match header[156] {
            b'0' | 0 => members.push(Member { name: text(&header[..100]), offset, bytes }),
            // Of the next member: a size that has no room in its header.
            b'x' if bytes <= 1 << 20 => {
                let mut records = vec![0; usize::try_from(bytes).unwrap_or_default()];
                file.read_exact_at(&mut records, offset).with_context(|| format!("reading {called}"))?;
                size_of_next = pax_size(&records);
            }
            // Directories, links, long names: nothing of a disk.
            _ => {}
        }
        at = end.div_ceil(BLOCK) * BLOCK;
    }
    Ok(members)
}

/// Octal digits, or base 256 when the first bit is set (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (first, rest) = field.split_first()?;
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let text = text(field);
    let digits = text.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The sum of all bytes, those of the sum itself taken as spaces.
fn checksum(header: &[u8]) -> u64 {
    let counts = |(at, byte): (usize, &u8)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte });
    header.iter().enumerate().map(counts).sum()
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// `LENGTH size=BYTES\n` among records of that form.
fn pax_size(records: &[u8]) -> Option<u64> {
    let records = String::from_utf8_lossy(records).into_owned();
    let size =
        records.lines().filter_map(|line| line.split_once(' ')?.1.strip_prefix("size=")).next_back()?;
    size.parse().ok()
}
