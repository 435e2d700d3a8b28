//! Is a header worse than the backup that it is to replace? A disk that is damaged must not take the last good header along.
//!
//! The material of a keyslot is split anew with every new salt: the same salt over other bytes means that one of them is
//! damaged, and no passphrase is needed to see that.

use std::io::Cursor;
use std::ops::Range;

use crate::image;
use crate::luks2::{self, Header, Metadata};

/// A keyslot in the image of a header.
struct Slot {
    number: String,
    /// As text or bytes, by the version of the header.
    salt: Vec<u8>,
    area: Range<usize>,
}

/// What an image says of its keyslots.
struct Slots {
    /// Some passphrase opens the data.
    open: bool,
    all: Vec<Slot>,
}

/// The UUID of a header, of its sound copy if there is one.
pub fn uuid(image: &[u8]) -> Option<String> {
    let copies = luks2::copies(&mut Cursor::new(image)).ok()?;
    copies.iter().find(|copy| copy.sound).or(copies.first()).map(|copy| copy.uuid.clone())
}

/// Why a header is not worth the place of a backup. Of one that nobody here can open (`None`) nothing is known.
pub fn than(old: Option<&[u8]>, new: &[u8]) -> Option<String> {
    let Some(new_slots) = slots(new) else { return Some("its header cannot be read any more".into()) };
    let old_slots = old.and_then(slots);
    // Nothing is lost with one that opened nothing itself.
    if old_slots.as_ref().is_some_and(|old| !old.open) {
        return None;
    }
    if !new_slots.open {
        return Some("its header has no keyslot any more that opens the data".into());
    }
    let (old, old_slots) = old.zip(old_slots)?;
    let is_damaged = |slot: &&Slot| {
        let before = old_slots.all.iter().find(|before| before.salt == slot.salt);
        before.is_some_and(|before| old.get(before.area.clone()) != new.get(slot.area.clone()))
    };
    let damaged: Vec<_> = new_slots.all.iter().filter(is_damaged).map(|slot| slot.number.as_str()).collect();
    (!damaged.is_empty()).then(|| {
        format!(
            "what keyslot {} holds is not what the backup has of the same one: is it damaged?",
            damaged.join(", ")
        )
    })
}

fn slots(image: &[u8]) -> Option<Slots> {
    match luks2::parse(&mut Cursor::new(image)).ok()? {
        Header::Luks2(metadata) => {
            Some(Slots { open: !metadata.opening_slots().is_empty(), all: luks2_slots(&metadata) })
        }
        Header::Luks1(_) => {
            let all: Vec<_> = (0..8).filter_map(|number| luks1_slot(image, number)).collect();
            Some(Slots { open: !all.is_empty(), all })
        }
        Header::None => None,
    }
}

/// Those with a passphrase: the area of a re-encryption changes while it goes on.
fn luks2_slots(metadata: &Metadata) -> Vec<Slot> {
    let slots = metadata.keyslots.iter().filter(|(_, slot)| slot["type"] == "luks2");
    let slot = |(number, slot): (&String, &serde_json::Value)| {
        let salt = slot["kdf"]["salt"].as_str()?.into();
        Some(Slot { number: number.clone(), salt, area: image::area(slot)? })
    };
    slots.filter_map(slot).collect()
}

