//! Taking a NIC over from each of those who may have it.

use std::time::Instant;

use crate::machine::{INTERFACES, Machine, exists};

const COMMENTED: &str = "auto lo\niface lo inet loopback\n\n#pc-ovs# allow-hotplug nic0\n\
                         #pc-ovs# iface nic0 inet static\n#pc-ovs# \taddress 10.9.0.50/24\n#pc-ovs# \tgateway 10.9.0.1\n";

#[test]
fn from_ifupdown_and_then_nothing_is_left_to_do() {
    let machine = Machine::configured();
    let answer = machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    assert!(answer.err.ends_with("confirmed\n"), "{}", answer.err);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    assert!(machine.addresses("nic0").is_empty());
    assert_eq!(machine.default_route(), "default via 10.9.0.1 dev br-lan proto 112 metric 50");
    assert_eq!(machine.read("etc/network/interfaces"), COMMENTED);
    let kept = std::fs::read_dir(machine.path("var/lib/personal-cluster/ovs/taken-over")).unwrap().next();
    let copy = kept.unwrap().unwrap().path().join("etc/network/interfaces");
    assert_eq!(std::fs::read_to_string(copy).unwrap(), INTERFACES);
    assert!(
        exists(&machine.path("var/lib/personal-cluster/applied.json")),
        "the boot unit has something to read"
    );
    // The bridge has the NIC's MAC address: neighbours notice nothing.
    assert!(machine.ip("-brief link show dev br-lan").contains("52:54:00:00:00:01"));

    let (dump, configurations) = (machine.dump(), machine.configurations());
    let started = Instant::now();
    let again = machine.pc(&["apply"]).with(0);
    eprintln!("nothing to do: {} ms", started.elapsed().as_millis());
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", ""), "silence means converged");
    assert_eq!((machine.dump(), machine.configurations()), (dump, configurations));
    machine.pc(&["plan", "--exit-code"]).with(0);
    machine.pc(&["status", "--exit-code"]).with(0);
}

/// Without pc-ovs nothing gives the machine its address at the next boot.
#[test]
fn the_package_is_not_removed_while_the_address_is_on_our_bridge() {
    let machine = Machine::configured();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../debian/pc-ovs.prerm");
    let kept = "/var/lib/personal-cluster/ovs";
    let prerm = |verb: &str| {
        let root = machine.path("");
        let run = "mount -t tmpfs none /run && mkdir -p /run/systemd/system && mkdir -p \"$1/var/lib\" && \
                   mount --bind \"$1/var/lib\" /var/lib && exec sh \"$2\" \"$3\"";
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &machine.namespace, "unshare", "--mount", "sh", "-c", run, "sh"]);
        command.arg(root).args([script, verb]);
        crate::common::Answer::from(command.output().unwrap())
    };
    prerm("remove").with(0);
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    let refused = prerm("remove").with(1);
    assert!(refused.err.contains("\n  10.9.0.50/24 on br-lan\n"), "{}", refused.err);
    assert!(refused.err.contains("/etc/network/interfaces\n"), "{}", refused.err);
    assert!(refused.err.ends_with(&format!(": touch {kept}/remove-anyway\n")), "{}", refused.err);
    prerm("upgrade").with(0);
    machine.write("var/lib/personal-cluster/ovs/remove-anyway", "");
    prerm("remove").with(0);
    assert!(!exists(&machine.path("var/lib/personal-cluster/ovs/remove-anyway")), "said for one time");
    prerm("remove").with(1);
    // Given back: the bridge is gone.
    let without = crate::machine::FILE
        .replace("nics.lan = [\"nic0\"]\n", "")
        .replace("[network.lan]\nuplink = \"lan\"\nsubnet = \"10.9.0.0/24\"\nrouter = \"10.9.0.1\"\n", "");
    machine.write("etc/personal-cluster/cluster.toml", &without);
    machine.pc(&["apply"]).with(0);
    prerm("remove").with(0);
}

