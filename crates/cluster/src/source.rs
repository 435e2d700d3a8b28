//! From a path to text: the only I/O of this crate, with its limits.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::fault::{Fault, locate};

/// The largest file that is read: far beyond any real cluster, small enough to be harmless.
const LIMIT: u64 = 1 << 20;
/// The largest text with such a file within: as a string of a signed string each of its bytes may become four, and written out
/// with all defaults a VM of three short lines becomes ten times as long.
const WRAPPED: u64 = 16 << 20;

/// Reads the file at `path` (`-` is standard input) as text.
pub(crate) fn read(path: &Path) -> Result<String, Box<Fault>> {
    within(LIMIT, bytes(path, LIMIT)?)
}

/// The same for what has a cluster file within, or was made of one: that is JSON. TOML is a cluster file itself, and one of
/// millions of faulty lines would cost gigabytes.
pub(crate) fn read_wrapped(path: &Path) -> Result<String, Box<Fault>> {
    wrapped(bytes(path, WRAPPED)?)
}

/// The same for bytes that are here already.
pub(crate) fn wrapped(bytes: Vec<u8>) -> Result<String, Box<Fault>> {
    let text = within(WRAPPED, bytes)?;
    if text.trim_start().starts_with('{') { Ok(text) } else { within(LIMIT, text.into_bytes()) }
}

/// One byte more than the limit tells that there are too many.
fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, Box<Fault>> {
    if is_named_pipe(path) {
        let remedy = "write into standard input instead, and name it with `-`";
        return Err(Box::new(Fault::of_file("is a named pipe, which may never be written to", remedy)));
    }
    let mut bytes = Vec::new();
    let outcome = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };
    if let Err(error) = outcome {
        return Err(Box::new(Fault::of_file(plain(&error), remedy(&error))));
    }
    Ok(bytes)
}

/// A FIFO that has a path. The pipes of a shell (`/dev/stdin`, `<(...)`) have writers, and links to them lead to no path.
fn is_named_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) && path.canonicalize().is_ok()
}

/// The kernel's words as the end of a chain: lower case, without the number.
fn plain(error: &std::io::Error) -> String {
    let message = error.to_string();
    let message = message.split(" (os error").next().unwrap_or(&message);
    let mut letters = message.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "write one with `pc-config draft`, or name another with --file",
        std::io::ErrorKind::PermissionDenied => "run this as root, or name another file with --file",
        _ => "name a readable file with --file",
    }
}

/// Bytes as text: at most 1 MiB of UTF-8 without NUL; a byte order mark is dropped.
pub(crate) fn text(bytes: Vec<u8>) -> Result<String, Box<Fault>> {
    within(LIMIT, bytes)
}

fn within(limit: u64, bytes: Vec<u8>) -> Result<String, Box<Fault>> {
    if bytes.len() as u64 > limit {
        let remedy = "a cluster file has a few KiB: is it the right one?";
        return Err(Box::new(Fault::of_file(format!("is larger than {} MiB", limit >> 20), remedy)));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Box::new(Fault::of_file("is UTF-16 text", "save it as UTF-8")));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let byte = bytes.get(valid).copied().unwrap_or_default();
        let fault = Fault::of_file(format!("byte 0x{byte:02x} is not UTF-8 text"), "save the file as UTF-8");
        located(fault, &String::from_utf8_lossy(&bytes[..valid]), valid)
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    match text.find('\0') {
        None => Ok(text),
        Some(offset) => {
            let fault = Fault::of_file("a NUL byte: this is not a text file", "is it the right file?");
            Err(located(fault, &text, offset))
        }
    }
}

fn located(mut fault: Fault, text: &str, offset: usize) -> Box<Fault> {
    fault.offset = Some(offset);
    locate(std::slice::from_mut(&mut fault), text);
    Box::new(fault)
}
