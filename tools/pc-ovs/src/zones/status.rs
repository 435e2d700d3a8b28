//! `pc-ovs zones status`: what OVN has of the file's zones.

use std::fmt;

use cluster::{Cluster, identity};
use serde::Serialize;

use super::north::North;
use super::plan::{Have, Planned};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `pc.ovs.zones.status/1`.
    pub schema: &'static str,
    /// The node that was asked.
    pub node: String,
    /// Nothing is wrong.
    pub healthy: bool,
    /// OVN has the zones as the file has them.
    pub converged: bool,
    /// What is wrong, for people.
    pub errors: Vec<String>,
    /// The zones of the file.
    pub zones: Vec<Zone>,
}

/// One zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Zone {
    /// The network.
    pub name: String,
    /// As the file has it.
    pub gateway: String,
    /// VMs do not reach each other either.
    pub isolated: bool,
    /// Subnets of both families.
    pub subnets: Vec<String>,
    /// Network cards of VMs.
    pub ports: Vec<Port>,
}

/// The network card of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The VM.
    pub vm: String,
    /// Name of the logical switch port, `external_ids:iface-id` of the interface.
    pub name: String,
    /// MAC address, and the IP addresses it may use; empty while OVN does not know the port.
    pub addresses: Vec<String>,
    /// Plugged in on a node that has an ovn-controller.
    pub up: bool,
}

/// Puts it together; `north` is absent where there is no OVN.
pub fn status(
    node: &str,
    cluster: &Cluster,
    north: Option<&North>,
    have: &Have,
    planned: &Planned,
) -> Status {
    let mut errors = planned.refusals.clone();
    let (asked, done) = north.map(North::translated).unwrap_or_default();
    if done < asked {
        errors.push(format!("ovn-northd has translated change {done} of {asked}"));
    }
    let zones: Vec<Zone> = cluster
        .zones()
        .map(|(name, network)| Zone {
            name: name.to_string(),
            gateway: network.gateway.clone().unwrap_or_default(),
            isolated: network.isolated,
            subnets: network.nets().iter().map(ToString::to_string).collect(),
            ports: cluster
                .guests_of(name)
                .map(|(vm, _)| {
                    let found = have.rows.get(&format!("zone/{name}/vm/{vm}"));
                    let addresses = found.and_then(|found| found.row.words_of("addresses").next());
                    Port {
                        vm: vm.to_string(),
                        name: identity::interface_id(&cluster.name, vm, name),
                        addresses: addresses
                            .into_iter()
                            .flat_map(str::split_whitespace)
                            .map(Into::into)
                            .collect(),
                        up: found.zip(north).is_some_and(|(found, north)| north.is_up(&found.uuid)),
                    }
                })
                .collect(),
        })
        .collect();
    if north.is_none() && !zones.is_empty() {
        errors.push(super::MISSING.lines().next().unwrap_or_default().into());
    }
    let converged = planned.steps.is_empty() && planned.refusals.is_empty();
    let schema = "pc.ovs.zones.status/1";
    Status { schema, node: node.into(), healthy: errors.is_empty(), converged, errors, zones }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "wrong: {error}")?;
        }
        for zone in &self.zones {
            let isolated = if zone.isolated { ", isolated" } else { "" };
            writeln!(f, "{} ({}{isolated}): {}", zone.name, zone.gateway, zone.subnets.join(", "))?;
            for port in &zone.ports {
                let state = if port.up { "plugged in" } else { "not plugged in" };
                writeln!(f, "    {}  {}  {state}", port.vm, port.addresses.join(" "))?;
            }
        }
        match (self.zones.is_empty(), self.converged) {
            (true, true) => writeln!(f, "no network of the file is a zone"),
            (false, true) => Ok(()),
            (_, false) => writeln!(f, "differs from the file: pc-ovs zones plan"),
        }
    }
}
