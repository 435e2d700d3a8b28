//! What ovn-controller is told: written once, taken back, nothing of others touched; and a real one that lives by it.

use crate::common::compare;
use crate::nodes::{Nodes, file, text, wait};

const PLAIN: &str = "gateway = \"cluster\"\n";

fn settled(nodes: &Nodes, arguments: &[&str]) -> String {
    nodes.pc("node1", arguments).with(0).out
}

#[test]
fn the_second_apply_does_nothing_and_the_last_zone_takes_it_back() {
    let mut nodes = Nodes::new(3);
    nodes.start_switch("node1");
    let foreign =
        ["set", "Open_vSwitch", ".", "external_ids:hostname=here", "external_ids:ovn-bridge=br-int"];
    nodes.vsctl("node1", &foreign);
    nodes.pc("node1", &["ovn", "plan", "--exit-code"]).with(3);
    compare("ovn-plan.json", &settled(&nodes, &["ovn", "plan", "--json"]));
    compare("ovn-apply.json", &settled(&nodes, &["ovn", "apply", "--json"]));
    let dump = || nodes.vsctl("node1", &["--format=csv", "list", "Open_vSwitch", "--", "list", "SSL"]);
    let before = dump();
    let again = nodes.pc("node1", &["ovn", "apply"]).with(0);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", ""));
    assert_eq!(settled(&nodes, &["ovn", "plan"]), "nothing to do\n");
    assert_eq!(dump(), before);
    // As another program reads it.
    let get = |key: &str| {
        let column = format!("external_ids:{key}");
        nodes.vsctl("node1", &["get", "Open_vSwitch", ".", &column]).trim().trim_matches('"').to_string()
    };
    assert_eq!(get("ovn-remote"), "ssl:10.66.0.1:6642,ssl:10.66.0.2:6642,ssl:10.66.0.3:6642");
    assert_eq!((get("ovn-encap-ip"), get("hostname")), ("10.66.0.1".into(), "here".into()));
    assert!(nodes.vsctl("node1", &["get-ssl"]).contains("Private key: "));
    // A value that somebody changed is put right: the mark says that it is ours.
    nodes.vsctl("node1", &["set", "Open_vSwitch", ".", "external_ids:ovn-encap-type=vxlan"]);
    assert_eq!(
        settled(&nodes, &["ovn", "plan"]),
        "settings of ovn-controller: set ovn-encap-type to geneve\n"
    );
    nodes.pc("node1", &["ovn", "apply"]).with(0);
    assert_eq!(dump(), before);
    // No zone any more.
    nodes.write("node1", "etc/personal-cluster/cluster.toml", &file(3).replace(PLAIN, ""));
    nodes.pc("node1", &["ovn", "apply"]).with(0);
    assert_eq!(
        nodes.vsctl("node1", &["get", "Open_vSwitch", ".", "external_ids"]),
        "{hostname=here, ovn-bridge=br-int, system-id=node1}\n"
    );
    assert_eq!(nodes.vsctl("node1", &["get-ssl"]).trim(), "");
}

#[test]
fn settings_made_by_hand_are_named_and_stay() {
    let mut nodes = Nodes::new(1);
    nodes.start_switch("node1");
    nodes.vsctl("node1", &["set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:10.66.0.9:6642"]);
    nodes.vsctl("node1", &["set-ssl", "/etc/other.key", "/etc/other.crt", "/etc/ca.crt"]);
    let before = nodes.vsctl("node1", &["list", "Open_vSwitch"]);
    let refused = nodes.pc("node1", &["ovn", "apply"]).with(2);
    assert!(
        refused.err.contains("external_ids:ovn-remote of the switch is \"tcp:10.66.0.9:6642\""),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("\n  ovs-vsctl del-ssl\n"), "{}", refused.err);
    assert_eq!(nodes.vsctl("node1", &["list", "Open_vSwitch"]), before);
}

#[test]
fn a_real_ovn_controller_finds_the_databases_and_proves_who_it_is() {
    let mut nodes = Nodes::new(1);
    nodes.start_switch("node1");
    nodes.start_all("node1");
    nodes.pc("node1", &["ovn", "apply"]).with(0);
    let mut controller = nodes.command("ovn-controller");
    controller.arg(format!("unix:{}", text(&nodes.path("node1", "run/openvswitch/db.sock"))));
    controller.arg("-vconsole:info");
    // Where it finds the switch, and where it puts its own socket.
    controller.env("OVS_RUNDIR", nodes.path("node1", "run/openvswitch"));
    controller.env("OVN_RUNDIR", nodes.path("node1", "run/personal-cluster/ovn"));
    nodes.keep("node1-controller", controller);
    let chassis = || nodes.ctl("node1", "sb", &["--bare", "--columns=name", "list", "Chassis"]);
    wait("the chassis", || chassis() == "node1\n");
    let encap = nodes.ctl("node1", "sb", &["--bare", "--columns=type,ip", "list", "Encap"]);
    assert_eq!(encap, "geneve\n10.66.0.1\n", "{}", nodes.log("node1-controller"));
    let macs =
        nodes.ctl("node1", "sb", &["get", "Chassis", "node1", "other_config:ovn-chassis-mac-mappings"]);
    assert!(macs.starts_with("\"lan:02:51:"), "{macs}");
}
