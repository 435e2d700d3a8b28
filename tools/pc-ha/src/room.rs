//! Memory: what pacemaker is told that VMs need and nodes have (`utilization`, in MiB), and when it may count it. Pure.
//!
//! Pacemaker bans a resource from every node that has not enough left, the one it runs on as well: it is told to count
//! only once all that runs fits. docs/decisions/placement.md has what it does otherwise.

use std::collections::BTreeMap;

use cluster::room::for_guests;
use roxmltree::{Document, Node};
use serde::Serialize;

use crate::cib::Cib;
use crate::engine::{Engine, Resource};
use crate::plan::Have;
use crate::rows::{vm_of, vm_resource};
use crate::want::{Vm, Want};

/// What is counted, as pacemaker's own documentation calls it.
pub const MEMORY: &str = "memory";
/// Counts, and of nodes that are equally wanted takes the one with most room.
const COUNTS: &str = "balanced";
/// Pacemaker's own: utilization is not looked at.
const NOT: &str = "default";

/// What stands in the CIB of all that pacemaker counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// `placement-strategy`, when somebody has set it.
    pub strategy: Option<String>,
    /// Nodes that pacemaker knows, by name.
    pub nodes: BTreeMap<String, Offer>,
    /// What resources need, those of others too.
    pub needs: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What a node offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Pacemaker's number for the node.
    pub id: String,
    /// By name.
    pub has: BTreeMap<String, u64>,
    /// Ids of the set and of the pair that say its memory, when they are there.
    pub at: Option<(String, String)>,
}

/// Reads it.
pub fn read(configuration: &Node) -> Counted {
    let all = |tag: &'static str| configuration.descendants().filter(move |node| node.has_tag_name(tag));
    let named = |node: &Node, name: &str| node.attribute(name).map(String::from);
    let pairs = |of: &Node| {
        let sets = of.children().filter(|node| node.has_tag_name("utilization")).collect::<Vec<_>>();
        let pairs =
            sets.into_iter().flat_map(|set| set.children().filter(|node| node.has_tag_name("nvpair")));
        let read = |pair: Node| {
            let ids = (pair.parent()?.attribute("id")?.to_string(), named(&pair, "id")?);
            Some((named(&pair, "name")?, pair.attribute("value")?.parse().unwrap_or(0), ids))
        };
        pairs.filter_map(read).collect::<Vec<(String, u64, (String, String))>>()
    };
    // Of two of one name pacemaker takes the first.
    let values = |of: &Node| pairs(of).into_iter().rev().map(|(name, value, _)| (name, value)).collect();
    let offer = |node: Node| {
        let at = pairs(&node).into_iter().find(|(name, ..)| name == MEMORY).map(|(_, _, ids)| ids);
        Some((named(&node, "uname")?, Offer { id: named(&node, "id")?, has: values(&node), at }))
    };
    let need = |node: Node| Some((named(&node, "id")?, values(&node)));
    let set = all("nvpair").find(|pair| pair.attribute("name") == Some("placement-strategy"));
    Counted {
        strategy: set.and_then(|pair| named(&pair, "value")),
        nodes: all("node").filter_map(offer).collect(),
        needs: all("primitive")
            .chain(all("template"))
            .filter_map(need)
            .filter(|(_, needs): &(String, BTreeMap<String, u64>)| !needs.is_empty())
            .collect(),
    }
}

/// MiB that a node's guests may have: by the file, else as the node's own kernel says, or has said.
fn capacity(want: &Want, have: &Have, counted: &Counted, node: &str) -> Option<u64> {
    let own = || have.memory_bytes.filter(|_| node == want.node).map(|total| for_guests(total) >> 20);
    let said = || counted.nodes.get(node).and_then(|offer| offer.has.get(MEMORY).copied());
    want.member(node).and_then(|member| member.memory_mib.or_else(own)).or_else(said)
}

/// Nodes that pacemaker knows and that have another memory than it was told, with what they have.
pub fn changed(want: &Want, have: &Have, counted: &Counted) -> Vec<(String, u64)> {
    let known = counted.nodes.iter().filter_map(|(node, offer)| {
        let mib = capacity(want, have, counted, node)?;
        (offer.has.get(MEMORY) != Some(&mib)).then(|| (node.clone(), mib))
    });
    known.collect()
}

/// The part of the CIB that says it, under the ids that `crm_attribute` gives.
pub fn row(counted: &Counted, node: &str, mib: u64) -> Option<String> {
    let Offer { id, at, .. } = counted.nodes.get(node)?;
    let (set, pair) = at
        .clone()
        .unwrap_or_else(|| (format!("nodes-{id}-utilization"), format!("nodes-{id}-utilization-{MEMORY}")));
    Some(format!(
        r#"<node id="{id}" uname="{node}"><utilization id="{set}"><nvpair id="{pair}" name="{MEMORY}" value="{mib}"/></utilization></node>"#
    ))
}

/// What pacemaker is told of counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// `placement-strategy`; none: what stands there stays.
    pub strategy: Option<&'static str>,
    /// Why it must not count.
    pub note: Option<String>,
}

/// Whether pacemaker may count: nothing that runs would be moved or stopped by that.
pub fn placement(want: &Want, have: &Have, cib: &Cib) -> Placement {
    let counted = &cib.counted;
    if counted.nodes.is_empty() {
        return Placement::default();
    }
    match in_the_way(want, have, counted) {
        None => Placement { strategy: Some(COUNTS), note: None },
        Some(why) => {
            let note = format!("pacemaker does not count the memory of VMs: {why}");
            Placement { strategy: is_on(counted).then_some(NOT), note: Some(note) }
        }
    }
}

