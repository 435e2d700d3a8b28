//! What Clevis keeps in LUKS1 devices: luksmeta, in the gap between the key material and the payload.
//!
//! LUKS1: "LUKS On-Disk Format Specification" 1.2.3. luksmeta (libluksmeta 9, read from files it made): magic
//! `LUKSMETA`, version 1, CRC-32C, then per keyslot a UUID, offset, length and CRC-32C of its data; big-endian.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use anyhow::{Context, Result};

/// cb6e8904-81ff-40da-a84a-07ab9ab5715e: the data is a Clevis JWE in compact form.
const CLEVIS: [u8; 16] =
    [0xcb, 0x6e, 0x89, 0x04, 0x81, 0xff, 0x40, 0xda, 0xa8, 0x4a, 0x07, 0xab, 0x9a, 0xb5, 0x71, 0x5e];
const MAGIC: &[u8] = b"LUKSMETA\x00\x00\x00\x01";
const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
const SLOTS: usize = 8;
const ACTIVE: u32 = 0x00AC_71F3;
/// A JWE is a few KiB; the whole gap is smaller than this.
const LARGEST: u32 = 1 << 20;

/// A keyslot that Clevis bound: its number and JWE, or what is wrong with that one.
pub type Slot = (u32, Result<Vec<u8>, String>);
/// All of them, or what is wrong with luksmeta as a whole. A passphrase opens the device all the same.
pub type Slots = Result<Vec<Slot>, &'static str>;

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The Clevis data of every active keyslot. A device without luksmeta has none.
pub fn read(file: &mut (impl Read + Seek)) -> Result<Slots> {
    let mut header = [0; 592];
    at(file, 0, &mut header).context("reading the LUKS1 header")?;
    let (gap, payload) = gap(&header);
    let mut meta = [0; 16 + 32 * SLOTS];
    if gap.saturating_add(PAGE) > payload {
        return Ok(Ok(Vec::new()));
    }
    match at(file, gap, &mut meta) {
        // The image of a header ends with its key material.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Ok(Vec::new())),
        other => other.context("reading the luksmeta header")?,
    }
    if !meta.starts_with(MAGIC) {
        return Ok(Ok(Vec::new()));
    }
    let stored = number(&meta, 12);
    meta[12..16].fill(0);
    if crc32c(&meta) != stored {
        return Ok(Err("the checksum of its luksmeta header is wrong"));
    }
    let mut found = Vec::new();
    for slot in 0..SLOTS {
        let entry = &meta[16 + 32 * slot..][..32];
        if entry[..16] != CLEVIS || number(&header, 208 + 48 * slot) != ACTIVE {
            continue;
        }
        let jwe = data(file, (gap, payload), slot, entry);
        found.push((u32::try_from(slot).unwrap_or_default(), jwe));
    }
    Ok(Ok(found))
}

/// What is wrong with one slot keeps nobody from the others.
fn data(
    file: &mut (impl Read + Seek),
    (gap, payload): (u64, u64),
    slot: usize,
    entry: &[u8],
) -> Result<Vec<u8>, String> {
    let (offset, length, checksum) = (number(entry, 16), number(entry, 20), number(entry, 24));
    if length > LARGEST || gap + u64::from(offset) + u64::from(length) > payload {
        return Err(format!("luksmeta slot {slot} does not lie in the gap"));
    }
    let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
    at(file, gap + u64::from(offset), &mut data)
        .map_err(|error| format!("reading luksmeta slot {slot}: {error}"))?;
    if crc32c(&data) != checksum {
        return Err(format!("the checksum of luksmeta slot {slot} is wrong"));
    }
    Ok(data)
}

/// From the end of the last key material, rounded up to a page, to the payload.
fn gap(header: &[u8; 592]) -> (u64, u64) {
    let key_bytes = u64::from(number(header, 108));
    let end = |slot: usize| {
        let (start, stripes) = (number(header, 248 + 48 * slot), number(header, 252 + 48 * slot));
        let material = key_bytes * u64::from(stripes);
        // Nonsense in a header must not overflow: it only makes a gap that does not exist.
        (u64::from(start) * SECTOR).saturating_add(material.div_ceil(SECTOR).saturating_mul(SECTOR))
    };
    let last = (0..SLOTS).map(end).max().unwrap_or_default();
    (last.div_ceil(PAGE).saturating_mul(PAGE), u64::from(number(header, 104)) * SECTOR)
}

fn at(file: &mut (impl Read + Seek), offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit: a few KiB once per disk.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn nonsense_is_no_panic() {
        let mut header = vec![255; 4096];
        header[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x01");
        assert!(read(&mut std::io::Cursor::new(header)).unwrap().unwrap().is_empty());
        assert!(read(&mut std::io::Cursor::new(vec![0; 100])).is_err());
    }
}
