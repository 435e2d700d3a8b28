//! What works, and a person should look at.

use super::*;

#[test]
fn what_fits_nowhere_and_what_runs_together() {
    planted(
        "vm",
        |status| {
            status["misfits"] = json!([{"node": "node2", "vms": ["db", "web"]}]);
            status["together"] = json!([{"group": "dns", "vms": ["ns1", "ns2"]}]);
        },
        &[
            "warning vm: no other node has the memory for db, web when node2 is lost -> give VMs less memory in the file, or a node more",
            "warning vm: ns1 and ns2 run on one node, group dns keeps them apart -> move one of them to another node",
        ],
    );
}

#[test]
fn a_lost_lock() {
    let lost =
        "warning vm: vm mail: QEMU has lost its lock on the disk, and keeps no second one away from it";
    for (should, mover) in [(json!(true), "pc-vm migrate"), (json!(null), "pc-ha move")] {
        let plant = |status: &mut Value| {
            (status["vms"][0]["disk_locked"], status["vms"][0]["should_run_here"]) = (json!(false), should);
        };
        planted("vm", plant, &[&format!("{lost} -> {mover} mail NODE")]);
    }
    planted("vm", |status| status["vms"][0]["disk_locked"] = json!(true), &[]);
    // One that can run nowhere else: there is one node, or its disk or a device of it is there.
    for (should, starter) in [(json!(true), "pc-vm"), (json!(null), "pc-ha")] {
        let mut reports = reports();
        reports.ours.immovable = vec!["mail".into()];
        let status = status_of(&mut reports, "vm");
        (status["vms"][0]["disk_locked"], status["vms"][0]["should_run_here"]) = (json!(false), should);
        let remedy = format!("{starter} stop mail, then {starter} start mail: it can run nowhere else");
        assert_eq!(told(&reports), [format!("{lost} -> {remedy}")]);
    }
}

#[test]
fn a_brick_that_fills() {
    planted(
        "brick",
        |status| status["bricks"][1]["warnings"] = json!(["its file system has 9 % left"]),
        &["warning brick: disk nvme-A of volume vms: its file system has 9 % left -> pc-brick status"],
    );
}

/// 45 and 21 days, as the alerts have it; what was never done may be of yesterday.
#[test]
fn backups_that_nobody_has_proven_for_long() {
    let at = |checked: &'static str, verified: &'static str, drilled: &'static str| {
        move |status: &mut Value| {
            status["measured_at"] = json!("2026-03-01T00:00:00Z");
            status["policies"][0]["checked_at"] = json!(checked);
            status["backups"][0]["verified_at"] = json!(verified);
            status["backups"][0]["drilled_at"] = json!(drilled);
        }
    };
    planted(
        "borg",
        at("2026-01-10T00:00:00Z", "2026-01-09T00:00:00Z", "2026-02-01T00:00:00Z"),
        &[
            "warning borg: the repository of daily was last checked 50 days ago -> pc-borg check daily",
            "warning borg: a restore of vm mail was last rehearsed 28 days ago -> pc-borg drill mail",
            "warning borg: vm mail: an archive in daily was last read 51 days ago -> pc-borg verify mail",
        ],
    );
    planted("borg", at("2026-01-15T00:00:00Z", "2026-01-15T00:00:00Z", "2026-02-08T00:00:00Z"), &[]);
    // Rehearsed out of another repository since.
    planted(
        "borg",
        |status| {
            at("2026-02-15T00:00:00Z", "2026-02-15T00:00:00Z", "2026-01-08T00:00:00Z")(status);
            let mut other = status["backups"][0].clone();
            (other["policy"], other["drilled_at"]) = (json!("offsite"), json!("2026-02-20T00:00:00Z"));
            status["backups"].as_array_mut().unwrap().push(other);
        },
        &[],
    );
    // Records of its own, of a VM that another node has backed up since it moved there.
    let moved = |status: &mut Value| {
        at("2026-01-10T00:00:00Z", "2026-01-09T00:00:00Z", "2026-02-01T00:00:00Z")(status);
        for backup in status["backups"].as_array_mut().unwrap() {
            backup["overdue"] = json!(null);
        }
    };
    planted("borg", moved, &[]);
}
