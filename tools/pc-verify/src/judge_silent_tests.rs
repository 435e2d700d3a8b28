//! Who gives no answer, or no reason.

use super::*;
use crate::machine::{Server, Supply};

#[test]
fn silence_is_a_reason() {
    let mut reports = reports();
    for asked in &mut reports.asked {
        asked.answer = match asked.name {
            "gluster" => Answer::Silent("no answer within 3 s".into()),
            "ha" => Answer::Absent,
            "brick" => Answer::Status(json!({"schema": "pc.brick.status/2"})),
            "trust" => Answer::Silent("opening x: denied\n  sudo pc-trust status".into()),
            _ => continue,
        };
    }
    reports.machine = Machine {
        units: Some(Err("asking systemd for its units: timed out".into())),
        clock: Some(Err("asking systemd-timedated: timed out".into())),
        ..Machine::default()
    };
    let expected = [
        "problem trust: gives no status: opening x: denied -> sudo pc-trust status",
        "problem brick: its answer is \"pc.brick.status/2\", not \"pc.brick.status/1\" -> pc-brick status",
        "problem gluster: gives no status: no answer within 3 s -> pc-gluster status",
        "problem ha: pc-ha is not installed, and the file has what it is for -> apt-get install pc-ha",
        "problem machine: asking systemd for its units: timed out -> systemctl status dbus.service",
        "problem machine: asking systemd-timedated: timed out -> systemctl status systemd-timedated.service",
    ];
    assert_eq!(told(&reports), expected);
    let none = "connecting to the system's D-Bus: no such file".to_string();
    reports.machine =
        Machine { units: Some(Err(none.clone())), clock: Some(Err(none)), ..Machine::default() };
    assert_eq!(told(&reports).len(), 5);
    // What others have asked meanwhile is told all the same.
    let servers =
        vec![Server { url: "http://192.168.0.2".into(), fault: Some("timed out after 2 s".into()) }];
    let supplies = vec![Supply { name: Some("ups-1".into()), status: Ok("OB LB".into()) }];
    reports.machine = Machine { supplies, servers, ..Machine::default() };
    reports.unseen = Some("looking at the files of this machine: no answer within 3 s".into());
    let expected = [
        "problem machine: looking at the files of this machine: no answer within 3 s -> dmesg",
        "warning machine: unlock server http://192.168.0.2: timed out after 2 s -> curl -m 5 http://192.168.0.2/adv",
        "problem machine: the battery of ups-1 is nearly empty: what it feeds goes off within minutes -> pc-vm stop --all, then poweroff, on each node that ups-1 feeds",
    ];
    let mut told = told(&reports);
    told.sort();
    assert!(expected.iter().all(|one| told.contains(&(*one).to_string())), "{told:?}");
    assert_eq!(told.len(), 7);
    let checks = &judge(&reports).nodes[0].checks;
    assert_eq!(checks.iter().find(|check| check.name == "machine").unwrap().state, State::Silent);
}

#[test]
fn unhealthy_without_a_reason_is_a_reason() {
    for tool in ["ovs", "unlock", "brick", "gluster", "vm", "ha", "trust", "borg"] {
        let command = format!("pc-{tool} status");
        planted(
            tool,
            |status| status["healthy"] = json!(false),
            &[&format!("problem {tool}: {command} says that something is wrong -> {command}")],
        );
    }
}
