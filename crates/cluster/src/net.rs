//! Names of network devices and addresses of nodes that several tools must agree on.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Cluster, Network, Node};
use crate::names::Name;

/// Longest name of a network interface (`IFNAMSIZ` - 1, linux/if.h).
const LONGEST: usize = 15;

/// The Open vSwitch bridge of an uplink: `br-<uplink>`; a name too long for the kernel keeps its first
/// four characters and 32 bits of a hash (FNV-1a), so that it is the same on every node.
pub fn bridge_name(uplink: &Name) -> String {
    let plain = format!("br-{uplink}");
    if plain.len() <= LONGEST {
        return plain;
    }
    let hash = uplink
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("br-{}{hash:08x}", &uplink.as_str()[..4])
}

/// Where a node's own address belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeNetwork<'a> {
    /// The network that carries node traffic.
    pub name: &'a Name,
    /// The node's address on it.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

impl Node {
    /// The address without its prefix length; `None` when it is not an address (which the loader refuses).
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.split('/').next()?.parse().ok()
    }

    /// The prefix length, when the address carries one.
    pub fn prefix(&self) -> Option<u8> {
        self.address.parse::<IpNet>().ok().map(|net| net.prefix_len())
    }
}

impl Network {
    /// The subnet, parsed; `None` when there is none (or it is faulty, which the loader refuses).
    pub fn net(&self) -> Option<IpNet> {
        self.subnet.as_deref()?.parse().ok()
    }
}

/// The first address of an IPv4 subnet names the subnet, the last one all its machines; a subnet of two (RFC
/// 3021) or one has neither, nor has IPv6.
pub(crate) fn is_end(net: &IpNet, address: IpAddr) -> bool {
    let has_ends = address.is_ipv4() && net.prefix_len() < 31;
    has_ends && (address == net.network() || address == net.broadcast())
}

impl Cluster {
    /// The network that carries a node's traffic: the one whose subnet holds the node's address, else (the
    /// address then has its own prefix length) the one called `lan`, or the only one.
    pub fn node_network(&self, node: &Node) -> Option<NodeNetwork<'_>> {
        let address = node.ip()?;
        let holds = |network: &Network| network.net().filter(|net| net.contains(&address));
        let by_subnet = self.networks.iter().find_map(|(name, network)| Some((name, holds(network)?)));
        if let Some((name, net)) = by_subnet {
            return Some(NodeNetwork { name, address, prefix: net.prefix_len() });
        }
        let only = || self.networks.keys().next().filter(|_| self.networks.len() == 1);
        let name = self.networks.keys().find(|name| name.as_str() == "lan").or_else(only)?;
        Some(NodeNetwork { name, address, prefix: node.prefix()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stay_and_long_ones_fit() {
        let bridge = |name: &str| bridge_name(&Name::try_from(name.to_string()).unwrap());
        assert_eq!(bridge("lan"), "br-lan");
        assert_eq!(bridge("exactly-12ch"), "br-exactly-12ch");
        // FNV-1a of "management-network", computed by hand with Python.
        assert_eq!(bridge("management-network"), "br-mana64f4c9e1");
        assert_eq!(bridge("management-network").len(), 15);
    }

    fn networks(address: &str, networks: &str) -> Option<(String, String, u8)> {
        let text = format!(
            "schema = \"personal-cluster/1\"\nname = \"t\"\n[[node]]\nname = \"n\"\naddress = \"{address}\"\n{networks}"
        );
        let cluster: Cluster = toml::from_str(&text).unwrap();
        let found = cluster.node_network(&cluster.nodes[0])?;
        Some((found.name.to_string(), found.address.to_string(), found.prefix))
    }

    #[test]
    fn the_subnet_finds_the_network_of_a_node() {
        let two = "[network.lan]\nuplink = \"a\"\n[network.nodes]\nuplink = \"a\"\nvlan = 2\nsubnet = \"10.0.0.0/16\"\n";
        assert_eq!(networks("10.0.3.4", two), Some(("nodes".into(), "10.0.3.4".into(), 16)));
        assert_eq!(networks("10.1.3.4/24", two), Some(("lan".into(), "10.1.3.4".into(), 24)));
        assert_eq!(networks("10.1.3.4", two), None);
        let one = "[network.x]\nuplink = \"a\"\n";
        assert_eq!(networks("fd00::4/64", one), Some(("x".into(), "fd00::4".into(), 64)));
        assert_eq!(networks("10.1.3.4/24", ""), None);
    }
}
