//! What Clevis keeps in LUKS1 devices.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tools/pc-unlock/src/luksmeta.rs"]
#[allow(dead_code)]
mod luksmeta;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = luksmeta::read(&mut std::io::Cursor::new(bytes)) {
        assert!(found.len() <= 8);
    }
});
