//! A repository from its first day on, with the real borg.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::path::Path;
use std::process::Command;

use machine::{DISK, Machine, disk, said};
use serde_json::Value;

/// One line of an answer, without what differs from run to run.
fn settled(line: &str, root: &str) -> String {
    if line.trim().starts_with("\"mail.20") {
        return format!("{}\"mail.2026-01-02T03:04:05Z\"", &line[..line.len() - line.trim_start().len()]);
    }
    let Some((name, value)) = line.split_once(": ") else { return line.replace(root, "") };
    let comma = if value.ends_with(',') { "," } else { "" };
    let null = value.starts_with("null");
    let fixed = match name.trim().trim_matches('"') {
        "seconds" | "external_seconds" => "0.5".into(),
        "external_calls" => "9".into(),
        "age_seconds" if !null => "60".into(),
        "pid" => "4711".into(),
        "started_ticks" => "123456".into(),
        "added_bytes" => "2101000".into(),
        "passphrase" => "\"abcde-fghij-kmnpq-rstuv-wxyz2-34567-89abc-defgh\"".into(),
        "key" => "\"BORG_KEY 0123\\naGVsbG8=\\n\"".into(),
        "code" => "\"1f3a-9c22\"".into(),
        "started_at" | "measured_at" | "taken_at" | "acknowledged_at" | "pruned_at" | "checked_at"
        | "data_checked_at" | "since"
            if !null =>
        {
            "\"2026-01-02T03:04:05Z\"".into()
        }
        "archive" | "name" if value.contains(".20") => {
            let vm = value.trim_start_matches('"').split('.').next().unwrap();
            format!("\"{vm}.2026-01-02T03:04:05Z\"")
        }
        _ => return line.replace(root, ""),
    };
    format!("{name}: {fixed}{comma}")
}

fn compare(machine: &Machine, golden: &str, arguments: &[&str]) -> Value {
    let found = machine.ok(&[arguments, &["--json"]].concat());
    recorded(machine, golden, &found);
    serde_json::from_str(&found).unwrap()
}

fn recorded(machine: &Machine, golden: &str, found: &str) {
    let root = machine.root().display().to_string();
    let text: String = found.lines().map(|line| settled(line, &root) + "\n").collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{golden}");
}

#[test]
fn from_the_first_day_to_a_restore() {
    let machine = Machine::bare();
    // Not before there is a repository, and not before its key is elsewhere.
    let (code, said) = machine.fails(&["backup"]);
    assert_eq!(code, 2);
    assert!(said.ends_with("copy of its key outside of this cluster\n  pc-borg init daily\n"), "{said}");
    compare(&machine, "status-first.json", &["status"]);
    compare(&machine, "init.json", &["init", "daily"]);
    assert_eq!(machine.json(&["init", "daily"])["made"], false, "twice: the second does nothing");
    let (code, said) = machine.fails(&["backup"]);
    assert!(code == 2 && said.ends_with("\n  pc-borg key export daily\n"), "{said}");
    let key = compare(&machine, "key-export.json", &["key", "export", "daily"]);
    let (code, said) = machine.fails(&["key", "acknowledge", "daily", "0000-0000"]);
    assert!(code == 2 && said.contains("\"0000-0000\" is not the code of its present key"), "{said}");
    compare(
        &machine,
        "key-acknowledge.json",
        &["key", "acknowledge", "daily", key["code"].as_str().unwrap()],
    );
    let page = machine.ok(&["key", "export", "daily", "--qr"]);
    assert!(page.contains(key["passphrase"].as_str().unwrap()) && page.contains('█'), "{page}");

    let first = compare(&machine, "backup.json", &["backup"]);
    assert_eq!(first["backups"][0]["archive"]["changed_bytes"], DISK as u64);
    let first = first["backups"][0]["archive"]["name"].as_str().unwrap().to_string();
    compare(&machine, "status.json", &["status"]);
    compare(&machine, "list.json", &["list"]);

    // A second later, one byte in the last, short segment.
    let old = fs::read(machine.disk_of("mail")).unwrap();
    let mut new = old.clone();
    new[DISK - 1] ^= 1;
    fs::write(machine.disk_of("mail"), &new).unwrap();
    let second = machine.json(&["backup", "mail"]);
    let made = &second["backups"][0]["archive"];
    assert_eq!((&made["changed_bytes"], &made["method"]), (&4096.into(), &"digest".into()), "{made}");
    assert!(made["added_bytes"].as_u64().unwrap() < 100_000, "{made}");
    assert_eq!(machine.archives("mail").len(), 2);

    // Nothing that exists is written over.
    let (code, said) = machine.fails(&["restore", "mail"]);
    assert!(
        code == 2 && said.contains("/mnt/vms/vms/mail/disk.img is there, and is not written over"),
        "{said}"
    );
    assert_eq!(fs::read(machine.disk_of("mail")).unwrap(), new);
    // The disk and its directory are lost.
    fs::remove_dir_all(machine.disk_of("mail").parent().unwrap()).unwrap();
    let restored = compare(&machine, "restore.json", &["restore", "mail"]);
    assert_eq!(fs::read(machine.disk_of("mail")).unwrap(), new);
    assert!(restored["written_bytes"].as_u64().unwrap() < DISK as u64, "the hole is one again");
    assert_eq!(fs::read(machine.disk_of("mail").with_file_name("nvram.fd")).unwrap(), disk(8, 8192));
    let at = first.split_once('.').unwrap().1;
    machine.ok(&["restore", "mail", "--at", at, "--as", "old"]);
    assert_eq!(fs::read(machine.disk_of("old")).unwrap(), old);
    let section: Value =
        serde_json::from_slice(&fs::read(machine.disk_of("old").with_file_name("restored.json")).unwrap())
            .unwrap();
    assert_eq!(section["vm"]["mail"]["memory"], "1GiB", "{section}");

    compare(&machine, "check.json", &["check", "daily", "--data"]);
    compare(&machine, "verify.json", &["verify", "mail"]);
    compare(&machine, "prune.json", &["prune", "--dry-run"]);
    // What was handed to borg: never the passphrase.
    let log = fs::read_to_string(machine.at("borg.log")).unwrap();
    assert!(log.contains("BORG_PASSPHRASE_FD=0"));
    assert!(!log.contains(key["passphrase"].as_str().unwrap()), "a secret in argv or environment");
    let holder = fs::read_to_string(machine.root().join("mnt/backup/pc-borg/daily/holder.json")).unwrap();
    recorded(&machine, "lock.json", &holder);
    let extract =
        ["extract", "--stdout", &format!("{}::{first}", machine.repository().display()), "vm/archive.json"];
    let about = machine.plain_borg(&extract);
    recorded(&machine, "archive.json", &String::from_utf8(about.stdout).unwrap());
    // Nothing of ours stays behind.
    assert!(!machine.root().join("run/personal-cluster/borg/daily/mail").exists());
}

