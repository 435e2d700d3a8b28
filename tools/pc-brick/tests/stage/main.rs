//! The real blkid, wipefs and cryptsetup on image files below a root that stands in for a machine. What needs
//! device-mapper is tests/scenarios/brick-kill.py.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod claims;
mod headers;
mod images;
mod keys;
mod machine;

use std::process::Command;

use images::Image;
use machine::{Stage, blkid, identical, said};
use serde_json::Value;

/// Up to the steps that need no device-mapper.
const WITHOUT_DM: [&str; 3] = ["claim", "luks-format", "header-backup"];

fn filtered(mut plan: Value, keep: impl Fn(&Value) -> bool) -> String {
    plan["steps"].as_array_mut().unwrap().retain(|step| keep(step));
    plan.to_string()
}

fn needs_no_dm(step: &Value) -> bool {
    WITHOUT_DM.contains(&step["action"].as_str().unwrap())
}

/// No disk is touched that could not be bound: here to servers of which a stand-in for pc-unlock says that they are down.
#[test]
fn a_blank_disk_stays_blank_while_the_servers_are_down() {
    let stage = Stage::new(&["a"]);
    let disk = stage.blank("a");
    let file = stage.root.path().join("cluster.toml");
    let unlock = "[unlock]\ntang = [{ url = \"http://10.0.0.9\", thumbprint = \"oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs\" }]\n";
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + unlock).unwrap();
    let called = stage.root.path().join("called");
    let script = format!("#!/bin/sh\necho \"$1 $2\" >> {}\necho down >&2\nexit 75\n", called.display());
    let output = stage.run_beside(&["apply"], &script);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("a/claim: pc-unlock check: exit status: 75: down"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(called).unwrap(), "check --servers\n");
    assert_eq!(blkid(&disk, "TYPE"), "");
    assert!(!stage.root.path().join("var/lib/personal-cluster/brick/a.json").exists());
}

#[test]
fn what_holds_data_is_named_and_left_byte_for_byte() {
    let images = images::all();
    let mut names: Vec<&str> = images.iter().map(|image| image.name).collect();
    names.push("blank");
    let stage = Stage::new(&names);
    let copies = tempfile::tempdir().unwrap();
    for Image { name, make, .. } in &images {
        make(&stage.disk(name));
        let status = Command::new("cp")
            .arg("--sparse=always")
            .arg(stage.disk(name))
            .arg(copies.path().join(name))
            .status();
        assert!(status.unwrap().success());
    }
    stage.blank("blank");
    let output = stage.run(&["apply", "--json"]);
    // 1: the blank disk cannot be opened without device-mapper, which may pass; the refusals (2) do not hide that.
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused = answer["refused"].as_array().unwrap();
    for Image { name, word, .. } in &images {
        let refusal = refused.iter().find(|refusal| refusal["disk"] == *name);
        let found = refusal.unwrap_or_else(|| panic!("{name} was not refused"))["found"].as_str().unwrap();
        assert!(found.contains(word), "{name}: {found}");
        assert!(identical(&stage.disk(name), &copies.path().join(name)), "{name} was written to");
    }
    assert_eq!(refused.len(), images.len());
    assert_eq!(blkid(&stage.disk("blank"), "TYPE"), "crypto_LUKS", "the other disk is done all the same");
    let status = stage.json(&["status"]);
    assert_eq!(status["healthy"], false);
    assert_eq!(status["bricks"][0]["state"], "foreign");
}

#[test]
fn one_disk_of_a_plan_and_the_replay_is_stale() {
    let stage = Stage::new(&["a", "b"]);
    stage.blank("a");
    let other = stage.blank("b");
    let plan = stage.json(&["plan"]);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 24);
    let one = filtered(plan, |step| step["disk"] == "a" && needs_no_dm(step));
    let output = stage.run_with(&["apply", "-"], &one);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("RECOVERY KEY"));
    assert_eq!(blkid(&stage.disk("a"), "UUID"), stage.record("a")["luks_uuid"].as_str().unwrap());
    let blank = tempfile::NamedTempFile::new().unwrap();
    blank.as_file().set_len(1 << 30).unwrap();
    assert!(identical(&other, blank.path()), "the other disk was written to");
    let replayed = stage.run_with(&["apply", "-"], &one);
    assert_eq!(replayed.status.code(), Some(2));
    assert!(said(&replayed).contains("plan is stale"), "{}", said(&replayed));
    let lacking = filtered(stage.json(&["plan"]), |step| step["action"] == "mkfs");
    let output = stage.run_with(&["apply", "-"], &lacking);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("which was left out"), "{}", said(&output));
}

