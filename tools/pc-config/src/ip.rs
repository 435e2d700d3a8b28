//! All calls of ip(8): which network cards there are, and which of them carries this machine's address.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

const DEADLINE: Duration = Duration::from_secs(30);

/// A network card (no bridge, bond, VLAN or tunnel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// `enp3s0`.
    pub name: String,
    /// Whether a cable is in it and something at its other end.
    pub carrier: bool,
    /// Largest frame.
    pub mtu_bytes: u16,
}

/// What was found out about the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Net {
    /// All network cards.
    pub nics: Vec<Nic>,
    /// The interface towards the default router, with its address and the router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
}

/// The address that other machines know this one by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Own {
    /// The interface that has it.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Whether it is lent by a DHCP server.
    pub from_dhcp: bool,
    /// The default router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default, rename = "link_type")]
    kind: String,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    linkinfo: Option<LinkInfo>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

/// What the kernel made the link of; a card that is part of a bridge only has an `info_slave_kind`.
#[derive(Debug, Deserialize)]
struct LinkInfo {
    #[serde(default)]
    info_kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Address {
    family: String,
    local: IpAddr,
    prefixlen: u8,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    dynamic: bool,
}

#[derive(Debug, Deserialize)]
struct Route {
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    dev: String,
}

/// Asks the kernel.
pub fn net() -> Result<Net> {
    let sh = Shell::new()?;
    let links = pc_run::run(cmd!(sh, "ip -json -details address show")).deadline(DEADLINE).read()?;
    let routes = pc_run::run(cmd!(sh, "ip -json route show default")).deadline(DEADLINE).read()?;
    read(&links, &routes)
}

/// Reads ip's JSON. The first default route is the preferred one.
fn read(links: &str, ways: &str) -> Result<Net> {
    let links: Vec<Link> = serde_json::from_str(links).context("reading the answer of ip address")?;
    // Without any route, ip prints nothing at all.
    let ways = if ways.trim().is_empty() { "[]" } else { ways };
    let ways: Vec<Route> = serde_json::from_str(ways).context("reading the answer of ip route")?;
    let route = ways.into_iter().find(|route| route.gateway.is_some());
    let router = route.as_ref().and_then(|route| route.gateway);
    let towards_router = route.and_then(|route| links.iter().find(|link| link.ifname == route.dev));
    let with_address = || links.iter().find(|link| usable(link).is_some());
    let own = towards_router.or_else(with_address).and_then(|link| {
        usable(link).map(|address| Own {
            interface: link.ifname.clone(),
            address: address.local,
            prefix_length: address.prefixlen,
            from_dhcp: address.dynamic,
            router,
        })
    });
    let is_card = |link: &&Link| link.kind == "ether" && !link.is_virtual();
    let nic = |link: &Link| Nic {
        name: link.ifname.clone(),
        carrier: link.flags.iter().any(|flag| flag == "LOWER_UP"),
        mtu_bytes: u16::try_from(link.mtu).unwrap_or(u16::MAX),
    };
    Ok(Net { nics: links.iter().filter(is_card).map(nic).collect(), own })
}

impl Link {
    /// A bridge, bond, VLAN, tunnel or the like.
    fn is_virtual(&self) -> bool {
        self.linkinfo.as_ref().is_some_and(|info| info.info_kind.is_some())
    }
}

/// The address of a link that other machines can use.
fn usable(link: &Link) -> Option<&Address> {
    let addresses = || link.addr_info.iter().filter(|address| address.scope == "global");
    addresses().find(|address| address.family == "inet").or_else(|| addresses().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_machine_reads() {
        let routes = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]}]"#;
        let net = read(include_str!("../tests/ip/addr.json"), routes).unwrap();
        assert_eq!(net.nics, [Nic { name: "eth0".into(), carrier: true, mtu_bytes: 1400 }]);
        let own = net.own.unwrap();
        assert_eq!((own.interface.as_str(), own.prefix_length, own.from_dhcp), ("eth0", 24, false));
        assert_eq!(
            (own.address.to_string(), own.router.unwrap().to_string()),
            ("192.0.2.2".into(), "192.0.2.1".into())
        );
        let alone = read(include_str!("../tests/ip/addr.json"), "").unwrap().own.unwrap();
        assert_eq!((alone.interface.as_str(), alone.router), ("eth0", None));
    }

    #[test]
    fn virtual_links_are_no_cards() {
        let links = r#"[
            {"ifname":"enp1s0","flags":["UP"],"link_type":"ether","mtu":1500,"parentbus":"pci",
             "master":"ovs-system","linkinfo":{"info_slave_kind":"openvswitch"}},
            {"ifname":"br0","flags":["UP","LOWER_UP"],"link_type":"ether","mtu":1500,"linkinfo":{"info_kind":"bridge"},
             "addr_info":[{"family":"inet","local":"10.0.0.5","prefixlen":16,"scope":"global","dynamic":true}]}]"#;
        let net = read(links, "[]").unwrap();
        assert_eq!(net.nics, [Nic { name: "enp1s0".into(), carrier: false, mtu_bytes: 1500 }]);
        let own = net.own.unwrap();
        assert!(own.from_dhcp && own.interface == "br0");
    }
}
