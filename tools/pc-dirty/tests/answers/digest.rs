//! Digests: what differs is named, what cannot be compared counts as changed and says why.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use crate::{SEGMENT, answer, differing, dirty, ended, extents, of, write};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_writes_to_a_disk_of_any_size_are_found(
        size in prop_oneof![Just(0), Just(1), Just(SEGMENT), 0..5 * SEGMENT],
        nights in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 1..SEGMENT, any::<u8>()), 0..3), 1..3),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let image = write(directory.path(), "vda.img", &content);
        let image = image.to_str().unwrap();
        let state = directory.path().join("state");
        let (first, said) = answer(of(image, &state, &["--update"]));
        prop_assert_eq!(&first["method"], "full");
        prop_assert!(said.contains("there is no state yet"), "falling back is told: {}", said);
        prop_assert_eq!(first["disks"][0]["dirty_bytes"].as_u64(), Some(size as u64));
        for writes in nights {
            let before = content.clone();
            for (at, length, byte) in writes.into_iter().filter(|_| size > 0) {
                let at = at.index(size);
                let end = (at + length).min(size);
                content[at..end].fill(byte);
            }
            std::fs::write(image, &content).unwrap();
            let (looked, _) = answer(of(image, &state, &[]));
            prop_assert_eq!(extents(&looked), differing(&before, &content));
            let (updated, said) = answer(of(image, &state, &["--update"]));
            prop_assert_eq!(extents(&updated), extents(&looked), "looking changes nothing");
            prop_assert_eq!((updated["method"].as_str(), said.as_str()), (Some("digest"), ""));
        }
    }
}

#[test]
fn holes_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("a.img");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 500 << 20).unwrap();
    let (looked, _) = answer(of(image.to_str().unwrap(), &directory.path().join("state"), &["--update"]));
    assert_eq!(looked["disks"][0]["read_bytes"], SEGMENT);
}

#[test]
fn what_cannot_be_compared_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let image = write(directory.path(), "vda.img", &vec![1; 3 * SEGMENT]);
    let image = image.to_str().unwrap();
    let state = directory.path().join("state");
    answer(of(image, &state, &["--update"]));
    let full = |more: &[&str], why: &str| {
        let (looked, said) = answer(of(image, &state, more));
        let disk = &looked["disks"][0];
        assert_eq!((&looked["method"], &disk["method"]), (&"full".into(), &"full".into()));
        assert!(disk["reason"].as_str().unwrap().contains(why), "{disk}");
        assert!(said.contains(why) || why == "asked for", "{said}");
        assert_eq!(
            (extents(&looked), disk.get("since")),
            (vec![(0, std::fs::read(image).unwrap().len())], None)
        );
    };
    full(&["--method", "full"], "asked for");
    std::fs::write(image, vec![1; 3 * SEGMENT + 1]).unwrap();
    full(&[], "has 196608 bytes in segments of 65536, the disk 196609");
    std::fs::write(&state, "not a state").unwrap();
    full(&[], "state: damaged");
}

#[test]
fn wrong_requests_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let image = write(directory.path(), "vda.img", &[1; 10]);
    let image = image.to_str().unwrap();
    let refused = |arguments: &[&str]| ended(&dirty().args(arguments).output().unwrap(), 2);
    assert!(refused(&["--image", image, "--image", image]).contains("two disks are called vda"));
    assert!(refused(&["--image", "vda="]).contains("names no image"));
    assert!(refused(&["--image", image, "--method", "guess"]).contains("none of bitmap, digest, full"));
    assert!(refused(&["--image", image, "--update"]).contains("--state"));
    refused(&[]);
    refused(&["mail", "--image", image]);
    let missing = dirty().args(["--image", "/nonexistent/a.img"]).output().unwrap();
    assert!(ended(&missing, 1).contains("opening /nonexistent/a.img: No such file"));
}

/// Every key of an answer.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.insert(format!("{at}.{key}"));
            keys(value, &format!("{at}.{key}"), found);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{at}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_answer_has_the_recorded_shape() {
    let directory = tempfile::tempdir().unwrap();
    let image = write(directory.path(), "vda.img", &[1; 10]);
    let state = directory.path().join("state");
    answer(of(image.to_str().unwrap(), &state, &["--update"]));
    std::fs::write(&image, [2; 10]).unwrap();
    let (looked, _) = answer(of(image.to_str().unwrap(), &state, &[]));
    let shape = |value: &Value| {
        let mut found = BTreeSet::new();
        keys(value, "", &mut found);
        found
    };
    let recorded: Value = serde_json::from_str(include_str!("../golden/extents.json")).unwrap();
    let mut expected = shape(&recorded);
    // Of an image without a VM these two are not known.
    assert!(expected.remove(".vm") && expected.remove(".running"));
    assert_eq!(shape(&looked), expected);
}
