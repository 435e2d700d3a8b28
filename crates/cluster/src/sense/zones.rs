//! Networks with a `gateway`: zones that OVN closes and routes.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::Sense;
use crate::model::{Network, Vm};
use crate::names::Name;
use crate::tree::at;
use crate::zones::{End, Gateway};

impl Sense<'_> {
    pub(super) fn zones(&mut self) {
        for (name, network) in self.ordered("network", &self.cluster.networks) {
            self.subnet6(name, network);
            let Some(text) = &network.gateway else { continue };
            let steps = at!["network", name, "gateway"];
            match network.gateway() {
                Some(Gateway::Vm(vm)) if self.known_as(&steps, "vm", vm, "vm:") => {
                    self.gateway_vm(name, network, vm);
                }
                Some(_) => {}
                None => {
                    let near = self.declared("vm").contains(&text.as_str());
                    let remedy = if near {
                        format!("did you mean vm:{text}?")
                    } else {
                        "write \"cluster\", \"vm:NAME\" or \"external\"".into()
                    };
                    self.error(&steps, "is not a gateway", remedy);
                    continue;
                }
            }
            self.zone(name, network);
        }
        for index in 0..self.cluster.routes.len() {
            self.told_apart(index);
        }
    }

    fn subnet6(&mut self, name: &Name, network: &Network) {
        let Some(text) = &network.subnet6 else { return };
        let steps = at!["network", name, "subnet6"];
        let net = text.parse::<Ipv6Net>().ok();
        let Some(net) = net.filter(|net| net.prefix_len() == 64 && net.addr() == net.network()) else {
            self.error(&steps, "is not an IPv6 prefix of 64 bits", "write for example \"fd00:20::/64\"");
            return;
        };
        if network.gateway.is_none() {
            let remedy = "add gateway = \"cluster\", or remove it";
            self.error(&steps, "means something on a zone only", remedy);
        }
        let all = self.ordered("network", &self.cluster.networks);
        let first = all.iter().take_while(|(other, _)| *other != name);
        let mut first = first.filter(|(_, other)| other.nets().iter().any(|other| overlap(net, other)));
        if let Some((first, _)) = first.next() {
            let fault = format!("overlaps a subnet of [network.{first}]");
            self.error(&steps, fault, "give every network its own range");
        }
    }

    fn zone(&mut self, name: &Name, network: &Network) {
        let gateway = at!["network", name, "gateway"];
        // What was faulty is none now, but was not meant to be none.
        let section = self.original.get("network").and_then(|all| all.get(name.as_str()));
        let is_left_out = |key: &str| section.is_some_and(|own| own.get(key).is_some());
        if network.nets().is_empty() && !is_left_out("subnet") && !is_left_out("subnet6") {
            let remedy = "add its addresses, for example subnet = \"10.0.20.0/24\"";
            self.error(&gateway, "a zone without a subnet: nobody could tell who is who", remedy);
        }
        match network.net() {
            Some(IpNet::V6(net)) => {
                let remedy = format!("write it as subnet6 = \"{net}\"");
                self.error(&at!["network", name, "subnet"], "is IPv6, which a zone has beside IPv4", remedy);
            }
            Some(IpNet::V4(net)) if network.router.is_none() && !is_left_out("router") => {
                let first = net.hosts().next().unwrap_or(net.addr());
                let remedy = format!("add its address, for example router = \"{first}\"");
                self.error(&gateway, "its VMs would not know how to reach the gateway", remedy);
            }
            _ => {}
        }
        let carries = |node: &crate::model::Node| {
            self.cluster.node_network(node).is_some_and(|found| found.name == name)
        };
        if network.gateway() != Some(Gateway::External) && self.cluster.nodes.iter().any(carries) {
            let fault = "this network carries node traffic, whose router must not depend on OVN or a VM";
            self.error(&gateway, fault, "write gateway = \"external\"");
        }
        if !network.dhcp && network.net().is_some() {
            self.without_dhcp(name);
        }
    }

    /// Who may use which address must stand somewhere.
    fn without_dhcp(&mut self, network: &Name) {
        for (vm, section) in self.ordered("vm", &self.cluster.vms) {
            let place = section.networks.iter().position(|own| own == network);
            let Some(place) = place.filter(|_| !section.addresses.contains_key(network)) else { continue };
            let fault = format!("has no address there, and [network.{network}] has no DHCP");
            let remedy = format!("add addresses = {{ {network} = \"...\" }}, or remove dhcp = false");
            self.error(&at!["vm", vm, "networks", place], fault, remedy);
        }
    }

    fn gateway_vm(&mut self, name: &Name, network: &Network, vm: &str) {
        let Some((vm, section)) = self.cluster.vms.get_key_value(vm) else { return };
        let steps = at!["network", name, "gateway"];
        if !section.networks.contains(name) {
            let remedy = format!("add \"{name}\" to the networks of [vm.{vm}]");
            self.error(&steps, "that VM has no network card there", remedy);
            return;
        }
        let (Some(router), Some(net)) = (network.router, network.net()) else { return };
        if section.address_on(name) != Some(router) {
            let fault = format!("the router's address {router} is not that of the VM");
            let address = format!("{name} = \"{router}/{}\"", net.prefix_len());
            self.error(&steps, fault, format!("write addresses = {{ {address} }} in [vm.{vm}]"));
        }
    }

    /// A route that is enforced must tell the packets of both its ends from others.
    fn told_apart(&mut self, index: usize) {
        let route = &self.cluster.routes[index];
        for (key, end, other) in [("from", &route.from, &route.to), ("to", &route.to, &route.from)] {
            let (Some(end), Some(other)) = (End::parse(end), End::parse(other)) else { continue };
            if !self.touches_a_zone(other) || self.touches_a_zone(end) {
                continue;
            }
            let steps = at!["route", index, key];
            match end {
                End::Network(name) => {
                    let Some(network) = self.cluster.networks.get(name) else { continue };
                    let section = self.original.get("network").and_then(|all| all.get(name));
                    if network.nets().is_empty() && section.is_none_or(|own| own.get("subnet").is_none()) {
                        let remedy = format!("add subnet to [network.{name}], or write any");
                        self.error(&steps, "has no subnet: nothing tells its packets from others", remedy);
                    }
                }
                End::Vm(name) => {
                    let Some(vm) = self.cluster.vms.get(name) else { continue };
                    if known_addresses(vm).next().is_none() {
                        let remedy = format!("add addresses to [vm.{name}]");
                        self.error(&steps, "has no address in this file", remedy);
                    }
                }
                End::Any => {}
            }
        }
    }

    fn touches_a_zone(&self, end: End) -> bool {
        match end {
            End::Any => self.cluster.zones().next().is_some(),
            End::Network(name) => self.cluster.networks.get(name).is_some_and(Network::is_zone),
            End::Vm(name) => self.cluster.vms.get(name).is_some_and(|vm| {
                vm.networks.iter().any(|own| self.cluster.networks.get(own).is_some_and(Network::is_zone))
            }),
        }
    }
}

fn known_addresses(vm: &Vm) -> impl Iterator<Item = IpAddr> {
    vm.networks.iter().filter_map(|network| vm.address_on(network))
}

fn overlap(net: Ipv6Net, other: &IpNet) -> bool {
    let net = IpNet::V6(net);
    net.contains(&other.network()) || other.contains(&net.network())
}
