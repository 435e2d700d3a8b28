//! This node's part in OVN, out of the cluster file. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use cluster::{NodeView, bridge_name};
use serde::{Deserialize, Serialize};

use crate::want::fnv;

/// Holders of the databases: of three, one may fail. More cost a write on each and gain a home nothing.
const MOST: usize = 3;

/// The two databases of OVN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What is wanted: written by us, read by ovn-northd.
    Nb,
    /// What ovn-northd made of it: read by every ovn-controller.
    Sb,
}

impl Side {
    /// Both of them.
    pub const ALL: [Side; 2] = [Side::Nb, Side::Sb];

    /// Name of its files.
    pub fn short(self) -> &'static str {
        match self {
            Side::Nb => "nb",
            Side::Sb => "sb",
        }
    }

    /// Name of the database (ovn-nb(5), ovn-sb(5)).
    pub fn database(self) -> &'static str {
        match self {
            Side::Nb => "OVN_Northbound",
            Side::Sb => "OVN_Southbound",
        }
    }

    /// Where clients come in: OVN's own numbers (ovn-ctl(8)).
    pub fn port(self) -> u16 {
        match self {
            Side::Nb => 6641,
            Side::Sb => 6642,
        }
    }

    /// Where the holders talk to each other.
    pub fn raft_port(self) -> u16 {
        match self {
            Side::Nb => 6643,
            Side::Sb => 6644,
        }
    }
}

/// A node that holds the databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

impl Member {
    /// `ssl:10.0.0.1:6641`, with IPv6 in brackets.
    pub fn at(&self, port: u16) -> String {
        format!("ssl:{}", authority(self.address, port))
    }
}

/// `ADDRESS:PORT`.
fn authority(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// The node's certificate and key, of the cluster's CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Open only once the unlock servers have vouched for the node.
    pub private_key: String,
    /// The node's.
    pub certificate: String,
    /// Whose nodes are believed.
    pub ca_cert: String,
}

impl Tls {
    /// Where pc-trust puts them.
    pub fn below(root: &Path) -> Tls {
        let path = |path: &str| root.join(path).display().to_string();
        Tls {
            private_key: path("run/personal-cluster/secrets/node.key"),
            certificate: path("etc/personal-cluster/trust/node.crt"),
            ca_cert: path("etc/personal-cluster/trust/ca.crt"),
        }
    }

    /// As options of every program of Open vSwitch and OVN (ovsdb-server(1)).
    pub fn options(&self) -> [String; 3] {
        let Tls { private_key, certificate, ca_cert } = self;
        [
            format!("--private-key={private_key}"),
            format!("--certificate={certificate}"),
            format!("--ca-cert={ca_cert}"),
        ]
    }
}

/// What OVN needs of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// This node.
    pub node: String,
    /// The nodes that hold the databases, in the order of the file.
    pub members: Vec<Member>,
    /// How they know each other.
    pub tls: Tls,
    /// Settings of ovn-controller, keys of `external_ids` (ovn-controller(8)).
    pub settings: BTreeMap<String, String>,
}

impl Want {
    /// This node, where it holds the databases.
    pub fn own(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.name == self.node)
    }

    /// The other holders.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.name != self.node)
    }

    /// Every holder of a database, as clients are told it.
    pub fn remotes(&self, side: Side) -> String {
        remotes(&self.members, side)
    }

    /// The holders by name, for messages.
    pub fn names(&self) -> String {
        self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn remotes(members: &[Member], side: Side) -> String {
    members.iter().map(|member| member.at(side.port())).collect::<Vec<_>>().join(",")
}

/// Reads the node's part of the file; `None` when the file has no zone.
pub fn want(view: &NodeView, root: &Path) -> Option<Want> {
    view.cluster.zones().next()?;
    let nodes = view.cluster.nodes.iter();
    let nodes: Vec<Member> =
        nodes.filter_map(|node| Some(Member { name: node.name.to_string(), address: node.ip()? })).collect();
    // Two would both be needed for a majority: one more machine to fail, and nothing gained.
    let count = if nodes.len() < MOST { 1 } else { MOST };
    let members: Vec<Member> = nodes.into_iter().take(count).collect();
    let settings = settings(view, &members);
    Some(Want { node: view.node.name.to_string(), members, tls: Tls::below(root), settings })
}

fn settings(view: &NodeView, members: &[Member]) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut put = |key: &str, value: String| settings.insert(key.to_string(), value);
    put("ovn-remote", remotes(members, Side::Sb));
    put("ovn-encap-type", "geneve".into());
    if let Some(address) = view.node.ip() {
        put("ovn-encap-ip", address.to_string());
    }
    let uplinks = || view.node.nics.iter().filter(|(_, nics)| !nics.is_empty()).map(|(uplink, _)| uplink);
    let list = |items: Vec<String>| items.join(",");
    let bridges = list(uplinks().map(|uplink| format!("{uplink}:{}", bridge_name(uplink))).collect());
    if !bridges.is_empty() {
        put("ovn-bridge-mappings", bridges);
        // What the distributed router sends into a VLAN must not come from the same address on every node.
        let macs = uplinks().map(|uplink| format!("{uplink}:{}", mac(view, uplink.as_str()))).collect();
        put("ovn-chassis-mac-mappings", list(macs));
    }
    settings
}

