//! What a plan will not do, and what to do about it. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::claims::Claim;
use crate::model::{Bridge, Have, HaveBridge};
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
    /// It may end by itself, so a boot asks again.
    pub waits: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.fault, self.remedy)
    }
}

/// Everything that stands in the way, uplink by uplink.
pub fn refusals(want: &Want, have: &Have, take_over: bool) -> Vec<Refusal> {
    let of_one = |bridge| {
        let found = of_uplink(want, bridge, have, take_over);
        if found.is_empty() { without_a_nic(want, bridge, have) } else { found }
    };
    let mut found: Vec<Refusal> = want.bridges.iter().flat_map(of_one).collect();
    while let Some(next) = want.bridges.iter().find_map(|bridge| held(bridge, have, &found)) {
        found.push(next);
    }
    found
}

fn of_uplink(want: &Want, bridge: &Bridge, have: &Have, take_over: bool) -> Vec<Refusal> {
    let refusal = |fault: String, remedy: String| Refusal {
        uplink: bridge.uplink.clone(),
        fault,
        remedy,
        waits: false,
    };
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

/// The uplink works today, and through none of the NICs of the file, as no such NIC is there: a name that is wrong, which
/// nobody may be there to correct, or a NIC that is late, which is added as soon as it comes.
fn without_a_nic(want: &Want, bridge: &Bridge, have: &Have) -> Vec<Refusal> {
    if nics_of(bridge).any(|nic| have.links.contains_key(nic)) {
        return Vec::new();
    }
    let wanted = nics_of(bridge).collect::<Vec<_>>().join(", ");
    let carries = want.host.as_ref().is_some_and(|host| host.bridge == bridge.name);
    // Under a new name of the uplink the node's address comes from a bridge that would go.
    let before = |old: &&HaveBridge| {
        let goes = want.bridges.iter().all(|bridge| bridge.name != old.bridge.name);
        old.ours && (old.bridge.name == bridge.name || carries && goes)
    };
    let mut found = Vec::new();
    for old in have.bridges.iter().filter(before).map(|old| &old.bridge) {
        let works: Vec<&str> = nics_of(old).filter(|nic| have.links.contains_key(*nic)).collect();
        if works.is_empty() {
            continue;
        }
        let fault = format!("{wanted} is not there, and bridge {} keeps {}", old.name, works.join(", "));
        let remedy = format!("write in nics.{} what `ip -brief link` shows, or plug it in", bridge.uplink);
        let both = [&bridge.uplink, &old.uplink];
        for uplink in &both[..if bridge.uplink == old.uplink { 1 } else { 2 }] {
            let (fault, remedy) = (fault.clone(), remedy.clone());
            found.push(Refusal { uplink: (*uplink).clone(), fault, remedy, waits: true });
        }
    }
    found
}

/// A NIC of this uplink is in a bridge that is left alone.
fn held(bridge: &Bridge, have: &Have, found: &[Refusal]) -> Option<Refusal> {
    let left = |uplink: &str| found.iter().find(|refusal| refusal.uplink == uplink);
    if left(&bridge.uplink).is_some() {
        return None;
    }
    let others = have.bridges.iter().filter(|old| old.ours && old.bridge.name != bridge.name);
    others.map(|old| &old.bridge).find_map(|old| {
        let nic = nics_of(bridge).find(|nic| nics_of(old).any(|other| other == *nic))?;
        Some(Refusal {
            uplink: bridge.uplink.clone(),
            fault: format!("{nic} is in bridge {}, which is left alone", old.name),
            remedy: format!("correct uplink {} first", old.uplink),
            waits: left(&old.uplink)?.waits,
        })
    })
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
