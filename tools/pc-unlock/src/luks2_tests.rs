use super::*;

/// A header with this metadata and a checksum that is right.
pub fn header(json: &str) -> std::io::Cursor<Vec<u8>> {
    let mut whole = vec![0; SIZES[0]];
    whole[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x02");
    whole[8..16].copy_from_slice(&(SIZES[0] as u64).to_be_bytes());
    whole[72..78].copy_from_slice(b"sha256");
    whole[BINARY..BINARY + json.len()].copy_from_slice(json.as_bytes());
    let digest = Sha256::digest(&whole);
    whole[448..480].copy_from_slice(&digest);
    std::io::Cursor::new(whole)
}

#[test]
fn metadata_is_read_strictly() {
    let good = r#"{"keyslots":{"0":{}},"tokens":{"0":{"type":"clevis","keyslots":["0"],"jwe":{}}}}"#;
    let Header::Luks2(metadata) = parse(&mut header(good)).unwrap() else { panic!("no LUKS2") };
    assert_eq!(metadata.of_kind("clevis").count(), 1);
    assert_eq!(metadata.room, 0x3000 - good.len() - 1);
    for (bad, said) in [
        (good.replace(r#""type""#, r#""type":"x","type""#), "names the key \"type\" twice"),
        (good.replace(r#""jwe":{}"#, r#""jwe":{},"jwe":{"tag":""}"#), "names the key \"jwe\" twice"),
        (format!("{good}{{}}"), "followed by something else"),
        ("[]".into(), "not what LUKS2 prescribes"),
    ] {
        let error = format!("{:#}", parse(&mut header(&bad)).unwrap_err());
        assert!(error.contains(said), "{error}");
    }
    let mut damaged = header(good);
    damaged.get_mut()[BINARY] ^= 1;
    assert!(format!("{:#}", parse(&mut damaged).unwrap_err()).contains("its checksum is wrong"));
}

/// Both copies, as two writes have left them that came so far.
fn pair(first: (&str, u64), second: (&str, u64)) -> std::io::Cursor<Vec<u8>> {
    let copy = |(json, seqid): (&str, u64), second: bool| {
        let mut whole = header(json).into_inner();
        whole[16..24].copy_from_slice(&seqid.to_be_bytes());
        if second {
            whole[..4].copy_from_slice(b"SKUL");
            whole[256..264].copy_from_slice(&(SIZES[0] as u64).to_be_bytes());
        }
        whole[CHECKSUM].fill(0);
        let digest = Sha256::digest(&whole);
        whole[448..480].copy_from_slice(&digest);
        whole
    };
    std::io::Cursor::new([copy(first, false), copy(second, true)].concat())
}

/// cryptsetup (`LUKS2_disk_hdr_read`) takes the later one and mends the other: a drive may have lost a write.
#[test]
fn of_two_sound_copies_the_later_one_counts() {
    let (old, new) = (r#"{"keyslots":{"0":{}}}"#, r#"{"keyslots":{"0":{},"1":{}}}"#);
    let slots = |file: &mut std::io::Cursor<Vec<u8>>| {
        let Header::Luks2(metadata) = parse(file).unwrap() else { panic!("no LUKS2") };
        metadata.keyslots.len()
    };
    for (mut file, count, damaged) in [
        (pair((old, 3), (new, 4)), 2, Some("first")),
        (pair((new, 4), (old, 3)), 2, Some("second")),
        (pair((new, 4), (new, 4)), 2, None),
        // The highest that there is, as hostile as it may be, is a number like any other.
        (pair((new, u64::MAX), (old, 0)), 2, Some("second")),
    ] {
        assert_eq!((slots(&mut file), damaged_copy(&mut file)), (count, damaged));
    }
    // A later one that is damaged is none.
    let mut torn = pair((new, 4), (old, 3));
    torn.get_mut()[BINARY] ^= 1;
    assert_eq!((slots(&mut torn), damaged_copy(&mut torn)), (1, Some("first")));
    torn.get_mut()[SIZES[0] + BINARY] ^= 1;
    assert!(format!("{:#}", parse(&mut torn).unwrap_err()).starts_with("both copies are damaged"));
    assert_eq!(damaged_copy(&mut torn), None);
}
