//! What outlives those who made it: keys, locks, half-written disks, archives of a wrong clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use machine::Machine;

#[test]
fn a_key_that_was_vouched_for_is_of_one_repository() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let passphrase = machine.passphrase();
    fs::remove_dir_all(machine.repository()).unwrap();
    // Somebody makes it anew by hand, with the same passphrase.
    let made = Command::new("borg")
        .args(["init", "--encryption", "repokey-blake2"])
        .arg(machine.repository())
        .env("BORG_BASE_DIR", machine.at("own-borg"))
        .env("BORG_PASSPHRASE", passphrase)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", machine::said(&made));
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("is not the one whose key has a copy") && said.ends_with("pc-borg key export daily\n"),
        "{said}"
    );
    // init finds out, too, and then nobody has vouched for anything.
    let output = machine.run(&["init", "daily", "--json"]);
    assert!(machine::said(&output).contains("the copy of a key that lies elsewhere is of another one"));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["made"], &answer["key_acknowledged"]), (&false.into(), &false.into()));
    assert_eq!(machine.json(&["status"])["policies"][0]["key_acknowledged"], false);
    let key: serde_json::Value =
        serde_json::from_str(&machine.ok(&["key", "export", "daily", "--json"])).unwrap();
    machine.ok(&["key", "acknowledge", "daily", key["code"].as_str().unwrap()]);
    machine.ok(&["backup", "mail"]);
}

/// A record that an older version wrote does not know the repository: its code does.
#[test]
fn a_record_without_its_repository_is_completed() {
    let machine = Machine::ready();
    let path = machine.root().join("mnt/backup/pc-borg/daily/key.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let id = record.as_object_mut().unwrap().remove("repository_id").unwrap();
    fs::write(&path, record.to_string()).unwrap();
    machine.ok(&["backup", "mail"]);
    let record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(record["repository_id"], id);
}

/// node2 died while its borg had the repository; an administrator vouches for that.
#[test]
fn the_lock_of_a_node_that_is_gone_is_taken_away() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let repository = machine.repository();
    let mut borg = Command::new("borg")
        .args(["with-lock"])
        .arg(&repository)
        .args(["sh", "-c", "echo held; exec sleep 600"])
        .env("BORG_HOST_ID", "pc-borg@node2@boot-2")
        .env("BORG_BASE_DIR", machine.at("own-borg"))
        .env("BORG_PASSPHRASE", machine.passphrase())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(borg.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let sleeps = fs::read_to_string(format!("/proc/{0}/task/{0}/children", borg.id())).unwrap();
    borg.kill().unwrap();
    borg.wait().unwrap();
    assert!(Command::new("kill").args(sleeps.split_whitespace()).status().unwrap().success());
    assert!(repository.join("lock.exclusive").exists(), "it was left");
    let path = machine.root().join("mnt/backup/pc-borg/daily/holder.json");
    let mut holder: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    holder["node"] = "node2".into();
    holder["boot_id"] = "boot-2".into();
    holder.as_object_mut().unwrap().remove("released");
    fs::write(&path, holder.to_string()).unwrap();
    let (code, said) = machine.fails(&["list"]);
    assert!(code == 75 && said.contains("--holder-is-dead node2"), "{said}");
    // What was vouched for once is not forgotten, though this run comes to nothing.
    fs::write(machine.at("tang-down"), "").unwrap();
    assert_eq!(machine.fails(&["list", "--holder-is-dead", "node2"]).0, 75);
    fs::remove_file(machine.at("tang-down")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["left_behind"], serde_json::json!([{"node": "node2", "boot_id": "boot-2"}]));
    machine.ok(&["backup", "mail"]);
    assert_eq!(machine.archives("mail").len(), 2);
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept.get("left_behind"), None);
}

