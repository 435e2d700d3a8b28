//! The planner, case by case.

use crate::action::Action;
use crate::claims::{By, Claim};
use crate::model::{Bridge, Have, HaveBridge, Interface, Link, Port, Route};
use crate::plan::{Planned, plan, switch_actions};
use crate::want::{Want, want};

pub const FILE: &str = r#"
    schema = "personal-cluster/1"
    name = "home"
    [[node]]
    name = "node1"
    address = "192.168.0.50"
    nics.lan = ["eth0"]
    [network.lan]
    uplink = "lan"
    subnet = "192.168.0.0/24"
    router = "192.168.0.1"
"#;

pub fn wanted(file: &str) -> Want {
    let cluster = cluster::parse("test", file).unwrap();
    want(&cluster.view("node1").unwrap(), "")
}

fn nic(addresses: &[&str]) -> Link {
    Link {
        mac: "52:54:00:00:00:01".into(),
        up: true,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Link::default()
    }
}

/// A machine with one bare NIC that is down.
pub fn blank() -> Have {
    let mut have = Have::default();
    have.links.insert("eth0".into(), Link { up: false, ..nic(&[]) });
    have
}

fn claim(device: &str) -> Claim {
    Claim {
        device: device.into(),
        by: By::Ifupdown,
        file: "/etc/network/interfaces".into(),
        line: 7,
        dhcp: false,
        by_hand: None,
    }
}

pub fn ids(planned: &Planned) -> Vec<&str> {
    planned.steps.iter().map(|step| step.id.as_str()).collect()
}

pub fn faults(planned: &Planned) -> Vec<String> {
    planned.refusals.iter().map(ToString::to_string).collect()
}

/// What the machine looks like after `planned`.
pub fn after(have: &Have, planned: &Planned) -> Have {
    let mut have = have.clone();
    // One transaction: what goes away goes first.
    let mut parts: Vec<Action> = planned.steps.iter().flat_map(|step| step.action.parts()).cloned().collect();
    parts.sort_by_key(|action| !matches!(action, Action::RemoveBridge { .. } | Action::RemovePort { .. }));
    for step in &planned.steps {
        if let Action::TakeOver { claims, .. } = &step.action {
            have.claims.retain(|claim| !claims.contains(claim));
        }
    }
    for action in parts {
        carry_out(&mut have, action);
    }
    have
}

fn carry_out(have: &mut Have, action: Action) {
    let bridge = |have: &mut Have, name: &str| -> usize {
        have.bridges.iter().position(|have| have.bridge.name == name).unwrap()
    };
    match action {
        Action::AddBridge { bridge } => {
            have.links.insert(
                bridge.name.clone(),
                Link { mac: bridge.hwaddr.clone().unwrap_or_default(), ..Link::default() },
            );
            have.bridges.push(HaveBridge { ours: true, bridge, foreign: std::collections::BTreeMap::new() });
        }
        Action::SetBridge { bridge: set } => {
            let at = bridge(have, &set.name);
            let ports = std::mem::take(&mut have.bridges[at].bridge.ports);
            have.bridges[at].bridge = Bridge { ports, ..set };
        }
        Action::RemoveBridge { name, .. } => {
            have.bridges.retain(|have| have.bridge.name != name);
            have.links.remove(&name);
        }
        Action::AddPort { bridge: on, port, .. } => {
            for interface in port.interfaces.iter().filter(|interface| interface.internal) {
                have.links.insert(interface.name.clone(), Link::default());
            }
            let at = bridge(have, &on);
            have.bridges[at].bridge.ports.push(port);
        }
        Action::SetPort { bridge: on, port, .. } => {
            let at = bridge(have, &on);
            let ports = &mut have.bridges[at].bridge.ports;
            let old = ports.iter_mut().find(|old| old.name == port.name).unwrap();
            *old = port;
        }
        Action::RemovePort { bridge: on, name } => {
            let at = bridge(have, &on);
            have.bridges[at].bridge.ports.retain(|port| port.name != name);
        }
        Action::Flush { interface, addresses } => {
            let link = have.links.get_mut(&interface).unwrap();
            link.addresses.retain(|address| !addresses.contains(address));
            link.advertised.retain(|address| !addresses.contains(address));
            have.routes.retain(|route| route.interface != interface);
        }
        Action::Up { interface } => have.links.entry(interface).or_default().up = true,
        Action::SetAddress { interface, address } => {
            have.links.entry(interface).or_default().addresses.push(address);
        }
        Action::SetRouter { interface, router } => have.routes.push(Route {
            destination: "default".into(),
            router: Some(router.parse().unwrap()),
            interface,
            metric: Some(50),
            ours: true,
        }),
        Action::RemoveRouter { interface, router } => {
            let router = Some(router.parse().unwrap());
            have.routes
                .retain(|route| !(route.ours && route.interface == interface && route.router == router));
        }
        Action::TakeOver { .. } => unreachable!("parts() gives its actions"),
    }
}

