//! Going back: by itself, when asked, after a kill at any moment.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::common::Answer;
use crate::machine::{INTERFACES, Machine, exists, wait};

/// The machine is as ifupdown had it.
fn assert_as_before(machine: &Machine) {
    assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
    assert_eq!(machine.default_route(), "default via 10.9.0.1 dev nic0");
    assert_eq!(machine.vsctl(&["list-br"]), "");
    assert!(!exists(&machine.path("var/lib/personal-cluster/ovs/probation.json")));
}

/// A take-over that nobody has answered yet: the change is made, the guard watches. Gives `apply` and the guard's record.
fn on_probation(machine: &Machine, confirm: &str) -> (Child, PathBuf) {
    machine.peer("link set peer0 down");
    let apply = machine.command(&["apply", "--take-over", "--confirm", confirm]).spawn().unwrap();
    let record = machine.path("var/lib/personal-cluster/ovs/probation.json");
    wait("the change", || {
        std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"complete\": true"))
    });
    (apply, record)
}

#[test]
fn nobody_answers() {
    let machine = Machine::configured();
    machine.peer("link set peer0 down");
    let started = Instant::now();
    let answer = machine.pc(&["apply", "--take-over", "--confirm", "6s"]).with(1);
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(answer.err.contains(
        "rolled back: nobody confirmed within 6 s, and none of these answered: 10.9.0.1, 10.9.0.2"
    ));
    assert_as_before(&machine);
    machine.peer("link set peer0 up");
    let refused = machine.pc(&["confirm"]).with(2);
    assert!(refused.err.contains("was rolled back"), "{}", refused.err);
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    machine.pc(&["confirm"]).with(0);
}

#[test]
fn whoever_answers_through_another_card_does_not_count() {
    let machine = Machine::configured();
    // The administrator came in through nic1, and that machine would answer the node's address by the same way.
    machine.ip("address add 10.8.0.50/24 dev nic1");
    machine.ip("link set nic1 up");
    machine.peer("address add 10.8.0.7/24 dev peer1");
    machine.peer("link set peer0 down");
    machine.peer("route add 10.9.0.50/32 via 10.8.0.50");
    let mut command = machine.command(&["apply", "--take-over", "--confirm", "5s"]);
    let answer = Answer::from(command.env("SSH_CONNECTION", "10.8.0.7 40000 10.8.0.50 22").output().unwrap());
    let told = answer.with(1).err;
    assert!(told.contains("none of these answered: 10.8.0.7, 10.9.0.1, 10.9.0.2"), "{told}");
    assert_as_before(&machine);
}

#[test]
fn a_wrong_address_in_the_file_is_survived() {
    let machine = Machine::configured();
    // Neither peer nor router is on the network that the file now names.
    let wrong = crate::machine::FILE.replace("10.9.0.", "10.99.0.");
    machine.write("etc/personal-cluster/cluster.toml", &wrong);
    let answer = machine.pc(&["apply", "--take-over", "--confirm", "5s"]).with(1);
    assert!(answer.err.contains("rolled back"), "{}", answer.err);
    assert_as_before(&machine);
}

#[test]
fn a_wrong_change_of_an_address_of_ours_is_survived() {
    let machine = Machine::configured();
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    machine.write("etc/personal-cluster/cluster.toml", &crate::machine::FILE.replace("10.9.0.", "10.99.0."));
    let answer = machine.pc(&["apply", "--confirm", "4s"]).with(1);
    assert!(answer.err.contains("error: rolled back: nobody confirmed"), "{}", answer.err);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    assert_eq!(machine.default_route(), "default via 10.9.0.1 dev br-lan proto 112 metric 50");
    assert!(!exists(&machine.path("var/lib/personal-cluster/ovs/probation.json")));
    machine.write("etc/personal-cluster/cluster.toml", crate::machine::FILE);
    let again = machine.pc(&["apply"]).with(0);
    assert_eq!(again.err, "", "the database is as before, too");
}

