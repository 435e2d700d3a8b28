//! What Clevis keeps in LUKS1 devices. The checksums are filled in as well, or little behind them would ever be reached.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tools/pc-unlock/src/luksmeta.rs"]
#[allow(dead_code)]
mod luksmeta;

const CLEVIS: [u8; 16] =
    [0xcb, 0x6e, 0x89, 0x04, 0x81, 0xff, 0x40, 0xda, 0xa8, 0x4a, 0x07, 0xab, 0x9a, 0xb5, 0x71, 0x5e];
/// Where the gap begins in a header without key material, and where the payload of the made one begins.
const GAP: usize = 4096;
const PAYLOAD: usize = 16384;

fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    });
    (!crc).to_be_bytes()
}

/// A sound LUKS1 header with a sound luksmeta, whose slots lie where the bytes say.
fn made(bytes: &[u8]) -> Vec<u8> {
    let mut whole = vec![0; PAYLOAD];
    whole[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x01");
    whole[104..108].copy_from_slice(&32_u32.to_be_bytes());
    let length = bytes.len().min(PAYLOAD - GAP - 16);
    whole[GAP + 16..GAP + 16 + length].copy_from_slice(&bytes[..length]);
    for slot in 0..8 {
        whole[208 + 48 * slot..212 + 48 * slot].copy_from_slice(&0x00AC_71F3_u32.to_be_bytes());
        // The end of the first slot's key material: the gap begins after it.
        whole[248 + 48 * slot..252 + 48 * slot].copy_from_slice(&8_u32.to_be_bytes());
        let at = GAP + 16 + 32 * slot;
        let number =
            |at: usize| u32::from_be_bytes([whole[at], whole[at + 1], whole[at + 2], whole[at + 3]]) as usize;
        let (offset, size) = (number(at + 16), number(at + 20));
        let data = whole.get(GAP.saturating_add(offset)..GAP.saturating_add(offset).saturating_add(size));
        let checksum = crc32c(data.unwrap_or_default());
        whole[at..at + 16].copy_from_slice(&CLEVIS);
        whole[at + 24..at + 28].copy_from_slice(&checksum);
    }
    whole[GAP..GAP + 12].copy_from_slice(b"LUKSMETA\x00\x00\x00\x01");
    whole[GAP + 12..GAP + 16].fill(0);
    let checksum = crc32c(&whole[GAP..GAP + 16 + 256]);
    whole[GAP + 12..GAP + 16].copy_from_slice(&checksum);
    whole
}

fuzz_target!(|bytes: &[u8]| {
    for bytes in [bytes.to_vec(), made(bytes)] {
        if let Ok(Ok(found)) = luksmeta::read(&mut std::io::Cursor::new(bytes)) {
            assert!(found.len() <= 8);
        }
    }
});
