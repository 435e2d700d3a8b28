//! The advertisement of a server: JSON, base64, keys, signatures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tang_client::adv::{Trust, verify};

fuzz_target!(|text: &[u8]| {
    if let Ok(advertisement) = verify(text, &Trust::FirstUse) {
        assert!(advertisement.signing_keys().next().is_some(), "nothing is accepted unsigned");
        let _ = advertisement.exchange_key();
    }
});
