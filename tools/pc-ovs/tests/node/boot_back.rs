//! The boot after a probation that cannot be undone as its record says: whatever is found there, the node has its
//! address once the boot unit's two commands have run, and nothing is in the way of the next change.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::boot::as_json;
use crate::common::Answer;
use crate::machine::{INTERFACES, Machine, exists, wait};

const OPEN: &str = "var/lib/personal-cluster/ovs/probation.json";
const ASIDE: &str = "var/lib/personal-cluster/ovs/probation.json.unreadable";
const LAST: &str = "var/lib/personal-cluster/ovs/last.json";

/// A take-over that a power cut ended before anybody answered. Gives its record.
fn interrupted(machine: &Machine) -> String {
    machine.peer("link set peer0 down");
    let mut apply = machine.command(&["apply", "--take-over", "--confirm", "60s"]).spawn().unwrap();
    let record = machine.path(OPEN);
    wait("the change", || {
        std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"complete\": true"))
    });
    apply.kill().unwrap();
    apply.wait().unwrap();
    machine.write("var/lib/personal-cluster/applied.json", &as_json(machine));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    machine.read(OPEN).replace(boot.trim(), "another-boot")
}

/// The switch as a reboot leaves it, then the commands of pc-ovs.service, with an ifup that reads the machine's
/// own file.
fn boot(machine: &mut Machine) -> (Answer, Answer) {
    machine.stop_switch();
    machine.ip("address flush dev nic0");
    machine.ip("link set nic0 down");
    machine.start_switch();
    machine.write(
        "bin/ifup",
        &format!(
            "#!/bin/sh\n[ \"$1\" = --force ] || exit 1\n\
             address=$(sed -n \"/^iface $2 inet static/,\\$ s/.*address //p\" {})\n\
             ip address add \"$address\" dev \"$2\" && ip link set \"$2\" up\n",
            machine.path("etc/network/interfaces").display()
        ),
    );
    let program = machine.path("bin/ifup");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", machine.path("bin").display(), std::env::var("PATH").unwrap());
    let run = |mut command: Command| Answer::from(command.env("PATH", &path).output().unwrap());
    let back = run(machine.command(&["rollback", "--interrupted"]));
    (back, run(machine.command(&["apply", "--applied"])))
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_the_copies_are_put_back() {
    for broken in ["", "{\"schema\":\"pc.ovs.probation/1\","] {
        let mut machine = Machine::configured();
        interrupted(&machine);
        machine.write(OPEN, broken);
        for verb in ["rollback", "confirm", "apply"] {
            let refused = machine.pc(&[verb]).with(2);
            assert!(refused.err.contains("ovs/probation.json: EOF while parsing"), "{}", refused.err);
            assert!(
                refused.err.contains(
                    "\n  set it aside, and put back what can be told: pc-ovs rollback --interrupted"
                )
            );
        }
        let (back, apply) = boot(&mut machine);
        let back = back.with(0);
        assert!(back.err.contains("probation.json: kept as "), "{}", back.err);
        assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
        assert!(apply.with(2).err.contains("nic0 is configured by ifupdown"));
        assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
        assert_eq!(machine.vsctl(&["list-br"]), "");
        assert!(!exists(&machine.path(OPEN)));
        assert_eq!(machine.read(ASIDE), broken);
        machine.peer("link set peer0 up");
        machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    }
}

#[test]
fn another_versions_record_says_which_files_it_changed() {
    let mut machine = Machine::configured();
    let record = interrupted(&machine);
    let later = record.replace("probation/1", "probation/9");
    machine.write(OPEN, &later);
    let refused = machine.pc(&["rollback"]).with(2);
    assert!(
        refused.err.contains("its schema is pc.ovs.probation/9, not pc.ovs.probation/1"),
        "{}",
        refused.err
    );
    let (back, _) = boot(&mut machine);
    back.with(0);
    assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
    assert_eq!(machine.read(ASIDE), later);
}

/// The only copies are those of a take-over that was confirmed: it stays.
#[test]
fn copies_of_a_confirmed_change_stay_where_they_are() {
    let mut machine = Machine::configured();
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    let taken_over = machine.read("etc/network/interfaces");
    machine.write(OPEN, "");
    let (back, apply) = boot(&mut machine);
    assert!(back.with(0).err.contains("which files it changed cannot be told"));
    apply.with(0);
    assert_eq!(machine.read("etc/network/interfaces"), taken_over);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    assert_eq!(machine.default_route(), "default via 10.9.0.1 dev br-lan proto 112 metric 50");
    assert!(!exists(&machine.path(OPEN)));
}

/// The power was cut right after somebody confirmed: the record is back, and says that it is open.
#[test]
fn a_change_that_was_confirmed_stays_though_its_record_came_back() {
    let mut machine = Machine::configured();
    let record = interrupted(&machine);
    machine.pc(&["confirm"]).with(0);
    let taken_over = machine.read("etc/network/interfaces");
    machine.write(OPEN, &record);
    let (back, apply) = boot(&mut machine);
    let back = back.with(0);
    assert!(back.err.ends_with(" was confirmed already\n") && back.err.lines().count() == 1, "{}", back.err);
    apply.with(0);
    assert_eq!(machine.read("etc/network/interfaces"), taken_over);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    assert!(!exists(&machine.path(OPEN)));
}

/// A copy that cannot be read: by hand the record stays open, at boot the rest is done and the record closed.
#[test]
fn a_part_that_fails_for_good_does_not_keep_the_network_down() {
    let mut machine = Machine::configured();
    let record = interrupted(&machine);
    machine.write(OPEN, &record);
    let kept = record.split('"').find(|word| word.ends_with("Z/etc/network/interfaces")).unwrap();
    let copy = machine.path(kept.trim_start_matches('/'));
    std::fs::remove_file(&copy).unwrap();
    std::fs::create_dir(&copy).unwrap();
    machine.pc(&["rollback"]).with(1);
    assert!(exists(&machine.path(OPEN)), "it can be tried again");
    let (back, apply) = boot(&mut machine);
    let back = back.with(0);
    assert!(back.err.contains("error: putting files back: reading "), "{}", back.err);
    assert!(back.err.ends_with("rolled back as far as it went\n"), "{}", back.err);
    // The address and the switch are back, and no file says so: this boot has the former network by hand.
    assert!(apply.with(2).err.contains("nic0 has the address 10.9.0.50/24, though no file says why"));
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
    assert!(!exists(&machine.path(OPEN)));
    let last = machine.read(LAST);
    assert!(last.contains("\"rolled-back\"") && last.contains("putting files back: reading "), "{last}");
    // The next one has what the file says, which nothing else configures.
    let (back, apply) = boot(&mut machine);
    back.with(0);
    apply.with(0);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

#[test]
fn without_a_database_the_way_back_is_tried_again() {
    for broken in [false, true] {
        let mut machine = Machine::configured();
        let record = interrupted(&machine);
        machine.write(OPEN, if broken { "" } else { &record });
        machine.stop_switch();
        machine.stop_database();
        machine.pc(&["rollback", "--interrupted"]).with(75);
        assert!(exists(&machine.path(OPEN)));
        machine.start_database();
        machine.start_switch();
        machine.pc(&["rollback", "--interrupted"]).with(0);
        assert_eq!(machine.vsctl(&["list-br"]), "");
        assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
    }
}
