//! `[[node]]`: names, addresses, disks, network cards.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Sense;
use crate::model::{Network, Node, Use};
use crate::names::leads_elsewhere;
use crate::net::is_end;
use crate::tree::{Node as Tree, at};

impl Sense<'_> {
    pub(super) fn nodes(&mut self) {
        let mut names = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        let mut disks = BTreeMap::new();
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            if let Some(first) = names.insert(&node.name, index) {
                let fault = format!("is already the name of node[{first}]");
                self.error(&at!["node", index, "name"], fault, "give every node its own host name");
            }
            if let Some(fault) = leads_elsewhere(node.name.as_str()) {
                let remedy = "give the machine a name of its own: hostnamectl hostname node1";
                self.error(&at!["node", index, "name"], fault, remedy);
            }
            if let Some(address) = self.address(index, node) {
                self.family(index, address);
                if let Some(first) = addresses.insert(address, index) {
                    let fault = format!("is already the address of node[{first}]");
                    self.error(&at!["node", index, "address"], fault, "give every node its own address");
                }
            }
            self.disks(index, node, &mut disks);
            self.nics(index, node);
        }
    }

    fn address(&mut self, index: usize, node: &Node) -> Option<IpAddr> {
        let steps = at!["node", index, "address"];
        let example =
            "write for example \"192.168.0.50\", or \"192.168.0.50/24\" when no network has a subnet";
        let parsed = if node.address.contains('/') {
            node.address.parse::<IpNet>().ok().map(|net| net.addr())
        } else {
            node.address.parse().ok()
        };
        let Some(address) = parsed else {
            self.error(&steps, "is not an IP address", example);
            return None;
        };
        // Other addresses of 127.0.0.0/8 let several nodes live on one machine, as in tests.
        let own = ["127.0.0.1", "127.0.1.1", "::1"].contains(&address.to_string().as_str());
        if address.is_unspecified() || own || address.is_multicast() {
            self.error(&steps, "is not an address that other machines can reach", example);
            return None;
        }
        if let Some((fault, remedy)) = not_of_a_node(address) {
            self.error(&steps, fault, remedy);
            return None;
        }
        self.subnet_of(index, node, address);
        Some(address)
    }

    /// Subnets may differ, since routers lie between them. But a node has the one address, and Gluster one
    /// family (transport.address-family): nodes of both would not reach each other.
    fn family(&mut self, index: usize, address: IpAddr) {
        let first = self.cluster.nodes.first().and_then(Node::ip).filter(|_| index > 0);
        if first.is_some_and(|first| first.is_ipv4() != address.is_ipv4()) {
            let (own, other) = if address.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            let fault = format!("is {own}, and node[0] has {other}");
            let remedy = "give every node an address of the same kind: they talk to each other by it";
            self.error(&at!["node", index, "address"], fault, remedy);
        }
    }

    fn subnet_of(&mut self, index: usize, node: &Node, address: IpAddr) {
        let steps = at!["node", index, "address"];
        let subnets: Vec<IpNet> = self.cluster.networks.values().filter_map(Network::net).collect();
        let Some(net) = subnets.iter().find(|net| net.contains(&address)) else {
            if let Some(first) = subnets.first() {
                let listed = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let remedy = format!("use an address of {first}, or correct the network's subnet");
                self.error(&steps, format!("is outside every network's subnet ({listed})"), remedy);
            } else if self.whole
                && node.prefix().is_none()
                && !self.cluster.networks.is_empty()
                && !node.nics.is_empty()
            {
                let remedy =
                    format!("give the network a subnet, or write \"{address}/{}\"", usual_prefix(address));
                self.error(&steps, "has no prefix length, and no network has a subnet", remedy);
            } else if let Some(net) = node.address.parse::<IpNet>().ok().filter(|net| is_end(net, address)) {
                self.error(&steps, of_nobody(&net.trunc()), "use one between them");
            }
            return;
        };
        if let Some(prefix) = node.prefix().filter(|prefix| *prefix != net.prefix_len()) {
            let fault = format!("has prefix length {prefix}, its network {net} has {}", net.prefix_len());
            self.error(&steps, fault, format!("write \"{address}\" alone"));
        } else if is_end(net, address) {
            self.error(&steps, of_nobody(net), "use one between them");
        }
    }

    fn disks<'b>(&mut self, index: usize, node: &'b Node, seen: &mut BTreeMap<&'b str, String>) {
        let order = self.tree.get("node").and_then(|nodes| nodes.array().get(index)?.node.get("disks"));
        let order = order.map(Tree::table).unwrap_or_default();
        for (volume, devices) in order.iter().filter_map(|entry| node.disks.get_key_value(entry.key.as_str()))
        {
            let steps = at!["node", index, "disks", volume];
            // A disk that went to a misspelt volume is missing elsewhere: counting would tell it twice.
            self.whole &= self.known(&steps, "volume", volume.as_str());
            let settings = self.cluster.volumes.get(volume);
            if settings.is_some_and(|volume| volume.purpose == Use::Local) && devices.len() > 1 {
                let fault = format!("{} disks for a local volume, which has one per node", devices.len());
                let remedy = "keep one, and give the others to another [volume] with use = \"local\"";
                self.error(&steps, fault, remedy);
            }
            for (position, device) in devices.iter().enumerate() {
                let steps = at!["node", index, "disks", volume, position];
                let here = self.tree.find(&steps).path;
                if let Some(first) = seen.get(device.as_str()) {
                    let remedy = "list every disk once: it becomes one brick of one volume";
                    self.error(&steps, format!("is already listed as {first}"), remedy);
                } else if let Some((_, first)) = seen
                    .iter()
                    .find(|(other, _)| holds(other, device.as_str()) || holds(device.as_str(), other))
                {
                    let remedy =
                        "list the whole disk, or partitions of it: formatting one overwrites the other";
                    self.error(&steps, format!("is on the same disk as {first}"), remedy);
                } else {
                    seen.insert(device.as_str(), here);
                }
            }
        }
    }

    fn nics(&mut self, index: usize, node: &Node) {
        let mut seen: BTreeMap<&str, String> = BTreeMap::new();
        for (uplink, names) in &node.nics {
            if names.is_empty() {
                let remedy = "name a network card, `ip -br link` lists them, or remove the line";
                self.error(&at!["node", index, "nics", uplink], "names no network card", remedy);
            }
            for (position, name) in names.iter().enumerate() {
                let steps = at!["node", index, "nics", uplink, position];
                if !is_interface(name) {
                    let remedy = "write it as `ip -br link` shows it, for example \"enp3s0\"";
                    self.error(&steps, "is not the name of a network interface", remedy);
                }
                if let Some(fault) = no_card(name) {
                    let remedy = "name the card itself, as `ip -br link` shows it, for example \"enp3s0\"";
                    self.error(&steps, fault, remedy);
                }
                let here = self.tree.find(&steps).path;
                if let Some(first) = seen.insert(name, here) {
                    let fault = format!("is already listed as {first}");
                    self.error(&steps, fault, "a network card belongs to one uplink: list it once");
                }
            }
        }
    }
}

