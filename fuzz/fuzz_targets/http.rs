//! An HTTP answer, in one piece and byte by byte: the same result.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tang_client::Error;
use tang_client::http::{LARGEST, Reader};

fn read(text: &[u8], step: usize) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::default();
    for bytes in text.chunks(step) {
        if let Some(body) = reader.push(bytes)? {
            return Ok(body);
        }
    }
    reader.close()
}

/// A server that never ends: the answer does, at the largest size.
fn flooded(text: &[u8]) {
    let mut reader = Reader::default();
    let mut pushed = 0;
    for bytes in std::iter::once(text).chain(std::iter::repeat(&[b'0'; 4096][..])) {
        pushed += bytes.len();
        assert!(pushed <= LARGEST + 8192 + 2 * 4096, "it still wants more");
        match reader.push(bytes) {
            Ok(None) => {}
            Ok(Some(body)) => return assert!(body.len() <= LARGEST),
            Err(_) => return,
        }
    }
}

fuzz_target!(|text: &[u8]| {
    if text.len() > 8192 {
        return;
    }
    flooded(text);
    let whole = read(text, 8192);
    let bytes = read(text, 1);
    assert_eq!(whole.is_ok(), bytes.is_ok());
    if whole.is_ok() {
        assert_eq!(whole, bytes);
    }
});