/// A locally administered MAC address of the node on an uplink: the same wherever it is asked for.
fn mac(view: &NodeView, uplink: &str) -> String {
    let seed = format!("chassis/{}/{}/{uplink}", view.cluster.name, view.node.name);
    let [a, b, c, d] = fnv(&seed).to_be_bytes();
    format!("02:51:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A file with so many nodes, and a zone.
    pub fn file(nodes: u8) -> String {
        let node = |number| {
            format!(
                "[[node]]\nname = \"node{number}\"\naddress = \"10.0.0.{number}\"\nnics.lan = [\"eth0\"]\n"
            )
        };
        let nodes: String = (1..=nodes).map(node).collect();
        format!(
            "schema = \"personal-cluster/1\"\nname = \"home\"\n{nodes}\
             [network.lan]\nuplink = \"lan\"\nsubnet = \"10.0.0.0/24\"\n\
             [network.web]\nuplink = \"lan\"\nvlan = 10\nsubnet = \"10.0.10.0/24\"\nrouter = \"10.0.10.1\"\n\
             gateway = \"cluster\"\n"
        )
    }

    /// The part of a node of such a file.
    pub fn wanted(file: &str, node: &str) -> Option<Want> {
        let cluster = cluster::parse("test", file).unwrap();
        want(&cluster.view(node).unwrap(), Path::new("/"))
    }

    #[test]
    fn one_holder_or_three_never_two() {
        let holders = |nodes| wanted(&file(nodes), "node1").unwrap().names();
        assert_eq!(holders(1), "node1");
        assert_eq!(holders(2), "node1");
        assert_eq!(holders(3), "node1, node2, node3");
        assert_eq!(holders(5), "node1, node2, node3");
        assert!(wanted(&file(5), "node4").unwrap().own().is_none());
    }

    #[test]
    fn ovn_controller_is_told_where_everything_is() {
        let want = wanted(&file(3), "node2").unwrap();
        // The MAC address is FNV-1a of "chassis/home/node2/lan", computed with Python.
        let expected = [
            ("ovn-bridge-mappings", "lan:br-lan"),
            ("ovn-chassis-mac-mappings", "lan:02:51:f7:96:31:ca"),
            ("ovn-encap-ip", "10.0.0.2"),
            ("ovn-encap-type", "geneve"),
            ("ovn-remote", "ssl:10.0.0.1:6642,ssl:10.0.0.2:6642,ssl:10.0.0.3:6642"),
        ];
        let found: Vec<(&str, &str)> =
            want.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!(want.tls.private_key, "/run/personal-cluster/secrets/node.key");
    }

    #[test]
    fn an_ipv6_address_is_written_in_brackets() {
        let member = Member { name: "node1".into(), address: "fd00::1".parse().unwrap() };
        assert_eq!(member.at(6641), "ssl:[fd00::1]:6641");
    }

    #[test]
    fn without_a_zone_nothing_is_wanted() {
        let plain = file(3).replace("gateway = \"cluster\"\n", "");
        assert_eq!(wanted(&plain, "node1"), None);
    }
}
