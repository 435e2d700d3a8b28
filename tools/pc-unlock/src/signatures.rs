//! What a disk holds besides LUKS, by wipefs(8); also on a disk with bad sectors, where wipefs ends at the first one and says nothing of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::cryptsetup;
use crate::device::Device;
use crate::salvage::Salvage;
use crate::scratch::Scratch;

/// Whatever libblkid looks for lies in the first so many bytes, or in the last: VMFS at 2 MiB, RAID metadata 1.5 MiB from the end.
const HEAD: u64 = 16 << 20;
const TAIL: u64 = 4 << 20;

/// Signatures of anything but LUKS on a device, which `file` reads around its bad sectors.
pub fn foreign(device: &Device, file: &mut Salvage<impl Read + Seek>) -> Result<Vec<Signature>> {
    let mut found = told(&device.path)?;
    let reading = || format!("reading {}", device.name);
    let size = file.seek(SeekFrom::End(0)).with_context(reading)?;
    let pieces = [(0, HEAD.min(size)), (size.saturating_sub(TAIL).max(HEAD.min(size)), TAIL)];
    let mut read = Vec::new();
    for (from, length) in pieces {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).with_context(reading)?;
        file.take(length).read_to_end(&mut bytes).with_context(reading)?;
        read.push((from, bytes));
    }
    if file.lost() > 0 {
        // The same without the sectors, for a second look.
        let scratch = Scratch::new()?;
        let path = scratch.file("disk");
        copy(&path, size, &read).with_context(|| format!("copying what can be read of {}", device.name))?;
        found.extend(told(&path)?);
        found.sort_by(|a, b| a.offset.cmp(&b.offset));
        found.dedup();
    }
    found.retain(|found| found.kind != "crypto_LUKS");
    Ok(found)
}

/// As long as the disk, and empty between the pieces.
fn copy(path: &Path, size: u64, pieces: &[(u64, Vec<u8>)]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_len(size)?;
    for (from, bytes) in pieces {
        for (index, block) in bytes.chunks(4096).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(from + 4096 * index as u64))?;
                file.write_all(block)?;
            }
        }
    }
    Ok(())
}

/// One signature, as wipefs(8) tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Signature {
    /// `0x438`.
    offset: String,
    /// `ext4`, `gpt`, `LVM2_member`, ...
    #[serde(rename = "type")]
    kind: String,
}

impl Signature {
    /// What it is, and where.
    pub fn in_words(&self) -> String {
        format!("{} (signature at {})", self.kind, self.offset)
    }
}

/// wipefs --json.
#[derive(Deserialize)]
struct Answer {
    signatures: Vec<Signature>,
}

/// Every signature at every offset, where blkid stops at the first that convinces it. The device is only read.
fn told(device: &Path) -> Result<Vec<Signature>> {
    let sh = Shell::new().context("finding the working directory")?;
    let run = pc_run::run(cmd!(sh, "wipefs --no-act --json {device}")).deadline(Duration::from_secs(60));
    let text =
        run.read().map_err(cryptsetup::for_later).with_context(|| format!("probing {}", device.display()))?;
    parse(&text).with_context(|| format!("reading what wipefs says of {}", device.display()))
}

/// Some versions print nothing at all for a blank device, others an empty list.
fn parse(text: &str) -> Result<Vec<Signature>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let Ok(answer) = serde_json::from_str::<Answer>(text) else { bail!("not the JSON of wipefs") };
    Ok(answer.signatures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers() {
        // util-linux 2.38, image files.
        let ext4 =
            r#"{"signatures": [{"device":"e","offset":"0x438","type":"ext4","uuid":"u","label":null}]}"#;
        assert_eq!(parse(ext4).unwrap()[0].in_words(), "ext4 (signature at 0x438)");
        assert_eq!(parse("{\n   \"signatures\": [\n\n   ]\n}").unwrap(), []);
        assert_eq!(parse("").unwrap(), []);
        assert!(parse("nonsense").is_err());
    }
}
