//! The image of a header as cryptsetup saves it, without what belongs to no keyslot. luksFormat fills the whole area of the
//! keyslots with noise, 16 MiB by default; two copies of the metadata and 256 KiB for each slot in use say the same.

use std::io::Cursor;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::luks2::{self, Header, Metadata};

/// Zeroes what belongs to no keyslot and cuts the zeros off the end. What cannot be read for certain stays as it is.
pub fn cut(mut image: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let Some(mut used) = metadata(&image).and_then(|metadata| metadata.areas()) else { return image };
    used.sort_by_key(|area| area.start);
    let mut unused = 0;
    for area in used {
        let start = area.start.min(image.len());
        image[unused.min(start)..start].fill(0);
        unused = unused.max(area.end);
    }
    image.truncate(unused);
    image
}

/// As long as luksHeaderRestore demands it.
pub fn whole(cut: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = metadata(cut).map_or(0, |metadata| metadata.header_size()).max(cut.len());
    let mut image = Zeroizing::new(Vec::with_capacity(length));
    image.extend_from_slice(cut);
    image.resize(length, 0);
    image
}

fn metadata(image: &[u8]) -> Option<Metadata> {
    match luks2::parse(&mut Cursor::new(image)) {
        Ok(Header::Luks2(metadata)) => Some(metadata),
        _ => None,
    }
}

impl Metadata {
    /// The bytes that mean something: both copies of the metadata, and the area of each keyslot. `None` when a keyslot
    /// does not say where it is.
    fn areas(&self) -> Option<Vec<Range<usize>>> {
        let copies = Some(0..self.copies_size());
        std::iter::once(copies).chain(self.keyslots.values().map(area)).collect()
    }
}

/// Where the key material of a LUKS2 keyslot is.
pub fn area(slot: &serde_json::Value) -> Option<Range<usize>> {
    let number = |key: &str| slot["area"][key].as_str()?.parse::<usize>().ok();
    let start = number("offset")?;
    Some(start..start.checked_add(number("size")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: usize = 0x4000;

    /// Two keyslots in an area of 1 MiB, 64 KiB each, noise everywhere else.
    fn image(second_slot: &str) -> Zeroizing<Vec<u8>> {
        let json = format!(
            r#"{{"keyslots":{{"0":{{"area":{{"offset":"32768","size":"65536"}}}},"1":{{"area":{{{second_slot}}}}}}},
                "config":{{"keyslots_size":"1048576"}}}}"#
        );
        let mut image = luks2::tests::header(&json).into_inner();
        assert_eq!(image.len(), COPY);
        image.resize(2 * COPY, 0);
        image.resize(2 * COPY + (1 << 20), 0xa5);
        Zeroizing::new(image)
    }

    #[test]
    fn what_no_keyslot_uses_is_left_out_and_the_length_comes_back() {
        let before = image(r#""offset":"262144","size":"65536""#);
        let cut = cut(before.clone());
        assert_eq!(cut.len(), 262_144 + 65_536);
        assert!(cut[..98_304] == before[..98_304] && cut[262_144..] == before[262_144..327_680]);
        assert!(cut[98_304..262_144].iter().all(|byte| *byte == 0));
        let after = whole(&cut);
        assert_eq!(after.len(), before.len());
        assert!(after[..cut.len()] == cut[..] && after[cut.len()..].iter().all(|byte| *byte == 0));
        assert!(super::cut(after).as_slice() == cut.as_slice());
    }

    #[test]
    fn what_is_not_understood_is_kept_whole() {
        for slot in ["", r#""offset":"-1","size":"1""#, r#""offset":"18446744073709551615","size":"2""#] {
            let before = image(slot);
            assert!(cut(before.clone()) == before, "{slot}");
        }
        // An area beyond the image, or across the end of it.
        for slot in [r#""offset":"4000000","size":"65536""#, r#""offset":"1048576","size":"65536""#] {
            let before = image(slot);
            let cut = cut(before.clone());
            assert_eq!(cut.len(), before.len(), "{slot}");
        }
        let other = Zeroizing::new(vec![7; 4096]);
        assert!(cut(other.clone()) == other && whole(&other) == other);
    }
}
