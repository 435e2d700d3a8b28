//! What must not be lost while a VM's disk is not whole, whoever else is at work, and whatever does not answer.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::time::Duration;

use machine::lost::{Plug, begun, directory, guest, is_whole, lost};
use machine::{DISK, Machine, disk, wait_for};

/// A run that is killed, after the guest has written something.
fn cut(machine: &Machine) {
    fs::write(machine.at("slow"), "262144").unwrap();
    let mut child = begun(machine);
    guest(machine, &["write -P 7 4096 4096", "flush"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let shown = machine.root().join("run/personal-cluster/instant/mail/disk/vda");
    wait_for("the end of what was shown", || !shown.exists());
    machine.ok(&["recover"]);
    fs::remove_file(machine.at("slow")).unwrap();
}

/// It would take the archive below what the guest has written.
#[test]
fn prune_leaves_the_archives_of_a_vm_alone_whose_disk_is_not_whole() {
    let machine = Machine::ready();
    machine.file(|file| {
        file["backup"]["daily"]["keep"] = serde_json::json!({"daily": 1, "weekly": 0, "monthly": 0});
    });
    for seed in [1, 2] {
        fs::write(machine.disk_of("mail"), disk(seed, DISK)).unwrap();
        machine.ok(&["backup", "mail"]);
        std::thread::sleep(Duration::from_millis(1100));
    }
    fs::remove_dir_all(directory(&machine)).unwrap();
    let _plug = Plug(&machine);
    let deleted = || {
        let done = machine.json(&["prune", "--dry-run"]);
        let entry = &done["policies"][0];
        (entry["deleted"].as_array().unwrap().len(), entry["reason"].as_str().unwrap_or_default().to_string())
    };
    assert_eq!(deleted(), (1, String::new()), "the older one of the day");
    cut(&machine);
    let (count, why) = deleted();
    assert!(count == 0 && why.contains("mail was left alone: what it wrote lies over mail.20"), "{why}");
    let note = directory(&machine).join("instant.json");
    let kept = fs::read(&note).unwrap();
    fs::write(&note, "{").unwrap();
    let (count, why) = deleted();
    assert!(count == 0 && why.contains("what it wrote may lie over one of them: reading "), "{why}");
    fs::write(&note, kept).unwrap();
    machine.mounted(&["/mnt/backup"]);
    let (count, why) = deleted();
    assert!(count == 0 && why.contains("/mnt/vms is not mounted, where what it wrote may lie"), "{why}");
    machine.mounted(&["/mnt/vms", "/mnt/backup"]);
    let archive = machine.archives("mail").pop().unwrap();
    let repository = machine.repository().display().to_string();
    assert!(machine.plain_borg(&["delete", &format!("{repository}::{archive}")]).status.success());
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(
        code == 2
            && said.contains(
                "is gone, and with it the disk below what it wrote\n  pc-borg instant mail --yes-lose"
            ),
        "{said}"
    );
    machine.ok(&["instant", "mail", "--yes-lose-what-was-written-since"]);
    machine.ok(&["instant", "mail"]);
    assert!(deleted().1.is_empty());
}

/// A libvirt that is restarted, or does not change over, is no reason to stop a guest that runs.
#[test]
fn a_guest_runs_on_whatever_libvirt_does() {
    let machine = lost();
    let _plug = Plug(&machine);
    fs::write(machine.at("slow"), "524288").unwrap();
    // Somebody's own disk has the name: the guest is not even halted.
    let child = begun(&machine);
    fs::write(machine.disk_of("mail"), "somebody's").unwrap();
    let output = child.wait_with_output().unwrap();
    let told = machine::said(&output);
    assert!(
        output.status.code() == Some(2) && told.contains("disk.img is there, and is not written over"),
        "{told}"
    );
    assert!(!machine.virsh().contains(&"suspend".to_string()));
    assert_eq!(fs::read(machine.disk_of("mail")).unwrap(), b"somebody's");
    fs::remove_file(machine.disk_of("mail")).unwrap();
    // It has stood still since something could not be read.
    let child = begun(&machine);
    fs::write(machine.at("guest.paused"), "I/O error").unwrap();
    for (call, times) in [("cut-dumpxml", "3"), ("cut-suspend", "1"), ("no-pivot", "")] {
        fs::write(machine.at(call), times).unwrap();
    }
    fs::write(machine.at("pivot-unheard"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let told = machine::said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["state"], "running", "{told}");
    assert_eq!(told.matches("stands still after an I/O error").count(), 1, "{told}");
    assert_eq!(told.matches("its disk is copied anew").count(), 1, "{told}");
    assert_eq!(machine.virsh().iter().filter(|verb| *verb == "blockcopy").count(), 2);
    is_whole(&machine, &[]);
    guest(&machine, &["write -P 9 0 4096", "flush"]);
    is_whole(&machine, &[(0, 9)]);
}

/// Two of them, out of two repositories: one half disk, which is of one of them.
#[test]
fn a_restore_and_an_instant_of_one_vm_exclude_each_other() {
    let machine = Machine::ready();
    machine.file(|file| {
        file["backup"]["other"] =
            serde_json::json!({"repository": "/mnt/backup/borg/other", "schedule": "daily"});
        file["vm"]["mail"]["backup"] = serde_json::json!(["daily", "other"]);
    });
    machine.ok(&["init", "other"]);
    let key: serde_json::Value =
        serde_json::from_str(&machine.ok(&["key", "export", "other", "--json"])).unwrap();
    machine.ok(&["key", "acknowledge", "other", key["code"].as_str().unwrap()]);
    machine.ok(&["backup", "mail"]);
    fs::remove_dir_all(directory(&machine)).unwrap();
    let _plug = Plug(&machine);
    let mut child = machine.start_until(&["restore", "mail", "--policy", "other"], "extract");
    let (code, said) = machine.fails(&["instant", "mail", "--policy", "daily"]);
    assert!(code == 75 && said.contains("disk.img.restoring: another restore is at work"), "{said}");
    assert!(!directory(&machine).join("instant.json").exists());
    machine.release("extract");
    assert!(child.wait().unwrap().success());
    assert!(fs::read(machine.disk_of("mail")).unwrap() == disk(1, DISK));
}

/// It starts every VM, and stops what it has not started.
#[test]
fn pacemaker_is_the_only_starter() {
    let machine = lost();
    let _plug = Plug(&machine);
    cut(&machine);
    machine.file(|file| {
        file["ha"] = serde_json::json!({"watchdog": "auto"});
        for number in [2, 3] {
            let mut node = file["node"][0].clone();
            node["name"] = format!("node{number}").into();
            node["address"] = format!("192.168.0.5{number}/24").into();
            node["disks"] = serde_json::json!({});
            file["node"].as_array_mut().unwrap().push(node);
        }
    });
    let marker = machine.root().join("var/lib/personal-cluster/ha-enabled");
    fs::create_dir_all(marker.parent().unwrap()).unwrap();
    fs::write(marker, "").unwrap();
    // What was begun before comes to its end, and nobody but pacemaker starts it.
    fs::remove_file(machine.at("pc-vm.log")).unwrap();
    let answer = machine.json(&["instant", "mail"]);
    assert_eq!((answer["whole"].as_bool(), answer["state"].as_str()), (Some(true), Some("shut off")));
    assert!(answer["started_seconds"].is_null() && answer["resumed"] == true, "{answer}");
    assert!(!fs::read_to_string(machine.at("pc-vm.log")).unwrap().contains("start mail"));
    is_whole(&machine, &[(4096, 7)]);
    fs::remove_file(machine.disk_of("mail")).unwrap();
    let (code, said) = machine.fails(&["instant", "mail"]);
    assert!(code == 2 && said.contains("[ha] is enabled: pacemaker is the only starter"), "{said}");
}
