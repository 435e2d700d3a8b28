//! Zones, the networks that OVN closes and routes, and the ends of routes: in the words of the file.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::model::{Cluster, Network, Vm};
use crate::names::Name;

/// The Open vSwitch bridge on which ovn-controller plugs ports of zones in (`ovn-controller(8)`, `external_ids:ovn-bridge`).
pub const BRIDGE: &str = "br-int";

/// What routes a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway<'a> {
    /// OVN's distributed router.
    Cluster,
    /// A VM with a network card on every zone that it routes.
    Vm(&'a str),
    /// A machine on the network itself.
    External,
}

/// One end of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End<'a> {
    /// Everybody.
    Any,
    /// Every machine of a network.
    Network(&'a str),
    /// A VM, on all of its networks.
    Vm(&'a str),
}

impl End<'_> {
    /// `network:NAME`, `vm:NAME` or `any`.
    pub fn parse(text: &str) -> Option<End<'_>> {
        match text.split_once(':') {
            None if text == "any" => Some(End::Any),
            Some(("network", name)) => Some(End::Network(name)),
            Some(("vm", name)) => Some(End::Vm(name)),
            _ => None,
        }
    }
}

/// What a route lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// TCP to these ports, both included.
    Tcp(u16, u16),
    /// UDP to these ports, both included.
    Udp(u16, u16),
    /// ICMP and `ICMPv6`, every type.
    Icmp,
}

impl Ports {
    /// `tcp/25`, `udp/53`, `tcp/8000-8010`, `icmp`.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence about it.
    pub fn parse(text: &str) -> Result<Ports, &'static str> {
        if text == "icmp" {
            return Ok(Ports::Icmp);
        }
        let Some((protocol @ ("tcp" | "udp"), range)) = text.split_once('/') else {
            return Err("is not a protocol and port");
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        // The parser alone would take a sign.
        let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
        match (number(first), number(last)) {
            (Some(0), Some(_)) | (Some(_), Some(0)) => Err("port 0 does not exist"),
            (Some(first), Some(last)) if first > last => Err("is a range that ends before it begins"),
            (Some(first), Some(last)) if protocol == "tcp" => Ok(Ports::Tcp(first, last)),
            (Some(first), Some(last)) => Ok(Ports::Udp(first, last)),
            _ => Err("is not a port between 1 and 65535"),
        }
    }

    /// Whether everything that `other` names is let through.
    pub fn covers(self, other: Ports) -> bool {
        match (self, other) {
            (Ports::Tcp(first, last), Ports::Tcp(from, to))
            | (Ports::Udp(first, last), Ports::Udp(from, to)) => first <= from && to <= last,
            (Ports::Icmp, Ports::Icmp) => true,
            _ => false,
        }
    }
}

impl Network {
    /// What routes it; `None` for a plain VLAN (or what the loader refuses).
    pub fn gateway(&self) -> Option<Gateway<'_>> {
        match self.gateway.as_deref()? {
            "cluster" => Some(Gateway::Cluster),
            "external" => Some(Gateway::External),
            other => other.strip_prefix("vm:").map(Gateway::Vm),
        }
    }

    /// OVN closes and routes it.
    pub fn is_zone(&self) -> bool {
        self.gateway().is_some()
    }

    /// The IPv6 prefix, parsed; `None` when there is none (or it is faulty, which the loader refuses).
    pub fn net6(&self) -> Option<Ipv6Net> {
        self.subnet6.as_deref()?.parse().ok()
    }

    /// Its subnets of both families.
    pub fn nets(&self) -> Vec<IpNet> {
        self.net().into_iter().chain(self.net6().map(IpNet::V6)).collect()
    }
}

impl Vm {
    /// The address that the file gives it on a network.
    pub fn address_on(&self, network: &Name) -> Option<IpAddr> {
        Some(self.addresses.get(network)?.parse::<IpNet>().ok()?.addr())
    }
}

impl Cluster {
    /// The zones, by name.
    pub fn zones(&self) -> impl Iterator<Item = (&Name, &Network)> {
        self.networks.iter().filter(|(_, network)| network.is_zone())
    }

    /// The VMs with a network card on a network, by name.
    pub fn guests_of(&self, network: &Name) -> impl Iterator<Item = (&Name, &Vm)> {
        self.vms.iter().filter(move |(_, vm)| vm.networks.contains(network))
    }

    /// Whether this VM routes that network.
    pub fn is_gateway(&self, vm: &Name, network: &Name) -> bool {
        let network = self.networks.get(network);
        network.is_some_and(|network| network.gateway() == Some(Gateway::Vm(vm.as_str())))
    }
}

/// The address in `net` that belongs to a MAC address (RFC 4291, appendix A); the prefix itself when that is no MAC address.
pub fn eui64(net: Ipv6Net, mac: &str) -> Ipv6Addr {
    let bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let (Some(maker), Some(card), 6) = (bytes.get(..3), bytes.get(3..), bytes.len()) else {
        return net.network();
    };
    let host = [maker, &[0xff, 0xfe], card].concat();
    let host = host.iter().fold(0_u128, |host, byte| (host << 8) | u128::from(*byte)) ^ (2 << 56);
    Ipv6Addr::from(u128::from(net.network()) | host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read() {
        for (good, read) in [
            ("tcp/25", Ports::Tcp(25, 25)),
            ("udp/53", Ports::Udp(53, 53)),
            ("tcp/8000-8010", Ports::Tcp(8000, 8010)),
            ("icmp", Ports::Icmp),
            ("tcp/65535", Ports::Tcp(65535, 65535)),
        ] {
            assert_eq!(Ports::parse(good), Ok(read), "{good}");
        }
        for bad in
            ["25", "tcp", "tcp/", "tcp/0", "tcp/70000", "tcp/9-8", "sctp/1", "tcp/+5", "tcp/1-", "icmp/8"]
        {
            assert!(Ports::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_covers_what_lies_within() {
        let range = Ports::Tcp(8000, 8010);
        assert!(range.covers(Ports::Tcp(8000, 8000)) && range.covers(Ports::Tcp(8002, 8010)));
        for other in [Ports::Tcp(8010, 8011), Ports::Tcp(7999, 8000), Ports::Udp(8000, 8000), Ports::Icmp] {
            assert!(!range.covers(other), "{other:?}");
        }
        assert!(Ports::Icmp.covers(Ports::Icmp));
    }

    #[test]
    fn ends_read() {
        assert_eq!(End::parse("any"), Some(End::Any));
        assert_eq!(End::parse("network:lan"), Some(End::Network("lan")));
        assert_eq!(End::parse("vm:mail"), Some(End::Vm("mail")));
        assert_eq!((End::parse("lan"), End::parse("node:a")), (None, None));
    }

    #[test]
    fn a_mac_address_gives_an_address() {
        // RFC 4291, appendix A: the universal/local bit is inverted, fffe goes in the middle.
        let net = "fd00:20::/64".parse().unwrap();
        assert_eq!(eui64(net, "52:54:00:82:ef:34").to_string(), "fd00:20::5054:ff:fe82:ef34");
    }
}
