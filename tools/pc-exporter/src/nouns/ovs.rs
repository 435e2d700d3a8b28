//! pc-ovs: bridges, ports, links, bonds and the node's own address.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_ovs_healthy" [] "1 when pc-ovs knows of no error.";
    CONVERGED: Gauge "pc_ovs_converged" [] "1 when bridges and addresses are as the file has them.";
    ERRORS: Gauge "pc_ovs_errors" [] "What is wrong with the networks, counted; pc-ovs status says it in words.";
    CLAIMS: Gauge "pc_ovs_claims" [] "Devices of ours that another program configures, too.";
    PROBATION: Gauge "pc_ovs_probation" [] "1 while a change waits for its confirmation and would be taken back.";
    ADDRESS: Gauge "pc_ovs_host_address_present" ["interface"] "1 when the node has its address.";
    ROUTE: Gauge "pc_ovs_host_route_present" ["interface"] "1 when the node has its default route.";
    LINK: Gauge "pc_ovs_interface_link_up" ["bridge", "port", "interface"] "1 when the interface has a link.";
    ERROR: Gauge "pc_ovs_interface_error" ["bridge", "port", "interface"] "1 when the datapath could not make the interface, or says that it is in error.";
    MTU: Gauge "pc_ovs_interface_mtu_bytes" ["bridge", "port", "interface"] "Largest frame of the interface.";
    RECEIVE_DROPPED: Counter "pc_ovs_interface_receive_dropped_packets_total" ["bridge", "port", "interface"] "Packets that the interface has dropped on the way in.";
    TRANSMIT_DROPPED: Counter "pc_ovs_interface_transmit_dropped_packets_total" ["bridge", "port", "interface"] "Packets that the interface has dropped on the way out.";
    RECEIVE_ERRORS: Counter "pc_ovs_interface_receive_errors_total" ["bridge", "port", "interface"] "Faulty packets that the interface has received.";
    TRANSMIT_ERRORS: Counter "pc_ovs_interface_transmit_errors_total" ["bridge", "port", "interface"] "Packets that the interface could not send.";
    BOND: Gauge "pc_ovs_bond_members" ["bridge", "port"] "Members of a bond.";
    BOND_UP: Gauge "pc_ovs_bond_up_members" ["bridge", "port"] "Members of a bond that have a link.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    converged: bool,
    errors: Vec<String>,
    bridges: Vec<Bridge>,
    host: Option<Host>,
    claims: Vec<Value>,
    probation: Option<Value>,
}

#[derive(Deserialize)]
struct Host {
    interface: String,
    present: bool,
    router: Option<String>,
    route_present: bool,
}

#[derive(Deserialize)]
struct Bridge {
    name: String,
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    name: String,
    interfaces: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    link_up: bool,
    mtu_bytes: Option<u64>,
    ofport: Option<i64>,
    error: Option<String>,
    received_dropped: Option<u64>,
    sent_dropped: Option<u64>,
    received_errors: Option<u64>,
    sent_errors: Option<u64>,
}

/// `pc.ovs.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    samples.truth(&CONVERGED, &[], status.converged);
    samples.length(&ERRORS, &[], &status.errors);
    samples.length(&CLAIMS, &[], &status.claims);
    samples.truth(&PROBATION, &[], status.probation.is_some());
    if let Some(host) = &status.host {
        samples.truth(&ADDRESS, &[&host.interface], host.present);
        if host.router.is_some() {
            samples.truth(&ROUTE, &[&host.interface], host.route_present);
        }
    }
    for bridge in &status.bridges {
        bridge.ports.iter().for_each(|port| port_of(&mut samples, bridge, port));
    }
    Ok(samples)
}

fn port_of(samples: &mut Samples, bridge: &Bridge, port: &Port) {
    for interface in &port.interfaces {
        let labels = [bridge.name.as_str(), &port.name, &interface.name];
        samples.truth(&LINK, &labels, interface.link_up);
        samples.truth(&ERROR, &labels, interface.error.is_some() || interface.ofport == Some(-1));
        if let Some(bytes) = interface.mtu_bytes {
            samples.count(&MTU, &labels, bytes);
        }
        for (family, packets) in [
            (&RECEIVE_DROPPED, interface.received_dropped),
            (&TRANSMIT_DROPPED, interface.sent_dropped),
            (&RECEIVE_ERRORS, interface.received_errors),
            (&TRANSMIT_ERRORS, interface.sent_errors),
        ] {
            if let Some(packets) = packets {
                samples.count(family, &labels, packets);
            }
        }
    }
    if port.interfaces.len() > 1 {
        let labels = [bridge.name.as_str(), &port.name];
        let up: Vec<_> = port.interfaces.iter().filter(|interface| interface.link_up).collect();
        samples.length(&BOND, &labels, &port.interfaces);
        samples.length(&BOND_UP, &labels, &up);
    }
}
