//! An HTTP answer, in one piece and byte by byte: the same result.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tang_client::Error;
use tang_client::http::Reader;

fn read(text: &[u8], step: usize) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::default();
    for bytes in text.chunks(step) {
        if let Some(body) = reader.push(bytes)? {
            return Ok(body);
        }
    }
    reader.close()
}

fuzz_target!(|text: &[u8]| {
    if text.len() > 8192 {
        return;
    }
    let whole = read(text, 8192);
    let bytes = read(text, 1);
    assert_eq!(whole.is_ok(), bytes.is_ok());
    if whole.is_ok() {
        assert_eq!(whole, bytes);
    }
});
