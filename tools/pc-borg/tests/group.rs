//! Several VMs as of one moment: the real borg, and a libvirt that is a script.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;

use machine::{DISK, Machine, disk};
use serde_json::{Value, json};

/// Both run here, and belong together.
fn together() -> Machine {
    let mut machine = Machine::ready();
    machine.file(|file| {
        for vm in ["mail", "web"] {
            file["vm"][vm]["group"] = json!("shop");
        }
    });
    machine.runs();
    machine.list["vms"][1]["state"] = "running".into();
    machine.list["vms"][1]["node"] = "node1".into();
    machine.says();
    fs::write(machine.at("frozen-web.img"), disk(6, DISK)).unwrap();
    machine
}

/// What was asked of whom.
fn asked(machine: &Machine) -> Vec<String> {
    let log = fs::read_to_string(machine.at("virsh.log")).unwrap();
    log.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn all_are_frozen_before_any_is_saved_and_go_on_before_anything_is_read() {
    let machine = together();
    let answer = machine.json(&["backup", "--group", "shop"]);
    let made: Vec<&Value> = answer["backups"].as_array().unwrap().iter().map(|b| &b["archive"]).collect();
    assert_eq!((&made[0]["consistency"], &made[1]["consistency"]), (&json!("frozen"), &json!("frozen")));
    assert_eq!((&made[0]["group"], &made[1]["group"]), (&json!("shop"), &json!("shop")));
    assert_eq!(made[0]["taken_at"], made[1]["taken_at"]);
    let time = |made: &Value| made["name"].as_str().unwrap().split_once('.').unwrap().1.to_string();
    assert_eq!(time(made[0]), time(made[1]), "to the millisecond");
    let asked = asked(&machine);
    let moment = [
        "domfsfreeze mail",
        "domfsfreeze web",
        "backup-begin mail",
        "backup-begin web",
        "domfsthaw mail",
        "domfsthaw web",
    ];
    let begun = asked.iter().position(|line| line == moment[0]).unwrap();
    assert_eq!(asked[begun..begun + moment.len()], moment);
    assert!(!asked[..begun].iter().any(|line| line.starts_with("backup-")), "{asked:?}");
    for (vm, seed) in [("mail", 5), ("web", 6)] {
        let copy = format!("{vm}-copy");
        machine.ok(&["restore", vm, "--as", &copy]);
        assert_eq!(fs::read(machine.disk_of(&copy)).unwrap(), disk(seed, DISK));
    }
    // By the clock as well, and one that is asked for by itself goes by itself.
    assert_eq!(machine.json(&["backup"])["backups"][0]["archive"]["group"], "shop");
    assert!(machine.json(&["backup", "mail"])["backups"][0]["archive"]["group"].is_null());
}

/// Whoever cannot be part of the moment fails alone, and nobody stays frozen.
#[test]
fn one_that_cannot_be_saved_keeps_the_others_from_nothing() {
    let machine = together();
    let outcomes = |arguments: &[&str]| -> Vec<String> {
        let output = machine.run(&[arguments, &["--json"]].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let backups = answer["backups"].as_array().unwrap().iter();
        backups.map(|backup| backup["outcome"].as_str().unwrap().to_string()).collect()
    };
    // It sets off after all were frozen.
    fs::write(machine.at("moves-now-web"), "").unwrap();
    assert_eq!(outcomes(&["backup", "--group", "shop"]), ["done", "failed"]);
    assert!(!machine.at("frozen").exists() && !machine.at("frozen-web").exists());
    assert!(!machine.at("job.xml").exists() && !machine.at("job-web.xml").exists());
    assert!(machine.at("moving-web").exists(), "the move goes on");
    fs::remove_file(machine.at("moves-now-web")).unwrap();
    // It is on its way already.
    assert_eq!(outcomes(&["backup", "--group", "shop"]), ["done", "try_again"]);
    fs::remove_file(machine.at("moving-web")).unwrap();
    // Nobody can tell whether the first one is frozen.
    fs::write(machine.at("freeze-is-cut-off"), "").unwrap();
    fs::write(machine.at("no-thaw"), "").unwrap();
    assert_eq!(outcomes(&["backup", "--group", "shop"]), ["failed", "done"]);
    assert!(!machine.at("frozen-web").exists());
}

#[test]
fn a_stopped_one_is_part_of_it_and_one_elsewhere_is_told() {
    let mut machine = together();
    machine.list["vms"][1]["state"] = "shut off".into();
    machine.list["vms"][1]["node"] = Value::Null;
    machine.says();
    let answer = machine.json(&["backup", "--group", "shop"]);
    let archives: Vec<&Value> = answer["backups"].as_array().unwrap().iter().map(|b| &b["archive"]).collect();
    assert_eq!((&archives[1]["consistency"], &archives[1]["group"]), (&json!("stopped"), &json!("shop")));
    assert_eq!(archives[0]["taken_at"], archives[1]["taken_at"]);
    machine.list["vms"][1]["state"] = "running".into();
    machine.list["vms"][1]["node"] = "node2".into();
    machine.says();
    let (code, said) = machine.fails(&["backup", "--group", "shop"]);
    assert!(code == 2 && said.contains("vm web to daily: runs on node2"), "{said}");
    let output = machine.run(&["backup"]);
    assert!(output.status.success());
    let said = machine::said(&output);
    assert!(said.contains("group shop: vm web runs on node2: its archives are of another moment"), "{said}");
    let (code, said) = machine.fails(&["backup", "--group", "shops"]);
    assert!(code == 2 && said.contains("no [group] is called \"shops\": the file has shop"), "{said}");
}
