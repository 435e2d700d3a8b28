//! A VM that runs out of its archive while its disk is copied: the real borg, the real QEMU's block layer for its drive, and a
//! libvirt that is a script around it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::path::Path;
use std::process::Command;

use machine::lost::{
    Plug, begun, begun_with, directory, expected, guest, is_whole, lost, names, no_one_shows_anything, pid,
};
use machine::wait_for;
use serde_json::Value;

fn settled(line: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else { return line.into() };
    let comma = if value.ends_with(',') { "," } else { "" };
    let fixed = match name.trim().trim_matches('"') {
        "seconds" | "external_seconds" | "started_seconds" => "0.5",
        "external_calls" => "9",
        "archive" => "\"mail.2026-01-02T03:04:05Z\"",
        "taken_at" | "since" => "\"2026-01-02T03:04:05Z\"",
        "token" => "\"0123456789abcdef0123456789abcdef\"",
        "copy" => "4711",
        "disk" => "\"/mnt/vms/vms/mail/disk.img\"",
        _ => return line.into(),
    };
    format!("{name}: {fixed}{comma}")
}

/// It is what tests/golden has, but for times, names and numbers that are others each time.
fn is_as_recorded(file: &str, text: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let told: String = text.lines().map(|line| settled(line) + "\n").collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &told).unwrap();
    }
    // Linux before 6.6 has no such attributes on a tmpfs.
    let marked = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("\"token\""));
        lines.map(Into::into).collect::<Vec<String>>()
    };
    assert_eq!(marked(&told), marked(&fs::read_to_string(&golden).unwrap()));
}

#[test]
fn it_runs_at_once_and_what_it_writes_meanwhile_is_on_its_disk() {
    let machine = lost();
    let _plug = Plug(&machine);
    fs::write(machine.at("slow"), "1048576").unwrap();
    let child = begun(&machine);
    assert!(guest(&machine, &["write -P 7 0 4096", "write -P 8 2097152 4096"]).contains("wrote 4096/4096"));
    // What it writes is for nobody else to read.
    let mode = |path: &Path| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o7777
    };
    let here = directory(&machine);
    let modes = [mode(&here), mode(&here.join("instant.qcow2")), mode(&here.join("disk.img.restoring"))];
    assert_eq!(modes, [0o711, 0o600, 0o600]);
    // Half a disk has no name that anybody could take it by, and what is there says whose it is.
    assert!(!machine.disk_of("mail").exists());
    is_as_recorded("instant-note.json", &fs::read_to_string(here.join("instant.json")).unwrap());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", machine::said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    is_as_recorded("instant.json", &text);
    is_whole(&machine, &[(0, 7), (2 << 20, 8)]);
    // It goes on, on the disk that has the name now, which is as sparse as it was.
    assert!(guest(&machine, &["write -P 9 3145728 4096", "flush"]).contains("wrote 4096/4096"));
    is_whole(&machine, &[(0, 7), (2 << 20, 8), (3 << 20, 9)]);
    assert!(!machine.at("guest.paused").exists());
    let taken = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(machine.disk_of("mail")).unwrap()) * 512;
    assert!(taken < (3 << 20), "{taken} bytes, and the second MiB is a hole");
    // Somebody deletes it, and its guest has the last copy open.
    fs::remove_file(machine.disk_of("mail")).unwrap();
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(
        code == 2 && said.contains("has no name any more: do not stop it\n  virsh blockcopy mail vda"),
        "{said}"
    );
    assert!(pid(&machine).is_some() && names(&machine) == ["nvram.fd"]);
    // Nor does a note of a run that began nothing stop it.
    let note = serde_json::json!({"schema": "pc.borg.instant/1", "vm": "mail", "node": "node1", "policy": "daily",
        "archive": "mail.2026-01-02T03:04:05Z", "disk_bytes": 1, "since": "2026-01-02T03:04:05Z"});
    fs::write(directory(&machine).join("instant.json"), note.to_string()).unwrap();
    machine.ok(&["recover"]);
    assert!(pid(&machine).is_some() && names(&machine) == ["nvram.fd"]);
}

