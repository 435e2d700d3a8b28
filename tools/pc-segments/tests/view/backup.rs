//! Unmodified borg and restic: the second run reads what changed and no more, and what is restored is the image.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, Random, SEGMENT, cat, ended, ok};

fn borg(lab: &Lab) -> Command {
    let mut command = Command::new("borg");
    environment(&mut command, lab);
    command
}

fn environment(command: &mut Command, lab: &Lab) {
    command.env("BORG_BASE_DIR", lab.path("borg")).env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
    command.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes").env("XDG_CACHE_HOME", lab.path("cache"));
    command.env("RESTIC_PASSWORD", "test").env("RESTIC_REPOSITORY", lab.path("restic"));
}

fn create(lab: &Lab, mut segments: Command, archive: usize) -> Command {
    environment(&mut segments, lab);
    segments.args([
        "--",
        "borg",
        "create",
        "--chunker-params",
        "fixed,65536",
        "--noxattrs",
        "--noacls",
        "--noflags",
    ]);
    segments.arg(format!("{}::{archive}", lab.path("repo").display())).arg(lab.view());
    segments
}

fn restored(lab: &Lab, archive: usize) -> Vec<u8> {
    let target = lab.path(&format!("restored-{archive}"));
    std::fs::create_dir(&target).unwrap();
    let name = format!("{}::{archive}", lab.path("repo").display());
    ok(&borg(lab).arg("extract").arg(&name).current_dir(&target).output().unwrap());
    let view = target.join(lab.view().strip_prefix("/").unwrap());
    let parts = cat(&view.join("vda"));
    // The order in which borg stored the segments is that of the disk.
    let stream = borg(lab).args(["extract", "--stdout", &name, "re:/vda/[0-9]*$"]).output().unwrap();
    ok(&stream);
    assert_eq!(stream.stdout, parts, "extract --stdout");
    let check =
        Command::new("sha256sum").args(["--quiet", "--check", "vda.sha256"]).current_dir(&view).output();
    ok(&check.unwrap());
    parts
}

fn write(path: &Path, content: &mut [u8], at: usize, bytes: &[u8]) {
    content[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at as u64).unwrap();
}

#[test]
fn borg_reads_what_changed_night_after_night() {
    let lab = Lab::new();
    let mut random = Random(7);
    let mut content = random.bytes(40 * SEGMENT + 1234);
    let image = lab.image(&content);
    ok(&borg(&lab).args(["init", "--encryption", "none"]).arg(lab.path("repo")).output().unwrap());
    ok(&create(&lab, lab.segments(), 0).output().unwrap());
    assert_eq!(lab.report()["served_bytes"], content.len());
    let mut saved = content.clone();
    for night in 1..=8 {
        for _ in 0..random.below(4) {
            let at = random.below(content.len());
            let count = random.below(2 * SEGMENT).min(content.len() - at);
            let bytes = random.bytes(count);
            write(&image, &mut content, at, &bytes);
        }
        let extents = lab.extents(&saved, &content, "digest");
        if night == 5 {
            // A night whose backup fails: what it read counts for nothing.
            let mut failing = lab.with_extents(&extents);
            failing.args(["--", "sh", "-c", "cat \"$0\"/vda/* > /dev/null; exit 4"]).arg(lab.view());
            assert!(ended(&failing.output().unwrap(), 1).contains("sh: ended with 4, nothing is committed"));
            continue;
        }
        ok(&create(&lab, lab.with_extents(&extents), night).output().unwrap());
        let report = lab.report();
        let dirty: usize = content
            .chunks(SEGMENT)
            .zip(saved.chunks(SEGMENT))
            .filter(|(new, old)| new != old)
            .map(|(new, _)| new.len())
            .sum();
        assert_eq!(report["served_bytes"], dirty, "night {night}");
        assert_eq!(report["read_bytes"], dirty, "night {night}");
        assert_eq!(report["disks"][0]["left_dirty_segments"], 0);
        saved.clone_from(&content);
        assert!(restored(&lab, night) == content, "night {night}");
    }
}

#[test]
fn restic_reads_what_changed() {
    let lab = Lab::new();
    let mut content = Random(8).bytes(20 * SEGMENT + 1);
    let image = lab.image(&content);
    let restic = |arguments: &[&str]| {
        let mut command = Command::new("restic");
        environment(&mut command, &lab);
        ok(&command.args(arguments).output().unwrap());
    };
    restic(&["init"]);
    let backup = |mut segments: Command| {
        environment(&mut segments, &lab);
        segments.args(["--", "restic", "backup"]).arg(lab.view());
        ok(&segments.output().unwrap());
    };
    backup(lab.segments());
    let saved = content.clone();
    write(&image, &mut content, 5 * SEGMENT + 17, b"changed");
    backup(lab.with_extents(&lab.extents(&saved, &content, "digest")));
    assert_eq!(lab.report()["served_bytes"], SEGMENT);
    let target = lab.path("restored");
    restic(&["restore", "latest", "--target", target.to_str().unwrap()]);
    assert!(cat(&target.join(lab.view().strip_prefix("/").unwrap()).join("vda")) == content);
}

#[test]
fn time_stamps_follow_changes_and_inodes_stay() {
    let lab = Lab::new();
    let mut content = vec![1; 4 * SEGMENT];
    let image = lab.image(&content);
    let list = |mut segments: Command| -> Vec<(u64, i64, i64)> {
        let out = lab.path("stat");
        segments.args([
            "--",
            "sh",
            "-c",
            "cat \"$0\"/vda/* > /dev/null; stat -c '%i %.9Y %.9Z' \"$0\"/vda/* > \"$1\"",
        ]);
        ok(&segments.arg(lab.view()).arg(&out).output().unwrap());
        let text = std::fs::read_to_string(out).unwrap();
        let number = |text: &str| text.replace('.', "").parse().unwrap();
        let line = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[0].parse().unwrap(), number(fields[1]), number(fields[2]))
        };
        text.lines().map(line).collect()
    };
    let first = list(lab.segments());
    let saved = content.clone();
    write(&image, &mut content, SEGMENT, b"x");
    let second = list(lab.with_extents(&lab.extents(&saved, &content, "digest")));
    let third = list(lab.with_extents(&lab.extents(&content, &content, "digest")));
    assert_eq!(second, third);
    for (index, (before, after)) in first.iter().zip(&second).enumerate() {
        assert_eq!((before.0, after.1), (after.0, after.2), "same inode, ctime is mtime");
        assert_eq!(before.1 < after.1, index == 1, "segment {index}");
    }
    assert_eq!(std::fs::metadata(&image).unwrap().len(), content.len() as u64);
    assert!(
        std::fs::metadata(lab.path("state")).unwrap().mode().trailing_zeros() >= 6,
        "nobody else reads the state"
    );
}
