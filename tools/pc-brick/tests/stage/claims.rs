//! A claim is not a format: what comes onto a disk between the two is left as it is.

use std::os::unix::fs::FileExt;

use crate::machine::{Stage, blkid, identical, said};
use crate::{filtered, needs_no_dm};

const FOUND: &str = "was blank when it was claimed on ";

/// Noise, as a plain dm-crypt volume looks.
fn noise(stage: &Stage, from: u64, to: u64) {
    let bytes: Vec<u8> = (1_u32..=1 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let disk = std::fs::File::options().write(true).open(stage.disk("a")).unwrap();
    (from..to).for_each(|mebibyte| disk.write_all_at(&bytes, mebibyte << 20).unwrap());
}

fn set_state(stage: &Stage, reached: &str) {
    let mut record = stage.record("a");
    record["state"] = reached.into();
    let path = stage.root.path().join("var/lib/personal-cluster/brick/a.json");
    std::fs::write(path, record.to_string()).unwrap();
}

fn claimed() -> Stage {
    let stage = Stage::new(&["a"]);
    stage.blank("a");
    let killed = stage.run(&["apply", "--stop-after", "a/claim"]);
    assert_eq!(killed.status.code(), None, "{}", said(&killed));
    assert_eq!(stage.record("a")["state"], "claimed");
    stage
}

/// `formatting` is what an older version wrote for a mere claim.
#[test]
fn what_came_after_the_claim_is_not_formatted() {
    for (reached, from, to) in [
        ("claimed", 0, 32),
        ("claimed", 0, 16),
        ("claimed", 100, 108),
        ("formatting", 0, 32),
        ("formatting", 100, 108),
        ("formatting", 1023, 1024),
    ] {
        let stage = claimed();
        set_state(&stage, reached);
        noise(&stage, from, to);
        let copy = stage.root.path().join("copy");
        std::fs::copy(stage.disk("a"), &copy).unwrap();
        let plan = stage.json(&["plan"]);
        assert_eq!(plan["steps"].as_array().unwrap().len(), 0, "{plan}");
        assert!(plan["refused"][0]["found"].as_str().unwrap().starts_with(FOUND), "{plan}");
        let output = stage.run(&["apply"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(FOUND), "{}", said(&output));
        assert!(identical(&stage.disk("a"), &copy), "{reached}, {from} to {to} MiB: written to");
        assert_eq!(stage.record("a")["state"], reached);
        // The remedy, word by word.
        let remedy = plan["refused"][0]["remedy"].as_str().unwrap().split("  #").next().unwrap();
        let words: Vec<&str> = remedy.strip_prefix("pc-brick ").unwrap().split(' ').collect();
        assert!(stage.run(&words).status.success());
        assert_eq!(stage.json(&["plan"])["steps"][0]["id"], "a/claim");
    }
}

#[test]
fn a_format_that_began_goes_on() {
    let stage = claimed();
    set_state(&stage, "formatting");
    noise(&stage, 0, 16);
    let plan = filtered(stage.json(&["plan"]), needs_no_dm);
    let output = stage.run_with(&["apply", "-"], &plan);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(stage.record("a")["state"], "formatted");
    assert_eq!(blkid(&stage.disk("a"), "UUID"), stage.record("a")["luks_uuid"].as_str().unwrap());
}

/// The mark that a format began is on the system disk before cryptsetup runs.
#[test]
fn the_mark_comes_before_the_first_write() {
    let stage = claimed();
    let record = stage.root.path().join("var/lib/personal-cluster/brick/a.json");
    let seen = stage.root.path().join("seen");
    let script = format!("#!/bin/sh\ncp {} {}\nexit 1\n", record.display(), seen.display());
    let output = stage.run_with_program("cryptsetup", &script, &["apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let seen: serde_json::Value = serde_json::from_slice(&std::fs::read(seen).unwrap()).unwrap();
    assert_eq!(seen["state"], "formatting");
    assert_eq!(stage.json(&["plan"])["steps"][0]["id"], "a/luks-format");
}
