//! Headers that come back from their backup.

use std::process::Command;

use crate::machine::{Stage, blkid, said};
use crate::{filtered, needs_no_dm};

/// The first line of the remedy, on the image that stands in for the disk.
fn restore_as_told(stage: &Stage) {
    let plan = stage.json(&["plan"]);
    let remedy = plan["refused"][0]["remedy"].as_str().unwrap();
    let command = remedy.split("  #").next().unwrap();
    assert!(command.starts_with("cryptsetup luksHeaderRestore /dev/disk/by-id/a "), "{remedy}");
    let mut words =
        command.split(' ').map(|word| word.replace("/dev/disk/by-id/a", stage.disk("a").to_str().unwrap()));
    let status = Command::new(words.next().unwrap()).args(words).arg("--batch-mode").status();
    assert!(status.unwrap().success(), "{command}");
}

#[test]
fn a_header_without_its_magic_comes_back_by_what_the_refusal_says() {
    let stage = Stage::new(&["a"]);
    let disk = stage.blank("a");
    let by_id = "/dev/disk/by-id/a";
    let plan = filtered(stage.json(&["plan"]), needs_no_dm);
    assert!(stage.run_with(&["apply", "-"], &plan).status.success());
    let uuid = blkid(&disk, "UUID");
    let damage = || {
        assert!(Command::new("wipefs").args(["--all", "--quiet"]).arg(&disk).status().unwrap().success());
        assert_eq!(blkid(&disk, "TYPE"), "");
    };
    damage();
    restore_as_told(&stage);
    assert_eq!(blkid(&disk, "UUID"), uuid);
    assert_eq!(stage.json(&["plan"])["steps"][0]["action"], "open");
    // Given up too early: the backup is still there, and whoever wipes is told that it goes.
    damage();
    assert!(stage.run(&["forget", by_id]).status.success());
    let output = stage.run(&["wipe", by_id]);
    assert_eq!(output.status.code(), Some(2));
    let kept = format!("headers/a.{uuid}.img");
    let lost = "holds data without a signature; its header backups are lost with it: ";
    assert!(said(&output).contains(lost) && said(&output).contains(&kept), "{}", said(&output));
    restore_as_told(&stage);
    assert_eq!(stage.json(&["adopt", by_id])["done"], "adopted");
    assert_eq!(stage.json(&["plan"])["steps"][0]["action"], "open");
}
