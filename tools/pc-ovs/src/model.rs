//! The node's network as data: what is wanted and what is there, in the same words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::claims::Claim;

/// Key in `external_ids` of every row that is ours; its value is the uplink.
pub const OWNER: &str = "personal-cluster";
/// Key in `external_ids` of an interface: the address that we gave it, so that we take back only that one.
pub const ADDRESS: &str = "personal-cluster-address";

/// One bridge per uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// `br-<uplink>`.
    pub name: String,
    /// The uplink of the cluster file.
    pub uplink: String,
    /// MAC address: that of the first NIC, so that DHCP leases and neighbours' tables stay true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hwaddr: Option<String>,
    /// `standalone`: it forwards without a controller.
    pub fail_mode: String,
    /// Empty for the kernel's datapath, `netdev` for the userspace one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datapath: String,
    /// Ours only: the bridge's own port first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// One port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// That of its interface, or `bond-<uplink>`.
    pub name: String,
    /// 802.1Q tag of an access port; a trunk when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<u16>,
    /// How two NICs share the work: `active-backup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond_mode: Option<String>,
    /// One, or the members of a bond.
    pub interfaces: Vec<Interface>,
}

/// One interface of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interface {
    /// Name of the network device.
    pub name: String,
    /// Made by Open vSwitch for the host's own use; otherwise a NIC.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// MAC address of an internal one that is not the bridge's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Largest frame; the device's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u16>,
    /// The host address that belongs here, with prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A bridge that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaveBridge {
    /// The row is marked as ours.
    pub ours: bool,
    /// What it is; `ports` holds only ports that are ours.
    #[serde(flatten)]
    pub bridge: Bridge,
    /// Other ports (of VMs, or anyone's) with their interfaces. Not part of what a plan depends on: VMs come and go.
    #[serde(skip)]
    pub foreign: BTreeMap<String, Vec<String>>,
}

impl HaveBridge {
    /// Our port of that name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.bridge.ports.iter().find(|port| port.name == name)
    }
}

/// One network device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its permanent MAC address, else the present one.
    pub mac: String,
    /// Administratively up.
    pub up: bool,
    /// Addresses with prefix length that somebody gave it: neither link-local nor from router advertisements.
    pub addresses: Vec<String>,
    /// Other names that udev gave it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<String>,
    /// It has a carrier. Comes and goes: a plan does not depend on it.
    #[serde(skip)]
    pub carrier: bool,
    /// Addresses the kernel made out of router advertisements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertised: Vec<String>,
}

/// One route of the main table that somebody made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `default`, or a prefix.
    pub destination: String,
    /// The router; none for an on-link route.
    pub router: Option<IpAddr>,
    /// The device.
    pub interface: String,
    /// Its metric, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Made by us (by its protocol number).
    pub ours: bool,
}

/// Everything a plan is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// All bridges of the switch, by name.
    pub bridges: Vec<HaveBridge>,
    /// Devices of the host that matter here.
    pub links: BTreeMap<String, Link>,
    /// Routes that matter here.
    pub routes: Vec<Route>,
    /// What else configures our devices.
    pub claims: Vec<Claim>,
}

impl Have {
    /// The bridge of that name.
    pub fn bridge(&self, name: &str) -> Option<&HaveBridge> {
        self.bridges.iter().find(|have| have.bridge.name == name)
    }
}
