//! What the cluster file wants of this node's network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cluster::{Name, Network, NodeView, bridge_name};

use crate::model::{Bridge, Interface, Port};

/// The node's network as the file has it. MAC addresses are not in the file: the plan fills them in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// One bridge per uplink.
    pub bridges: Vec<Bridge>,
    /// Where the node's own address lives, when that is on one of these bridges.
    pub host: Option<HostAddress>,
    /// The node's own address wherever it lives.
    pub node_address: Option<IpAddr>,
}

/// The node's own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// The internal port that carries it.
    pub interface: String,
    /// Its bridge.
    pub bridge: String,
    /// The network, for messages.
    pub network: String,
    /// With prefix length.
    pub address: String,
    /// Default router.
    pub router: Option<IpAddr>,
}

impl Want {
    /// NICs of the file, with their bridge.
    pub fn nics(&self) -> BTreeMap<&str, &Bridge> {
        self.bridges.iter().flat_map(|bridge| nics_of(bridge).map(move |nic| (nic, bridge))).collect()
    }

    /// Devices that are ours: NICs, bridges, internal ports.
    pub fn devices(&self) -> Vec<String> {
        let interfaces =
            self.bridges.iter().flat_map(|bridge| &bridge.ports).flat_map(|port| &port.interfaces);
        interfaces.map(|interface| interface.name.clone()).collect()
    }
}

/// The NICs of one bridge, in the order of the file.
pub fn nics_of(bridge: &Bridge) -> impl Iterator<Item = &str> {
    let interfaces = bridge.ports.iter().flat_map(|port| &port.interfaces);
    interfaces.filter(|interface| !interface.internal).map(|interface| interface.name.as_str())
}

/// Reads the node's part of the file. `datapath` is empty for the kernel's.
pub fn want(view: &NodeView, datapath: &str) -> Want {
    let host = host(view);
    let bridges = view.node.nics.iter().filter(|(_, nics)| !nics.is_empty());
    let bridges = bridges.map(|(uplink, nics)| bridge(view, uplink, nics, host.as_ref(), datapath)).collect();
    Want { bridges, host, node_address: view.node.ip() }
}

fn host(view: &NodeView) -> Option<HostAddress> {
    let place = view.cluster.node_network(view.node)?;
    let network = view.cluster.networks.get(place.name)?;
    if !view.node.nics.contains_key(&network.uplink) {
        return None;
    }
    let bridge = bridge_name(&network.uplink);
    let interface = if network.vlan.is_none() { bridge.clone() } else { host_port(place.name) };
    let router = network.router;
    Some(HostAddress {
        interface,
        bridge,
        network: place.name.to_string(),
        address: format!("{}/{}", place.address, place.prefix),
        router,
    })
}

fn bridge(
    view: &NodeView,
    uplink: &Name,
    nics: &[String],
    host: Option<&HostAddress>,
    datapath: &str,
) -> Bridge {
    let name = bridge_name(uplink);
    let networks = || view.cluster.networks.iter().filter(|(_, network)| network.uplink == *uplink);
    let largest = networks().filter_map(|(_, network)| network.mtu).max();
    let untagged = networks().find(|(_, network)| network.vlan.is_none()).map(|(_, network)| network);
    let address_of =
        |interface: &str| host.filter(|host| host.interface == interface).map(|host| host.address.clone());
    let internal = |name: &str, mtu_bytes| Interface {
        name: name.into(),
        internal: true,
        mac: None,
        mtu_bytes,
        address: address_of(name),
    };
    let single = |interface: Interface, tag| Port {
        name: interface.name.clone(),
        tag,
        bond_mode: None,
        interfaces: vec![interface],
    };
    let mut ports = vec![
        single(internal(&name, untagged.and_then(|network| network.mtu)), None),
        uplink_port(uplink, nics, largest),
    ];
    if let Some((interface, network)) = tagged_host(view, host, &name) {
        ports.push(single(internal(&interface, network.mtu), network.vlan));
    }
    Bridge {
        name,
        uplink: uplink.to_string(),
        hwaddr: None,
        fail_mode: "standalone".into(),
        datapath: datapath.into(),
        ports,
    }
}

