//! A server's answer to a recovery: one JWK. Whatever is accepted is a point of the curve.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tang_client::curve::Secret;
use tang_client::jwk::Key;

fuzz_target!(|text: &[u8]| {
    let Ok(value) = serde_json::from_slice(text) else { return };
    if let Ok(key) = Key::parse("a key", &value) {
        assert_eq!(key.thumbprint().len(), 43);
        let secret = Secret::random(key.point.curve());
        // The curves have prime order: only the identity, which is refused, has small multiples.
        key.point.times(&secret).expect("a product of a point and a non-zero scalar");
    }
});