/// Only borg and coreutils, as docs/restore-by-hand.md says.
#[test]
fn plain_borg_and_coreutils_restore_it() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/restore-by-hand.sh");
    let output = Command::new("bash")
        .args(["-euo", "pipefail"])
        .arg(script)
        .args([machine.repository().as_os_str(), "mail".as_ref(), machine.at("by-hand.img").as_os_str()])
        .env("BORG_PASSPHRASE", machine.passphrase())
        .env("BORG_BASE_DIR", machine.at("own-borg"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read(machine.at("by-hand.img")).unwrap(), fs::read(machine.disk_of("mail")).unwrap());
}

#[test]
fn old_archives_go_and_others_stay() {
    let machine = Machine::ready();
    machine.file(|file| {
        file["backup"]["daily"]["keep"] = serde_json::json!({"daily": 1, "weekly": 0, "monthly": 0});
    });
    machine.ok(&["backup"]);
    let first = machine.archives("mail").pop().unwrap();
    machine.ok(&["backup", "mail"]);
    let repository = machine.repository().display().to_string();
    fs::write(machine.at("own"), "own").unwrap();
    let own = machine.plain_borg(&["create", &format!("{repository}::own-2020-01-01"), "own"]);
    assert!(own.status.success(), "{}", said(&own));
    // What hand-written scripts call theirs.
    for name in ["mail.home.arpa-2025-01-01", "mail.img-2024"] {
        let own = machine.plain_borg(&["create", &format!("{repository}::{name}"), "own"]);
        assert!(own.status.success(), "{}", said(&own));
    }
    let planned = machine.json(&["prune", "--dry-run"]);
    assert_eq!(planned["policies"][0]["deleted"], serde_json::json!([first]));
    assert_eq!(machine.archives("mail").len(), 2, "a dry run deletes nothing");
    assert_eq!(machine.json(&["prune"])["policies"][0]["deleted"], serde_json::json!([first]));
    assert_eq!(machine.archives("mail").len(), 1);
    assert_eq!(machine.archives("web").len(), 1);
    let all = machine.json(&["list"]);
    let own = all["archives"].as_array().unwrap().iter().find(|a| a["name"] == "own-2020-01-01").unwrap();
    assert!(own["vm"].is_null(), "listed, and nobody's VM");
    for other in ["mail.home.arpa-2025-01-01", "mail.img-2024"] {
        assert!(
            all["archives"].as_array().unwrap().iter().any(|a| a["name"] == other),
            "{other} is gone: {all}"
        );
    }
    assert_eq!(machine.json(&["prune", "--due"])["policies"][0]["outcome"], "not_due");
}