fn is_on(counted: &Counted) -> bool {
    counted.strategy.as_ref().is_some_and(|strategy| strategy != NOT)
}

fn in_the_way(want: &Want, have: &Have, counted: &Counted) -> Option<String> {
    // One that moves is on two nodes for a while: where pacemaker counts, it has seen to it that there is room.
    let counts = |nodes: &[String]| nodes.len() == 1 || !is_on(counted);
    let runs_on = |node: &str| {
        let at = |(resource, nodes): (&String, &Vec<String>)| {
            (nodes.iter().any(|at| at == node) && counts(nodes)).then(|| resource.clone())
        };
        have.active.iter().filter_map(at).collect::<Vec<_>>()
    };
    for (node, offer) in &counted.nodes {
        let running = runs_on(node);
        if want.member(node).is_none() && running.is_empty() {
            continue;
        }
        let Some(capacity) = capacity(want, have, counted, node) else {
            return Some(format!(
                "nobody has said how much {node} has\n  on {node}: pc-ha apply, or in the file: memory of its [[node]]"
            ));
        };
        let lacks = |(resource, needs): (&String, &BTreeMap<String, u64>)| {
            let has = |name: &String| offer.has.get(name).copied().unwrap_or(0);
            let lacking = needs.iter().find(|(name, value)| *name != MEMORY && **value > has(name));
            lacking.map(|(name, _)| (resource.clone(), name.clone()))
        };
        if let Some((resource, name)) = counted.needs.iter().find_map(lacks) {
            return Some(format!(
                "{resource} would stop, for its utilization {name} is more than {node} has\n  \
                 crm_attribute --node {node} --utilization --name {name} --update VALUE, then: pc-ha apply"
            ));
        }
        // What others made may run anywhere.
        let others = counted.needs.iter().filter(|(resource, _)| vm_of(resource) == resource.as_str());
        let others: u64 = others.filter_map(|(_, needs)| needs.get(MEMORY)).sum();
        let needs = |resource: &String| {
            let left_the_file = || counted.needs.get(resource).and_then(|needs| needs.get(MEMORY).copied());
            want.vm(vm_of(resource)).map(Vm::memory_mib).or_else(left_the_file).unwrap_or(0)
        };
        let used = others + running.iter().map(needs).sum::<u64>();
        if used > capacity {
            return Some(format!(
                "what runs on {node} needs {used} MiB and may have {capacity}, so that some of it would stop\n  \
                 pc-ha stop VM, pc-ha move VM NODE, or less memory in the file, then: pc-ha apply"
            ));
        }
    }
    None
}

/// Why a node cannot be drained: VMs that run now and would not without it, by pacemaker's own computation.
pub fn no_room(want: &Want, node: &str, now: &Engine, without: &Engine) -> Option<String> {
    let stops = |vm: &&Vm| {
        let runs = |engine: &Engine| engine.vm(&vm_resource(&vm.name)).is_some_and(Resource::is_active);
        runs(now) && !runs(without) && !(vm.pinned && vm.home == node)
    };
    let stopping: Vec<String> =
        want.vms.iter().filter(stops).map(|vm| format!("{} ({} MiB)", vm.name, vm.memory_mib())).collect();
    let first = want.vms.iter().find(stops)?;
    Some(format!(
        "without {node} there is no room for vm {}\n  pc-ha stop {}",
        stopping.join(", "),
        first.name
    ))
}

/// Nodes to which more would come than their guests may have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Crowded {
    /// Why not.
    pub why: Option<String>,
    /// Nodes of which nobody has said how much they have.
    pub unknown: Vec<String>,
}

/// What pacemaker's own computation does not see while it does not count: it places by how much nodes are wanted and how many
/// resources they have. Told to count here it would move what is too much already, which nobody asked for.
pub fn crowded(want: &Want, node: &str, now: &Engine, without: &Engine, counted: &Counted) -> Crowded {
    let mut crowded = Crowded::default();
    if is_on(counted) {
        return crowded;
    }
    let needs = |vm: &String| {
        let told = || counted.needs.get(&vm_resource(vm)).and_then(|needs| needs.get(MEMORY).copied());
        want.vm(vm).map(Vm::memory_mib).or_else(told).unwrap_or(0)
    };
    for name in without.nodes.iter().map(|state| &state.name).filter(|name| *name != node) {
        let (before, after) = (now.vms_on(name), without.vms_on(name));
        let arriving: Vec<&String> = after.iter().filter(|vm| !before.contains(vm)).collect();
        if arriving.is_empty() {
            continue;
        }
        let said = || counted.nodes.get(name).and_then(|offer| offer.has.get(MEMORY).copied());
        let Some(capacity) = want.member(name).and_then(|member| member.memory_mib).or_else(said) else {
            crowded.unknown.push(name.clone());
            continue;
        };
        let used: u64 = after.iter().map(needs).sum();
        if used > capacity && crowded.why.is_none() {
            crowded.why = Some(format!(
                "without {node} there is no room on {name}: {} would need {used} MiB there, and may have {capacity}; pacemaker does not count memory now (pc-ha plan)\n  \
                 pc-ha stop VM, or pc-ha move {} NODE",
                after.join(", "),
                arriving[0]
            ));
        }
    }
    crowded
}

/// The state that `crm_simulate --output-as=xml` ends with, as `crm_mon` would show it.
pub fn revised(answer: &str) -> Option<&str> {
    let document = Document::parse(answer).ok()?;
    let status = document.descendants().find(|node| node.has_tag_name("revised_cluster_status"))?;
    answer.get(status.range())
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