#[test]
fn from_networkd_by_a_file_of_our_own() {
    let machine = Machine::configured();
    machine.write("etc/network/interfaces", "auto lo\niface lo inet loopback\n");
    machine.write("run/systemd/netif/state", "OPER_STATE=routable\n");
    let network = "[Match]\nName=nic*\n\n[Network]\nAddress=10.9.0.50/24\nGateway=10.9.0.1\nDNS=9.9.9.9\n";
    machine.write("etc/systemd/network/10-wired.network", network);
    let refused = machine.pc(&["apply"]).with(2);
    assert!(
        refused
            .err
            .contains("nic0 is configured by systemd-networkd: /etc/systemd/network/10-wired.network:2")
    );
    machine.write("run/systemd/resolve/resolv.conf", "nameserver 9.9.9.9\n");
    std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", machine.path("etc/resolv.conf"))
        .unwrap();
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    assert!(machine.read("etc/systemd/resolved.conf.d/90-pc-ovs.conf").ends_with("[Resolve]\nDNS=9.9.9.9\n"));
    assert_eq!(machine.read("etc/systemd/network/10-wired.network"), network, "left alone");
    let ours = machine.read("etc/systemd/network/00-pc-nic0.network");
    assert!(ours.contains("[Match]\nName=nic0\n\n[Link]\nUnmanaged=yes\nRequiredForOnline=no\n"), "{ours}");
    machine.pc(&["apply"]).with(0);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}

#[test]
fn a_file_that_matches_everything_loses_the_bridge_too() {
    let machine = Machine::configured();
    machine.write("etc/network/interfaces", "auto lo\niface lo inet loopback\n");
    machine.write("run/systemd/netif/state", "");
    machine.write("etc/systemd/network/50-all.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n");
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    let ours = machine.read("etc/systemd/network/00-pc-br-lan.network");
    assert!(ours.contains("Unmanaged=yes\nRequiredForOnline=yes\n"), "{ours}");
}

#[test]
fn from_netplan_and_cloud_init() {
    let machine = Machine::configured();
    machine.write("etc/network/interfaces", "auto lo\niface lo inet loopback\n");
    machine.write("run/systemd/netif/state", "");
    machine.write("etc/cloud/cloud.cfg", "");
    machine
        .write("run/systemd/network/10-netplan-nic0.network", "[Match]\nName=nic0\n\n[Network]\nDHCP=ipv4\n");
    machine.write(
        "etc/netplan/50-cloud-init.yaml",
        "network:\n  version: 2\n  ethernets:\n    nic0:\n      dhcp4: true\n",
    );
    let refused = machine.pc(&["apply"]).with(2);
    assert!(
        refused.err.contains("nic0 is configured by netplan: /etc/netplan/50-cloud-init.yaml:4"),
        "{}",
        refused.err
    );
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    assert!(exists(&machine.path("etc/systemd/network/00-pc-nic0.network")));
    let cloud = machine.read("etc/cloud/cloud.cfg.d/99-pc-ovs-network.cfg");
    assert!(cloud.ends_with("network: {config: disabled}\n"));
}

#[test]
fn from_networkmanager() {
    let machine = Machine::configured();
    machine.write("etc/network/interfaces", "");
    machine.write("run/NetworkManager/NetworkManager.pid", "1");
    machine.write("etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=ifupdown,keyfile\n");
    let refused = machine.pc(&["apply"]).with(2);
    assert!(
        refused
            .err
            .contains("nic0 is configured by NetworkManager: /etc/NetworkManager/NetworkManager.conf\n")
    );
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    let ours = machine.read("etc/NetworkManager/conf.d/90-pc-ovs.conf");
    assert!(ours.contains("unmanaged-devices+=interface-name:nic0\n"), "{ours}");
    machine.pc(&["apply"]).with(0);
}

#[test]
fn a_dhcp_client_is_ended_and_only_that_of_the_nic() {
    let machine = Machine::configured();
    machine.write("etc/network/interfaces", "allow-hotplug nic0\niface nic0 inet dhcp\n");
    // A program by that name, with arguments as ifupdown gives them: it would put the address back.
    let script = machine.path("dhcpcd");
    std::fs::copy("/bin/sh", &script).unwrap();
    let start = |nic: &str| {
        std::process::Command::new("ip")
            .args(["netns", "exec", &machine.namespace])
            .arg(&script)
            .args(["-c", "read -r _", "sh", nic])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (mut own, mut other) = (start("nic0"), start("nic9"));
    crate::machine::wait("both to run", || {
        [&own, &other].iter().all(|child| {
            std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap().contains("dhcpcd")
        })
    });
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    crate::machine::wait("the client to end", || own.try_wait().unwrap().is_some());
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}
