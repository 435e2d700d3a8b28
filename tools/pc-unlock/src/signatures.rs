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

/// Signatures of anything but LUKS on a device, and in what of its `file` can be read.
pub fn foreign(device: &Device, file: &mut (impl Read + Seek)) -> Result<Vec<Signature>> {
    let mut found = told(&device.path)?;
    let reading = || format!("reading {}", device.name);
    let size = file.seek(SeekFrom::End(0)).with_context(reading)?;
    let head = HEAD.min(size);
    let (mut pieces, mut lost) = (Vec::new(), 0);
    // Each by itself: a disk that dies at its end has a beginning.
    for (from, length) in [(0, head), (size.saturating_sub(TAIL).max(head), TAIL)] {
        let (mut piece, mut bytes) = (Salvage::new(&mut *file), Vec::new());
        piece.seek(SeekFrom::Start(from)).with_context(reading)?;
        Read::by_ref(&mut piece).take(length).read_to_end(&mut bytes).with_context(reading)?;
        lost += piece.lost();
        pieces.push((from, bytes));
    }
    if lost > 0 {
        // The same without the sectors, for a second look.
        let scratch = Scratch::new()?;
        let path = scratch.file("disk");
        copy(&path, size, &pieces).with_context(|| format!("copying what can be read of {}", device.name))?;
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
    use crate::salvage::tests::Bad;
    use std::io::Cursor;

    /// wipefs ends at the first one. Here it is shown a disk on which nothing is: what is found is what can be read.
    #[test]
    fn bad_sectors_hide_nothing_but_themselves() {
        let root = tempfile::tempdir().unwrap();
        let sh = Shell::new().unwrap();
        let [there, blank] = ["there", "blank"].map(|name| root.path().join(name));
        let device = Device {
            name: "blank".into(),
            path: blank.clone(),
            mapper: String::new(),
            sysfs: root.path().into(),
            patience: Duration::from_secs(30),
        };
        File::create(&blank).unwrap().set_len(24 << 20).unwrap();
        let tail = (24 << 20) - 512..24 << 20;
        for kind in ["ext4", "gpt"] {
            File::create(&there).unwrap().set_len(24 << 20).unwrap();
            match kind {
                "ext4" => cmd!(sh, "mkfs.ext4 -q -F {there}").run().unwrap(),
                _ => cmd!(sh, "sfdisk --quiet {there}").stdin("label: gpt\n").run().unwrap(),
            }
            // The whole end is bad, which takes nothing from the beginning.
            for sector in [tail.clone(), 8192..8704, 8 << 20..(8 << 20) + 512, 20 << 20..24 << 20] {
                let disk = Cursor::new(std::fs::read(&there).unwrap());
                let mut disk = Bad { disk, sectors: vec![sector.clone()] };
                let found = foreign(&device, &mut disk).unwrap();
                assert!(found.iter().any(|found| found.kind == kind), "{kind} {sector:?}: {found:?}");
            }
        }
        let mut disk = Bad { disk: Cursor::new(vec![0; 24 << 20]), sectors: vec![tail] };
        assert_eq!(foreign(&device, &mut disk).unwrap(), []);
    }

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
