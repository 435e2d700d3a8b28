//! Verdicts over the tools' own recorded answers, and over what a test plants in them.

use std::fs;

use serde_json::json;

use super::*;

/// A recorded answer of a tool.
fn golden(tool: &str, file: &str) -> Value {
    let path = format!("{}/../pc-{tool}/tests/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
        .unwrap()
}

/// A healthy answer of each tool: the recorded one put right.
fn healthy(tool: &str) -> Value {
    let mut status = golden(tool, if tool == "gluster" { "status-healthy" } else { "status" });
    let mut set = |part: &str, key: &str, value: Value| {
        for one in status[part].as_array_mut().unwrap() {
            one[key] = value.clone();
        }
    };
    match tool {
        "unlock" => {
            set("devices", "state", json!("open"));
            set("secrets", "state", json!("open"));
        }
        "brick" => {
            set("bricks", "state", json!("mounted"));
            set("bricks", "problems", json!([]));
        }
        "borg" => set("backups", "last_error", json!(null)),
        _ => {}
    }
    let nothing = ["problems", "warnings", "misfits", "together"].map(|key| (key, json!([])));
    for (key, value) in [("healthy", json!(true))].into_iter().chain(nothing) {
        if status.get(key).is_some() {
            status[key] = value;
        }
    }
    status
}

fn reports() -> Reports {
    let status = |tool: &tools::Tool| Asked {
        name: tool.name,
        seconds: 0.25,
        answer: Answer::Status(healthy(tool.name)),
    };
    Reports {
        cluster: "home".into(),
        node: "node1".into(),
        measured_at: "2026-01-02T03:04:05.5Z".into(),
        seconds: 0.5,
        asked: TOOLS.iter().map(status).collect(),
        file: Vec::new(),
        machine: Machine::default(),
        unseen: None,
        ours: Ours::default(),
    }
}

fn status_of<'a>(reports: &'a mut Reports, tool: &str) -> &'a mut Value {
    let asked = reports.asked.iter_mut().find(|asked| asked.name == tool).unwrap();
    let Answer::Status(value) = &mut asked.answer else { panic!("no status") };
    value
}

/// The findings as `severity check: fault -> remedy`.
fn told(reports: &Reports) -> Vec<String> {
    let verdict = judge(reports);
    assert_eq!(verdict.healthy, verdict.problems == 0);
    let line = |finding: &Finding| {
        let severity = if finding.severity == Severity::Problem { "problem" } else { "warning" };
        format!("{severity} {}: {} -> {}", finding.check, finding.fault, finding.remedy)
    };
    verdict.findings.iter().map(line).collect()
}

/// Plants a fault in one tool's answer; that and nothing else is told.
fn planted(tool: &str, plant: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut reports = reports();
    plant(status_of(&mut reports, tool));
    assert_eq!(told(&reports), expected);
}

#[test]
fn silent_on_the_healthy() {
    let verdict = judge(&reports());
    assert_eq!(verdict.findings, []);
    assert!(verdict.healthy);
    assert_eq!(verdict.nodes[0].generation, Some(1));
    let states: Vec<State> = verdict.nodes[0].checks.iter().map(|check| check.state).collect();
    assert_eq!(states, [State::Well; 11]);
    assert_eq!(verdict.to_string(), "node1: healthy\n");
}

#[test]
fn the_cluster_file() {
    planted(
        "config",
        |status| status["edited"] = json!(true),
        &[
            "problem config: /etc/personal-cluster/cluster.toml was edited and is not in force -> pc-config push",
        ],
    );
    planted(
        "config",
        |status| status["applied"] = json!(false),
        &["problem config: no cluster file is in force: nothing starts at boot -> pc-config put FILE"],
    );
    let mut risky = reports();
    risky.file = vec![("unlock.tang: one server".into(), "add a server".into())];
    assert_eq!(told(&risky), ["warning file: unlock.tang: one server -> add a server"]);
    assert!(judge(&risky).healthy, "a warning alone is no problem");
}

