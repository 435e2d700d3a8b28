//! What goes wrong, one thing at a time: a clear error with its exit code, earlier archives intact, the next run works.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::path::Path;

use machine::{Machine, disk, wait_for};

/// The error as it is recorded, for people read it.
fn golden(name: &str, said: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors").join(format!("{name}.txt"));
    // Numbers and times differ from run to run.
    let mut settled = String::new();
    for word in said.split_inclusive([' ', '\n', ':', ',', ';', ')', ']']) {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        if digits > 0 && !word.starts_with("node") && !word.contains("/mnt") {
            settled.push('N');
            settled.push(word.chars().last().filter(|c| !c.is_ascii_alphanumeric()).unwrap_or(' '));
        } else {
            settled.push_str(word);
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &settled).unwrap();
    }
    assert_eq!(settled, fs::read_to_string(&path).unwrap(), "{name}");
}

/// After each trouble: what was there is there, and a run works.
fn next_run_works(machine: &Machine, before: &[String]) {
    let answer = machine.json(&["backup", "mail"]);
    assert_eq!(answer["backups"][0]["outcome"], "done", "{answer}");
    let after = machine.archives("mail");
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    machine.ok(&["check", "daily", "--data"]);
    let name = format!("copy{}", after.len());
    machine.ok(&["restore", "mail", "--as", &name]);
    assert_eq!(fs::read(machine.disk_of(&name)).unwrap(), fs::read(machine.disk_of("mail")).unwrap());
}

#[test]
fn killed_at_each_step_the_next_run_works() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    for (number, step) in ["dirty", "view", "before-borg", "after-borg", "commit"].into_iter().enumerate() {
        let before = machine.archives("mail");
        let mut changed = fs::read(machine.disk_of("mail")).unwrap();
        changed[number << 20 >> 1] ^= 0xff;
        fs::write(machine.disk_of("mail"), &changed).unwrap();
        let mut child = machine.start_until(&["backup", "mail"], step);
        child.kill().unwrap();
        child.wait().unwrap();
        machine.go_on(step);
        next_run_works(&machine, &before);
        let staged = machine.root().join("run/personal-cluster/borg/daily/mail");
        assert!(!staged.exists(), "{step}: left {}", staged.display());
        assert_eq!(machine.unfinished(), Vec::<String>::new(), "{step}");
    }
}

/// borg itself has written a part of its data.
#[test]
fn killed_while_borg_writes_the_next_run_works() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let before = machine.archives("mail");
    fs::write(machine.disk_of("mail"), disk(99, 32 << 20)).unwrap();
    let data = machine.repository().join("data/0");
    let files = || fs::read_dir(&data).unwrap().flatten().map(|f| f.metadata().unwrap().len()).sum::<u64>();
    let size = files();
    let mut child = machine.command(&["backup", "mail"]).spawn().unwrap();
    wait_for("borg to write", || files() > size + (4 << 20));
    child.kill().unwrap();
    child.wait().unwrap();
    next_run_works(&machine, &before);
}

#[test]
fn a_signal_ends_a_run_in_good_order() {
    let machine = Machine::ready();
    let mut child = machine.start_until(&["backup", "mail"], "before-borg");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    machine.go_on("before-borg");
    assert!(!machine.root().join("run/personal-cluster/borg/daily/mail").exists());
    assert!(machine.json(&["status"])["policies"][0]["in_use_by"].is_null(), "the lock was given back");
    next_run_works(&machine, &[]);
}

#[test]
fn two_runs_take_turns() {
    let machine = Machine::ready();
    let mut first = machine.start_until(&["backup", "mail"], "view");
    let (code, said) = machine.fails(&["backup", "web"]);
    assert_eq!(code, 75);
    golden("busy", &said);
    let using = &machine.json(&["status"])["policies"][0]["in_use_by"];
    assert_eq!((&using["node"], &using["what"]), (&"node1".into(), &"backup".into()));
    // Whoever waits gets it as soon as the other is gone.
    let waiting = machine.command(&["backup", "web", "--lock-wait", "100"]).spawn().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    machine.go_on("view");
    assert!(waiting.wait_with_output().unwrap().status.success());
}

#[test]
fn one_broken_vm_fails_the_run_and_not_the_others() {
    let machine = Machine::ready();
    fs::remove_file(machine.disk_of("mail")).unwrap();
    let output = machine.run(&["backup", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["backups"][0]["outcome"], "refused");
    assert_eq!(answer["backups"][1]["outcome"], "done");
    golden("no-disk", &machine.fails(&["backup", "mail"]).1);
    let status = machine.json(&["status"]);
    assert!(
        status["backups"][0]["last_error"].as_str().unwrap().contains("disk.img is not there"),
        "{status}"
    );
    assert_eq!(status["backups"][1]["overdue"], false);
    // A disk that cannot be read is a failure.
    fs::write(machine.disk_of("mail"), disk(1, 1 << 20)).unwrap();
    fs::write(machine.at("dirty-fails"), "").unwrap();
    let (code, said) = machine.fails(&["backup"]);
    assert_eq!(code, 1);
    assert!(said.contains("vm mail to daily: pc-dirty: vda: reading: Input/output error"), "{said}");
}

#[test]
fn a_full_repository_is_told_and_its_archives_stay() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let before = machine.archives("mail");
    let repository = machine.repository().display().to_string();
    let quota = |arguments: &[&str]| {
        let done = machine.plain_borg(&[&["config", &repository, "storage_quota"], arguments].concat());
        assert!(done.status.success(), "{}", machine::said(&done));
    };
    quota(&["10M"]);
    fs::write(machine.disk_of("mail"), disk(3, 24 << 20)).unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 1, "{said}");
    golden("full", &said);
    quota(&["--delete"]);
    next_run_works(&machine, &before);
}