#[test]
fn killed_at_every_step_and_never_a_second_format() {
    for stop in WITHOUT_DM {
        let stage = Stage::new(&["a"]);
        let disk = stage.blank("a");
        let killed = stage.run(&["apply", "--stop-after", &format!("a/{stop}")]);
        assert_eq!(killed.status.code(), None, "{stop}: {}", said(&killed));
        let claimed = stage.record("a");
        let header = || Command::new("head").args(["-c", "16M"]).arg(&disk).output().unwrap().stdout;
        let before = (stop != "claim").then(header);
        let plan = filtered(stage.json(&["plan"]), needs_no_dm);
        let output = stage.run_with(&["apply", "-", "--json"], &plan);
        assert_eq!(output.status.code(), Some(0), "{stop}: {}", said(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(answer["recovery_key"].is_string(), "{stop}: a key that nobody saw is still shown");
        assert_eq!(stage.record("a")["luks_uuid"], claimed["luks_uuid"]);
        assert_eq!(stage.record("a")["state"], "formatted");
        assert_eq!(blkid(&disk, "UUID"), claimed["luks_uuid"].as_str().unwrap());
        if let Some(before) = before {
            assert!(before == header(), "{stop}: formatted twice");
        }
    }
}

#[test]
fn killed_within_the_format_it_still_converges() {
    for millis in [0, 5, 20, 60, 150] {
        let stage = Stage::new(&["a"]);
        let disk = stage.blank("a");
        stage.run(&["apply", "--stop-within", &format!("a/luks-format={millis}")]);
        let claimed = stage.record("a");
        let mut code = None;
        // 75 while the cryptsetup that outlived its parent still holds the lock.
        for _ in 0..100 {
            let plan = stage.run(&["plan", "--json"]);
            let plan = serde_json::from_slice(&plan.stdout).unwrap();
            let output = stage.run_with(&["apply", "-"], &filtered(plan, needs_no_dm));
            code = output.status.code();
            // Stale: the survivor ended between our plan and its application.
            if code != Some(75) && !said(&output).contains("stale") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(code, Some(0), "{millis} ms");
        assert_eq!(stage.record("a")["state"], "formatted");
        assert_eq!(blkid(&disk, "UUID"), claimed["luks_uuid"].as_str().unwrap(), "{millis} ms");
        let key = stage.root.path().join("run/personal-cluster/secrets/recovery-key");
        let opens = Command::new("cryptsetup")
            .args(["open", "--test-passphrase", "--key-file"])
            .args([&key, &disk])
            .status();
        assert!(opens.unwrap().success(), "{millis} ms");
    }
}

#[test]
fn a_brick_that_looks_blank_is_refused_until_it_is_forgotten() {
    let stage = Stage::new(&["a"]);
    let disk = stage.blank("a");
    let plan = filtered(stage.json(&["plan"]), needs_no_dm);
    assert!(stage.run_with(&["apply", "-"], &plan).status.success());
    stage.blank("a");
    let output = stage.run(&["apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("has no LUKS header any more"), "{}", said(&output));
    assert!(said(&output).contains("pc-brick forget /dev/disk/by-id/a"), "{}", said(&output));
    assert_eq!(blkid(&disk, "TYPE"), "");
    assert!(stage.run(&["forget", "/dev/disk/by-id/a"]).status.success());
    assert_eq!(stage.json(&["plan"])["steps"][0]["action"], "claim");
    assert_eq!(stage.run(&["forget", "/dev/disk/by-id/a"]).status.code(), Some(2));
}

#[test]
fn wipe_says_what_it_would_destroy_and_needs_its_flag() {
    let stage = Stage::new(&["a"]);
    let disk = stage.blank("a");
    let plan = filtered(stage.json(&["plan"]), needs_no_dm);
    assert!(stage.run_with(&["apply", "-"], &plan).status.success());
    let by_id = "/dev/disk/by-id/a";
    let output = stage.run(&["wipe", by_id]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("holds crypto_LUKS version 2"), "{}", said(&output));
    assert_eq!(blkid(&disk, "TYPE"), "crypto_LUKS");
    for wrong in ["/dev/sda", "a", "/dev/disk/by-id/nothing"] {
        assert!(!stage.run(&["wipe", wrong, "--yes-destroy-all-data-on-it"]).status.success(), "{wrong}");
    }
    // With the recovery key the copies on replicated volumes would open what the disk still holds.
    let root = stage.root.path();
    let file = std::fs::read_to_string(root.join("cluster.toml")).unwrap();
    let more = "[volume.away]\nuse = \"backup\"\nreplicas = 1\n";
    let disks = "disks.away = [\"/dev/disk/by-id/z\"]\ndisks.vms";
    std::fs::write(root.join("cluster.toml"), file.replace("disks.vms", disks) + more).unwrap();
    std::fs::create_dir_all(root.join("proc/self")).unwrap();
    let mounts = "50 36 0:40 / /mnt/vms rw - fuse.glusterfs n1:vms rw\n";
    std::fs::write(root.join("proc/self/mountinfo"), mounts).unwrap();
    let copies = root.join("mnt/vms/headers/n1");
    std::fs::create_dir_all(&copies).unwrap();
    for name in ["a.jwe", "b.jwe"] {
        std::fs::write(copies.join(name), "JWE").unwrap();
    }
    let output = stage.run(&["wipe", by_id, "--yes-destroy-all-data-on-it", "--json"]);
    assert!(said(&output).contains("a: volume away is not mounted"), "{}", said(&output));
    assert!(!copies.join("a.jwe").exists() && copies.join("b.jwe").exists());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["done"], "wiped");
    std::fs::write(root.join("cluster.toml"), file).unwrap();
    assert_eq!(stage.json(&["status"])["bricks"][0]["state"], "blank");
    assert!(!stage.root.path().join("var/lib/personal-cluster/headers/a.img").exists());
    assert_eq!(stage.json(&["plan"])["steps"][0]["action"], "claim");
}

#[test]
fn a_brick_of_another_system_is_adopted_and_not_formatted() {
    let stage = Stage::new(&["a"]);
    let disk = stage.blank("a");
    let plan = filtered(stage.json(&["plan"]), needs_no_dm);
    assert!(stage.run_with(&["apply", "-"], &plan).status.success());
    // The system disk is new: everything remembered is gone.
    std::fs::remove_dir_all(stage.root.path().join("var")).unwrap();
    let uuid = blkid(&disk, "UUID");
    let output = stage.run(&["apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("pc-brick adopt /dev/disk/by-id/a"), "{}", said(&output));
    assert_eq!(stage.json(&["adopt", "/dev/disk/by-id/a"])["done"], "adopted");
    assert_eq!(
        (stage.record("a")["luks_uuid"].as_str(), stage.record("a")["state"].as_str()),
        (Some(&*uuid), Some("made"))
    );
    let steps = stage.json(&["plan"])["steps"].clone();
    let actions: Vec<&str> =
        steps.as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["open", "activate", "mountpoint", "mount", "directory", "record", "header-backup"]);
}

#[test]
fn a_missing_disk_darkens_only_itself() {
    let stage = Stage::new(&["gone", "a"]);
    stage.blank("a");
    let output = stage.run(&["plan", "--exit-code"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("gone: missing"));
    // Nothing else fails here: the last step before device-mapper.
    let output = stage.run(&["apply", "--stop-after", "a/header-backup"]);
    assert_eq!(output.status.code(), None);
    assert!(said(&output).contains("error: gone: missing"));
    assert_eq!(stage.json(&["status"])["bricks"][0]["state"], "missing");
    assert_eq!(stage.json(&["status"])["bricks"][1]["state"], "locked");
    assert_eq!(stage.run(&["status", "--exit-code"]).status.code(), Some(3));
}

#[test]
fn a_torn_record_darkens_only_its_disk() {
    let stage = Stage::new(&["a", "b"]);
    let (disk, _) = (stage.blank("a"), stage.blank("b"));
    let records = stage.root.path().join("var/lib/personal-cluster/brick");
    std::fs::create_dir_all(&records).unwrap();
    std::fs::write(records.join("a.json"), "{").unwrap();
    let plan = stage.json(&["plan"]);
    assert!(plan["refused"][0]["found"].as_str().unwrap().contains("brick/a.json"), "{plan}");
    assert_eq!(plan["steps"][0]["id"], "b/claim");
    assert_eq!(blkid(&disk, "TYPE"), "");
}

#[test]
fn bad_requests_change_nothing() {
    let stage = Stage::new(&["a"]);
    let disk = stage.blank("a");
    for (arguments, stdin) in [
        (&["apply", "-"][..], "not a plan"),
        (&["apply", "-"], "{\"schema\":\"pc.ovs.plan/1\",\"node\":\"n1\",\"digest\":\"\",\"steps\":[]}"),
        (&["apply", "-", "--recovery-key-file", "-"], "x"),
        (&["apply", "--recovery-key-file", "/nonexistent"], ""),
        (&["apply", "--node", "n9"], ""),
        (&["apply", "plan.json"], ""),
    ] {
        let output = stage.run_with(arguments, stdin);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert_eq!(blkid(&disk, "TYPE"), "", "{arguments:?}");
    }
    // A state directory that cannot be written to: the disk is not touched before its record is safe.
    std::fs::create_dir_all(stage.root.path().join("var/lib")).unwrap();
    std::fs::write(stage.root.path().join("var/lib/personal-cluster"), "a file").unwrap();
    let output = stage.run(&["apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(blkid(&disk, "TYPE"), "");
}

#[test]
fn status_answers_where_nothing_can_be_left() {
    let stage = Stage::new(&["a"]);
    stage.blank("a");
    // No directory can be made where a file stands: for root too, whom no permission stops.
    std::fs::write(stage.root.path().join("run"), "").unwrap();
    let output = stage.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).starts_with("warning: leaving the status: creating "), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["bricks"][0]["state"], "blank");
}

#[test]
fn a_terminal_obeys_no_label() {
    let stage = Stage::new(&["a"]);
    let label = "x\nPTTYPE=\u{1b}[31m";
    let disk = stage.blank("a");
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-L", label]).arg(disk).status();
    assert!(made.unwrap().success());
    for verb in ["plan", "status", "apply"] {
        let output = stage.run(&[verb]);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), said(&output));
        assert!(text.contains(r#"ext4 file system "x\nPTTYPE=\u{1b}[31m""#), "{verb}: {text}");
        assert!(!text.contains('\u{1b}') && !text.contains("partition table"), "{verb}: {text}");
    }
}