/// The tagged internal port for the node's address, when it is on this bridge.
fn tagged_host<'a>(
    view: &'a NodeView,
    host: Option<&HostAddress>,
    bridge: &str,
) -> Option<(String, &'a Network)> {
    let host = host.filter(|host| host.bridge == bridge && host.interface != bridge)?;
    let network = view.cluster.networks.get(host.network.as_str())?;
    Some((host.interface.clone(), network))
}

fn uplink_port(uplink: &Name, nics: &[String], mtu_bytes: Option<u16>) -> Port {
    let nic = |name: &String| Interface {
        name: name.clone(),
        internal: false,
        mac: None,
        mtu_bytes,
        address: None,
    };
    let interfaces: Vec<Interface> = nics.iter().map(nic).collect();
    match nics {
        [single] => Port { name: single.clone(), tag: None, bond_mode: None, interfaces },
        _ => Port {
            name: format!("bond-{uplink}"),
            tag: None,
            bond_mode: Some("active-backup".into()),
            interfaces,
        },
    }
}

/// The internal port for the node's address on a tagged network: `h-<network>`; a name too long for the
/// kernel keeps its first five characters and 32 bits of a hash (FNV-1a), as bridges do.
fn host_port(network: &Name) -> String {
    let plain = format!("h-{network}");
    if plain.len() <= 15 {
        return plain;
    }
    format!("h-{}{:08x}", &network.as_str()[..5], fnv(network.as_str()))
}

/// FNV-1a, 32 bits.
pub fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        schema = "personal-cluster/1"
        name = "home"
        [[node]]
        name = "node1"
        address = "10.0.30.1"
        nics.lan = ["eth0", "eth1"]
        nics.wan = ["eth2"]
        [network.lan]
        uplink = "lan"
        mtu = 9000
        [network.nodes-and-hypervisors]
        uplink = "lan"
        vlan = 30
        subnet = "10.0.30.0/24"
        router = "10.0.30.254"
        [network.outside]
        uplink = "wan"
    "#;

    fn wanted(file: &str) -> Want {
        let cluster = cluster::parse("test", file).unwrap();
        want(&cluster.view("node1").unwrap(), "")
    }

    #[test]
    fn uplinks_become_bridges_and_two_nics_a_bond() {
        let want = wanted(FILE);
        let [lan, wan] = &want.bridges[..] else { panic!("two bridges") };
        assert_eq!((lan.name.as_str(), wan.name.as_str()), ("br-lan", "br-wan"));
        assert_eq!(lan.ports[1].name, "bond-lan");
        assert_eq!(lan.ports[1].bond_mode.as_deref(), Some("active-backup"));
        assert_eq!(nics_of(lan).collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert_eq!(lan.ports[1].interfaces[0].mtu_bytes, Some(9000));
        assert_eq!((wan.ports[1].name.as_str(), wan.ports[1].bond_mode.as_deref()), ("eth2", None));
    }

    #[test]
    fn a_tagged_node_network_gets_a_port_of_its_own() {
        let want = wanted(FILE);
        let port = &want.bridges[0].ports[2];
        // FNV-1a of "nodes-and-hypervisors", computed with Python.
        assert_eq!((port.name.as_str(), port.tag), ("h-nodes5af10fa9", Some(30)));
        assert_eq!(port.interfaces[0].address.as_deref(), Some("10.0.30.1/24"));
        assert_eq!(want.bridges[0].ports[0].interfaces[0].address, None);
        assert_eq!(want.host.unwrap().router, Some("10.0.30.254".parse().unwrap()));
    }

    #[test]
    fn an_untagged_node_network_uses_the_bridge_itself() {
        let file = FILE.replace("mtu = 9000", "mtu = 9000\nvlan = 40").replace("vlan = 30", "");
        let want = wanted(&file);
        assert_eq!(want.bridges[0].ports.len(), 2);
        assert_eq!(want.bridges[0].ports[0].interfaces[0].address.as_deref(), Some("10.0.30.1/24"));
    }

    #[test]
    fn an_address_on_an_uplink_of_someone_else_is_not_ours() {
        let mut cluster = cluster::parse("test", FILE).unwrap();
        cluster.nodes[0].nics.remove("lan");
        let want = want(&cluster.view("node1").unwrap(), "");
        assert_eq!((want.host, want.bridges.len()), (None, 1));
        assert_eq!(want.node_address, Some("10.0.30.1".parse().unwrap()));
    }
}