#[test]
fn a_wrong_passphrase_is_refused() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let before = machine.archives("mail");
    let open = machine.root().join("run/personal-cluster/secrets/borg-daily");
    fs::create_dir_all(open.parent().unwrap()).unwrap();
    fs::write(&open, "battery staple").unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 2);
    golden("wrong-passphrase", &said);
    fs::remove_file(open).unwrap();
    next_run_works(&machine, &before);
}

#[test]
fn servers_that_do_not_answer_are_for_later() {
    let machine = Machine::ready();
    fs::write(machine.at("tang-down"), "").unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 75);
    golden("tang-down", &said);
    fs::remove_file(machine.at("tang-down")).unwrap();
    next_run_works(&machine, &[]);
    // The server of a repository: nobody listens on port 1.
    machine.file(|file| file["backup"]["daily"]["repository"] = "ssh://nobody@127.0.0.1:1/./home".into());
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("ssh://nobody@127.0.0.1:1/./home: the server cannot be reached"), "{said}");
    // A disk that is not plugged in.
    machine.file(|file| {
        file["backup"]["daily"]["repository"] = "disk:LABEL=pc-cold".into();
        file["backup"]["daily"]["schedule"] = "on-plug".into();
    });
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 75);
    golden("unplugged", &said);
}

#[test]
fn damage_in_the_repository_is_found_and_nothing_wrong_is_restored() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    for file in fs::read_dir(machine.repository().join("data/0")).unwrap().flatten() {
        let mut content = fs::read(file.path()).unwrap();
        if content.len() > 1 << 20 {
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::write(file.path(), content).unwrap();
        }
    }
    let (code, said) = machine.fails(&["check", "daily"]);
    assert_eq!(code, 1);
    golden("damaged", &said);
    let status = machine.json(&["status"]);
    assert!(status["policies"][0]["damage"].as_str().unwrap().contains("is damaged"), "{status}");
    let (code, said) = machine.fails(&["verify", "mail"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("vm mail in daily: "), "{said}");
    let status = machine.json(&["status"]);
    assert!(
        !status["backups"][0]["verify_error"].is_null() && !status["healthy"].as_bool().unwrap(),
        "{status}"
    );
    assert_eq!(
        machine.json(&["verify", "--due"])["archives"][0]["outcome"],
        "not_due",
        "not every quarter of an hour"
    );
    let (code, said) = machine.fails(&["restore", "mail", "--as", "copy"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        !machine.disk_of("copy").exists()
            && !machine.disk_of("copy").with_file_name("disk.img.restoring").exists()
    );
}

#[test]
fn volumes_that_are_away_or_healing_are_waited_for() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let storage = |pending: &str| {
        let text = format!(
            r#"{{"schema": "pc.storage/1", "measured_at": "2026-01-01T00:00:00Z", "healthy": false, "quorum": true,
                "heal_pending": {pending}, "volumes": [
                {{"name": "vms", "mounted": true, "quorum": true, "heal_pending": {pending}}},
                {{"name": "backup", "mounted": true, "quorum": true, "heal_pending": 0}}]}}"#
        );
        fs::create_dir_all(machine.root().join("run/personal-cluster")).unwrap();
        fs::write(machine.root().join("run/personal-cluster/storage.json"), text).unwrap();
    };
    storage("3");
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 75);
    golden("healing", &said);
    // Who wants his data back is not told to wait.
    storage("null");
    machine.ok(&["list"]);
    machine.ok(&["restore", "mail", "--as", "healing"]);
    assert_eq!(fs::read(machine.disk_of("healing")).unwrap(), fs::read(machine.disk_of("mail")).unwrap());
    storage("0");
    machine.mounted(&["/mnt/vms"]);
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 75);
    golden("unmounted", &said);
    let status = machine.json(&["status"]);
    assert!(status["backups"][0]["overdue"].is_null(), "nobody can know: {status}");
    machine.mounted(&["/mnt/vms", "/mnt/backup"]);
    next_run_works(&machine, &[]);
}

/// Its digests were wrong: the archive that relied on them is deleted, and everything is read again at once.
#[test]
fn a_lying_state_costs_a_full_read_and_no_archive() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    fs::write(machine.at("mismatch"), "").unwrap();
    let output = machine.run(&["backup", "mail", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", machine::said(&output));
    assert!(machine::said(&output).contains("1 segments that counted as unchanged have changed"));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["backups"][0]["archive"]["method"], "full");
}

#[test]
fn a_guest_that_was_started_meanwhile_is_for_later() {
    let machine = Machine::ready();
    let mut child = machine.start_until(&["backup", "mail"], "before-borg");
    fs::write(machine.disk_of("mail").with_file_name("owner.json"), "{}").unwrap();
    fs::remove_file(machine.at("hang-before-borg")).unwrap();
    // Whoever stands there goes on when the other end of the pipe is opened and closed.
    fs::write(machine.at("never"), "go\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(machine.archives("mail"), Vec::<String>::new(), "no archive of a disk in motion is kept");
    assert_eq!(machine.unfinished(), Vec::<String>::new());
}