#[test]
fn sentences_of_tools_keep_their_remedies() {
    let problems = |texts: &'static [&'static str]| {
        move |status: &mut Value| {
            status["healthy"] = json!(false);
            status["problems"] = json!(texts);
        }
    };
    // What pc-vm says of a second starter of VMs.
    planted(
        "vm",
        problems(&[
            "not done yet: turn off libvirt's autostart of vm mail",
            "libvirt-guests runs: a second one who starts and stops VMs\n  systemctl disable --now libvirt-guests",
            "vm mail is paused: I/O error on its disk",
        ]),
        &[
            "problem vm: not done yet: turn off libvirt's autostart of vm mail -> pc-vm apply",
            "problem vm: libvirt-guests runs: a second one who starts and stops VMs -> systemctl disable --now libvirt-guests",
            "problem vm: vm mail is paused: I/O error on its disk -> pc-vm status",
        ],
    );
    planted(
        "trust",
        problems(&["the node's certificate has expired", "to do: renew the certificate"]),
        &[
            "problem trust: the node's certificate has expired -> pc-trust status",
            "problem trust: to do: renew the certificate -> pc-trust apply",
        ],
    );
    planted(
        "ha",
        |status| {
            status["healthy"] = json!(false);
            status["problems"] = json!(["node node3 is away"]);
            status["warnings"] =
                json!(["maintenance mode is on: nothing is restarted\n  pc-ha maintenance off"]);
        },
        &[
            "problem ha: node node3 is away -> pc-ha status",
            "warning ha: maintenance mode is on: nothing is restarted -> pc-ha maintenance off",
        ],
    );
    planted(
        "borg",
        |status| {
            status["healthy"] = json!(false);
            status["problems"] = json!(["vm mail: no archive in daily in time: there is none"]);
            status["backups"][1]["last_error"] = json!("connection refused\nmore");
        },
        &[
            "problem borg: vm mail: no archive in daily in time: there is none -> pc-borg status",
            "warning borg: vm web in daily: the last attempt failed: connection refused -> journalctl -u pc-borg.service",
        ],
    );
}

#[test]
fn a_disk_is_told_once_by_who_is_nearer() {
    let mut locked = reports();
    let unlock = status_of(&mut locked, "unlock");
    unlock["healthy"] = json!(false);
    unlock["devices"][0]["state"] = json!("locked");
    unlock["devices"][0]["reason"] = json!("tang: timed out");
    unlock["secrets"][0]["state"] = json!("sealed");
    let brick = status_of(&mut locked, "brick");
    brick["healthy"] = json!(false);
    brick["bricks"][1]["state"] = json!("locked");
    let gluster = status_of(&mut locked, "gluster");
    gluster["healthy"] = json!(false);
    gluster["faults"] = json!(["brick n1:/srv/bricks/vms/n1-0/brick: is not mounted (disk n1-0)"]);
    let trust = status_of(&mut locked, "trust");
    trust["healthy"] = json!(false);
    trust["problems"] = json!(["secret node.key is not open"]);
    let once = [
        "problem trust: secret node.key is not open -> pc-trust status",
        "problem unlock: disk /dev/disk/by-id/ata-A is locked (tang: timed out) -> systemctl status pc-unlock.service",
    ];
    assert_eq!(told(&locked), once);
    let mut silent = reports();
    let unlock = status_of(&mut silent, "unlock");
    unlock["healthy"] = json!(false);
    unlock["devices"][0]["state"] = json!("silent");
    unlock["devices"][0]["reason"] = json!("does not answer");
    let once = [
        "problem unlock: disk /dev/disk/by-id/ata-A does not answer -> pc-unlock status --disk-time 30 (it may have slept); then look at its cable and at dmesg",
    ];
    assert_eq!(told(&silent), once);
    // Nor is a disk that gives no header one that has none, which pc-brick would tell of.
    for (state, why, said) in [
        (
            "unreadable",
            "Input/output error (os error 5)",
            "cannot be read (Input/output error (os error 5)) -> look at its cable and at dmesg; smartctl -a /dev/disk/by-id/ata-A",
        ),
        (
            "damaged",
            "both copies are damaged",
            "has a damaged LUKS header (both copies are damaged) -> pc-unlock header restore /dev/disk/by-id/ata-A",
        ),
        (
            "open",
            "its LUKS header is gone",
            "is open, and will not be after the next start (its LUKS header is gone) -> pc-unlock header restore /dev/disk/by-id/ata-A",
        ),
    ] {
        let mut faulty = reports();
        let unlock = status_of(&mut faulty, "unlock");
        unlock["healthy"] = json!(false);
        unlock["devices"][0]["state"] = json!(state);
        unlock["devices"][0]["reason"] = json!(why);
        assert_eq!(told(&faulty), [format!("problem unlock: disk /dev/disk/by-id/ata-A {said}")]);
    }
    // A brick that is open and not mounted is pc-brick's to tell, and a missing header backup.
    let mut unmounted = reports();
    let brick = status_of(&mut unmounted, "brick");
    brick["healthy"] = json!(false);
    brick["bricks"][1]["state"] = json!("formatted");
    brick["bricks"][2]["problems"] = json!(["no backup of the LUKS header\n  pc-brick apply"]);
    let expected = [
        "problem brick: disk nvme-A of volume vms is not mounted -> pc-brick apply",
        "problem brick: disk ata-B of volume vms: no backup of the LUKS header -> pc-brick apply",
    ];
    assert_eq!(told(&unmounted), expected);
    // Without pc-unlock's answer pc-brick tells of the lock.
    let mut alone = locked.clone();
    alone.asked.retain(|asked| asked.name == "brick");
    assert_eq!(
        told(&alone),
        ["problem brick: disk nvme-A of volume vms is locked -> systemctl status pc-unlock.service"]
    );
}

