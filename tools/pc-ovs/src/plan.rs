//! From what is wanted and what is there to the steps between them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pc_plan::Step;

use crate::action::Action;
use crate::addresses;
use crate::claims::Claim;
use crate::model::{Bridge, Have, HaveBridge, Port};
use crate::refusal::{Refusal, refusals};
use crate::want::{HostAddress, Want, fnv, nics_of};

/// Schema of a printed plan.
pub const SCHEMA: &str = "pc.ovs.plan/1";

/// Steps, and what stands in their way.
#[derive(Debug, Default)]
pub struct Planned {
    /// In order.
    pub steps: Vec<Step<Action>>,
    /// Uplinks that are left alone, and why.
    pub refusals: Vec<Refusal>,
    /// For people: things left alone on purpose.
    pub notes: Vec<String>,
}

/// Plans; `take_over` allows what the administrator allowed with `--take-over`.
pub fn plan(want: &Want, have: &Have, take_over: bool) -> Planned {
    let mut planned = Planned { refusals: refusals(want, have, take_over), ..Planned::default() };
    let refused: BTreeSet<String> = planned.refusals.iter().map(|refusal| refusal.uplink.clone()).collect();
    removals(want, have, &refused, &mut planned);
    let mut within: BTreeMap<String, String> = BTreeMap::new();
    for bridge in want.bridges.iter().filter(|bridge| !refused.contains(&bridge.uplink)) {
        let bridge = with_addresses(bridge, have);
        let claims: Vec<Claim> = claims_on(&bridge, have).cloned().collect();
        let host = want.host.as_ref().filter(|host| host.bridge == bridge.name);
        let steps = uplink_steps(&bridge, host, have);
        if claims.is_empty() && !occupied(&bridge, have) {
            planned.steps.extend(steps);
            continue;
        }
        let id = format!("take-over/{}", bridge.uplink);
        let nics = nics_of(&bridge).map(str::to_string).collect();
        let (inner, actions) =
            steps.into_iter().map(|step| (step.id, step.action)).unzip::<_, _, Vec<_>, _>();
        within.extend(inner.into_iter().map(|step| (step, id.clone())));
        let action = Action::TakeOver { uplink: bridge.uplink.clone(), nics, claims, actions };
        planned.steps.push(Step { id, needs: Vec::new(), action });
    }
    // What frees a name comes before what uses it.
    planned
        .steps
        .sort_by_key(|step| !matches!(step.action, Action::RemoveBridge { .. } | Action::RemovePort { .. }));
    let present: BTreeSet<String> = planned.steps.iter().map(|step| step.id.clone()).collect();
    for step in &mut planned.steps {
        let outer = |need: &String| within.get(need).cloned().unwrap_or_else(|| need.clone());
        let mut needs: Vec<String> =
            step.needs.iter().map(outer).filter(|need| present.contains(need)).collect();
        needs.dedup();
        step.needs = needs;
    }
    planned
}

/// Claims on devices of one bridge.
pub fn claims_on<'a>(bridge: &'a Bridge, have: &'a Have) -> impl Iterator<Item = &'a Claim> {
    let mine = move |device: &str| {
        bridge.ports.iter().flat_map(|port| &port.interfaces).any(|interface| interface.name == device)
    };
    have.claims.iter().filter(move |claim| mine(&claim.device))
}

/// A NIC carries addresses though no file says so, and is not one of our ports yet.
pub fn occupied(bridge: &Bridge, have: &Have) -> bool {
    nics_of(bridge).any(|nic| {
        have.links.get(nic).is_some_and(|link| !link.addresses.is_empty()) && !is_our_port(nic, have)
    })
}

fn is_our_port(nic: &str, have: &Have) -> bool {
    let ports = have.bridges.iter().flat_map(|have| &have.bridge.ports);
    ports.flat_map(|port| &port.interfaces).any(|interface| interface.name == nic)
}

/// The bridge with the MAC addresses that the file cannot know.
fn with_addresses(bridge: &Bridge, have: &Have) -> Bridge {
    let mut bridge = bridge.clone();
    let present = have.bridge(&bridge.name).and_then(|have| have.bridge.hwaddr.clone());
    let first = nics_of(&bridge).next().and_then(|nic| have.links.get(nic));
    // A NIC that is missing today does not change the bridge's address.
    bridge.hwaddr = first.map(|link| link.mac.clone()).or(present);
    let seed = bridge.hwaddr.clone().unwrap_or_default();
    let own = bridge.name.clone();
    for interface in bridge.ports.iter_mut().flat_map(|port| &mut port.interfaces) {
        if interface.internal && interface.name != own && !seed.is_empty() {
            interface.mac = Some(derived_mac(&seed, &interface.name));
        }
    }
    bridge
}

