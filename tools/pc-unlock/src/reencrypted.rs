//! Does a saved header still belong to the data? `cryptsetup reencrypt` keeps the UUID and changes the volume key, in place and
//! piece by piece: with any header but the present one such data is lost.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use crate::luks2::{self, Header, Metadata};

const KEY: &str = "another volume key";
/// Of a header that is there, and says nothing.
pub const UNREADABLE: &str = "a header that cannot be read";

/// What the header of a device says of its data and `saved` does not. `None` when both agree, or when there is no header any
/// more. Of one whose checksums are wrong what can be read counts: a byte that rotted hides no other key.
pub fn since(file: &mut (impl Read + Seek), saved: &mut (impl Read + Seek)) -> Result<Option<&'static str>> {
    Ok(match (luks2::parse(file), luks2::parse(saved)) {
        (Ok(Header::Luks2(present)), Ok(Header::Luks2(saved))) => differ(&present, &saved),
        (Ok(Header::Luks1(_)), Ok(Header::Luks1(_))) => {
            (luks1_data(file)? != luks1_data(saved)?).then_some(KEY)
        }
        // A backup that says nothing is refused elsewhere; of version 1 nothing is left without its first bytes.
        (_, Err(_) | Ok(Header::None)) | (Ok(Header::None), Ok(Header::Luks1(_))) => None,
        (Err(_) | Ok(Header::None), Ok(Header::Luks2(saved))) => {
            let found = luks2::unsound(file)?;
            let said = found.iter().flatten().find_map(|present| differ(present, &saved));
            // What it says of the key may be just what is damaged.
            said.or_else(|| found.iter().all(Option::is_none).then_some(UNREADABLE))
                .filter(|_| !found.is_empty())
        }
        (Err(_), Ok(Header::Luks1(_))) => (luks1_data(file)? != luks1_data(saved)?).then_some(KEY),
        (Ok(Header::Luks1(_)), Ok(Header::Luks2(_))) | (Ok(Header::Luks2(_)), Ok(Header::Luks1(_))) => {
            Some("a header of another LUKS version")
        }
    })
}

fn differ(present: &Metadata, saved: &Metadata) -> Option<&'static str> {
    if keys(present) == keys(saved) {
        return (present.segments != saved.segments).then_some("its data in another form");
    }
    Some(KEY)
}

/// The digests of the keys that the data is under, with the pieces. Which keyslots give them changes with every binding.
fn keys(metadata: &Metadata) -> Vec<(&[String], &serde_json::Map<String, serde_json::Value>)> {
    let of_data = metadata.digests.values().filter(|digest| !digest.segments.is_empty());
    of_data.map(|digest| (digest.segments.as_slice(), &digest.key)).collect()
}

/// Cipher, where the data begins, and the digest of the volume key (LUKS1 On-Disk Format Specification 1.2.3, figure 1).
fn luks1_data(file: &mut (impl Read + Seek)) -> Result<[u8; 160]> {
    let mut bytes = [0; 160];
    file.seek(SeekFrom::Start(8)).and_then(|_| file.read_exact(&mut bytes)).context("reading the header")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn header(digest: &str, offset: u32) -> Cursor<Vec<u8>> {
        luks2::tests::header(&format!(
            r#"{{"digests":{{"0":{{"keyslots":["0"],"segments":["0"],"digest":"{digest}"}},
                            "1":{{"keyslots":["1"],"segments":[],"digest":"unbound {digest}"}}}},
                "segments":{{"0":{{"offset":"{offset}","size":"dynamic","encryption":"aes-xts-plain64"}}}}}}"#
        ))
    }

    fn version_1(digest: u8) -> Cursor<Vec<u8>> {
        let mut bytes = vec![0; 8192];
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x01");
        bytes[112] = digest;
        Cursor::new(bytes)
    }

    #[test]
    fn what_the_data_is_under_is_compared_and_nothing_else() {
        let saved = header("a", 1);
        let mut bound = saved.clone().into_inner();
        let json = String::from_utf8(bound.split_off(4096)).unwrap();
        let end = json.find('\0').unwrap();
        let changed = json[..end].replace(r#""keyslots":["0"]"#, r#""keyslots":["4","5"]"#);
        let changed = changed.replace("unbound a", "another");
        // Both copies, the checksum of the second one wrong.
        let two = |first: Cursor<Vec<u8>>, second: Cursor<Vec<u8>>| {
            let mut both = first.into_inner();
            both.extend_from_slice(&second.into_inner());
            both[0x4000..0x4004].copy_from_slice(b"SKUL");
            Cursor::new(both)
        };
        // A byte of the JSON, and one of the zeros behind it.
        let broken = |mut header: Cursor<Vec<u8>>, at: usize| {
            header.get_mut()[at] ^= 1;
            header
        };
        for (mut present, mut saved, said) in [
            (saved.clone(), saved.clone(), None),
            (luks2::tests::header(&changed), saved.clone(), None),
            (header("b", 1), saved.clone(), Some(KEY)),
            (header("a", 2), saved.clone(), Some("its data in another form")),
            (broken(saved.clone(), 8000), saved.clone(), None),
            (broken(header("b", 1), 8000), saved.clone(), Some(KEY)),
            (broken(saved.clone(), 4096), saved.clone(), Some(UNREADABLE)),
            // The first byte of all, which tells that it is a header.
            (broken(saved.clone(), 0), saved.clone(), None),
            (broken(header("b", 1), 0), saved.clone(), Some(KEY)),
            // One copy that says nothing, and one that does.
            (two(broken(saved.clone(), 4096), header("b", 1)), saved.clone(), Some(KEY)),
            (two(broken(saved.clone(), 4096), saved.clone()), saved.clone(), None),
            (Cursor::new(vec![0; 8192]), saved.clone(), None),
            (version_1(1), version_1(1), None),
            (version_1(2), version_1(1), Some(KEY)),
            (version_1(1), saved.clone(), Some("a header of another LUKS version")),
        ] {
            assert_eq!(since(&mut present, &mut saved).unwrap(), said);
        }
    }
}
