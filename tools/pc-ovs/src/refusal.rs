//! What a plan will not do, and what to do about it. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::claims::Claim;
use crate::model::{Bridge, Have};
use crate::plan::{claims_on, occupied};
use crate::want::{HostAddress, Want, nics_of};

/// An uplink that is left alone, with the reason and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The uplink.
    pub uplink: String,
    /// What is wrong.
    pub fault: String,
    /// The next thing to do.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.fault, self.remedy)
    }
}

/// Everything that stands in the way, uplink by uplink.
pub fn refusals(want: &Want, have: &Have, take_over: bool) -> Vec<Refusal> {
    want.bridges.iter().flat_map(|bridge| of_uplink(want, bridge, have, take_over)).collect()
}

fn of_uplink(want: &Want, bridge: &Bridge, have: &Have, take_over: bool) -> Vec<Refusal> {
    let refusal = |fault: String, remedy: String| Refusal { uplink: bridge.uplink.clone(), fault, remedy };
    let mut found = foreign_rows(bridge, have, &refusal);
    // Open vSwitch knows a device by one name only.
    for nic in nics_of(bridge).filter(|nic| !have.links.contains_key(*nic)) {
        let known = have.links.iter().find(|(_, link)| link.other_names.iter().any(|other| other == nic));
        if let Some((real, _)) = known {
            let remedy = format!("write {real} in nics.{}", bridge.uplink);
            found.push(refusal(format!("{nic} is another name of {real}"), remedy));
        }
    }
    for claim in claims_on(bridge, have) {
        if let Some(by_hand) = &claim.by_hand {
            found.push(refusal(claim.to_string(), by_hand.clone()));
        } else if !take_over {
            found.push(refusal(claim.to_string(), take_over_hint(claim)));
        }
    }
    if occupied(bridge, have) && !take_over && found.is_empty() {
        for nic in nics_of(bridge) {
            let addresses = have.links.get(nic).map(|link| link.addresses.join(", ")).unwrap_or_default();
            if !addresses.is_empty() {
                let remedy =
                    "to move what the file names and drop the rest: pc-ovs apply --take-over --confirm 60s";
                found.push(refusal(
                    format!("{nic} has the address {addresses}, though no file says why"),
                    remedy.into(),
                ));
            }
        }
    }
    found.extend(lost_address(want, bridge, have, &refusal));
    found.extend(lost_router(want, bridge, have, &refusal));
    found
}

fn take_over_hint(claim: &Claim) -> String {
    format!("remove it there, or: pc-ovs apply --take-over --confirm 60s (keeps a copy of {})", claim.file)
}

/// Rows of someone else that have our names.
fn foreign_rows(bridge: &Bridge, have: &Have, refusal: &dyn Fn(String, String) -> Refusal) -> Vec<Refusal> {
    let mut found = Vec::new();
    if have.bridge(&bridge.name).is_some_and(|have| !have.ours) {
        found.push(refusal(
            format!("bridge {} exists and is not ours", bridge.name),
            format!(
                "remove it (ovs-vsctl del-br {0}), or hand it over: ovs-vsctl br-set-external-id {0} personal-cluster {1}",
                bridge.name, bridge.uplink
            ),
        ));
    }
    for nic in nics_of(bridge) {
        for other in &have.bridges {
            let uses = |(port, interfaces): (&String, &Vec<String>)| {
                interfaces.iter().any(|interface| interface == nic).then(|| port.clone())
            };
            if let Some(port) = other.foreign.iter().find_map(uses) {
                let name = &other.bridge.name;
                found.push(refusal(
                    format!("{nic} is in port {port} of bridge {name}, which is not ours"),
                    format!("take it out: ovs-vsctl del-port {name} {port}"),
                ));
            }
        }
    }
    found
}

/// The node's address would vanish: no network of the file says that it lives on this uplink, or it lives on a
/// device that the file does not have.
fn lost_address(
    want: &Want,
    bridge: &Bridge,
    have: &Have,
    refusal: &dyn Fn(String, String) -> Refusal,
) -> Option<Refusal> {
    let node = want.node_address?;
    let holds = |addresses: &[String]| addresses.iter().any(|one| ip(one) == Some(node));
    let mut holders = have.links.iter().filter(|(_, link)| holds(&link.addresses)).map(|(device, _)| device);
    let mine = |device: &str| nics_of(bridge).any(|nic| nic == device);
    let Some(host) = want.host.as_ref().filter(|host| host.bridge == bridge.name) else {
        let device = holders.find(|device| mine(device))?;
        return Some(refusal(
            format!(
                "{device} carries this node's address {node}, and no network of uplink {} says so",
                bridge.uplink
            ),
            format!("add the subnet of {node} to the network of uplink {}", bridge.uplink),
        ));
    };
    let device = holders.find(|device| !is_known(device, want, have))?;
    Some(refusal(
        format!("this node's address {node} is on {device}, which no nics of the file name"),
        format!("name {device} in nics.{}, or give network {} another subnet", bridge.uplink, host.network),
    ))
}

/// A device of the file, or a port that we made for an earlier one.
fn is_known(device: &str, want: &Want, have: &Have) -> bool {
    let ours = have.bridges.iter().flat_map(|have| &have.bridge.ports).flat_map(|port| &port.interfaces);
    want.devices().iter().any(|one| one == device)
        || ours.into_iter().any(|interface| interface.name == device)
}

/// The default route leads through a NIC of this uplink, and the file names no router: it would be lost.
fn lost_router(
    want: &Want,
    bridge: &Bridge,
    have: &Have,
    refusal: &dyn Fn(String, String) -> Refusal,
) -> Option<Refusal> {
    let host: Option<&HostAddress> = want.host.as_ref();
    let mine = |device: &str| nics_of(bridge).any(|nic| nic == device);
    let route = have.routes.iter().find(|route| route.destination == "default" && mine(&route.interface))?;
    let router = route.router?;
    if host.is_some_and(|host| host.router.is_some_and(|wanted| wanted.is_ipv4() == router.is_ipv4())) {
        return None;
    }
    // Without an IPv6 host address an IPv6 default route from this uplink has nothing to serve.
    let network = host.filter(|host| host.bridge == bridge.name).map(|host| host.network.clone());
    if router.is_ipv6() && host.is_some_and(|host| ip(&host.address).is_some_and(|address| address.is_ipv4()))
    {
        return None;
    }
    let network = network.unwrap_or_else(|| "NAME".into());
    Some(refusal(
        format!(
            "{} carries the default route through {router}, and the file names no router",
            route.interface
        ),
        format!("add router = \"{router}\" to [network.{network}]"),
    ))
}

/// The address without its prefix length.
pub fn ip(address: &str) -> Option<IpAddr> {
    address.split('/').next()?.parse().ok()
}
