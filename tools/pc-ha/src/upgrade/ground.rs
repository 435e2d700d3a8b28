//! Whether the ground holds: who is there, what is whole, whether the others have room, what pc-verify finds that it did not
//! find before. Pure.

use std::collections::BTreeMap;

use cluster::room::for_guests;
use serde::Deserialize;

use crate::engine::{Engine, Quorum};
use crate::gate::{self, Known};
use crate::rows::vm_resource;
use crate::want::Want;

/// Why `node` cannot be missed: two nodes are never away at once, whatever the quorum would allow.
pub fn in_the_way(
    want: &Want,
    node: &str,
    engine: &Engine,
    quorum: Option<&Quorum>,
    storage: &Known,
) -> Vec<String> {
    let mut reasons = others_away(want, node, engine);
    reasons.extend(gate::reasons(node, engine, quorum, storage));
    reasons
}

fn others_away(want: &Want, node: &str, engine: &Engine) -> Vec<String> {
    let others = want.members.iter().map(|member| &member.name).filter(|name| *name != node);
    let away = |name: &String| match engine.node(name) {
        Some(state) if state.online => None,
        _ => Some(format!("{name} is away: one node at a time\n  pc-ha status")),
    };
    others.filter_map(away).collect()
}

/// VMs that ran when the upgrade began and do not now, although nobody has stopped them.
pub fn fallen(running: &[String], engine: &Engine) -> Vec<String> {
    let runs = |vm: &&String| {
        let at = engine.vm(&vm_resource(vm));
        at.is_some_and(|at| at.told_to_stop || at.role == "Started" && at.nodes.len() == 1)
    };
    let fallen = running.iter().filter(|vm| !runs(vm));
    fallen.map(|vm| format!("vm {vm} ran before and does not now\n  pc-ha start {vm}")).collect()
}

/// The same while `node` is under way, and those that are tied to it are down.
pub fn fallen_elsewhere(want: &Want, node: &str, running: &[String], engine: &Engine) -> Vec<String> {
    let tied = |vm: &&String| want.vm(vm).is_some_and(|vm| vm.pinned && vm.home == node);
    let others: Vec<String> = running.iter().filter(|vm| !tied(vm)).cloned().collect();
    fallen(&others, engine)
}

/// What is not whole again after `node` came back.
pub fn unsettled(
    want: &Want,
    node: &str,
    engine: &Engine,
    quorum: Option<&Quorum>,
    storage: &Known,
) -> Vec<String> {
    let mut reasons = others_away(want, node, engine);
    reasons.extend(gate::others_drained(node, engine));
    match engine.node(node) {
        Some(state) if state.unclean => reasons.push(format!("{node} was lost, not yet known to be dead")),
        Some(state) if state.online => {}
        _ => {
            reasons.push(format!(
                "{node} is not back in pacemaker
  on {node}: systemctl status pacemaker"
            ));
        }
    }
    match quorum {
        None => reasons.push("corosync does not tell its quorum".into()),
        Some(quorum) if !quorum.quorate || quorum.votes < quorum.expected => {
            reasons.push(format!("{} of {} votes are there", quorum.votes, quorum.expected));
        }
        Some(_) => {}
    }
    let failed = engine.probes.iter().filter(|probe| probe.failed);
    reasons.extend(failed.map(|probe| {
        let volume = probe.id.strip_prefix("pc-volume-").unwrap_or(&probe.id);
        format!("volume {volume} does not work on {}\n  pc-gluster status", probe.nodes.join(", "))
    }));
    reasons.extend(gate::storage_reasons(storage));
    reasons
}

/// Whether the VMs that leave `node` fit beside those of the others: memory that the kernel of each node has, less a reserve.
pub fn no_room(want: &Want, node: &str, engine: &Engine, memory: &BTreeMap<String, u64>) -> Option<String> {
    let size = |vm: &String| want.vm(vm).map_or(0, |vm| vm.memory_bytes);
    let mut free: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, total) in memory.iter().filter(|(name, _)| *name != node) {
        let used: u64 = engine.vms_on(name).iter().map(size).sum();
        free.insert(name, for_guests(*total).saturating_sub(used));
    }
    let stays = |vm: &String| want.vm(vm).is_some_and(|vm| vm.pinned);
    let mut leaving: Vec<String> = engine.vms_on(node).into_iter().filter(|vm| !stays(vm)).collect();
    // The largest one first, each where the most is free.
    leaving.sort_by_key(|vm| std::cmp::Reverse(size(vm)));
    for vm in &leaving {
        let needs = size(vm);
        let (_, most) = free.iter_mut().max_by_key(|(_, free)| **free)?;
        if *most < needs {
            return Some(format!(
                "vm {vm} of {node} needs {} MiB, and {} MiB are free on the node with the most, beside what runs there\n  \
                 pc-ha stop {vm}",
                needs >> 20,
                *most >> 20
            ));
        }
        *most -= needs;
    }
    None
}

/// `pc.verify/1`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Verdict {
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    severity: String,
    check: String,
    nodes: Vec<String>,
    fault: String,
    remedy: String,
}

/// Problems in a form in which the same one is the same tomorrow: numbers change. Pacemaker's are left out, which are
/// asked of itself: a node under way is drained.
fn problems(verdict: &Verdict) -> Vec<(String, String)> {
    let counts = |finding: &&Finding| finding.severity == "problem" && finding.check != "ha";
    let one = |finding: &Finding| {
        let Finding { check, nodes, fault, remedy, .. } = finding;
        let nodes = nodes.join(", ");
        (plain(&format!("{nodes}: {check}: {fault}")), format!("pc-verify: {nodes}: {fault}\n  {remedy}"))
    };
    verdict.findings.iter().filter(counts).map(one).collect()
}

/// A name keeps its digits, a number does not.
fn plain(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_start_matches(|first: char| !first.is_alphanumeric());
        let number = bare.starts_with(|first: char| first.is_ascii_digit());
        if number { "#".to_string() } else { word.to_string() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What is known before.
pub fn known(verdict: &Verdict) -> Vec<String> {
    problems(verdict).into_iter().map(|(key, _)| key).collect()
}

/// What was not known before.
pub fn new_problems(verdict: &Verdict, known: &[String]) -> Vec<String> {
    problems(verdict).into_iter().filter(|(key, _)| !known.contains(key)).map(|(_, text)| text).collect()
}

#[cfg(test)]
#[path = "ground_tests.rs"]
mod tests;
