//! What may pass, as ACLs of a zone's port group (ovn-nb(5), table ACL; the language of matches is that of ovn-sb(5),
//! `Logical_Flow`). Pure.
//!
//! A packet is judged twice: where it leaves a VM (`from-lport`) and where it reaches one (`to-lport`). So a zone stays
//! closed whatever its gateway does, and what comes in from outside is judged as well. Replies follow connections.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cluster::{Cluster, End, Name, Network, Ports, Route, identity};
use ipnet::IpNet;

use super::lease::Guest;
use super::row::Row;

/// Everything that nothing else allows.
const DENY: i64 = 100;
/// Routes, and machines of the same zone among each other.
const ALLOW: i64 = 1000;
/// Asking for an address.
const DHCP: i64 = 2000;
/// Giving addresses away: only OVN itself does.
const SERVER: i64 = 3000;

/// Network cards on zones: by network, then VM.
pub type Guests<'a> = BTreeMap<&'a Name, BTreeMap<&'a Name, Guest>>;

/// The port group of a zone. In a match it is an identifier, which has no hyphen (and our names have no underscore).
pub fn group(zone: &Name) -> String {
    format!("pc_{}", zone.as_str().replace('-', "_"))
}

/// All ACLs, by our key.
pub fn acls(cluster: &Cluster, guests: &Guests) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for (name, network) in cluster.zones() {
        rows.extend(own(name, network));
    }
    for route in &cluster.routes {
        rows.extend(of_route(cluster, guests, route));
    }
    rows
}

fn row(zone: &Name, direction: &str, priority: i64, condition: &str, action: &str) -> Row {
    Row::of("ACL")
        .under(format!("zone/{zone}/group"))
        .text("direction", direction)
        .number("priority", priority)
        .text("match", condition)
        .text("action", action)
}

/// The rules that every zone has.
fn own(zone: &Name, network: &Network) -> Vec<(String, Row)> {
    let (from, to) = (format!("inport == @{}", group(zone)), format!("outport == @{}", group(zone)));
    // Who is where: port security makes it true. RARP is how QEMU tells the switches where a VM has moved to.
    let found = "arp || eth.type == 0x8035 || nd || nd_rs || mldv1 || mldv2";
    let (asks, told) = (format!("{from} && ({found})"), format!("{to} && ({found} || nd_ra)"));
    let server = "((ip4 && udp.src == 67 && udp.dst == 68) || (ip6 && udp.src == 547 && udp.dst == 546))";
    let mut rules = vec![
        // OVN leaves out a rule that it cannot read: the one that closes everything has nothing to misunderstand.
        ("deny/from", row(zone, "from-lport", DENY, &from, "drop")),
        ("deny/to", row(zone, "to-lport", DENY, &to, "drop")),
        ("found/from", row(zone, "from-lport", ALLOW, &asks, "allow")),
        ("found/to", row(zone, "to-lport", ALLOW, &told, "allow")),
        ("server/from", row(zone, "from-lport", SERVER, &format!("{from} && {server}"), "drop")),
        ("server/to", row(zone, "to-lport", SERVER, &format!("{to} && {server}"), "drop")),
    ];
    if network.dhcp && !network.nets().is_empty() {
        // To OVN, and to nobody else behind it: a question that may go anywhere would be a way out.
        let v4 = network.router.filter(|_| network.net().is_some()).map(|router| {
            format!("(ip4.dst == {{255.255.255.255, {router}}} && udp.src == 68 && udp.dst == 67)")
        });
        let v6 =
            network.net6().map(|_| "(ip6.dst == ff02::1:2 && udp.src == 546 && udp.dst == 547)".to_string());
        let client = any_of(v4.into_iter().chain(v6).collect());
        rules.push(("dhcp", row(zone, "from-lport", DHCP, &format!("{from} && {client}"), "allow")));
    }
    let nets = network.nets();
    if !network.isolated && !nets.is_empty() {
        let (sent, came) = (inside("dst", &nets), inside("src", &nets));
        rules.extend([
            ("inside/from", row(zone, "from-lport", ALLOW, &format!("{from} && {sent}"), "allow-related")),
            ("inside/to", row(zone, "to-lport", ALLOW, &format!("{to} && {came}"), "allow-related")),
        ]);
    }
    rules.into_iter().map(|(key, row)| (format!("zone/{zone}/{key}"), row)).collect()
}

/// Addresses of a zone's own machines, and what they use to speak to all of them.
fn inside(field: &str, nets: &[IpNet]) -> String {
    let extra = |wide: &str| if field == "dst" { wide.to_string() } else { String::new() };
    let of_family = |net: &IpNet| match net {
        IpNet::V4(net) => format!("ip4.{field} == {{{net}{}}}", extra(", 255.255.255.255, 224.0.0.0/24")),
        IpNet::V6(net) => format!("ip6.{field} == {{{net}, fe80::/10{}}}", extra(", ff02::/16")),
    };
    any_of(nets.iter().map(of_family).collect())
}