/// Key material of a slot that is in use (LUKS1 On-Disk Format Specification 1.2.3, figures 1 and 2).
fn luks1_slot(image: &[u8], number: usize) -> Option<Slot> {
    let field = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let at = 208 + 48 * number;
    field(at).filter(|active| *active == 0x00ac_71f3)?;
    let (start, length) = (field(at + 40)?.checked_mul(512)?, field(108)?.checked_mul(field(at + 44)?)?);
    let (salt, area) = (image[at + 8..at + 40].to_vec(), start..start.checked_add(length)?);
    Some(Slot { number: number.to_string(), salt, area })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: usize = 0x8000;

    /// Keyslots as `"number": ("salt", a byte that fills its area)`.
    fn image(slots: &[(u32, &str, u8)], kind: &str, segments: &str) -> Vec<u8> {
        let mut json = Vec::new();
        let mut numbers = Vec::new();
        for (at, (number, salt, _)) in slots.iter().enumerate() {
            let offset = AREA + at * 4096;
            json.push(format!(
                r#""{number}":{{"type":"{kind}","kdf":{{"salt":"{salt}"}},"area":{{"offset":"{offset}","size":"4096"}}}}"#
            ));
            numbers.push(format!("\"{number}\""));
        }
        let (json, numbers) = (json.join(","), numbers.join(","));
        let json = format!(
            r#"{{"keyslots":{{{json}}},"digests":{{"0":{{"keyslots":[{numbers}],"segments":[{segments}]}}}}}}"#
        );
        let mut image = luks2::tests::header(&json).into_inner();
        image.resize(AREA, 0);
        for (_, _, byte) in slots {
            image.extend_from_slice(&[*byte; 4096]);
        }
        image
    }

    /// The second one with a passphrase that anybody could add.
    #[test]
    fn two_keys_for_one_piece_of_the_data_open_nothing() {
        let slots = |second: &str| {
            let json = format!(
                r#"{{"keyslots":{{"0":{{}},"5":{{}}}},"digests":{{"0":{{"keyslots":["0"],"segments":["0"]}},
                    "1":{{"keyslots":["5"],"segments":[{second}]}}}}}}"#
            );
            let Header::Luks2(metadata) = luks2::parse(&mut luks2::tests::header(&json)).unwrap() else {
                panic!("no LUKS2")
            };
            metadata.opening_slots().into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(slots(""), ["0"]);
        assert_eq!(slots("\"0\""), Vec::<String>::new());
        // As a re-encryption has them.
        assert_eq!(slots("\"1\""), ["0", "5"]);
    }

    #[test]
    fn a_header_that_changed_is_no_worse_and_one_that_was_damaged_is() {
        let of = |slots: &[(u32, &str, u8)]| image(slots, "luks2", "\"0\"");
        let old = of(&[(0, "a", 1), (1, "b", 2)]);
        let (none, unbound) = (of(&[]), image(&[(0, "a", 1)], "luks2", ""));
        for (new, said) in [
            (old.clone(), None),
            // Bound, unbound, rotated, under other numbers, elsewhere, with nothing left of before.
            (of(&[(0, "a", 1), (1, "b", 2), (2, "c", 3)]), None),
            (of(&[(1, "b", 2)]), None),
            (of(&[(0, "a", 1), (1, "c", 3)]), None),
            (of(&[(7, "b", 2), (1, "a", 1)]), None),
            (of(&[(0, "d", 4)]), None),
            (of(&[(0, "a", 9), (1, "b", 2)]), Some("what keyslot 0 holds")),
            (of(&[(3, "b", 9)]), Some("what keyslot 3 holds")),
            (of(&[(0, "a", 8), (1, "b", 9)]), Some("what keyslot 0, 1 holds")),
            (none.clone(), Some("has no keyslot")),
            (unbound, Some("has no keyslot")),
            (vec![0; AREA], Some("cannot be read")),
            (Vec::new(), Some("cannot be read")),
        ] {
            let why = than(Some(&old), &new);
            assert_eq!(why.is_some(), said.is_some(), "{said:?}: {why:?}");
            assert!(why.unwrap_or_default().contains(said.unwrap_or_default()), "{said:?}");
        }
        // Nothing is known of the old one, or it is worth nothing.
        assert_eq!(than(None, &old), None);
        assert!(than(None, &none).is_some());
        assert_eq!(than(Some(&none), &none), None);
        assert_eq!(than(Some(b"nonsense"), &old), None);
        // A re-encryption goes on.
        let going = |byte| {
            let mut image = image(&[(0, "a", byte)], "reencrypt", "\"0\"");
            image.truncate(AREA + 4096);
            image
        };
        assert_eq!(than(Some(&going(1)), &going(2)), None);
    }
}