#[test]
fn confirmed_by_hand() {
    let machine = Machine::configured();
    let (mut apply, _) = on_probation(&machine, "40s");
    let status = machine.pc(&["status"]).with(0);
    assert!(status.out.contains("on probation since"), "{}", status.out);
    let second = machine.pc(&["apply"]).with(75);
    assert!(second.err.contains("pc-ovs confirm (it stays) or pc-ovs rollback (it goes)"));
    machine.pc(&["confirm"]).with(0);
    assert!(apply.wait().unwrap().success());
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

/// Whoever ended it was killed before its record was gone: nobody ends it another way.
#[test]
fn what_has_ended_stays_ended() {
    let machine = Machine::configured();
    let (mut apply, path) = on_probation(&machine, "40s");
    let record = std::fs::read_to_string(&path).unwrap();
    machine.pc(&["confirm"]).with(0);
    assert!(apply.wait().unwrap().success());
    std::fs::write(&path, &record).unwrap();
    let status = machine.pc(&["status"]).with(0);
    assert!(!status.out.contains("on probation"), "{}", status.out);
    machine.pc(&["confirm"]).with(0);
    let guard = machine.pc(&["rollback", "--expired"]).with(0);
    assert!(guard.err.contains(" was confirmed already"), "{}", guard.err);
    assert!(!path.exists());
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    // As after a change that was rolled back: the next one is not in its way.
    let last = machine.path("var/lib/personal-cluster/ovs/last.json");
    let ended = std::fs::read_to_string(&last).unwrap().replace("\"confirmed\"", "\"rolled-back\"");
    std::fs::write(&last, ended).unwrap();
    std::fs::write(&path, &record).unwrap();
    assert!(machine.pc(&["confirm"]).with(2).err.contains("was rolled back"));
    machine.pc(&["apply"]).with(0);
    let asked = machine.pc(&["rollback"]).with(0);
    assert!(asked.err.contains(" was rolled back already"), "{}", asked.err);
    assert!(!path.exists());
}

#[test]
fn rolled_back_by_hand() {
    let machine = Machine::configured();
    let (mut apply, _) = on_probation(&machine, "40s");
    machine.pc(&["rollback"]).with(0);
    assert_eq!(apply.wait().unwrap().code(), Some(1));
    assert_as_before(&machine);
    machine.pc(&["rollback"]).with(0);
}

#[test]
fn killed_during_the_probation_the_guard_goes_back() {
    let machine = Machine::configured();
    let (mut apply, record) = on_probation(&machine, "4s");
    apply.kill().unwrap();
    apply.wait().unwrap();
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    wait("the guard", || !record.exists());
    assert_as_before(&machine);
}

#[test]
fn killed_while_a_peer_answers_the_guard_keeps_it() {
    let machine = Machine::configured();
    let (mut apply, record) = on_probation(&machine, "5s");
    apply.kill().unwrap();
    apply.wait().unwrap();
    machine.peer("link set peer0 up");
    wait("the guard", || !record.exists());
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

/// SIGKILL at any moment: the machine is as before or as wanted, and the next apply brings it to the file.
#[test]
fn killed_at_any_moment() {
    let (mut before, mut after) = (0, 0);
    for step in 0..12_u64 {
        let machine = Machine::configured();
        let mut apply = machine.command(&["apply", "--take-over", "--confirm", "2s"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(25 * step));
        apply.kill().unwrap();
        apply.wait().unwrap();
        let record = machine.path("var/lib/personal-cluster/ovs/probation.json");
        // Before the guard was armed nothing has changed but the record: a person, or the next boot, ends it.
        std::thread::sleep(Duration::from_millis(100));
        wait("the guard", || {
            if record.exists() && machine.read("etc/network/interfaces") == INTERFACES {
                machine.pc(&["rollback"]);
            }
            !record.exists()
        });
        if machine.addresses("nic0").is_empty() {
            assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"], "step {step}");
            after += 1;
        } else {
            assert_as_before(&machine);
            before += 1;
        }
        machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
        assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"], "step {step}");
        let configurations = machine.configurations();
        machine.pc(&["apply"]).with(0);
        assert_eq!(machine.configurations(), configurations);
    }
    eprintln!("{before} times as before, {after} times as wanted");
}