/// One ACL per zone that a route leaves from, and one per zone that it leads to.
fn of_route(cluster: &Cluster, guests: &Guests, route: &Route) -> Vec<(String, Row)> {
    let (Some(from), Some(to)) = (End::parse(&route.from), End::parse(&route.to)) else { return Vec::new() };
    let key = format!("route/{}/{}/{}", route.from, route.to, route.ports.join(","));
    let Some(ports) = ports(&route.ports) else { return Vec::new() };
    let mut rules = Vec::new();
    for (direction, here, there, port, field) in
        [("from-lport", from, to, "inport", "dst"), ("to-lport", to, from, "outport", "src")]
    {
        let Some(addresses) = addresses(cluster, guests, there, field) else { continue };
        for (zone, side) in sides(cluster, guests, here, port) {
            let condition = [side, addresses.clone(), ports.clone()];
            let condition: Vec<String> = condition.into_iter().filter(|part| !part.is_empty()).collect();
            let row = row(zone, direction, ALLOW, &condition.join(" && "), "allow-related");
            rules.push((format!("{key}/{direction}/{zone}"), row));
        }
    }
    rules
}

/// The ports of an end that ACLs are put on, by zone. A gateway's own ports carry other machines' packets: they have none.
fn sides<'a>(cluster: &'a Cluster, guests: &Guests, end: End, port: &str) -> Vec<(&'a Name, String)> {
    let zones = cluster.zones();
    let whole = |zone: &Name| format!("{port} == @{}", group(zone));
    match end {
        End::Any => zones.map(|(zone, _)| (zone, whole(zone))).collect(),
        End::Network(name) => {
            zones.filter(|(zone, _)| zone.as_str() == name).map(|(zone, _)| (zone, whole(zone))).collect()
        }
        End::Vm(name) => zones
            .filter_map(|(zone, _)| {
                let (vm, _) = cluster.vms.get_key_value(name)?;
                guests.get(zone)?.get(vm)?;
                let id = identity::interface_id(&cluster.name, vm, zone);
                (!cluster.is_gateway(vm, zone)).then(|| (zone, format!("{port} == \"{id}\"")))
            })
            .collect(),
    }
}

/// A condition on source or destination; `None` when nothing can meet it.
fn addresses(cluster: &Cluster, guests: &Guests, end: End, field: &str) -> Option<String> {
    let nets: Vec<IpNet> = match end {
        End::Any => return Some("ip".into()),
        End::Network(name) => cluster.networks.get(name)?.nets(),
        End::Vm(name) => {
            let (name, vm) = cluster.vms.get_key_value(name)?;
            let address = |network: &Name| -> Vec<IpAddr> {
                match guests.get(network).and_then(|guests| guests.get(name)) {
                    Some(guest) => guest.addresses().collect(),
                    None => vm.address_on(network).into_iter().collect(),
                }
            };
            vm.networks.iter().flat_map(address).map(IpNet::from).collect()
        }
    };
    let family = |family: &str, is_mine: fn(&IpNet) -> bool| {
        // A whole address has no prefix length there.
        let shown = |net: &IpNet| {
            if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
        };
        let list: Vec<String> = nets.iter().filter(|net| is_mine(net)).map(shown).collect();
        (!list.is_empty()).then(|| format!("{family}.{field} == {{{}}}", list.join(", ")))
    };
    let is_v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
    let is_v6 = |net: &IpNet| matches!(net, IpNet::V6(_));
    let both: Vec<String> = family("ip4", is_v4).into_iter().chain(family("ip6", is_v6)).collect();
    (!both.is_empty()).then(|| any_of(both))
}

/// A condition on protocol and port, empty for all of them; `None` for what the loader refuses.
fn ports(list: &[String]) -> Option<String> {
    let one = |text: &String| {
        Some(match Ports::parse(text).ok()? {
            Ports::Icmp => "icmp4 || icmp6".to_string(),
            Ports::Tcp(from, to) => range("tcp", from, to),
            Ports::Udp(from, to) => range("udp", from, to),
        })
    };
    let all: Vec<String> = list.iter().map(one).collect::<Option<_>>()?;
    Some(if all.is_empty() { String::new() } else { format!("({})", all.join(" || ")) })
}

fn range(protocol: &str, first: u16, last: u16) -> String {
    if first == last {
        format!("{protocol}.dst == {first}")
    } else {
        format!("{first} <= {protocol}.dst <= {last}")
    }
}

fn any_of(conditions: Vec<String>) -> String {
    match <[String; 1]>::try_from(conditions) {
        Ok([only]) => only,
        Err(several) => format!("({})", several.join(" || ")),
    }
}