/// Whatever happens to whoever copies: what the guest has written is kept, nobody starts it from half a disk, and the same command
/// goes on.
#[test]
fn one_that_was_killed_goes_on_with_what_the_guest_had_written() {
    let machine = lost();
    let _plug = Plug(&machine);
    fs::write(machine.at("slow"), "262144").unwrap();
    let mut child = begun(&machine);
    guest(&machine, &["write -P 7 4096 4096", "flush"]);
    // One at a time.
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(code == 75 && said.contains("another pc-borg instant is copying its disk"), "{said}");
    machine.ok(&["recover"]);
    assert!(pid(&machine).is_some(), "one that is at work is let alone");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of what was shown", || {
        !machine.root().join("run/personal-cluster/instant/mail/disk/vda").exists()
    });
    // It has lost what it has not read yet.
    machine.ok(&["recover"]);
    assert!(pid(&machine).is_none() && !machine.disk_of("mail").exists());
    for verb in [&["backup", "mail"][..], &["restore", "mail"]] {
        let (code, said) = machine.fails(verb);
        assert!(code == 75 && said.contains("its disk is being copied out of mail.20"), "{verb:?}: {said}");
    }
    for more in [&["--at", "2030-01-01"][..], &["--policy", "other"]] {
        let (code, said) = machine.fails(&[&["instant", "mail"], more].concat());
        assert!(code == 2 && said.contains("what it wrote lies over mail.20"), "{said}");
    }
    // Cut off once more, by Ctrl-C or a shutdown: the guest is stopped first.
    let child = begun(&machine);
    assert!(
        guest(&machine, &["read -P 7 4096 4096", "write -P 8 8192 4096", "flush"]).contains("read 4096/4096")
    );
    // What ends a session ends all that is in it, at once.
    let us = child.id().to_string();
    let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &us]).output().unwrap().stdout;
    let servers = String::from_utf8(listed).unwrap();
    assert!(servers.split_whitespace().count() >= 2, "{servers}");
    assert!(Command::new("kill").args(servers.split_whitespace()).arg(&us).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", machine::said(&output));
    assert!(machine.at("stopped-in-time").exists(), "it could read until it was off");
    assert!(pid(&machine).is_none(), "it has lost what it has not read");
    assert!(no_one_shows_anything(&machine));
    fs::remove_file(machine.at("slow")).unwrap();
    let answer = machine.json(&["instant", "mail"]);
    assert_eq!((answer["resumed"].as_bool(), answer["running"].as_bool()), (Some(true), Some(true)));
    is_whole(&machine, &[(4096, 7), (8192, 8)]);
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(code == 2 && said.contains("disk.img is there, and is not written over"), "{said}");
}

/// The one moment at which there are two disks: which of them counts is what the note says.
#[test]
fn one_that_was_killed_while_it_changed_over_has_one_disk() {
    for step in ["pivot", "pivoted"] {
        let machine = lost();
        let _plug = Plug(&machine);
        let mut child = machine.start_until(&["instant", "mail"], step);
        assert!(machine.at("guest.paused").exists() && machine.disk_of("mail").exists());
        child.kill().unwrap();
        child.wait().unwrap();
        machine.go_on(step);
        if step == "pivot" {
            // A power cut.
            let pid = pid(&machine).unwrap();
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
            wait_for("its end", || self::pid(&machine).is_none());
            // Whoever asked for it hears that.
            fs::write(machine.at("never"), "go\n").unwrap();
            machine.ok(&["recover"]);
            assert!(directory(&machine).join("instant.json").exists(), "the overlay counts");
            // Somebody put his own disk there meanwhile.
            let half = directory(&machine).join("half");
            fs::rename(machine.disk_of("mail"), &half).unwrap();
            fs::write(machine.disk_of("mail"), "mine").unwrap();
            let (code, said) = machine.fails(&["instant", "mail"]);
            assert!(
                code == 2 && said.contains("was not made by the run that was cut off\n  move it away"),
                "{said}"
            );
            assert_eq!(fs::read(machine.disk_of("mail")).unwrap(), b"mine");
            fs::rename(&half, machine.disk_of("mail")).unwrap();
            machine.ok(&["instant", "mail"]);
        } else {
            fs::write(machine.at("never"), "go\n").unwrap();
            // It stands still until somebody looks.
            machine.ok(&["recover"]);
        }
        assert!(pid(&machine).is_some() && !machine.at("guest.paused").exists(), "{step}");
        is_whole(&machine, &[]);
        guest(&machine, &["write -P 9 0 4096", "flush"]);
        is_whole(&machine, &[(0, 9)]);
    }
}

