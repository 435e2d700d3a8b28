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
    let run = pc_run::run(cmd!(sh, "blkid -p -o udev {device}")).deadline(Duration::from_secs(60));
    let output = run.allow(&[2, 8]).output().with_context(|| format!("probing {}", device.display()))?;
    Ok(match output.code {
        2 => Probe::Nothing,
        8 => Probe::Ambivalent,
        _ => parse(&output.text()),
    })
}

/// `-o udev`: one `KEY=value` per line. Unlike `-o export` it encodes what a disk says of itself, so that a line feed in a
/// label begins no line that looks like another tag.
pub fn parse(text: &str) -> Probe {
    let tag = |(key, value): (&str, &str)| match key {
        "ID_PART_TABLE_TYPE" => Some(("PTTYPE".to_string(), value.to_string())),
        "ID_FS_LABEL_ENC" => Some(("LABEL".into(), decode(value))),
        // The same, with an underscore for whatever is no letter.
        "ID_FS_LABEL" => None,
        // A blank partition has ID_PART_ENTRY_* of the table that it stands in, which say nothing of its content.
        _ => key.strip_prefix("ID_FS_").map(|name| (name.into(), value.into())),
    };
    let tags: BTreeMap<String, String> =
        text.lines().filter_map(|line| line.split_once('=')).filter_map(tag).collect();
    if tags.contains_key("TYPE") || tags.contains_key("PTTYPE") { Probe::Found(tags) } else { Probe::Nothing }
}

/// `\x20` is a space (`blkid_encode_string` of libblkid).
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = rest.get(2..4).filter(|_| rest.starts_with(b"\\x"));
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[4..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
        let ext4 = "ID_FS_LABEL=my_data\nID_FS_LABEL_ENC=my\\x20data\nID_FS_UUID=ac7e813f-8ef3-4f5a-b662-29d4da209d6d\n\
                    ID_FS_UUID_ENC=ac7e813f-8ef3-4f5a-b662-29d4da209d6d\nID_FS_VERSION=1.0\nID_FS_BLOCK_SIZE=1024\n\
                    ID_FS_TYPE=ext4\nID_FS_USAGE=filesystem\n";
        assert_eq!(words(ext4), ["ext4 file system \"my data\", UUID ac7e813f-8ef3-4f5a-b662-29d4da209d6d"]);
        let luks = "ID_FS_VERSION=2\nID_FS_UUID=11111111-2222-4333-8444-555555555555\n\
                    ID_FS_UUID_ENC=11111111-2222-4333-8444-555555555555\nID_FS_LABEL=pc-x\nID_FS_LABEL_ENC=pc-x\n\
                    ID_FS_SUBSYSTEM=personal-cluster\nID_FS_TYPE=crypto_LUKS\nID_FS_USAGE=crypto\n";
        assert_eq!(
            words(luks),
            ["crypto_LUKS version 2 \"pc-x\", UUID 11111111-2222-4333-8444-555555555555"]
        );
        let Probe::Found(tags) = parse(luks) else { panic!("{luks}") };
        assert_eq!(tags["SUBSYSTEM"], "personal-cluster");
        assert_eq!(words("ID_PART_TABLE_UUID=x\nID_PART_TABLE_TYPE=gpt\n"), ["gpt partition table"]);
    }

    #[test]
    fn a_label_is_only_a_label() {
        // Recorded: mkfs.ext4 -L $'a\nPTTYPE=\e[31m'.
        let hostile = "ID_FS_LABEL=a_PTTYPE=\u{1b}[31m\nID_FS_LABEL_ENC=a\\x0aPTTYPE=\\x1b\\x5b31m\nID_FS_TYPE=ext4\n\
                       ID_FS_USAGE=filesystem\n";
        assert_eq!(words(hostile), ["ext4 file system \"a\\nPTTYPE=\\u{1b}[31m\""]);
        assert_eq!(decode("50\\x25\\x"), "50%\\x");
        assert_eq!(decode("gr\\xc3\\xb6\u{df}er"), "gr\u{f6}\u{df}er");
    }

    #[test]
    fn a_blank_partition_is_blank() {
        let partition = "ID_PART_ENTRY_SCHEME=gpt\nID_PART_ENTRY_UUID=x\nID_PART_ENTRY_NUMBER=1\n";
        assert_eq!(parse(partition), Probe::Nothing);
        assert_eq!(parse(""), Probe::Nothing);
    }
}
