//! Shares: any 64 bytes may come out of a share's JWE. The header is that of a real sharing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tang_client::Jwe;
use tang_client::sss::{self, Sharing};

static SHARING: LazyLock<Sharing> = LazyLock::new(|| {
    let (cek, _) = sss::split(2, 2).expect("a sharing");
    let header = || serde_json::Map::from_iter([("alg".to_string(), "dir".into())]);
    let share = Jwe::encrypt(header(), &cek, b"share").expect("a share");
    let jwe = sss::seal(2, &cek, &[share.clone(), share], b"text").expect("a JWE");
    Sharing::read(&jwe).expect("what was sealed can be read")
});

fuzz_target!(|bytes: &[u8]| {
    let shares: Vec<_> = bytes.chunks(64).filter_map(|share| SHARING.share(share).ok()).collect();
    let _ = SHARING.combine(&shares);
});
