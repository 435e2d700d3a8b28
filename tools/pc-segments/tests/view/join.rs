//! Segments put together again: what QEMU reads is the disk, or an error, and never anything else.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, Random, SEGMENT, ended, is_mounted, mounted, ok, signal, wait};

const SIZE: usize = 6 * SEGMENT + 4096;

/// Segments 1 and 2 are zero, and so is the last one, which is short.
fn content() -> Vec<u8> {
    let mut content = Random(3).bytes(SIZE);
    content[SEGMENT..3 * SEGMENT].fill(0);
    content[6 * SEGMENT..].fill(0);
    content
}

/// What `borg mount` would show: a copy of the view.
fn saved(lab: &Lab, content: &[u8]) -> PathBuf {
    lab.image(content);
    let mut segments = lab.segments();
    segments.args(["--", "cp", "-r"]).arg(lab.view()).arg(lab.path("saved"));
    ok(&segments.output().unwrap());
    lab.path("saved")
}

fn join(lab: &Lab) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pc-segments"));
    command.arg("--join").arg(lab.path("saved")).arg(lab.view()).stdin(Stdio::null());
    command
}

fn end(lab: &Lab, child: Child) -> String {
    signal(&child, Signal::SIGTERM);
    let output = wait(child);
    assert!(!is_mounted(&lab.view()));
    ended(&output, 0)
}

#[test]
fn the_disk_is_there_again_for_qemu_with_its_holes() {
    let lab = Lab::new();
    let content = content();
    saved(&lab, &content);
    let child = mounted(join(&lab));
    let vda = lab.view().join("vda");
    assert_eq!(std::fs::read(&vda).unwrap(), content);
    let compared = Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "raw", "-T", "none"])
        .arg(lab.path("vda.img"))
        .arg(&vda)
        .output()
        .unwrap();
    ok(&compared);
    let map =
        Command::new("qemu-img").args(["map", "-f", "raw", "--output=json"]).arg(&vda).output().unwrap();
    let map: Value = serde_json::from_slice(&map.stdout).unwrap();
    let parts: Vec<(u64, u64, bool)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (part["start"].as_u64().unwrap(), part["length"].as_u64().unwrap(), part["data"] == true))
        .collect();
    let segment = SEGMENT as u64;
    let expected = [
        (0, segment, true),
        (segment, 2 * segment, false),
        (3 * segment, 3 * segment, true),
        (6 * segment, 4096, false),
    ];
    assert_eq!(parts, expected);
    // An overlay is where a guest writes to.
    let overlay = lab.path("overlay.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&vda)
        .arg(&overlay)
        .output();
    ok(&made.unwrap());
    let wrote = Command::new("qemu-io")
        .args(["-c", "write -P 7 70000 100", "-c", "read -P 7 70000 100"])
        .arg(&overlay)
        .output();
    ok(&wrote.unwrap());
    assert_eq!(end(&lab, child), "");
}

#[test]
fn a_segment_that_is_not_what_was_backed_up_is_an_error_and_the_others_are_read() {
    let lab = Lab::new();
    let content = content();
    let saved = saved(&lab, &content);
    let third = saved.join("vda/0000000003");
    std::fs::remove_file(saved.join("vda/0000000005")).unwrap();
    let mut bytes = std::fs::read(&third).unwrap();
    bytes[9] ^= 1;
    std::fs::remove_file(&third).unwrap();
    std::fs::write(&third, bytes).unwrap();
    let child = mounted(join(&lab));
    let vda = std::fs::File::open(lab.view().join("vda")).unwrap();
    let mut part = [0; 4096];
    for (index, is_good) in [(0, true), (2, true), (3, false), (4, true), (5, false), (6, true)] {
        let read = vda.read_exact_at(&mut part, (index * SEGMENT) as u64);
        assert_eq!(read.is_ok(), is_good, "segment {index}");
        assert!(!is_good || part == content[index * SEGMENT..][..4096]);
    }
    drop(vda);
    let said = end(&lab, child);
    assert!(said.contains("vda/0000000003: is not what was backed up: its digest differs"), "{said}");
}

#[test]
fn nobody_writes_to_it_and_its_owner_is_whoever_root_says() {
    let lab = Lab::new();
    saved(&lab, &content());
    let child = mounted(join(&lab));
    let vda = lab.view().join("vda");
    assert_eq!(std::fs::metadata(&vda).unwrap().mode() & 0o7777, 0o400);
    for write in [std::fs::write(&vda, "x"), std::fs::write(lab.view().join("new"), "x")] {
        assert!(write.is_err());
    }
    assert!(std::fs::File::options().write(true).open(&vda).is_err());
    assert!(std::fs::remove_file(&vda).is_err());
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&vda, Some(65534), Some(65534)).unwrap();
        let meta = std::fs::metadata(&vda).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (65534, 65534));
        let cat = |path: &PathBuf, user: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--clear-groups", "head", "-c", "1"]).arg(path);
            command.output().unwrap().status.success()
        };
        // The directory of a test is nobody else's: passed through for this once.
        let top = lab.path("");
        std::fs::set_permissions(top, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        assert!(cat(&vda, "65534"), "QEMU is not root");
        assert!(!cat(&vda, "65533"), "and nobody else reads a guest's disk");
    }
    end(&lab, child);
}

#[test]
fn what_is_no_view_is_refused() {
    let lab = Lab::new();
    let saved = saved(&lab, &content());
    let fails = |code, says: &str| {
        let said = ended(&join(&lab).output().unwrap(), code);
        assert!(said.contains(says), "{said}");
        assert!(!is_mounted(&lab.view()));
    };
    let rewrite = |name: &str, from: &str, to: &str| {
        let path = saved.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    rewrite("manifest.json", "pc.segments.manifest/1", "pc.segments.manifest/2");
    fails(2, "its schema is \"pc.segments.manifest/2\"");
    rewrite("manifest.json", "pc.segments.manifest/2", "pc.segments.manifest/1");
    rewrite("vda.sha256", "vda/0000000000", "vda/0000000009");
    fails(1, "vda.sha256: is not what the manifest says");
    rewrite("vda.sha256", "vda/0000000009", "vda/0000000000");
    rewrite("manifest.json", "\"name\": \"vda\"", "\"name\": \"../vda\"");
    fails(2, "is no name of a disk");
    std::fs::remove_file(saved.join("manifest.json")).unwrap();
    fails(1, "reading ");
    let said = ended(&join(&lab).args(["--full"]).output().unwrap(), 2);
    assert!(said.contains("cannot be used with"), "{said}");
}
