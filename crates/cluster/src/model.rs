//! What the cluster file says, section by section. Every section is optional; a tool reads only its own.
//!
//! The JSON Schema comes out of these types and the loader walks it, so that a key is added here and nowhere
//! else; the examples are what a faulty file is told to write.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::guests::*;
pub use crate::hardware::*;
use crate::names::{DevicePath, Name};
use crate::units::Bytes;

/// The only version of the file's grammar so far.
pub const SCHEMA: &str = "personal-cluster/1";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// `personal-cluster/1`.
    #[schemars(example = SCHEMA)]
    pub schema: String,
    /// The cluster's name: a DNS label.
    #[schemars(example = &"home")]
    pub name: Name,
    /// DNS domain of nodes and VMs; `home.arpa` (RFC 8375) when absent.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// How disks and secrets open themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlock: Option<Unlock>,
    /// The machines, in the order of the file: the first one leads where one must.
    #[serde(default, rename = "node", skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// Storage volumes.
    #[serde(default, rename = "volume", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<Name, Volume>,
    /// Networks.
    #[serde(default, rename = "network", skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<Name, Network>,
    /// What may talk to what across networks.
    #[serde(default, rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Base images for VMs' disks.
    #[serde(default, rename = "image", skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<Name, Image>,
    /// Virtual machines.
    #[serde(default, rename = "vm", skip_serializing_if = "BTreeMap::is_empty")]
    pub vms: BTreeMap<Name, Vm>,
    /// Backup targets.
    #[serde(default, rename = "backup", skip_serializing_if = "BTreeMap::is_empty")]
    pub backups: BTreeMap<Name, Backup>,
    /// High availability; absent: VMs start on their home node only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ha: Option<Ha>,
    /// Who may ask the nodes for their metrics, and how; absent: everybody who reaches the port, in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exporter: Option<Exporter>,
    /// Who is told when something is wrong; absent: nobody, alerts are only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
}

fn default_domain() -> String {
    "home.arpa".into()
}

/// `[unlock]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// How many of the servers must answer; 1 when absent. 2 or more: Shamir's secret sharing (clevis sss).
    #[serde(default = "one")]
    #[schemars(example = 1)]
    pub threshold: u8,
    /// The Tang servers.
    #[serde(default)]
    pub tang: Vec<Tang>,
}

fn one() -> u8 {
    1
}

/// One Tang server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tang {
    /// `http://address[:port][/path]`.
    #[schemars(example = &"http://192.168.0.2")]
    pub url: String,
    /// Thumbprint of a signing key (RFC 7638, S256); `pc-unlock adv URL` prints it.
    #[schemars(example = &"oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs")]
    pub thumbprint: String,
}

/// `[[node]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Host name.
    #[schemars(example = &"node1")]
    pub name: Name,
    /// Address of the node on the network that carries node traffic, optionally with its prefix length
    /// (`192.168.0.50/24`).
    #[schemars(example = &"192.168.0.50")]
    pub address: String,
    /// Memory of the machine, for the check that VMs fit; what the machine really has when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Disks by volume; one brick per disk.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disks: BTreeMap<Name, Vec<DevicePath>>,
    /// Network cards by uplink; two names make a bond.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nics: BTreeMap<Name, Vec<String>>,
    /// Failure domain: which power source feeds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Failure domain: which switch connects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// Failure domain: where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

/// `[exporter]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exporter {
    /// Metrics and page over TLS only, with the node's own certificate, for which the cluster's CA vouches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Only to who shows the token that is sealed as `exporter.token`. Wants `tls`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token: bool,
}

/// An example for the schema.
const SOMEBODY: [&str; 1] = ["me@example.org"];

/// `[monitor]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// Who gets alerts by mail.
    #[schemars(example = SOMEBODY)]
    pub mail: Vec<String>,
    /// The mail server that takes them, over TLS: `host:port`. When absent the one of the machine that watches, `localhost:25`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"mail.example.org:587")]
    pub smarthost: Option<String>,
    /// The sender; the first of `mail` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who logs in at the smarthost, with the password in /etc/personal-cluster/monitor/smtp.password; nobody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Replicated, tuned for VM images.
    Vm,
    /// Replicated, for backup repositories.
    Backup,
    /// Not replicated: one disk per node, for guests that replicate themselves.
    Local,
}

/// `[volume.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// What it is for.
    #[schemars(example = &"vm")]
    #[serde(rename = "use")]
    pub purpose: Use,
    /// Copies of every file; 3 when absent (1 for `use = "local"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub replicas: Option<u8>,
    /// With two replicas: the third brick of each set holds names and sizes only, against split-brain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arbiter: bool,
}

impl Volume {
    /// Copies of every file, the default filled in.
    pub fn replicas(&self) -> u8 {
        self.replicas.unwrap_or(if self.purpose == Use::Local { 1 } else { 3 })
    }
}

/// `[network.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Which of the nodes' `nics` it leaves through.
    #[schemars(example = &"lan")]
    pub uplink: Name,
    /// 802.1Q tag, 1 to 4094; untagged when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 20, range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// `192.168.0.0/24`. The network whose subnet holds the nodes' addresses carries node traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Default router of the nodes, on the network that carries node traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<IpAddr>,
    /// Largest frame, in bytes, 1280 to 9216; 1500 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 9000, range(min = 1280, max = 9216))]
    pub mtu: Option<u16>,
    /// What routes it, as a zone of OVN: `cluster` (OVN itself), `vm:NAME` or `external`. A plain VLAN when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"cluster")]
    pub gateway: Option<String>,
    /// IPv6 prefix of a zone, a /64: the addresses of its VMs are made of their MAC addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"fd00:20::/64")]
    pub subnet6: Option<String>,
    /// On a zone: DHCP for its VMs; true when absent.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub dhcp: bool,
    /// On a zone: its VMs cannot reach each other either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_true(truth: &bool) -> bool {
    *truth
}

/// `[[route]]`: everything that is not named stays closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `network:NAME`, `vm:NAME` or `any`.
    #[schemars(example = &"network:lan")]
    pub from: String,
    /// `network:NAME`, `vm:NAME` or `any`.
    #[schemars(example = &"vm:mail")]
    pub to: String,
    /// `tcp/25`, `udp/53`, `tcp/8000-8010`, `icmp`; every port when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}