/// Why an IPv6 address is no node's, and what to write instead.
fn not_of_a_node(address: IpAddr) -> Option<(&'static str, String)> {
    let IpAddr::V6(address) = address else { return None };
    if let Some(inner) = address.to_ipv4_mapped() {
        return Some(("is an IPv4 address written as one of IPv6", format!("write \"{inner}\"")));
    }
    address.is_unicast_link_local().then(|| {
        let fault = "is a link-local address: each network card has such ones of its own, and it does not say which card";
        (fault, "write an address of the network, for example \"fd00::50\", or the machine's IPv4 address".into())
    })
}

/// The prefix length that most networks of such addresses have.
fn usual_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

/// What is said of an address that a whole subnet uses.
pub(super) fn of_nobody(net: &IpNet) -> String {
    format!("is the first or last address of {net}, which no machine can have")
}

/// Interfaces that are no network cards, on any machine.
fn no_card(name: &str) -> Option<&'static str> {
    if name == "lo" {
        return Some("leads back to the machine itself");
    }
    if name.starts_with("ovs-") {
        return Some("is Open vSwitch's own");
    }
    // net.rs: bridge_name().
    name.starts_with("br-").then_some("is a bridge, which pc-ovs makes itself")
}

/// `dev_valid_name()` of the kernel (net/core/dev.c).
fn is_interface(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    !name.is_empty() && name.len() <= 15 && name != "." && name != ".." && name.bytes().all(plain)
}

/// udev calls a partition by the name of its disk and `-partN`.
fn holds(disk: &str, partition: &str) -> bool {
    let number = partition.strip_prefix(disk).and_then(|rest| rest.strip_prefix("-part"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
