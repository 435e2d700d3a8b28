//! Restores that are rehearsed: the real borg, and a libvirt that is a script.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use machine::{Machine, wait_for};
use serde_json::{Value, json};

/// Backed up, and up as soon as its console says so.
fn backed_up() -> Machine {
    let machine = Machine::ready();
    machine.file(|file| file["vm"]["mail"]["heartbeat"] = json!("console:mail login:"));
    machine.ok(&["backup", "mail"]);
    machine
}

fn comes_up(machine: &Machine) {
    fs::write(machine.at("says"), "Linux\r\nmail login: ").unwrap();
}

fn scratch(machine: &Machine) -> PathBuf {
    machine.root().join("mnt/vms/pc-drill/node1/mail")
}

/// What its console says lies there: virtlogd writes for all guests, and no volume may hold it up.
fn notes(machine: &Machine) -> PathBuf {
    machine.root().join("run/personal-cluster/borg/.pc-drill/mail")
}

/// Nothing of a copy is left.
fn is_clean(machine: &Machine) -> bool {
    !scratch(machine).exists() && !notes(machine).exists() && !machine.at("copy.xml").exists()
}

/// Only ours, and only while it is one: a process that nobody has waited for is none any more.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The copy has begun to boot.
fn booting(machine: &Machine) -> Child {
    let mut command = machine.command(&["drill", "mail"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let there = machine.at("copy.xml");
    wait_for("the copy", || {
        assert!(child.try_wait().unwrap().is_none(), "ended before it booted anything");
        there.exists()
    });
    child
}

fn settled(line: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else { return line.into() };
    let comma = if value.ends_with(',') { "," } else { "" };
    let fixed = match name.trim().trim_matches('"') {
        "seconds" | "external_seconds" | "restore_seconds" | "boot_seconds" | "rto_seconds" => "0.5",
        "rpo_seconds" => "60",
        "external_calls" => "9",
        "archive" => "\"mail.2026-01-02T03:04:05Z\"",
        "taken_at" => "\"2026-01-02T03:04:05Z\"",
        _ => return line.into(),
    };
    format!("{name}: {fixed}{comma}")
}

#[test]
fn a_copy_is_restored_booted_and_gone() {
    let machine = backed_up();
    comes_up(&machine);
    let before = fs::read(machine.disk_of("mail")).unwrap();
    let text = machine.ok(&["drill", "mail", "--json"]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/drill.json");
    let told: String = text.lines().map(|line| settled(line) + "\n").collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(&golden).unwrap());
    let answer: Value = serde_json::from_str(&text).unwrap();
    let proof = &answer["drills"][0]["proof"];
    assert_eq!(proof["archive"], machine.archives("mail")[0].as_str());
    let seconds = |name: &str| proof[name].as_f64().unwrap();
    assert!(seconds("boot_seconds") > 0.5 && seconds("restore_seconds") > 0.0, "{proof}");
    assert!((seconds("rto_seconds") - seconds("boot_seconds") - seconds("restore_seconds")).abs() < 1e-6);
    // What booted is what was backed up, beside its VM and under another name.
    let own = Command::new("sh")
        .args(["-c", "sha256sum disk.img nvram.fd"])
        .current_dir(machine.disk_of("mail").parent().unwrap())
        .output()
        .unwrap();
    assert_eq!(fs::read_to_string(machine.at("copy.sums")).unwrap(), String::from_utf8(own.stdout).unwrap());
    let begun = fs::read_to_string(machine.at("virsh.log")).unwrap();
    let begun = begun.lines().find(|line| line.starts_with("create ")).unwrap().to_string();
    let definition = scratch(&machine).join("domain.xml");
    assert_eq!(
        begun,
        format!(
            "create '{}' --autodestroy ; event --domain 'pc-drill.mail' --event lifecycle --loop --timeout 720",
            definition.display()
        )
    );
    let console = fs::read_to_string(machine.at("copy.console")).unwrap();
    assert_eq!(Path::new(console.trim()), notes(&machine).join("console.log"));
    assert!(is_clean(&machine));
    assert_eq!(fs::read(machine.disk_of("mail")).unwrap(), before, "the VM's own disk is nobody's business");
    let status = machine.json(&["status"]);
    let mail = &status["backups"][0];
    assert!(mail["drilled_at"].is_string() && mail["drill_error"].is_null(), "{mail}");
    assert!(mail["drill_rto_seconds"].as_u64().unwrap() >= 1, "{mail}");
    assert!(status["backups"][1]["drilled_at"].is_null(), "web has none");
}

#[test]
fn the_agent_is_believed_where_the_file_names_no_text() {
    let machine = Machine::ready();
    machine.ok(&["backup", "web"]);
    fs::write(machine.at("agent"), "").unwrap();
    let answer = machine.json(&["drill", "web"]);
    assert_eq!(answer["drills"][0]["proof"]["heartbeat"], "agent");
}

/// What came up once is remembered when the next one does not.
#[test]
fn a_copy_that_shows_no_sign_of_life_is_a_drill_that_failed() {
    let machine = backed_up();
    comes_up(&machine);
    machine.ok(&["drill", "mail"]);
    let proven = machine.json(&["status"])["backups"][0]["drilled_at"].clone();
    fs::write(machine.at("says"), "Kernel panic - not syncing\r\n").unwrap();
    // What the console of a copy said whose files are gone is nothing that this one says.
    fs::create_dir_all(notes(&machine)).unwrap();
    fs::write(notes(&machine).join("console.log"), "mail login: ").unwrap();
    let (code, said) = machine.fails(&["drill", "mail", "--wait", "3"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("it showed no sign of life in time (console:mail login:, 3 s); its console ends: Kernel panic - not syncing\n  give it longer: --wait 1800"),
        "{said}"
    );
    assert!(is_clean(&machine));
    let status = machine.json(&["status"]);
    let mail = &status["backups"][0];
    assert_eq!(mail["drilled_at"], proven);
    assert!(mail["drill_error"].as_str().unwrap().contains("no sign of life"), "{mail}");
    let problem = "vm mail: the last drill with daily did not end well: booting a copy of mail.20";
    assert!(status["problems"][0].as_str().unwrap().starts_with(problem), "{status}");
    // It switches itself off, and libvirt will not have it: neither is waited for.
    fs::write(machine.at("switches-off"), "").unwrap();
    let (code, said) = machine.fails(&["drill", "mail"]);
    assert!(code == 1 && said.contains("it switched itself off before it was up"), "{said}");
    fs::write(machine.at("no-boot"), "").unwrap();
    let (code, said) = machine.fails(&["drill", "mail"]);
    assert!(
        code == 1
            && said.contains(
                "libvirt does not keep it running (exit status 1): internal error: cannot set up guest memory"
            ),
        "{said}"
    );
    assert!(is_clean(&machine));
}

/// kill -9: the kernel ends the virsh that keeps the copy, and libvirt the copy. Its files go with the next look.
#[test]
fn a_drill_that_was_killed_leaves_nothing_running_and_its_files_are_removed() {
    let machine = backed_up();
    let mut child = booting(&machine);
    let keeper = fs::read_to_string(machine.at("copy.pid")).unwrap();
    // One that is at work is let alone, and a second one waits its turn.
    machine.ok(&["recover"]);
    assert!(scratch(&machine).exists() && lives(&keeper));
    let (code, said) = machine.fails(&["drill", "mail"]);
    assert!(code == 75 && said.contains("another drill is at work on this node"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the copy's end", || !lives(&keeper));
    assert!(scratch(&machine).join("disk.img").exists());
    machine.ok(&["recover"]);
    assert!(!scratch(&machine).exists() && !notes(&machine).exists());
    // libvirt was not there to end it: it is ended now.
    let mut left = Command::new("sleep").arg("300").spawn().unwrap();
    fs::create_dir_all(scratch(&machine)).unwrap();
    fs::write(machine.at("copy.pid"), left.id().to_string()).unwrap();
    let ours = format!("<domain><source file='{}/disk.img'/></domain>", scratch(&machine).display());
    fs::write(machine.at("copy.xml"), &ours).unwrap();
    machine.ok(&["recover"]);
    assert!(is_clean(&machine));
    // Somebody else's guest of that name is none of ours.
    fs::create_dir_all(scratch(&machine)).unwrap();
    fs::write(machine.at("copy.xml"), "<domain><source file='/srv/disk.img'/></domain>").unwrap();
    let (code, said) = machine.fails(&["recover"]);
    assert!(code == 1 && said.contains("it is somebody else's, and left alone"), "{said}");
    assert!(machine.at("copy.xml").exists());
    left.kill().unwrap();
    left.wait().unwrap();
}

#[test]
fn one_that_is_told_to_end_cleans_up_and_is_no_failure_of_the_archive() {
    let machine = backed_up();
    let child = booting(&machine);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
    assert!(is_clean(&machine));
    assert!(machine.json(&["status"])["backups"][0]["drill_error"].is_null());
}

/// An upgrade of libvirt says nothing about the archive.
#[test]
fn a_libvirt_that_was_restarted_is_no_failure_of_the_archive() {
    let machine = backed_up();
    for how in ["at-once", "later"] {
        fs::write(machine.at("restarted"), how).unwrap();
        let _ = fs::remove_file(machine.at("seen"));
        let (code, said) = machine.fails(&["drill", "mail"]);
        assert!(code == 75 && said.contains("libvirt of this node was restarted meanwhile"), "{how}: {said}");
        assert!(is_clean(&machine), "{how}");
        assert!(machine.json(&["status"])["backups"][0]["drill_error"].is_null(), "{how}");
    }
}

#[test]
fn the_guests_that_run_come_first() {
    let machine = backed_up();
    comes_up(&machine);
    let root = machine.root();
    fs::write(root.join("proc/meminfo"), "MemAvailable:    1048576 kB\n").unwrap();
    let (code, said) = machine.fails(&["drill", "mail"]);
    assert_eq!(code, 75);
    assert!(said.contains("1GiB of memory are free on node1, the copy and the node need 1536MiB"), "{said}");
    fs::write(root.join("proc/meminfo"), "MemAvailable:    2097152 kB\n").unwrap();
    let storage = json!({"schema": "pc.storage/1", "node": "node1", "healthy": false, "quorum": true, "heal_pending": 2,
        "volumes": [{"name": "vms", "quorum": true, "heal_pending": 2}]});
    fs::create_dir_all(root.join("run/personal-cluster")).unwrap();
    fs::write(root.join("run/personal-cluster/storage.json"), storage.to_string()).unwrap();
    let (code, said) = machine.fails(&["drill", "mail"]);
    assert!(code == 75 && said.contains("2 entries wait for healing"), "{said}");
    // On a volume that is well it goes on.
    machine.ok(&["drill", "mail", "--to", "backup"]);
    assert!(!root.join("mnt/backup/pc-drill/node1/mail").exists() && is_clean(&machine));
    let (code, said) = machine.fails(&["drill", "mail", "--to", "other"]);
    assert!(code == 2 && said.contains("no [volume] is called \"other\""), "{said}");
}

#[test]
fn once_a_week_and_those_that_can_show_nothing_never() {
    let machine = backed_up();
    comes_up(&machine);
    machine.file(|file| {
        file["vm"]["mail"]["heartbeat"] = json!("console:mail login:");
        file["vm"]["web"]["heartbeat"] = json!("none");
    });
    let of = |answer: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let drills = answer["drills"].as_array().unwrap();
        drills.iter().map(|drill| (text(&drill["outcome"]), text(&drill["reason"]))).collect()
    };
    let first = of(&machine.json(&["drill", "--due"]));
    assert_eq!(first[0].0, "done", "{first:?}");
    assert_eq!(first[1], ("not_due".into(), "heartbeat = \"none\"".into()));
    let second = of(&machine.json(&["drill", "--due"]));
    assert!(second[0].0 == "not_due" && second[0].1.starts_with("done on 20"), "{second:?}");
    let (code, said) = machine.fails(&["drill", "web"]);
    assert!(code == 2 && said.contains("nothing would show that it is up"), "{said}");
    // A week later.
    let record = machine.root().join("mnt/backup/pc-borg/daily/vms/mail.drilled.json");
    let mut old: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    old["at"] = json!("2026-01-01T00:00:00Z");
    fs::write(&record, old.to_string()).unwrap();
    assert_eq!(of(&machine.json(&["drill", "--due"]))[0].0, "done");
    machine.file(|file| file["vm"]["web"]["heartbeat"] = json!("agent"));
    let none = of(&machine.json(&["drill", "web", "--due"]));
    assert_eq!(none[0], ("not_due".into(), "there is no archive yet".into()));
}

/// It counts until one out of the same repository goes well, whichever has the newest archive by then.
#[test]
fn a_drill_that_failed_comes_again_out_of_the_same_repository() {
    let machine = Machine::ready();
    machine.file(|file| {
        file["vm"]["mail"]["heartbeat"] = json!("console:mail login:");
        file["vm"]["mail"]["backup"] = json!(["daily", "other"]);
        file["vm"]["web"]["heartbeat"] = json!("none");
        file["backup"]["other"] = json!({"repository": "/mnt/backup/borg/other", "schedule": "daily"});
    });
    machine.ok(&["init", "other"]);
    let key: Value = serde_json::from_str(&machine.ok(&["key", "export", "other", "--json"])).unwrap();
    machine.ok(&["key", "acknowledge", "other", key["code"].as_str().unwrap()]);
    machine.ok(&["backup", "mail", "--policy", "other"]);
    let (code, said) = machine.fails(&["drill", "mail", "--wait", "3"]);
    assert_eq!(code, 1, "{said}");
    machine.ok(&["backup", "mail", "--policy", "daily"]);
    comes_up(&machine);
    let due = || {
        let answer = machine.json(&["drill", "mail", "--due"]);
        let drill = &answer["drills"][0];
        (drill["policy"].as_str().unwrap().to_string(), drill["outcome"].as_str().unwrap().to_string())
    };
    assert_eq!(
        due(),
        ("daily".into(), "done".into()),
        "not so soon, and the newest archive was never drilled"
    );
    let record = machine.root().join("mnt/backup/pc-borg/other/vms/mail.drilled.json");
    let mut old: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    old["at"] = json!("2026-01-01T00:00:00Z");
    fs::write(&record, old.to_string()).unwrap();
    assert_eq!(due(), ("other".into(), "done".into()));
    assert_eq!(due().1, "not_due");
}