#[test]
fn recorded_faults_of_disks_are_all_told() {
    let mut reports = reports();
    *status_of(&mut reports, "unlock") = golden("unlock", "status");
    *status_of(&mut reports, "brick") = golden("brick", "status");
    let told = told(&reports);
    for words in [
        "unlock: disk /dev/disk/by-id/ata-B is locked",
        "unlock: disk /dev/disk/by-id/ata-C is locked, and nothing opens it by itself",
        "unlock: disk /dev/disk/by-id/ata-E is not there",
        "brick: disk ata-D of volume local is not a brick yet",
        "brick: disk ata-B of volume vms: holds ext4 file system",
    ] {
        assert_eq!(told.iter().filter(|line| line.contains(words)).count(), 1, "{words}: {told:?}");
    }
}

#[test]
fn a_dead_node_is_told_as_a_peer_not_as_its_bricks() {
    let mut reports = reports();
    *status_of(&mut reports, "gluster") = golden("gluster", "status-degraded");
    let expected = [
        "problem gluster: peer n3 is not connected -> systemctl status glusterd.service, on n3",
        "problem gluster: volume vms has 14 entries that wait for healing -> they heal by themselves once n3 is back",
    ];
    assert_eq!(told(&reports), expected);
    planted(
        "gluster",
        |status| {
            status["healthy"] = json!(false);
            status["volumes"][0]["sets"][0][1]["online"] = json!(false);
            status["volumes"][0]["heal_pending"] = json!(3);
        },
        &[
            "problem gluster: brick n2:/srv/bricks/vms/n2-0/brick is offline -> pc-gluster apply, on n2",
            "problem gluster: volume vms has 3 entries that wait for healing -> pc-gluster heal vms --wait 3600",
        ],
    );
    planted(
        "gluster",
        |status| {
            status["healthy"] = json!(false);
            status["glusterd"] = json!(false);
            status["volumes"] = json!([]);
            status["faults"] = json!(["glusterd does not answer on this node"]);
        },
        &["problem gluster: glusterd does not answer on this node -> systemctl status glusterd.service"],
    );
}

#[test]
fn a_volume_that_is_lost() {
    let volume = |key: &'static str, value: Value| {
        move |status: &mut Value| {
            status["healthy"] = json!(false);
            status["volumes"][0][key] = value;
        }
    };
    for (key, value, expected) in [
        ("quorum", json!(false), "volume vms has no quorum: nothing can be written -> pc-gluster status"),
        ("started", json!(false), "volume vms is not started -> pc-gluster apply"),
        ("exists", json!(false), "volume vms does not exist -> pc-gluster apply"),
        (
            "mounted",
            json!(false),
            "volume vms is not mounted here, or its client does not answer -> systemctl status pc-gluster.service",
        ),
        (
            "split_brain",
            json!(2),
            "volume vms has 2 entries in split-brain -> gluster volume heal vms info split-brain",
        ),
        ("heal_pending", json!(null), "volume vms does not tell what waits for healing -> pc-gluster status"),
    ] {
        planted("gluster", volume(key, value), &[&format!("problem gluster: {expected}")]);
    }
}

#[test]
fn the_network() {
    let mut refused = reports();
    *status_of(&mut refused, "ovs") = golden("ovs", "status-refused");
    assert_eq!(told(&refused).len(), 2);
    planted(
        "ovs",
        |status| status["converged"] = json!(false),
        &["problem ovs: bridges and addresses are not as the file has them -> pc-ovs apply"],
    );
    planted(
        "ovs",
        |status| {
            status["converged"] = json!(false);
            status["probation"] = json!({"started": "x", "until": null, "complete": true});
        },
        &["warning ovs: a change is on probation and may be rolled back -> pc-ovs confirm"],
    );
    planted(
        "ovs",
        |status| {
            let mut second = status["bridges"][0]["ports"][1]["interfaces"][0].clone();
            second["name"] = json!("nic1");
            second["link_up"] = json!(false);
            status["bridges"][0]["ports"][1]["interfaces"].as_array_mut().unwrap().push(second);
        },
        &["warning ovs: bond nic0 on br-lan works without nic1 -> look at the cable of nic1"],
    );
}

/// The recorded answer, which docs/json/pc.verify-v1.json describes, and its text.
#[test]
fn a_recorded_verdict() {
    let mut reports = reports();
    *status_of(&mut reports, "gluster") = golden("gluster", "status-degraded");
    let ha = status_of(&mut reports, "ha");
    ha["warnings"] = json!(["maintenance mode is on: nothing is restarted\n  pc-ha maintenance off"]);
    reports.machine.crypttab = "gv0 /dev/sdb1 none luks\n".into();
    let mut verdict = judge(&reports);
    verdict.nodes[0].version = Some("0.1.0".into());
    crate::golden("node.json", &(serde_json::to_string_pretty(&verdict).unwrap() + "\n"));
    crate::golden("node.txt", &verdict.to_string());
}

#[path = "judge_silent_tests.rs"]
mod silent;
#[path = "judge_warnings_tests.rs"]
mod warnings;