#[test]
fn a_blank_machine_gets_everything_in_order_and_then_nothing() {
    let (want, have) = (wanted(FILE), blank());
    let first = plan(&want, &have, false);
    let expected = ["br-lan", "br-lan/eth0", "up/eth0", "up/br-lan", "address/br-lan", "router/br-lan"];
    assert_eq!(ids(&first), expected);
    let Action::AddBridge { bridge } = &first.steps[0].action else { panic!() };
    assert_eq!(bridge.hwaddr.as_deref(), Some("52:54:00:00:00:01"));
    assert_eq!(bridge.ports[0].interfaces[0].address.as_deref(), Some("192.168.0.50/24"));
    let second = plan(&want, &after(&have, &first), false);
    assert!(second.steps.is_empty(), "{:?}", second.steps);
}

#[test]
fn steps_need_what_must_come_first() {
    let planned = plan(&wanted(FILE), &blank(), false);
    let needs = |id: &str| planned.steps.iter().find(|step| step.id == id).unwrap().needs.clone();
    assert_eq!(needs("br-lan/eth0"), ["br-lan"]);
    assert_eq!(needs("up/eth0"), ["br-lan/eth0"]);
    assert_eq!(needs("address/br-lan"), ["br-lan", "up/br-lan"]);
    assert_eq!(needs("router/br-lan"), ["br-lan", "up/br-lan", "address/br-lan"]);
}

#[test]
fn a_claimed_nic_is_refused_by_file_and_line() {
    let mut have = blank();
    have.claims.push(claim("eth0"));
    let planned = plan(&wanted(FILE), &have, false);
    assert!(planned.steps.is_empty());
    assert_eq!(
        faults(&planned),
        [
            "eth0 is configured by ifupdown: /etc/network/interfaces:7\n  remove it there, or: pc-ovs apply --take-over --confirm 60s (keeps a copy of /etc/network/interfaces)"
        ]
    );
}

#[test]
fn a_take_over_is_one_step() {
    let mut have = blank();
    have.claims.push(claim("eth0"));
    have.links.insert("eth0".into(), nic(&["192.168.0.50/24"]));
    let planned = plan(&wanted(FILE), &have, true);
    assert_eq!(ids(&planned), ["take-over/lan"]);
    let done = after(&have, &planned);
    assert!(done.links["eth0"].addresses.is_empty());
    assert_eq!(done.links["br-lan"].addresses, ["192.168.0.50/24"]);
    assert!(plan(&wanted(FILE), &done, false).steps.is_empty());
}

#[test]
fn what_only_a_person_can_undo_is_refused_even_then() {
    let mut have = blank();
    have.claims.push(Claim { by_hand: Some("remove iface br0 by hand".into()), ..claim("eth0") });
    let planned = plan(&wanted(FILE), &have, true);
    assert!(planned.steps.is_empty());
    assert!(faults(&planned)[0].ends_with("remove iface br0 by hand"));
}

#[test]
fn an_address_without_a_file_needs_a_take_over_too() {
    let mut have = blank();
    have.links.insert("eth0".into(), nic(&["192.168.0.50/24"]));
    let planned = plan(&wanted(FILE), &have, false);
    assert!(faults(&planned)[0].starts_with("eth0 has the address 192.168.0.50/24, though no file says why"));
    assert_eq!(ids(&plan(&wanted(FILE), &have, true)), ["take-over/lan"]);
}

