//! What a boot meets: no database yet, a switch that made its devices anew, a NIC that someone else has again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::machine::{FILE, INTERFACES, Machine};

#[test]
fn no_database_yet_means_try_again() {
    let mut machine = Machine::blank();
    machine.stop_switch();
    machine.stop_database();
    let answer = machine.pc(&["apply"]).with(75);
    assert!(answer.err.contains("systemctl start openvswitch-switch"), "{}", answer.err);
    let status = machine.pc(&["status", "--exit-code"]).with(3);
    assert!(status.out.starts_with("error: connecting to "), "{}", status.out);
}

#[test]
fn devices_made_anew_get_their_addresses_without_a_transaction() {
    let mut machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    std::fs::create_dir_all(machine.path("var/lib/personal-cluster")).unwrap();
    machine.write("var/lib/personal-cluster/applied.json", &as_json(&machine));
    machine.stop_switch();
    assert!(!machine.ip("-brief link").contains("br-lan"));
    machine.ip("link set nic0 down");
    machine.start_switch();
    let before = machine.configurations();
    let started = Instant::now();
    machine.pc(&["apply", "--applied"]).with(0);
    eprintln!("boot: {} ms", started.elapsed().as_millis());
    assert_eq!(machine.configurations(), before);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    assert_eq!(machine.default_route(), "default via 10.9.0.1 dev br-lan proto 112 metric 50");
}

/// The cluster file as pc-config stores it.
pub fn as_json(machine: &Machine) -> String {
    let cluster = cluster::parse("test", &machine.read("etc/personal-cluster/cluster.toml")).unwrap();
    serde_json::to_string(&cluster).unwrap()
}

#[test]
fn a_nic_that_someone_configures_again_is_left_alone_and_the_rest_is_done() {
    let machine = Machine::blank();
    let two = FILE.replace("nics.lan = [\"nic0\"]", "nics.lan = [\"nic0\"]\nnics.wan = [\"nic1\"]")
        + "\n[network.wan]\nuplink = \"wan\"\n";
    machine.write("etc/personal-cluster/cluster.toml", &two);
    machine.write("var/lib/personal-cluster/applied.json", &as_json(&machine));
    machine.write("etc/network/interfaces", "auto nic1\niface nic1 inet dhcp\n");
    let answer = machine.pc(&["apply", "--applied"]).with(2);
    assert!(
        answer.err.contains("nic1 is configured by ifupdown: /etc/network/interfaces:2"),
        "{}",
        answer.err
    );
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    assert_eq!(machine.vsctl(&["list-br"]), "br-lan\n");
}

#[test]
fn a_nic_that_is_not_there_takes_nothing_down_and_is_added_when_it_comes() {
    let machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    machine.write("etc/personal-cluster/cluster.toml", &FILE.replace("[\"nic0\"]", "[\"nic9\"]"));
    machine.write("var/lib/personal-cluster/applied.json", &as_json(&machine));
    let before = machine.configurations();
    let says =
        "nic9 is not there, and bridge br-lan keeps nic0\n  write in nics.lan what `ip -brief link` shows";
    for (arguments, code) in [(&["apply", "--applied"][..], 75), (&["apply"], 2)] {
        let answer = machine.pc(arguments).with(code);
        assert!(answer.err.contains(says), "{}", answer.err);
    }
    assert_eq!(machine.configurations(), before);
    assert_eq!(machine.vsctl(&["list-ports", "br-lan"]), "nic0\n");
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    let status = machine.pc(&["status", "--exit-code"]).with(3);
    assert!(status.out.contains("error: nic9 is not there"), "{}", status.out);
    machine.ip("link add nic9 type veth peer name nic9-far");
    machine.pc(&["apply", "--applied"]).with(0);
    assert_eq!(machine.vsctl(&["list-ports", "br-lan"]), "nic9\n");
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

#[test]
fn a_nic_that_the_kernel_finds_late_is_waited_for_and_brought_up() {
    let machine = Machine::blank();
    machine.write("var/lib/personal-cluster/applied.json", &as_json(&machine));
    machine.pc(&["apply"]).with(0);
    // The switch remembers its port, the machine has not found the card yet.
    let away = format!("{}-peer", machine.namespace());
    machine.ip(&format!("link set nic0 netns {away}"));
    let mut boot = machine.command(&["apply", "--applied"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(boot.stderr.take().unwrap()).lines();
    let waits = told.any(|line| line.unwrap().contains("uplink lan: waiting for nic0"));
    assert!(waits, "it did not wait");
    machine.peer(&format!("link set nic0 netns {}", machine.namespace()));
    assert!(boot.wait().unwrap().success());
    assert!(machine.ip("-brief link show nic0").contains(",UP"), "{}", machine.ip("-brief link show nic0"));
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

#[test]
fn a_nic_that_comes_after_the_boot_is_brought_up_by_the_next_run() {
    let machine = Machine::blank();
    machine.write("var/lib/personal-cluster/applied.json", &as_json(&machine));
    machine.pc(&["apply"]).with(0);
    let away = format!("{}-peer", machine.namespace());
    machine.ip(&format!("link set nic0 netns {away}"));
    // A machine without its card boots, with its address on the bridge.
    let answer = machine.pc(&["apply", "--applied"]).with(0);
    assert!(answer.err.contains("uplink lan: no nic0"), "{}", answer.err);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    machine.peer(&format!("link set nic0 netns {}", machine.namespace()));
    // As udev says it: of each card, also of one that is none of ours, and of one that is up already.
    let came = |nic: &str| machine.pc(&["apply", "--applied", "--came", nic]).with(0);
    assert_eq!((came("nic1").out, came("nic7").out), (String::new(), String::new()));
    assert!(!machine.ip("-brief link show nic0").contains(",UP"));
    assert!(came("nic0").out.contains("1 step done"));
    assert!(machine.ip("-brief link show nic0").contains(",UP"), "{}", machine.ip("-brief link show nic0"));
    assert_eq!(machine.vsctl(&["list-ports", "br-lan"]), "nic0\n");
    assert_eq!(came("nic0").out, "");
}

#[test]
fn an_interrupted_probation_goes_back_at_the_next_boot_only() {
    let machine = Machine::configured();
    machine.peer("link set peer0 down");
    let mut apply = machine.command(&["apply", "--take-over", "--confirm", "20s"]).spawn().unwrap();
    let record = machine.path("var/lib/personal-cluster/ovs/probation.json");
    crate::machine::wait("the change", || {
        std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"complete\": true"))
    });
    apply.kill().unwrap();
    apply.wait().unwrap();
    machine.pc(&["rollback", "--interrupted"]).with(0);
    assert!(record.exists(), "this boot's probation is nobody else's business");
    let text = std::fs::read_to_string(&record).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(&record, text.replace(boot.trim(), "another-boot")).unwrap();
    machine.pc(&["rollback", "--interrupted"]).with(0);
    assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
    assert!(!record.exists());
}

#[test]
fn a_dead_vswitchd_ends_in_try_again() {
    let mut machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    machine.write("var/lib/personal-cluster/applied.json", &as_json(&machine));
    machine.stop_switch();
    let started = Instant::now();
    let answer = machine.pc(&["apply", "--applied"]).with(75);
    assert!(answer.err.contains("ovs-vswitchd has not made it"), "{}", answer.err);
    assert!(started.elapsed() < Duration::from_secs(60));
}
