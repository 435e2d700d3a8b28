//! The host's part of a plan: NICs bare and up, the node's address and default route on its internal port. Pure.

use pc_plan::Step;

use crate::action::Action;
use crate::model::{Bridge, Have, Link};
use crate::want::HostAddress;

/// Steps on the host: NICs bare and up, the node's address on its internal port.
pub fn steps(bridge: &Bridge, host: Option<&HostAddress>, have: &Have, steps: &mut Vec<Step<Action>>) {
    let none = Link::default();
    let mut bare = Vec::new();
    for port in &bridge.ports {
        for nic in port.interfaces.iter().filter(|interface| !interface.internal) {
            // A missing NIC is shown by status; when it comes, pc-ovs-nic@.service runs us again.
            let Some(link) = have.links.get(&nic.name) else { continue };
            let interface = nic.name.clone();
            let addresses: Vec<String> = link.addresses.iter().chain(&link.advertised).cloned().collect();
            let needs = vec![format!("{}/{}", bridge.name, port.name)];
            if !addresses.is_empty() {
                let id = format!("flush/{interface}");
                bare.push(id.clone());
                let action = Action::Flush { interface: interface.clone(), addresses };
                steps.push(Step { id, needs: needs.clone(), action });
            }
            if !link.up {
                steps.push(Step { id: format!("up/{interface}"), needs, action: Action::Up { interface } });
            }
        }
    }
    stale_addresses(bridge, have, steps);
    let Some(host) = host else { return };
    // A port that is made, or moves from another bridge, is a new device: down and bare.
    let stays = have.bridge(&bridge.name).is_some_and(|old| old.port(&host.interface).is_some());
    let link = have.links.get(&host.interface).filter(|_| stays).unwrap_or(&none);
    let interface = host.interface.clone();
    let mut needs = vec![bridge.name.clone(), format!("{}/{interface}", bridge.name)];
    needs.extend(bare);
    // Taking a primary address away takes the secondary ones of its subnet along: the old one goes first.
    needs.push(format!("flush/{interface}"));
    if !link.up {
        let action = Action::Up { interface: interface.clone() };
        steps.push(Step { id: format!("up/{interface}"), needs: needs.clone(), action });
        needs.push(format!("up/{interface}"));
    }
    let moves = !link.addresses.contains(&host.address);
    if moves {
        let action = Action::SetAddress { interface: interface.clone(), address: host.address.clone() };
        steps.push(Step { id: format!("address/{interface}"), needs: needs.clone(), action });
        needs.push(format!("address/{interface}"));
    }
    router_steps(host, have, moves, &needs, steps);
}

/// Addresses that we gave internal ports and that the file no longer wants there.
fn stale_addresses(bridge: &Bridge, have: &Have, steps: &mut Vec<Step<Action>>) {
    let Some(old) = have.bridge(&bridge.name) else { return };
    for port in &old.bridge.ports {
        for had in port.interfaces.iter().filter(|interface| interface.internal) {
            let Some(address) = &had.address else { continue };
            let kept = bridge.ports.iter().find(|wanted| wanted.name == port.name);
            let still = kept
                .is_some_and(|kept| kept.interfaces.iter().any(|one| one.address.as_ref() == Some(address)));
            let present = have.links.get(&had.name).is_some_and(|link| link.addresses.contains(address));
            // With its port gone the device is gone, too.
            if !still && present && kept.is_some() {
                let (interface, addresses) = (had.name.clone(), vec![address.clone()]);
                let needs = vec![format!("{}/{}", bridge.name, port.name)];
                let action = Action::Flush { interface: interface.clone(), addresses };
                steps.push(Step { id: format!("flush/{interface}"), needs, action });
            }
        }
    }
}

/// The kernel drops a route with the address it leads through: where the address `moves`, it is set again.
fn router_steps(
    host: &HostAddress,
    have: &Have,
    moves: bool,
    needs: &[String],
    steps: &mut Vec<Step<Action>>,
) {
    let wanted = host.router.map(|router| router.to_string());
    let ours = have.routes.iter().filter(|route| route.ours && route.destination == "default");
    let mut there = false;
    for route in ours {
        let Some(router) = route.router.map(|router| router.to_string()) else { continue };
        if Some(&router) == wanted.as_ref() && route.interface == host.interface {
            there = !moves;
        } else {
            let id = format!("router/{}/{router}", route.interface);
            let action = Action::RemoveRouter { interface: route.interface.clone(), router };
            steps.push(Step { id, needs: Vec::new(), action });
        }
    }
    if let Some(router) = wanted.filter(|_| !there) {
        let interface = host.interface.clone();
        let id = format!("router/{interface}");
        steps.push(Step { id, needs: needs.to_vec(), action: Action::SetRouter { interface, router } });
    }
}
