//! What is refused, with which words, and that nothing changes then.

use crate::machine::{INTERFACES, Machine};

#[test]
fn a_nic_of_someone_else_by_file_and_line() {
    let machine = Machine::configured();
    let dump = machine.dump();
    let answer = machine.pc(&["apply"]).with(2);
    assert_eq!(
        answer.err,
        "error: nic0 is configured by ifupdown: /etc/network/interfaces:5\n  remove it there, or: pc-ovs apply \
         --take-over --confirm 60s (keeps a copy of /etc/network/interfaces)\n"
    );
    machine.pc(&["plan"]).with(2);
    assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
    assert_eq!(machine.dump(), dump);
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
}

#[test]
fn cutting_off_the_one_who_asks() {
    let machine = Machine::configured();
    let mut command = machine.command(&["apply", "--take-over"]);
    let answer = command.env("SSH_CONNECTION", "10.9.0.7 40000 10.9.0.50 22").output().unwrap();
    assert_eq!(answer.status.code(), Some(2));
    let err = String::from_utf8(answer.stderr).unwrap();
    assert_eq!(
        err,
        "error: this would move the address that you are connected through (nic0)\n  give yourself a way back: pc-ovs \
         apply --take-over --confirm 60s\n"
    );
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
    // From the console, or through another NIC, it needs no probation.
    let mut command = machine.command(&["apply", "--take-over"]);
    let answer = command.env("SSH_CONNECTION", "10.8.0.7 40000 10.8.0.50 22").output().unwrap();
    assert_eq!(answer.status.code(), Some(0), "{}", String::from_utf8_lossy(&answer.stderr));
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

#[test]
fn a_bridge_of_someone_else() {
    let machine = Machine::blank();
    machine.vsctl(&[
        "--no-wait",
        "add-br",
        "br-lan",
        "--",
        "set",
        "bridge",
        "br-lan",
        "datapath_type=netdev",
    ]);
    let dump = machine.dump();
    let answer = machine.pc(&["apply"]).with(2);
    assert!(
        answer.err.starts_with(
            "error: bridge br-lan exists and is not ours\n  remove it (ovs-vsctl del-br br-lan)"
        )
    );
    assert_eq!(machine.dump(), dump);
}

#[test]
fn a_file_that_is_wrong_and_a_node_that_is_unknown() {
    let machine = Machine::blank();
    machine.write("etc/personal-cluster/cluster.toml", &crate::machine::FILE.replace("nic0", "../../etc"));
    machine.pc(&["apply"]).with(2);
    machine.write("etc/personal-cluster/cluster.toml", "schema = 7");
    machine.pc(&["apply"]).with(2);
    machine.write("etc/personal-cluster/cluster.toml", crate::machine::FILE);
    machine.pc(&["apply", "--node", "node9"]).with(2);
    assert_eq!(machine.vsctl(&["list-br"]), "");
}

#[test]
fn plans_that_are_stale_edited_or_incomplete() {
    let machine = Machine::blank();
    let plan = machine.pc(&["plan", "--json"]).with(0).out;
    let mut lacking: serde_json::Value = serde_json::from_str(&plan).unwrap();
    lacking["steps"].as_array_mut().unwrap().remove(0);
    let answer = machine.pc_reading(&["apply", "-"], &lacking.to_string()).with(2);
    assert!(answer.err.contains("needs \"br-lan\", which was left out"), "{}", answer.err);
    machine.pc_reading(&["apply", "-"], &plan.replace("br-lan/nic0", "br-lan/nic1")).with(2);
    machine.pc_reading(&["apply", "-"], "{").with(2);
    // Only the bridge and its NIC: the address is left out on purpose.
    let mut part: serde_json::Value = serde_json::from_str(&plan).unwrap();
    part["steps"].as_array_mut().unwrap().truncate(2);
    machine.pc_reading(&["apply", "-"], &part.to_string()).with(0);
    assert!(machine.addresses("br-lan").is_empty());
    assert_eq!(machine.vsctl(&["list-ports", "br-lan"]), "nic0\n");
    let stale = machine.pc_reading(&["apply", "-"], &plan).with(2);
    assert!(stale.err.contains("plan is stale"), "{}", stale.err);
}

#[test]
fn a_file_that_cannot_be_changed_ends_where_it_began() {
    let machine = Machine::configured();
    let interfaces = machine.path("etc/network/interfaces");
    crate::machine::run("chattr", &["+i", interfaces.to_str().unwrap()]);
    let answer = machine.pc(&["apply", "--take-over", "--confirm", "20s"]);
    crate::machine::run("chattr", &["-i", interfaces.to_str().unwrap()]);
    let answer = answer.with(1);
    assert!(answer.err.contains("rolled back: writing "), "{}", answer.err);
    assert_eq!(machine.read("etc/network/interfaces"), INTERFACES);
    assert_eq!(machine.addresses("nic0"), ["10.9.0.50/24"]);
    assert_eq!(machine.vsctl(&["list-br"]), "");
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
}

#[test]
fn someone_who_is_not_root() {
    let machine = Machine::blank();
    for directory in ["", "etc", "etc/personal-cluster", "run", "run/openvswitch"] {
        std::fs::set_permissions(
            machine.path(directory),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
    }
    let binary = machine.path("pc-ovs");
    std::fs::copy(env!("CARGO_BIN_EXE_pc-ovs"), &binary).unwrap();
    let call = |verb: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.arg("--root").arg(machine.path("")).args(["--node", "node1", verb]);
        let answer: crate::common::Answer = command.output().unwrap().into();
        answer
    };
    for verb in ["apply", "plan"] {
        let answer = call(verb).with(2);
        assert!(
            answer.err.contains("ermission denied") && answer.err.contains("\n  sudo pc-ovs "),
            "{}",
            answer.err
        );
    }
}

#[test]
fn what_nixos_configures_is_nixos_to_change() {
    let machine = Machine::blank();
    machine.write("etc/systemd/system/network-addresses-nic0.service", "[Unit]\n");
    let answer = machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(2);
    let expected = "error: nic0 is configured by the NixOS configuration: /etc/systemd/system/network-addresses-nic0.service\n  take nic0 out of";
    assert!(answer.err.starts_with(expected), "{}", answer.err);
}

#[test]
fn dhcpcd_for_everything_has_to_deny_our_devices() {
    let machine = Machine::blank();
    machine.write("etc/systemd/system/multi-user.target.wants/dhcpcd.service", "");
    let answer = machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(2);
    assert!(answer.err.contains("add `denyinterfaces nic0` to /etc/dhcpcd.conf"), "{}", answer.err);
    assert!(answer.err.contains("add `denyinterfaces br-lan` to /etc/dhcpcd.conf"), "{}", answer.err);
    machine.write("etc/dhcpcd.conf", "denyinterfaces nic* br-*\n");
    machine.pc(&["apply"]).with(0);
}
