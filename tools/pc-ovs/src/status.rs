//! `pc-ovs status`: what is there, what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use cluster::NodeView;
use pc_cli::log;
use serde::Serialize;

use crate::claims::Claim;
use crate::counters::{self, Counters};
use crate::host::Host;
use crate::model::{Have, OWNER};
use crate::plan::plan;
use crate::record::Record;
use crate::switch::{Switch, fault};
use crate::want::Want;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `pc.ovs.status/1`.
    pub schema: &'static str,
    /// The node.
    pub node: String,
    /// Nothing is wrong.
    pub healthy: bool,
    /// The node is as the file has it.
    pub converged: bool,
    /// What is wrong, for people.
    pub errors: Vec<String>,
    /// Bridges of ours.
    pub bridges: Vec<Bridge>,
    /// The node's own address, when it lives on one of these bridges.
    pub host: Option<HostAddress>,
    /// What else configures our devices.
    pub claims: Vec<Claim>,
    /// A change that nobody has confirmed yet.
    pub probation: Option<Probation>,
}

/// One bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bridge {
    /// `br-<uplink>`.
    pub name: String,
    /// The uplink.
    pub uplink: String,
    /// All ports, VMs' ones included.
    pub ports: Vec<Port>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Made by us.
    pub ours: bool,
    /// 802.1Q tag.
    pub vlan: Option<i64>,
    /// Which member of an active-backup bond carries traffic (its MAC address).
    pub active: Option<String>,
    /// One, or the members of a bond.
    pub interfaces: Vec<Interface>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// It has a carrier.
    pub link_up: bool,
    /// MAC address in use.
    pub mac: Option<String>,
    /// Largest frame.
    pub mtu_bytes: Option<i64>,
    /// `OpenFlow` port number; -1 when it could not be made.
    pub ofport: Option<i64>,
    /// What the datapath could not do.
    pub error: Option<String>,
    /// Packets that did not get through since it was made.
    #[serde(flatten)]
    pub counters: Counters,
}

/// The node's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostAddress {
    /// The internal port it belongs on.
    pub interface: String,
    /// With prefix length.
    pub address: String,
    /// It is there.
    pub present: bool,
    /// Default router.
    pub router: Option<String>,
    /// The default route is there.
    pub route_present: bool,
}

/// A change that nobody has confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probation {
    /// When it began.
    pub started: String,
    /// When it rolls back by itself.
    pub until: Option<String>,
    /// Everything has been carried out.
    pub complete: bool,
}

/// Looks at everything that was not `seen` just now. A switch that does not answer is an answer.
pub fn status(host: &Host, view: &NodeView, want: &Want, seen: Option<&(Switch, Have)>) -> Result<Status> {
    let probation = Record::open(host)?.map(|record| Probation {
        started: record.started,
        until: record.until,
        complete: record.complete,
    });
    let mut status = Status {
        schema: "pc.ovs.status/1",
        node: view.node.name.to_string(),
        healthy: false,
        converged: false,
        errors: Vec::new(),
        bridges: Vec::new(),
        host: None,
        claims: Vec::new(),
        probation,
    };
    if let Some((switch, have)) = seen {
        fill(&mut status, host, (switch, have), want);
        status.healthy = status.errors.is_empty();
        return Ok(status);
    }
    match Switch::open(&host.socket()) {
        Ok(switch) => {
            let have = host.have(&switch, want)?;
            fill(&mut status, host, (&switch, &have), want);
        }
        Err(error) => status.errors.push(format!("{error:#}").lines().next().unwrap_or_default().to_string()),
    }
    status.healthy = status.errors.is_empty();
    Ok(status)
}

fn fill(status: &mut Status, host: &Host, (switch, have): (&Switch, &Have), want: &Want) {
    // All else is known without them.
    let counters = counters::read(&host.socket()).unwrap_or_else(|error| {
        log::warning(format_args!("what ports have dropped is not known: {error}"));
        BTreeMap::new()
    });
    let planned = plan(want, have, false);
    status.converged = planned.steps.is_empty() && planned.refusals.is_empty();
    status.errors.extend(planned.refusals.iter().map(|refusal| refusal.fault.clone()));
    status.bridges = bridges(switch, &counters);
    status.claims.clone_from(&have.claims);
    status.errors.extend(switch.errors().into_iter().map(|(name, error)| format!("{name}: {error}")));
    status.errors.extend(dark_uplinks(status, want));
    let Some(host) = &want.host else { return };
    let router = host.router.map(|router| router.to_string());
    let present = have.links.get(&host.interface).is_some_and(|link| link.addresses.contains(&host.address));
    let route_present = router.is_some()
        && have.routes.iter().any(|route| {
            route.destination == "default" && route.interface == host.interface && route.router == host.router
        });
    if !present {
        status.errors.push(format!("{} lacks its address {}", host.interface, host.address));
    }
    if present && router.is_some() && !route_present {
        status
            .errors
            .push(format!("the default route through {} is missing", router.clone().unwrap_or_default()));
    }
    status.host = Some(HostAddress {
        interface: host.interface.clone(),
        address: host.address.clone(),
        present,
        router,
        route_present,
    });
}

