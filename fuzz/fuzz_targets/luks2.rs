//! The header of a device. The checksum is filled in, or nothing behind it would ever be reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

#[path = "../../tools/pc-unlock/src/image.rs"]
#[allow(dead_code)]
mod image;
#[path = "../../tools/pc-unlock/src/luks2.rs"]
#[allow(dead_code)]
mod luks2;
#[path = "../../tools/pc-unlock/src/luksmeta.rs"]
#[allow(dead_code)]
mod luksmeta;

fuzz_target!(|bytes: &[u8]| {
    let _ = luks2::parse(&mut std::io::Cursor::new(bytes));
    // The same bytes as the JSON area of a sound header.
    let mut whole = vec![0; 0x4000];
    whole[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x02");
    whole[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
    whole[72..78].copy_from_slice(b"sha256");
    let length = bytes.len().min(0x3000);
    whole[0x1000..0x1000 + length].copy_from_slice(&bytes[..length]);
    let digest = Sha256::digest(&whole);
    whole[448..480].copy_from_slice(&digest);
    for bytes in [bytes, &whole] {
        let mut file = std::io::Cursor::new(bytes);
        let _ = (luks2::copies(&mut file), luks2::extent_in(&mut file), luks2::unsound(&mut file));
    }
    let Ok(luks2::Header::Luks2(metadata)) = luks2::parse(&mut std::io::Cursor::new(&whole)) else { return };
    let _ = (metadata.free_keyslot(), metadata.free_token(), metadata.of_kind("clevis").count());
    // What is cut off comes back as zeros, and a second cut takes nothing more but zeros: there are some at the end where a
    // keyslot lies beyond what the header says it has. Large areas only cost time.
    if metadata.header_size() <= 1 << 20 {
        let cut = image::cut(whole.into());
        let again = image::cut(image::whole(&cut));
        assert!(again.starts_with(&cut) && again[cut.len()..].iter().all(|byte| *byte == 0));
    }
});
