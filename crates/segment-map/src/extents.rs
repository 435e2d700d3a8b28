//! `pc.dirty.extents/1`: what changed, as JSON between pc-dirty and whoever makes a backup of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::valid_name;

/// The schema of the answer.
pub const SCHEMA: &str = "pc.dirty.extents/1";

/// How changes were found, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// QEMU kept a dirty bitmap.
    Bitmap,
    /// Every segment was read and compared with its digest.
    Digest,
    /// There was nothing to compare with: everything counts as changed.
    Full,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Bitmap => "bitmap",
            Method::Digest => "digest",
            Method::Full => "full",
        })
    }
}

/// A changed range of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset_bytes: u64,
    /// How many; never 0.
    pub length_bytes: u64,
}

/// What changed on one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskExtents {
    /// Name of the disk: the directory in the view.
    pub name: String,
    /// What was looked at, in the form that pc-segments takes.
    pub source: String,
    /// Bytes of the disk.
    pub size_bytes: u64,
    /// How this disk's changes were found.
    pub method: Method,
    /// Why that method.
    pub reason: String,
    /// `state:ID` or `checkpoint:NAME`; absent: relative to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Sum of the extents.
    pub dirty_bytes: u64,
    /// Read from the disk to find out.
    #[serde(default)]
    pub read_bytes: u64,
    /// Ascending, not empty, not touching, within the disk.
    pub extents: Vec<Extent>,
}

/// What changed on the disks of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extents {
    /// [`SCHEMA`].
    pub schema: String,
    /// The VM, when one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Whether it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// When reading began, RFC 3339.
    pub taken: String,
    /// The dearest method of any disk.
    pub method: Method,
    /// Why.
    pub reason: String,
    /// The checkpoint that these extents lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// One for each disk.
    pub disks: Vec<DiskExtents>,
}

impl Extents {
    /// Reads and checks an answer. Anything but a whole, consistent one is an error: half an answer would leave
    /// changed segments out of a backup.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str) -> Result<Extents, String> {
        if text.trim().is_empty() {
            return Err("empty: whoever writes the extents failed".into());
        }
        let extents: Extents =
            serde_json::from_str(text).map_err(|error| format!("not {SCHEMA}: {error}"))?;
        if extents.schema != SCHEMA {
            return Err(format!("schema is {:?}, not {SCHEMA:?}", extents.schema));
        }
        for (index, disk) in extents.disks.iter().enumerate() {
            disk.check().map_err(|fault| format!("disks[{index}]{fault}"))?;
            if extents.disks[..index].iter().any(|other| other.name == disk.name) {
                return Err(format!("disks[{index}].name: {:?} is there twice", disk.name));
            }
        }
        Ok(extents)
    }
}

impl DiskExtents {
    fn check(&self) -> Result<(), String> {
        if !valid_name(&self.name) {
            return Err(format!(".name: {:?}: letters, digits, - and _ make a name, at most 64", self.name));
        }
        let mut sum = 0_u64;
        let mut last: Option<u64> = None;
        for (index, extent) in self.extents.iter().enumerate() {
            let at = format!(".extents[{index}]");
            let end = extent
                .offset_bytes
                .checked_add(extent.length_bytes)
                .filter(|end| *end <= self.size_bytes)
                .ok_or_else(|| {
                    format!("{at}: ends beyond the disk of {} bytes ({extent:?})", self.size_bytes)
                })?;
            if extent.length_bytes == 0 {
                return Err(format!("{at}.length_bytes: 0"));
            }
            if last.is_some_and(|last| extent.offset_bytes <= last) {
                return Err(format!(
                    "{at}.offset_bytes: {} is not after the one before",
                    extent.offset_bytes
                ));
            }
            last = Some(end);
            sum += extent.length_bytes;
        }
        if sum != self.dirty_bytes {
            return Err(format!(".dirty_bytes: {}, but the extents have {sum}", self.dirty_bytes));
        }
        Ok(())
    }
}