/// Uplinks without a carrier on any NIC.
fn dark_uplinks(status: &Status, want: &Want) -> Vec<String> {
    let mut dark = Vec::new();
    for bridge in &status.bridges {
        let nics = want.nics();
        let members: Vec<&Interface> = bridge
            .ports
            .iter()
            .flat_map(|port| &port.interfaces)
            .filter(|interface| nics.contains_key(interface.name.as_str()))
            .collect();
        if !members.is_empty() && members.iter().all(|member| !member.link_up && member.error.is_none()) {
            dark.push(format!("uplink {} has no link", bridge.uplink));
        }
    }
    dark
}

fn bridges(switch: &Switch, counters: &BTreeMap<String, Counters>) -> Vec<Bridge> {
    let replica = &switch.replica;
    let mut found = Vec::new();
    for (_, row) in replica.rows("Bridge") {
        let (Some(name), Some(uplink)) = (row.text("name"), row.key("external_ids", OWNER)) else { continue };
        let rows = row.references("ports").into_iter().filter_map(|uuid| replica.row("Port", uuid));
        let mut ports: Vec<Port> = rows
            .map(|port| Port {
                name: port.text("name").unwrap_or_default().into(),
                ours: port.key("external_ids", OWNER).is_some(),
                vlan: port.number("tag"),
                active: port.text("bond_active_slave").filter(|mac| !mac.is_empty()).map(str::to_string),
                interfaces: interfaces(switch, &port.references("interfaces"), counters),
            })
            .collect();
        ports.sort_by(|one, other| one.name.cmp(&other.name));
        found.push(Bridge { name: name.into(), uplink: uplink.into(), ports });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn interfaces(switch: &Switch, uuids: &[&str], counters: &BTreeMap<String, Counters>) -> Vec<Interface> {
    let rows = uuids.iter().filter_map(|uuid| switch.replica.row("Interface", uuid));
    let mut found: Vec<Interface> = rows
        .map(|row| Interface {
            name: row.text("name").unwrap_or_default().into(),
            link_up: row.text("link_state") == Some("up"),
            mac: row.text("mac_in_use").map(str::to_string),
            mtu_bytes: row.number("mtu"),
            ofport: row.number("ofport"),
            error: fault(row),
            counters: row.text("name").and_then(|name| counters.get(name)).copied().unwrap_or_default(),
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bridge in &self.bridges {
            writeln!(f, "{} (uplink {})", bridge.name, bridge.uplink)?;
            for port in &bridge.ports {
                let vlan = port.vlan.map_or(String::new(), |vlan| format!(" vlan {vlan}"));
                let whose = if port.ours { "" } else { " (not ours)" };
                let links = port.interfaces.iter().map(|interface| {
                    format!("{} {}", interface.name, if interface.link_up { "up" } else { "down" })
                });
                writeln!(f, "  {}{vlan}{whose}: {}", port.name, links.collect::<Vec<_>>().join(", "))?;
            }
        }
        if let Some(host) = &self.host {
            let state = if host.present { "" } else { " MISSING" };
            writeln!(f, "address {} on {}{state}", host.address, host.interface)?;
            if let Some(router) = &host.router {
                let state = if host.route_present { "" } else { " MISSING" };
                writeln!(f, "default route through {router}{state}")?;
            }
        }
        if let Some(probation) = &self.probation {
            let until = probation.until.as_deref().unwrap_or("somebody decides");
            writeln!(
                f,
                "on probation since {} until {until}: pc-ovs confirm, or pc-ovs rollback",
                probation.started
            )?;
        }
        self.errors.iter().try_for_each(|error| writeln!(f, "error: {error}"))
    }
}
