//! The zones of the file as rows of `OVN_Northbound`, by our key. Pure.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use anyhow::Result;
use cluster::{Cluster, Gateway, Name, Network, identity};
use ipnet::IpNet;

use super::acl::{Guests, acls, group};
use super::lease::{Guest, Kept, guests};
use super::row::Row;
use crate::want::fnv;

/// The distributed router, when the file has a zone for it.
const ROUTER: &str = "pc";
/// What a router drops of packets with a source that is not of the zone they come from.
const SPOOFED: i64 = 1000;
/// How long a lease is good for, in seconds.
const LEASE: &str = "3600";

/// Name of a zone's logical switch.
pub fn switch(zone: &Name) -> String {
    format!("pc-{zone}")
}

/// Name of the switch's port to the physical network.
pub fn uplink_port(zone: &Name) -> String {
    format!("pc-{zone}-uplink")
}

/// Name of the switch's port to the router.
pub fn router_port_of_switch(zone: &Name) -> String {
    format!("pc-{zone}-router")
}

/// Name of the router's port to the switch.
pub fn router_port(zone: &Name) -> String {
    format!("pc-router-{zone}")
}

/// MAC address of the router, and of the DHCP server, on a zone: the same wherever it is asked for.
pub fn router_mac(cluster: &Cluster, zone: &Name) -> String {
    let [a, b, c, d] = fnv(&format!("router/{}/{zone}", cluster.name)).to_be_bytes();
    format!("02:50:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Everything that is wanted; `kept` are the leases that VMs have.
pub fn want(cluster: &Cluster, kept: &Kept) -> Result<BTreeMap<String, Row>> {
    let mut all = Guests::new();
    for (name, network) in cluster.zones() {
        all.insert(name, guests(cluster, name, network, kept)?);
    }
    let mut rows = acls(cluster, &all);
    for (name, network) in cluster.zones() {
        rows.extend(zone(cluster, name, network, &all));
        if network.dhcp {
            rows.extend(dhcp(cluster, name, network));
        }
        if network.gateway() == Some(Gateway::Cluster) {
            rows.insert("router".into(), Row::of("Logical_Router").text("name", ROUTER));
            rows.extend(routed(cluster, name, network));
        }
    }
    Ok(rows)
}

/// The switch, its way to the physical network, its VMs.
fn zone(cluster: &Cluster, name: &Name, network: &Network, all: &Guests) -> Vec<(String, Row)> {
    let key = format!("zone/{name}");
    let uplink = Row::of("Logical_Switch_Port")
        .under(&key)
        .text("name", uplink_port(name))
        .text("type", "localnet")
        .words("addresses", ["unknown".to_string()])
        .map("options", [("network_name", network.uplink.as_str())]);
    let uplink = network.vlan.into_iter().fold(uplink, |row, tag| row.number("tag", tag));
    let mut members = Vec::new();
    let mut rows = Vec::new();
    for (vm, guest) in all.get(name).into_iter().flatten() {
        let port = format!("{key}/vm/{vm}");
        let is_gateway = cluster.is_gateway(vm, name);
        rows.push((port.clone(), vm_port(cluster, (name, network), (vm, guest), is_gateway).under(&key)));
        if !is_gateway {
            members.push(port);
        }
    }
    let members = Row::of("Port_Group").text("name", group(name)).words("ports", members);
    rows.extend([
        (key.clone(), Row::of("Logical_Switch").text("name", switch(name))),
        (format!("{key}/uplink"), uplink),
        (format!("{key}/group"), members),
    ]);
    rows
}

/// The port of a VM: it sends from its own addresses only, unless it routes.
fn vm_port(
    cluster: &Cluster,
    (name, network): (&Name, &Network),
    (vm, guest): (&Name, &Guest),
    is_gateway: bool,
) -> Row {
    let addresses = guest.as_column();
    let allowed = if is_gateway { guest.mac.clone() } else { addresses.clone() };
    let row = Row::of("Logical_Switch_Port")
        .text("name", identity::interface_id(&cluster.name, vm, name))
        .words("addresses", [addresses])
        .words("port_security", [allowed]);
    if !network.dhcp || is_gateway {
        return row;
    }
    let v4 = network.net().map(|_| format!("dhcp/{name}/4"));
    let v6 = network.net6().map(|_| format!("dhcp/{name}/6"));
    row.words("dhcpv4_options", v4).words("dhcpv6_options", v6)
}

/// What OVN answers to DHCP (ovn-nb(5), table `DHCP_Options`).
fn dhcp(cluster: &Cluster, name: &Name, network: &Network) -> Vec<(String, Row)> {
    let mac = router_mac(cluster, name);
    let mut rows = Vec::new();
    if let (Some(net), Some(router)) = (network.net(), network.router) {
        let router = router.to_string();
        let mut options = vec![
            ("server_id", router.clone()),
            ("server_mac", mac.clone()),
            ("router", router.clone()),
            ("lease_time", LEASE.into()),
            ("mtu", network.mtu.unwrap_or(1500).to_string()),
            ("domain_name", format!("\"{}\"", cluster.domain)),
        ];
        // OVN's own router answers no DNS.
        if network.gateway() != Some(Gateway::Cluster) {
            options.push(("dns_server", router));
        }
        let row = Row::of("DHCP_Options").text("cidr", net.to_string()).map("options", options);
        rows.push((format!("dhcp/{name}/4"), row));
    }
    if let Some(net) = network.net6() {
        let row = Row::of("DHCP_Options").text("cidr", net.to_string()).map("options", [("server_id", mac)]);
        rows.push((format!("dhcp/{name}/6"), row));
    }
    rows
}

/// The distributed router's leg on a zone.
fn routed(cluster: &Cluster, name: &Name, network: &Network) -> Vec<(String, Row)> {
    let here = router_port(name);
    let v4 = network.net().zip(network.router).map(|(net, router)| format!("{router}/{}", net.prefix_len()));
    let v6 = network.net6().map(|net| Ipv6Addr::from(u128::from(net.network()) | 1));
    let mut leg = Row::of("Logical_Router_Port")
        .under("router")
        .text("name", &here)
        .text("mac", router_mac(cluster, name))
        .words("networks", v4.into_iter().chain(v6.map(|address| format!("{address}/64"))));
    if v6.is_some() {
        let mode = if network.dhcp { "dhcpv6_stateful" } else { "slaac" };
        leg = leg.map("ipv6_ra_configs", [("address_mode", mode), ("send_periodic", "true")]);
    }
    let port = Row::of("Logical_Switch_Port")
        .under(format!("zone/{name}"))
        .text("name", router_port_of_switch(name))
        .text("type", "router")
        .words("addresses", ["router".to_string()])
        .map("options", [("router-port", here.as_str())]);
    let mut rows = vec![(format!("router/{name}"), leg), (format!("zone/{name}/router"), port)];
    let own = |is_v4: bool| network.nets().into_iter().find(|net| matches!(net, IpNet::V4(_)) == is_v4);
    for (family, net) in [("ip4", own(true)), ("ip6", own(false))] {
        let spoofed = match net {
            Some(net) => format!("inport == \"{here}\" && {family}.src != {net}"),
            None => format!("inport == \"{here}\" && {family}"),
        };
        let row = Row::of("Logical_Router_Policy")
            .under("router")
            .number("priority", SPOOFED)
            .text("match", spoofed)
            .text("action", "drop");
        rows.push((format!("router/{name}/{family}"), row));
    }
    rows
}
