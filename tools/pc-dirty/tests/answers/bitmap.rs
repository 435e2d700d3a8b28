//! QEMU's own bitmap in a qcow2 image that no VM uses; and what happens when it is not to be had.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{SEGMENT, answer, extents, of};

fn qemu(program: &str, arguments: &[&str], image: &Path) {
    let output = Command::new(program).args(arguments).arg(image).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A qcow2 image of 16 segments, and a state that was taken with its checkpoint `cp1`.
fn saved(directory: &Path, bitmap: bool) -> (std::path::PathBuf, String, std::path::PathBuf) {
    let path = directory.join("vda.qcow2");
    let made =
        Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M").status().unwrap();
    assert!(made.success());
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 1M"], &path);
    if bitmap {
        let added =
            Command::new("qemu-img").args(["bitmap", "--add", "-f", "qcow2"]).arg(&path).arg("cp1").status();
        assert!(added.unwrap().success());
    }
    let image = format!("qcow2:{}", path.display());
    let state = directory.join("state");
    answer(of(&image, &state, &["--update", "--checkpoint", "cp1"]));
    (path, image, state)
}

fn disk(answer: &Value) -> (&str, &str) {
    let disk = &answer["disks"][0];
    (disk["method"].as_str().unwrap(), disk["reason"].as_str().unwrap())
}

#[test]
fn a_bitmap_names_what_was_written_without_reading() {
    let directory = tempfile::tempdir().unwrap();
    let (path, image, state) = saved(directory.path(), true);
    let (nothing, _) = answer(of(&image, &state, &["--method", "bitmap"]));
    assert!(extents(&nothing).is_empty());
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 2 65536 1", "-c", "write -P 2 1048575 1"], &path);
    let (written, said) = answer(of(&image, &state, &["--method", "bitmap", "--checkpoint", "cp2"]));
    assert_eq!(extents(&written), [(SEGMENT, SEGMENT), (15 * SEGMENT, SEGMENT)]);
    assert_eq!(disk(&written), ("bitmap", "bitmap cp1 since checkpoint cp1"));
    let found = &written["disks"][0];
    assert_eq!((&found["since"], &found["read_bytes"]), (&"checkpoint:cp1".into(), &0.into()));
    assert_eq!((written["checkpoint"].as_str(), said.as_str()), (Some("cp2"), ""));
    // Digests agree.
    assert_eq!(extents(&answer(of(&image, &state, &[])).0), extents(&written));
}

#[test]
fn without_a_bitmap_digests_are_compared_and_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (path, image, state) = saved(directory.path(), false);
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 2 65536 1"], &path);
    let (looked, said) = answer(of(&image, &state, &["--method", "bitmap"]));
    assert_eq!(extents(&looked), [(SEGMENT, SEGMENT)]);
    let (method, reason) = disk(&looked);
    assert_eq!(method, "digest");
    assert!(
        reason.starts_with("no bitmap: ") && reason.contains("'cp1' is not found; compared with 16"),
        "{reason}"
    );
    assert!(said.contains("warning: vda: digest: no bitmap: "), "{said}");
    let first = directory.path().join("no-state");
    let (looked, _) = answer(of(&image, &first, &["--method", "bitmap"]));
    assert_eq!(disk(&looked).0, "full");
}

#[test]
fn a_raw_image_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let image = crate::write(directory.path(), "vda.img", &[1; 10]);
    let state = directory.path().join("state");
    answer(of(image.to_str().unwrap(), &state, &["--update", "--checkpoint", "cp1"]));
    let (looked, _) = answer(of(image.to_str().unwrap(), &state, &["--method", "bitmap"]));
    let (method, reason) = disk(&looked);
    assert_eq!(
        (method, reason.starts_with("no bitmap: a raw image has none; compared")),
        ("digest", true),
        "{reason}"
    );
}
