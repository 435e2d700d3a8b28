//! blkid(8): what a device holds, by low-level probing (`-p`), never from its cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// What a probe gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Exit code 2 and no word: no signature. (Also what an unreadable device gives: read it yourself.)
    Nothing,
    /// Exit code 8: signatures that contradict each other.
    Ambivalent,
    /// Its tags: `TYPE`, `PTTYPE`, `UUID`, `LABEL`, `VERSION`, `SUBSYSTEM`, `USAGE`.
    Found(BTreeMap<String, String>),
}

/// Probes one device.
pub fn probe(sh: &Shell, device: &Path) -> Result<Probe> {
    let run = pc_run::run(cmd!(sh, "blkid -p -o export {device}")).deadline(Duration::from_secs(60));
    let output = run.allow(&[2, 8]).output().with_context(|| format!("probing {}", device.display()))?;
    Ok(match output.code {
        2 => Probe::Nothing,
        8 => Probe::Ambivalent,
        _ => parse(&output.text()),
    })
}

/// `-o export`: one `KEY=value` per line, with shell escapes (`\ `) in values.
pub fn parse(text: &str) -> Probe {
    let tags: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_string(), value.replace('\\', "")))
        .collect();
    // A blank partition has PART_ENTRY_* tags of the table that it stands in, which say nothing of its content.
    if tags.contains_key("TYPE") || tags.contains_key("PTTYPE") { Probe::Found(tags) } else { Probe::Nothing }
}

/// In words: `ext4 file system "data"`, `gpt partition table`.
pub fn describe(tags: &BTreeMap<String, String>) -> Vec<String> {
    let tag = |name: &str| tags.get(name).map(String::as_str);
    let mut words = Vec::new();
    if let Some(kind) = tag("TYPE") {
        let usage = match tag("USAGE") {
            Some("filesystem") => " file system",
            Some("raid") => " (RAID or volume manager)",
            _ => "",
        };
        let version = match (kind, tag("VERSION")) {
            ("crypto_LUKS", Some(version)) => format!(" version {version}"),
            _ => String::new(),
        };
        let label = tag("LABEL").map(|label| format!(" {label:?}")).unwrap_or_default();
        let uuid = tag("UUID").map(|uuid| format!(", UUID {uuid}")).unwrap_or_default();
        words.push(format!("{kind}{version}{usage}{label}{uuid}"));
    }
    if let Some(table) = tag("PTTYPE") {
        words.push(format!("{table} partition table"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        match parse(text) {
            Probe::Found(tags) => describe(&tags),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn recorded_answers() {
        // util-linux 2.38, image files.
        let ext4 = "DEVNAME=a\nLABEL=my\\ data\nUUID=ac7e813f-8ef3-4f5a-b662-29d4da209d6d\nVERSION=1.0\n\
                    BLOCK_SIZE=1024\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(words(ext4), ["ext4 file system \"my data\", UUID ac7e813f-8ef3-4f5a-b662-29d4da209d6d"]);
        let luks = "DEVNAME=l\nVERSION=2\nUUID=11111111-2222-4333-8444-555555555555\nLABEL=pc-x\n\
                    SUBSYSTEM=personal-cluster\nTYPE=crypto_LUKS\nUSAGE=crypto\n";
        assert_eq!(
            words(luks),
            ["crypto_LUKS version 2 \"pc-x\", UUID 11111111-2222-4333-8444-555555555555"]
        );
        assert_eq!(words("DEVNAME=g\nPTUUID=x\nPTTYPE=gpt\n"), ["gpt partition table"]);
    }

    #[test]
    fn a_blank_partition_is_blank() {
        let partition = "DEVNAME=/dev/sda1\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_UUID=x\nPART_ENTRY_NUMBER=1\n";
        assert_eq!(parse(partition), Probe::Nothing);
        assert_eq!(parse(""), Probe::Nothing);
    }
}
