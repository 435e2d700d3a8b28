//! The LUKS2 header, read by ourselves and without a key: `cryptsetup luksDump` repairs a damaged header as it
//! reads, and a disk that is only looked at must stay as it is. (LUKS2 On-Disk Format Specification 1.1, 2.1 and 3.)

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The metadata that matters here.
#[derive(Debug, Default, Deserialize)]
pub struct Metadata {
    keyslots: serde_json::Map<String, Value>,
    tokens: serde_json::Map<String, Value>,
}

impl Metadata {
    /// How many keyslots there are.
    pub fn keyslots(&self) -> usize {
        self.keyslots.len()
    }

    /// A clevis token with a keyslot of its own is there.
    pub fn bound(&self) -> bool {
        self.tokens.values().any(|token| {
            let assigned =
                token.get("keyslots").and_then(Value::as_array).is_some_and(|slots| !slots.is_empty());
            token.get("type").and_then(Value::as_str) == Some("clevis") && assigned
        })
    }
}

/// Where a header may stand: the first one at 0, the second after it, by the size of both.
const OFFSETS: [u64; 10] =
    [0, 0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];

/// The newest complete header of a device; nothing in it when there is none (one that was interrupted).
pub fn metadata(device: &Path) -> Result<Metadata> {
    let file = File::open(device).with_context(|| format!("opening {}", device.display()))?;
    let mut newest = (0, Metadata::default());
    for offset in OFFSETS {
        let found = header(&file, offset);
        let found = found.with_context(|| format!("reading the LUKS header of {}", device.display()))?;
        if let Some(found) = found.filter(|(sequence, _)| *sequence > newest.0) {
            newest = found;
        }
    }
    Ok(newest.1)
}

/// One header with its sequence number, if it is complete: magic, place and checksum are right.
fn header(file: &File, offset: u64) -> Result<Option<(u64, Metadata)>> {
    let Some(fixed) = read(file, offset, 512)? else { return Ok(None) };
    let magic: &[u8] = if offset == 0 { b"LUKS\xba\xbe\0\x02" } else { b"SKUL\xba\xbe\0\x02" };
    let (size, sequence) = (number(&fixed, 8), number(&fixed, 16));
    if !fixed.starts_with(magic) || !(0x4000..=0x40_0000).contains(&size) || number(&fixed, 256) != offset {
        return Ok(None);
    }
    let Some(mut whole) = read(file, offset, usize::try_from(size).unwrap_or(0))? else { return Ok(None) };
    let sum = whole[448..480].to_vec();
    whole[448..512].fill(0);
    let sha256 = fixed[72..104].starts_with(b"sha256\0");
    if !sha256 || Sha256::digest(&whole).as_slice() != sum {
        return Ok(None);
    }
    let json = whole[4096..].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(serde_json::from_slice(json).ok().map(|metadata| (sequence, metadata)))
}

/// `None` beyond the end of the device.
fn read(file: &File, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn cryptsetup(arguments: &[&str], path: &Path, stdin: &str) {
        use std::io::Write;
        let mut command = Command::new("cryptsetup");
        let mut child = command.args(arguments).arg(path).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{arguments:?}");
    }

    #[test]
    fn reads_what_the_real_cryptsetup_wrote_and_leaves_damage_as_it_is() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(32 << 20).unwrap();
        let path = image.path();
        assert_eq!(metadata(path).unwrap().keyslots(), 0);
        let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
        cryptsetup(&[&["luksFormat", "-q", "--type", "luks2"], &cheap[..]].concat(), path, "secret");
        let plain = metadata(path).unwrap();
        assert_eq!((plain.keyslots(), plain.bound()), (1, false));
        let token = r#"{"type":"clevis","keyslots":["0"],"jwe":{}}"#;
        cryptsetup(&["token", "import", "--json-file", "-"], path, token);
        assert!(metadata(path).unwrap().bound());
        // The first header is gone: the second one counts, and nothing is repaired.
        image.as_file().write_all_at(&[0; 4096], 0).unwrap();
        assert!(metadata(path).unwrap().bound());
        assert_eq!(read(image.as_file(), 0, 8).unwrap().unwrap(), [0; 8]);
        // One bit in the second: nothing is complete any more.
        image.as_file().write_all_at(b"!", 0x4000 + 4200).unwrap();
        assert_eq!(metadata(path).unwrap().keyslots(), 0);
    }

    #[test]
    fn a_token_without_a_keyslot_binds_nothing() {
        let json = r#"{"keyslots":{},"tokens":{"0":{"type":"clevis","keyslots":[]},"1":{"type":"x"}}}"#;
        assert!(!serde_json::from_str::<Metadata>(json).unwrap().bound());
    }
}
