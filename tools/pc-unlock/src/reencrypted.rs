//! Does a saved header still belong to the data? `cryptsetup reencrypt` keeps the UUID and changes the volume key, in place and
//! piece by piece: with any header but the present one such data is lost.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use crate::luks2::{self, Header, Metadata};

/// What the sound header of a device says of its data and `saved` does not. `None` when both agree, or when nothing that is
/// sound stands there.
pub fn since(file: &mut (impl Read + Seek), saved: &mut (impl Read + Seek)) -> Result<Option<&'static str>> {
    let key = "another volume key";
    Ok(match (luks2::parse(file), luks2::parse(saved)) {
        (Ok(Header::Luks2(present)), Ok(Header::Luks2(saved))) => {
            if keys(&present) == keys(&saved) {
                (present.segments != saved.segments).then_some("its data in another form")
            } else {
                Some(key)
            }
        }
        (Ok(Header::Luks1(_)), Ok(Header::Luks1(_))) => {
            (luks1_data(file)? != luks1_data(saved)?).then_some(key)
        }
        // Of what is damaged nobody can say more; of what says nothing, nothing is lost.
        (Err(_) | Ok(Header::None), _) | (_, Err(_) | Ok(Header::None)) => None,
        (Ok(Header::Luks1(_)), Ok(Header::Luks2(_))) | (Ok(Header::Luks2(_)), Ok(Header::Luks1(_))) => {
            Some("a header of another LUKS version")
        }
    })
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
        let mut damaged = header("b", 1);
        damaged.get_mut()[4096] ^= 1;
        for (mut present, mut saved, said) in [
            (saved.clone(), saved.clone(), None),
            (luks2::tests::header(&changed), saved.clone(), None),
            (header("b", 1), saved.clone(), Some("another volume key")),
            (header("a", 2), saved.clone(), Some("its data in another form")),
            (damaged, saved.clone(), None),
            (Cursor::new(vec![0; 8192]), saved.clone(), None),
            (version_1(1), version_1(1), None),
            (version_1(2), version_1(1), Some("another volume key")),
            (version_1(1), saved.clone(), Some("a header of another LUKS version")),
        ] {
            assert_eq!(since(&mut present, &mut saved).unwrap(), said);
        }
    }
}