/// A locally administered MAC address that stays the same as long as the NIC does.
fn derived_mac(nic: &str, interface: &str) -> String {
    let [a, b, c, d] = fnv(&format!("{nic}/{interface}")).to_be_bytes();
    format!("02:50:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn removals(want: &Want, have: &Have, refused: &BTreeSet<String>, planned: &mut Planned) {
    for old in have.bridges.iter().filter(|old| old.ours && !refused.contains(&old.bridge.uplink)) {
        let name = &old.bridge.name;
        if want.bridges.iter().any(|bridge| bridge.name == *name) {
            continue;
        }
        if old.foreign.is_empty() {
            let action = Action::RemoveBridge { name: name.clone(), uplink: old.bridge.uplink.clone() };
            planned.steps.push(Step { id: name.clone(), needs: Vec::new(), action });
        } else {
            let ports: Vec<&str> = old.foreign.keys().map(String::as_str).collect();
            planned.notes.push(format!("bridge {name} stays: it still carries {}", ports.join(", ")));
        }
    }
}

/// Steps of one uplink: bridge, ports, then what the host itself has on it.
fn uplink_steps(bridge: &Bridge, host: Option<&HostAddress>, have: &Have) -> Vec<Step<Action>> {
    let mut steps = switch_steps(bridge, have);
    addresses::steps(bridge, host, have, &mut steps);
    steps
}

/// Actions on the switch alone that bring its rows of ours back to `bridges`: what a rollback needs.
pub fn switch_actions(bridges: &[Bridge], have: &Have) -> Vec<Action> {
    let mut actions = Vec::new();
    for old in have.bridges.iter().filter(|old| old.ours) {
        let name = &old.bridge.name;
        if bridges.iter().any(|bridge| bridge.name == *name) {
            continue;
        }
        if old.foreign.is_empty() {
            actions.push(Action::RemoveBridge { name: name.clone(), uplink: old.bridge.uplink.clone() });
        } else {
            // A VM has moved in meanwhile: the bridge stays, without the NICs that have to go back.
            let ours = old.bridge.ports.iter().filter(|port| port.name != *name);
            actions.extend(
                ours.map(|port| Action::RemovePort { bridge: name.clone(), name: port.name.clone() }),
            );
        }
    }
    actions.extend(bridges.iter().flat_map(|bridge| switch_steps(bridge, have)).map(|step| step.action));
    actions
}

fn switch_steps(bridge: &Bridge, have: &Have) -> Vec<Step<Action>> {
    let mut steps = Vec::new();
    let old = have.bridge(&bridge.name);
    let mut push = |id: String, needs: Vec<String>, action| steps.push(Step { id, needs, action });
    let own_id = bridge.name.clone();
    let bare = |ports: Vec<Port>| Bridge { ports, ..bridge.clone() };
    match old {
        None => {
            push(own_id.clone(), Vec::new(), Action::AddBridge { bridge: bare(bridge.ports[..1].to_vec()) });
        }
        Some(old) if bare(Vec::new()) != (Bridge { ports: Vec::new(), ..old.bridge.clone() }) => {
            push(own_id.clone(), Vec::new(), Action::SetBridge { bridge: bare(Vec::new()) });
        }
        Some(_) => {}
    }
    let id = |port: &str| format!("{}/{port}", bridge.name);
    for port in bridge.ports.iter().skip(usize::from(old.is_none())) {
        let (name, uplink, port) = (bridge.name.clone(), bridge.uplink.clone(), port.clone());
        match old.and_then(|old| old.port(&port.name)) {
            Some(old) if same(old, &port) => {}
            Some(_) => {
                push(id(&port.name), vec![own_id.clone()], Action::SetPort { bridge: name, uplink, port });
            }
            None => {
                let mut needs = vec![own_id.clone()];
                needs.extend(moves(&port, &bridge.name, have));
                push(id(&port.name), needs, Action::AddPort { bridge: name, uplink, port });
            }
        }
    }
    for port in old.into_iter().flat_map(|old| &old.bridge.ports) {
        if !bridge.ports.iter().any(|wanted| wanted.name == port.name) {
            let action = Action::RemovePort { bridge: bridge.name.clone(), name: port.name.clone() };
            push(id(&port.name), Vec::new(), action);
        }
    }
    steps
}

/// The database keeps the members of a bond in no order.
fn same(old: &Port, wanted: &Port) -> bool {
    let sorted = |port: &Port| {
        let mut port = port.clone();
        port.interfaces.sort();
        port
    };
    sorted(old) == sorted(wanted)
}

/// Steps that free a name which this port needs.
fn moves(port: &Port, bridge: &str, have: &Have) -> Vec<String> {
    let shares = |other: &&Port| {
        other.name == port.name
            || other.interfaces.iter().any(|one| port.interfaces.iter().any(|mine| mine.name == one.name))
    };
    let freed = |old: &HaveBridge| {
        let name = old.bridge.name.clone();
        let ports: Vec<String> =
            old.bridge.ports.iter().filter(shares).map(|other| format!("{name}/{}", other.name)).collect();
        // A port goes away by itself, or with its bridge.
        let bridge = (name != bridge && !ports.is_empty()).then_some(name);
        ports.into_iter().chain(bridge)
    };
    have.bridges.iter().filter(|old| old.ours).flat_map(freed).collect()
}