#[test]
fn a_repository_of_an_older_script_is_taken_over_with_its_passphrase() {
    let machine = Machine::bare();
    fs::create_dir_all(machine.repository().parent().unwrap()).unwrap();
    let repository = machine.repository().display().to_string();
    let made = Command::new("borg")
        .args(["init", "--encryption", "repokey", &repository])
        .env("BORG_BASE_DIR", machine.at("own-borg"))
        .env("BORG_PASSPHRASE", "correct horse")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    fs::write(machine.at("wrong"), "battery staple\n").unwrap();
    fs::write(machine.at("right"), "correct horse\n").unwrap();
    let wrong = machine.at("wrong").display().to_string();
    let (code, said) = machine.fails(&["init", "daily", "--passphrase-file", &wrong]);
    assert_eq!(code, 2);
    assert!(said.contains("the passphrase does not open it"), "{said}");
    assert!(
        !machine.root().join("mnt/backup/pc-borg/daily/passphrase.jwe").exists(),
        "a wrong one is not kept"
    );
    let right = machine.at("right").display().to_string();
    assert_eq!(machine.json(&["init", "daily", "--passphrase-file", &right])["made"], false);
    assert_eq!(machine.passphrase(), "correct horse");
}

#[test]
fn a_running_guest_is_frozen_for_a_moment_only() {
    let mut machine = Machine::ready();
    machine.list["vms"][0]["state"] = "running".into();
    machine.list["vms"][0]["node"] = "node1".into();
    machine.says();
    let frozen = disk(5, DISK);
    fs::write(machine.at("frozen.img"), &frozen).unwrap();
    let answer = machine.json(&["backup", "mail"]);
    assert_eq!(answer["backups"][0]["archive"]["consistency"], "frozen");
    let log = fs::read_to_string(machine.at("virsh.log")).unwrap();
    let verbs: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    // Asked once whether the job was there to the end, once whether it is ours to end.
    let job = ["backup-dumpxml", "backup-dumpxml", "domjobabort"];
    assert_eq!(
        verbs,
        [&["domjobinfo", "domid", "domfsfreeze", "backup-begin", "domfsthaw"][..], &job].concat()
    );
    machine.ok(&["restore", "mail", "--as", "copy"]);
    assert_eq!(
        fs::read(machine.disk_of("copy")).unwrap(),
        frozen,
        "the moment, not what the guest wrote since"
    );
    fs::write(machine.at("no-agent"), "").unwrap();
    assert_eq!(machine.json(&["backup", "mail"])["backups"][0]["archive"]["consistency"], "crash");
    // Elsewhere: that node's business.
    machine.list["vms"][0]["node"] = "node2".into();
    machine.says();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert!(code == 2 && said.ends_with("runs on node2\n  ssh node2 pc-borg backup mail\n"), "{said}");
    assert_eq!(machine.json(&["backup"])["backups"][0]["outcome"], "elsewhere");
}

#[test]
fn what_is_not_due_is_left_alone_and_says_so() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let answer = machine.json(&["backup", "--due"]);
    let outcomes: Vec<&str> =
        answer["backups"].as_array().unwrap().iter().map(|b| b["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["not_due", "done"]);
    assert_eq!(machine.json(&["backup", "--due"])["nothing"], "none is due yet");
}

/// The real borg, at the end of a line that is a script.
#[test]
fn what_goes_to_a_server_goes_no_faster_than_the_file_says() {
    let machine = Machine::ready();
    let line = machine.at("line");
    let script = "#!/bin/sh\nwhile [ \"${1#*@}\" = \"$1\" ]; do shift; done\nshift\nexec \"$@\"\n";
    fs::write(&line, script).unwrap();
    fs::set_permissions(&line, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let away = machine.at("away");
    let limited = |limit: Option<&str>| {
        machine.file(|file| {
            file["backup"]["offsite"] =
                serde_json::json!({"repository": format!("ssh://me@away{}", away.display()), "schedule": "daily"});
            if let Some(limit) = limit {
                file["backup"]["offsite"]["limit"] = limit.into();
            }
            file["vm"]["mail"]["backup"] = serde_json::json!(["offsite"]);
        });
    };
    let ok = |arguments: &[&str]| {
        let output = machine.command(arguments).env("BORG_RSH", &line).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", machine::said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    limited(Some("512KiB"));
    ok(&["init", "offsite", "--json"]);
    let key = ok(&["key", "export", "offsite", "--json"]);
    ok(&["key", "acknowledge", "offsite", key["code"].as_str().unwrap(), "--json"]);
    let limits = || {
        let log = fs::read_to_string(machine.at("borg.log")).unwrap();
        let mut after = log.lines().skip_while(|line| *line != "--upload-ratelimit").skip(1);
        after.next().map(String::from)
    };
    assert_eq!(limits(), None, "only what is sent is limited");
    let begun = std::time::Instant::now();
    let answer = ok(&["backup", "mail", "--json"]);
    assert_eq!((answer["backups"][0]["outcome"].as_str(), limits().as_deref()), (Some("done"), Some("512")));
    // Two MiB of noise; a second's worth may go at once.
    assert!(begun.elapsed().as_secs_f64() > 2.0, "{:?}", begun.elapsed());
    fs::remove_file(machine.at("borg.log")).unwrap();
    limited(None);
    ok(&["backup", "mail", "--json"]);
    assert_eq!(limits(), None);
}