#[test]
fn one_that_switches_itself_off_has_its_disk_all_the_same() {
    let machine = lost();
    let _plug = Plug(&machine);
    fs::write(machine.at("slow"), "262144").unwrap();
    // A node is off, and what was said of it holds until the end.
    fs::write(machine.at("no-verdict"), "").unwrap();
    let child = begun_with(&machine, &["--owner-is-dead", "node3"]);
    guest(&machine, &["write -P 7 12288 4096", "flush"]);
    let pid = pid(&machine).unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", machine::said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["whole"].as_bool(), answer["running"].as_bool()), (Some(true), Some(false)));
    assert_eq!(answer["state"], "shut off");
    is_whole(&machine, &[(12288, 7)]);
}

#[test]
fn what_never_ran_leaves_nothing_and_what_did_is_given_up_only_by_name() {
    let machine = lost();
    let _plug = Plug(&machine);
    fs::write(machine.at("no-fuse"), "").unwrap();
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(code == 1 && said.contains("borg cannot mount: borg: borg mount not available"), "{said}");
    assert!(said.contains("\n  apt-get install python3-pyfuse3"), "{said}");
    assert!(names(&machine).is_empty() && no_one_shows_anything(&machine));
    fs::remove_file(machine.at("no-fuse")).unwrap();
    fs::write(machine.at("no-start"), "").unwrap();
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(code == 75 && said.contains("pc-vm: vm mail: node2 owns it and does not answer"), "{said}");
    assert!(names(&machine).is_empty() && no_one_shows_anything(&machine));
    fs::remove_file(machine.at("no-start")).unwrap();
    fs::write(machine.at("rots"), "").unwrap();
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(
        code == 1 && said.contains("0000000002: is not what was backed up: its digest differs"),
        "{said}"
    );
    assert!(names(&machine).is_empty());
    fs::remove_file(machine.at("rots")).unwrap();
    fs::write(machine.at("slow"), "262144").unwrap();
    let (code, said) = machine.fails(&["instant", "mail", "--yes-lose-what-was-written-since"]);
    assert!(code == 2 && said.contains("nothing was cut off"), "{said}");
    let mut child = begun(&machine);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(machine.at("no-verdict"), "").unwrap();
    let (code, said) = machine.fails(&["instant", "mail", "--yes-lose-what-was-written-since"]);
    assert!(
        code == 75
            && said
                .contains("does not answer\n  when that node is switched off for certain: pc-borg instant"),
        "{said}"
    );
    fs::remove_file(machine.at("no-verdict")).unwrap();
    let answer = machine.json(&["instant", "mail", "--yes-lose-what-was-written-since"]);
    assert_eq!((answer["whole"].as_bool(), answer["started_seconds"].is_null()), (Some(false), true));
    assert_eq!(names(&machine), ["nvram.fd"]);
    machine.ok(&["restore", "mail"]);
    assert!(fs::read(machine.disk_of("mail")).unwrap() == expected(&[]));
    let (code, said) = machine.fails(&["instant", "other"]);
    assert!(code == 2 && said.contains("no [vm] is called \"other\""), "{said}");
}

/// `virsh start` in the moment in which the empty copy has the name of a disk: that is no changeover.
#[test]
fn a_guest_that_somebody_started_from_half_a_disk_does_not_make_it_whole() {
    let machine = lost();
    let _plug = Plug(&machine);
    let mut child = machine.start_until(&["instant", "mail"], "pivot");
    child.kill().unwrap();
    child.wait().unwrap();
    machine.go_on("pivot");
    let note = directory(&machine).join("instant.json");
    let mut left: Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    assert!(left["copied"] == true && left["copy"].is_u64(), "{left}");
    left["copied"] = false.into();
    fs::write(&note, left.to_string()).unwrap();
    fs::write(machine.at("never"), "go\n").unwrap();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/guest.py");
    wait_for("the changeover", || {
        let mut asked = Command::new("python3");
        asked.arg(&guest).args(["dumpxml", "mail"]).env("STAND_IN", machine.directory.path());
        String::from_utf8_lossy(&asked.output().unwrap().stdout).contains("/disk.img'")
    });
    let (code, said) = machine.fails(&["recover"]);
    let why = "which is not whole, and which pc-vm did not start it from\n  pc-vm stop mail, then pc-borg instant mail";
    assert!(code == 2 && said.contains(why), "{said}");
    assert!(directory(&machine).join("instant.qcow2").exists() && note.exists());
}