#[test]
fn an_address_on_a_nic_that_is_ours_already_is_swept_off() {
    let want = wanted(FILE);
    let mut have = after(&blank(), &plan(&want, &blank(), false));
    have.links.get_mut("eth0").unwrap().addresses.push("192.168.0.50/24".into());
    assert_eq!(ids(&plan(&want, &have, false)), ["flush/eth0"]);
}

#[test]
fn a_router_that_would_be_lost_is_asked_for() {
    let mut have = blank();
    have.claims.push(claim("eth0"));
    have.links.insert("eth0".into(), nic(&["192.168.0.50/24"]));
    have.routes.push(Route {
        destination: "default".into(),
        router: Some("192.168.0.1".parse().unwrap()),
        interface: "eth0".into(),
        metric: None,
        ours: false,
    });
    assert!(plan(&wanted(FILE), &have, true).refusals.is_empty());
    let planned = plan(&wanted(&FILE.replace("router = \"192.168.0.1\"", "")), &have, true);
    assert_eq!(
        faults(&planned),
        [
            "eth0 carries the default route through 192.168.0.1, and the file names no router\n  add router = \"192.168.0.1\" to [network.lan]"
        ]
    );
}

#[test]
fn a_node_address_on_a_nic_that_the_file_lacks_is_refused() {
    let mut have = blank();
    have.links.insert("eno9".into(), nic(&["192.168.0.50/24"]));
    let planned = plan(&wanted(FILE), &have, true);
    assert!(
        faults(&planned)[0].starts_with("this node's address 192.168.0.50 is on eno9"),
        "{:?}",
        faults(&planned)
    );
}

#[test]
fn another_name_of_a_nic_is_refused_with_the_right_one() {
    let mut have = Have::default();
    let link = Link { other_names: vec!["eth0".into()], ..nic(&[]) };
    have.links.insert("ens3".into(), link);
    let planned = plan(&wanted(FILE), &have, true);
    assert_eq!(faults(&planned), ["eth0 is another name of ens3\n  write ens3 in nics.lan"]);
}

#[test]
fn rows_of_someone_else_are_refused_by_name() {
    let mut have = blank();
    let mut bridge = wanted(FILE).bridges[0].clone();
    bridge.ports.clear();
    have.bridges.push(HaveBridge { ours: false, bridge, foreign: std::collections::BTreeMap::new() });
    assert!(
        faults(&plan(&wanted(FILE), &have, true))[0]
            .starts_with("bridge br-lan exists and is not ours\n  remove it")
    );

    let mut have = blank();
    let mut other = wanted(FILE).bridges[0].clone();
    other.name = "br0".into();
    other.ports.clear();
    let foreign = [("bond7".to_string(), vec!["eth0".to_string()])].into();
    have.bridges.push(HaveBridge { ours: false, bridge: other, foreign });
    let planned = plan(&wanted(FILE), &have, true);
    assert_eq!(
        faults(&planned),
        [
            "eth0 is in port bond7 of bridge br0, which is not ours\n  take it out: ovs-vsctl del-port br0 bond7"
        ]
    );
}

#[test]
fn a_bridge_that_left_the_file_goes_unless_a_vm_is_on_it() {
    let want = wanted(FILE);
    let mut have = after(&blank(), &plan(&want, &blank(), false));
    let mut old = have.bridges[0].clone();
    old.bridge.name = "br-old".into();
    old.bridge.uplink = "old".into();
    old.bridge.ports.clear();
    have.bridges.push(old);
    assert_eq!(ids(&plan(&want, &have, false)), ["br-old"]);
    have.bridges[1].foreign.insert("vnet3".into(), vec!["vnet3".into()]);
    let planned = plan(&want, &have, false);
    assert!(planned.steps.is_empty());
    assert_eq!(planned.notes, ["bridge br-old stays: it still carries vnet3"]);
}

