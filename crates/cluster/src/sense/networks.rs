//! `[network.NAME]`: uplinks, VLANs, subnets.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Sense;
use super::nodes::of_nobody;
use crate::model::{Network, Node};
use crate::names::Name;
use crate::net::is_end;
use crate::shape::nearest;
use crate::tree::at;

impl Sense<'_> {
    pub(super) fn networks(&mut self) {
        let mut tags: BTreeMap<(&Name, Option<u16>), &Name> = BTreeMap::new();
        let mut subnets: Vec<(&Name, IpNet)> = Vec::new();
        for (name, network) in self.ordered("network", &self.cluster.networks) {
            self.uplink(name, network);
            // A vlan that was faulty is none now, but was not meant to be none.
            let section = self.original.get("network").and_then(|all| all.get(name.as_str()));
            let is_left_out = network.vlan.is_none() && section.is_some_and(|own| own.get("vlan").is_some());
            let tag = (&network.uplink, network.vlan);
            let first = if is_left_out { name } else { tags.entry(tag).or_insert(name) };
            if first != name {
                let (key, fault) = match network.vlan {
                    Some(_) => {
                        ("vlan", format!("is already the vlan of [network.{first}] on {}", network.uplink))
                    }
                    None => ("uplink", format!("already carries [network.{first}] untagged")),
                };
                let remedy = "give one of them a vlan of its own: they would be one network";
                self.error(&at!["network", name, key], fault, remedy);
            }
            if let Some(net) = self.subnet(name, network) {
                if let Some((first, other)) = subnets.iter().find(|(_, other)| overlap(&net, other)) {
                    let fault = format!("overlaps {other} of [network.{first}]");
                    self.error(&at!["network", name, "subnet"], fault, "give every network its own range");
                }
                subnets.push((name, net));
                self.router(name, network, net);
            }
        }
    }

    fn uplink(&mut self, name: &Name, network: &Network) {
        let uplink = &network.uplink;
        let nodes = &self.cluster.nodes;
        let lacks = |node: &&Node| !node.nics.contains_key(uplink);
        let lacking: Vec<&str> = nodes.iter().filter(lacks).map(|node| node.name.as_str()).collect();
        if lacking.is_empty() || !self.whole {
            return;
        }
        let verb = if lacking.len() == 1 { "has" } else { "have" };
        let fault = format!("{} {verb} no nics.{uplink}", lacking.join(", "));
        let others = nodes.iter().flat_map(|node| node.nics.keys()).map(Name::as_str);
        let remedy = match nearest(uplink.as_str(), others.filter(|other| *other != uplink.as_str())) {
            Some(near) if lacking.len() == nodes.len() => format!("did you mean {near}?"),
            _ => format!("add nics.{uplink} = [\"...\"] there: its VMs may run on any node"),
        };
        self.error(&at!["network", name, "uplink"], fault, remedy);
    }

    fn subnet(&mut self, name: &Name, network: &Network) -> Option<IpNet> {
        let text = network.subnet.as_ref()?;
        let steps = at!["network", name, "subnet"];
        let Ok(net) = text.parse::<IpNet>() else {
            let remedy = "write its first address and prefix length, for example \"192.168.0.0/24\"";
            self.error(&steps, "is not a subnet", remedy);
            return None;
        };
        if net.addr() != net.network() {
            self.error(&steps, "is an address within a subnet", format!("write \"{}\"", net.trunc()));
        }
        Some(net)
    }

    fn router(&mut self, name: &Name, network: &Network, net: IpNet) {
        let Some(router) = network.router else { return };
        let steps = at!["network", name, "router"];
        if !net.contains(&router) {
            self.error(&steps, format!("is outside {net}"), "name a router that the nodes reach directly");
        } else if is_end(&net, router) {
            self.error(&steps, of_nobody(&net.trunc()), "name a router between them");
        }
        if let Some(node) = self.cluster.nodes.iter().find(|node| node.ip() == Some(router)) {
            let remedy = "name the network's router, or leave it out";
            self.error(&steps, format!("is the address of {}", node.name), remedy);
        }
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}