/// Ranges in ascending order, as extents: touching ones become one, empty ones none.
pub fn merge(ranges: impl IntoIterator<Item = (u64, u64)>) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    for (offset_bytes, length_bytes) in ranges.into_iter().filter(|(_, length)| *length > 0) {
        match merged.last_mut() {
            Some(last) if last.offset_bytes + last.length_bytes >= offset_bytes => {
                let end = (offset_bytes + length_bytes).max(last.offset_bytes + last.length_bytes);
                last.length_bytes = end - last.offset_bytes;
            }
            _ => merged.push(Extent { offset_bytes, length_bytes }),
        }
    }
    merged
}

impl fmt::Display for Extents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for disk in &self.disks {
            let DiskExtents { name, method, dirty_bytes, size_bytes, extents, reason, .. } = disk;
            let count = extents.len();
            writeln!(f, "{name}  {method}  {dirty_bytes} of {size_bytes} bytes in {count} extents")?;
            writeln!(f, "  {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORDED: &str = include_str!("../../../tools/pc-dirty/tests/golden/extents.json");

    #[test]
    fn the_recorded_answer_is_read_and_written_back() {
        let extents = Extents::parse(RECORDED).unwrap();
        assert_eq!(extents.disks[0].extents.len(), 2);
        assert_eq!(serde_json::to_string_pretty(&extents).unwrap() + "\n", RECORDED);
    }

    #[test]
    fn a_text_cut_anywhere_is_refused() {
        let whole = RECORDED.trim_end();
        for end in 0..whole.len() {
            assert!(Extents::parse(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn hostile_answers_are_refused_by_name() {
        let cases: &[(&str, &str, &str)] = &[
            ("\"pc.dirty.extents/1\"", "\"pc.dirty.extents/2\"", "schema is \"pc.dirty.extents/2\""),
            ("\"vda\",\n", "\"../etc\",\n", "disks[0].name: \"../etc\""),
            ("\"length_bytes\": 512", "\"length_bytes\": 513", "disks[0].extents[1]: ends beyond the disk"),
            (
                "\"length_bytes\": 512",
                "\"length_bytes\": 18446744073709551615",
                "disks[0].extents[1]: ends beyond",
            ),
            ("\"length_bytes\": 512", "\"length_bytes\": -1", "not pc.dirty.extents/1: invalid value"),
            ("\"length_bytes\": 512", "\"length_bytes\": 0", "disks[0].extents[1].length_bytes: 0"),
            (
                "\"offset_bytes\": 8589934592",
                "\"offset_bytes\": 3145728",
                "disks[0].extents[1].offset_bytes: 3145728",
            ),
            ("\"dirty_bytes\": 2097664", "\"dirty_bytes\": 0", "disks[0].dirty_bytes: 0, but"),
            (
                "\"method\": \"digest\",\n      \"reason\"",
                "\"method\": \"guess\",\n      \"reason\"",
                "unknown variant",
            ),
        ];
        for (from, to, expected) in cases {
            let text = RECORDED.replacen(from, to, 1);
            assert_ne!(text, RECORDED, "{from}");
            let error = Extents::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
        assert!(Extents::parse(" \n").unwrap_err().starts_with("empty"));
    }

    proptest! {
        #[test]
        fn merged_ranges_cover_the_same_bytes(
            mut ranges in prop::collection::vec((0_u64..200, 0_u64..20), 0..30),
        ) {
            ranges.sort_unstable();
            let covered = |at: u64| ranges.iter().any(|(from, length)| (*from..from + length).contains(&at));
            let merged = merge(ranges.iter().copied());
            for at in 0..230 {
                let now = merged.iter().any(|e| (e.offset_bytes..e.offset_bytes + e.length_bytes).contains(&at));
                prop_assert_eq!(now, covered(at));
            }
            for pair in merged.windows(2) {
                prop_assert!(pair[0].offset_bytes + pair[0].length_bytes < pair[1].offset_bytes);
            }
        }
    }
}