#[test]
fn a_second_nic_makes_a_bond_out_of_the_port() {
    let want = wanted(FILE);
    let have = after(&blank(), &plan(&want, &blank(), false));
    let two = wanted(&FILE.replace("[\"eth0\"]", "[\"eth0\", \"eth1\"]"));
    let mut have = have;
    have.links.insert("eth1".into(), Link { mac: "52:54:00:00:00:02".into(), up: true, ..Link::default() });
    let planned = plan(&two, &have, false);
    assert_eq!(ids(&planned), ["br-lan/eth0", "br-lan/bond-lan"]);
    assert_eq!(planned.steps[1].needs, ["br-lan/eth0"]);
    assert!(plan(&two, &after(&have, &planned), false).steps.is_empty());
}

#[test]
fn a_missing_nic_keeps_the_bridges_address() {
    let want = wanted(FILE);
    let mut have = after(&blank(), &plan(&want, &blank(), false));
    have.links.remove("eth0");
    assert!(plan(&want, &have, false).steps.is_empty());
}

#[test]
fn another_router_replaces_the_one_we_set() {
    let want = wanted(FILE);
    let have = after(&blank(), &plan(&want, &blank(), false));
    let other = wanted(&FILE.replace("192.168.0.1\"\n", "192.168.0.254\"\n"));
    let planned = plan(&other, &have, false);
    assert_eq!(ids(&planned), ["router/br-lan/192.168.0.1", "router/br-lan"]);
    assert!(plan(&other, &after(&have, &planned), false).steps.is_empty());
}

#[test]
fn another_address_replaces_only_the_one_we_gave() {
    let want = wanted(FILE);
    let mut have = after(&blank(), &plan(&want, &blank(), false));
    // A virtual address that some cluster manager keeps here is not ours.
    have.links.get_mut("br-lan").unwrap().addresses.push("192.168.0.99/32".into());
    let other = wanted(&FILE.replace("0.50\"", "0.51\""));
    let planned = plan(&other, &have, false);
    assert_eq!(ids(&planned), ["br-lan/br-lan", "flush/br-lan", "address/br-lan", "router/br-lan"]);
    let done = after(&have, &planned);
    assert_eq!(done.links["br-lan"].addresses, ["192.168.0.99/32", "192.168.0.51/24"]);
}

#[test]
fn a_rollback_removes_what_was_made_and_restores_what_was_there() {
    let want = wanted(FILE);
    let have = after(&blank(), &plan(&want, &blank(), false));
    let [Action::RemoveBridge { name, .. }] = &switch_actions(&[], &have)[..] else { panic!() };
    assert_eq!(name, "br-lan");
    assert_eq!(switch_actions(&[have.bridges[0].bridge.clone()], &have), []);
    let mut busy = have.clone();
    busy.bridges[0].foreign.insert("vnet0".into(), vec!["vnet0".into()]);
    let [Action::RemovePort { name, .. }] = &switch_actions(&[], &busy)[..] else { panic!() };
    assert_eq!(name, "eth0", "the bridge stays under a VM, the NIC goes back");
}

#[test]
fn a_plan_survives_json() {
    let mut have = blank();
    have.claims.push(claim("eth0"));
    for planned in [plan(&wanted(FILE), &have, true), plan(&wanted(FILE), &blank(), false)] {
        let plan = pc_plan::Plan::new(crate::plan::SCHEMA, "node1", &have, planned.steps);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(pc_plan::Plan::<Action>::read(&text).unwrap(), plan);
    }
}

#[test]
fn members_of_a_bond_have_no_order() {
    let two = wanted(&FILE.replace("[\"eth0\"]", "[\"eth0\", \"eth1\"]"));
    let mut have = blank();
    have.links.insert("eth1".into(), Link { mac: "52:54:00:00:00:02".into(), up: true, ..Link::default() });
    let mut done = after(&have, &plan(&two, &have, false));
    let port: &mut Port =
        done.bridges[0].bridge.ports.iter_mut().find(|port| port.name == "bond-lan").unwrap();
    port.interfaces.reverse();
    let names: Vec<&str> =
        port.interfaces.iter().map(|interface: &Interface| interface.name.as_str()).collect();
    assert_eq!(names, ["eth1", "eth0"]);
    assert!(plan(&two, &done, false).steps.is_empty());
}