#[test]
fn two_restores_to_one_place_do_not_mix() {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    let half = machine.disk_of("copy").with_file_name("disk.img.restoring");
    fs::create_dir_all(half.parent().unwrap()).unwrap();
    fs::write(&half, vec![7; 9 << 20]).unwrap();
    let script = "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); \
                  print('held',flush=True); sys.stdin.readline()";
    let mut other = Command::new("python3")
        .args(["-c", script])
        .arg(&half)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let (code, said) = machine.fails(&["restore", "mail", "--as", "copy"]);
    assert!(code == 75 && said.contains("disk.img.restoring: another restore is at work"), "{said}");
    assert_eq!(fs::metadata(&half).unwrap().len(), 9 << 20, "what is another's is not touched");
    drop(other.stdin.take());
    other.wait().unwrap();
    // It was cut off: nothing of it is in the disk.
    machine.ok(&["restore", "mail", "--as", "copy"]);
    assert_eq!(fs::read(machine.disk_of("copy")).unwrap(), fs::read(machine.disk_of("mail")).unwrap());
    assert!(!half.exists());
}

/// Made under a clock that was a year ahead: neither the newest for ever, nor a reason to delete real ones.
#[test]
fn an_archive_of_the_future_hides_and_costs_nothing() {
    let machine = Machine::ready();
    machine.file(|file| {
        file["backup"]["daily"]["keep"] = serde_json::json!({"daily": 1, "weekly": 0, "monthly": 0});
    });
    machine.ok(&["backup"]);
    let real = machine.archives("mail").pop().unwrap();
    let repository = machine.repository().display().to_string();
    fs::write(machine.at("own"), "own").unwrap();
    let ahead = "mail.2199-01-01T00:00:00.000Z";
    let made = machine.plain_borg(&[
        "create",
        "--timestamp",
        "2199-01-01T00:00:00",
        &format!("{repository}::{ahead}"),
        "own",
    ]);
    assert!(made.status.success(), "{}", machine::said(&made));
    assert_eq!(machine.json(&["restore", "mail", "--as", "copy"])["archive"], real.as_str());
    let output = machine.run(&["prune", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["policies"][0]["outcome"], "done");
    assert!(answer["policies"][0]["reason"].as_str().unwrap().contains(ahead), "{answer}");
    assert!(machine::said(&output).contains(&format!("borg delete REPOSITORY::{ahead}")));
    assert!(machine.archives("mail").contains(&real), "the real one stays");
}

/// Without a replicated volume the records lie on each node's own disk: nobody calls another node's VMs overdue.
#[test]
fn each_node_speaks_for_the_vms_that_are_at_home_on_it() {
    let machine = Machine::bare();
    let of_both = |file: &mut serde_json::Value| {
        let node2 = serde_json::json!({"name": "node2", "address": "192.168.0.51/24",
            "disks": {"vms": ["/dev/disk/by-id/ata-C"]}, "nics": {"lan": ["enp1s0"]}});
        file["node"].as_array_mut().unwrap().push(node2);
        file["node"][0]["disks"].as_object_mut().unwrap().remove("backup");
        file["volume"] = serde_json::json!({"vms": {"use": "local"}});
        file["vm"]["mail"]["home"] = "node1".into();
        file["vm"]["web"]["home"] = "node2".into();
        file["backup"]["daily"]["repository"] = "ssh://borg@backup.example/./home".into();
    };
    machine.file(of_both);
    let status = machine.json(&["status"]);
    let (key, old) = ("backup.daily: no copy of its key", "vm mail: no archive in daily in time");
    let problems: Vec<&str> =
        status["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect();
    assert!(
        matches!(problems[..], [one, other] if one.starts_with(key) && other.starts_with(old)),
        "{problems:?}"
    );
    let overdue = |status: &serde_json::Value| [0, 1].map(|at| status["backups"][at]["overdue"].clone());
    assert_eq!(overdue(&status), [true.into(), serde_json::Value::Null]);
    // A node that has nothing to back up needs no key.
    machine.file(|file| {
        of_both(file);
        file["vm"]["mail"]["backup"] = serde_json::json!([]);
    });
    let status = machine.json(&["status"]);
    assert_eq!((&status["healthy"], &status["problems"]), (&true.into(), &serde_json::json!([])), "{status}");
    assert!(status["policies"][0]["key_acknowledged"].is_null(), "{status}");
}
