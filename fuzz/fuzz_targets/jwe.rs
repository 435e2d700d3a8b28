//! JWEs, compact and JSON, and the policies in their headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tang_client::{Jwe, Policy};

fuzz_target!(|text: &[u8]| {
    let Ok(jwe) = Jwe::parse(text) else { return };
    assert_eq!(Jwe::from_compact(&jwe.to_compact()).as_ref(), Ok(&jwe));
    if let Ok(policy) = Policy::read(jwe) {
        let _ = policy.describe();
        let _ = policy.pin().map(|pin| policy.is_of(&pin));
        for sealed in policy.servers() {
            let exchange = sealed.start().expect("what was read can be asked for");
            assert!(!exchange.body().is_empty());
        }
    }
});
