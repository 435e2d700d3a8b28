//! The verdicts of all nodes as one: what only shows when they are held side by side. Pure.

use std::collections::{BTreeMap, BTreeSet};

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::verdict::{Finding, Looked, Severity, Verdict};

/// Clocks further apart than this are told; an answer crosses the network in less.
const DRIFT: Duration = Duration::seconds(2);

/// What another node answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Its name in the file.
    pub node: String,
    /// Its verdict; an error, with what to do on its second line, when there is none.
    pub verdict: Result<Verdict, String>,
    /// When it was asked and when it had answered, by this node's clock.
    pub asked: (OffsetDateTime, OffsetDateTime),
}

/// A VM and a node that says it runs it.
pub type At = (String, String);

/// VMs that more than one node says it runs. While one is moved that need not be so: nodes answer at different moments.
pub fn doubtful(own: &Verdict, others: &[Other]) -> BTreeSet<At> {
    let theirs = others.iter().filter_map(|other| {
        let looked = other.verdict.as_ref().ok()?.nodes.first()?;
        Some((other.node.as_str(), looked))
    });
    let own = own.nodes.iter().map(|looked| (looked.node.as_str(), looked));
    let all: Vec<At> = own.chain(theirs).flat_map(|(node, looked)| running(node, looked)).collect();
    let several = |vm: &str| all.iter().filter(|(other, _)| other == vm).count() > 1;
    all.iter().filter(|(vm, _)| several(vm)).cloned().collect()
}

/// VMs that run on a node; the end to which one is being moved has it paused.
fn running(node: &str, looked: &Looked) -> Vec<At> {
    let here = looked.vms.iter().filter(|vm| vm.here && vm.state == "running");
    here.map(|vm| (vm.name.clone(), node.to_string())).collect()
}

/// This node's verdict and those of the others; `twice` is what was doubtful and was so again some seconds later.
pub fn merge(own: Verdict, others: Vec<Other>, twice: &BTreeSet<At>) -> Verdict {
    let mut found = Vec::new();
    for other in &others {
        match &other.verdict {
            Ok(verdict) => found.extend(drift(&other.node, verdict, other.asked)),
            Err(why) => found.push(unreachable(&other.node, why)),
        }
    }
    let Verdict { cluster, node, measured_at, nodes: mut looked, findings, .. } = own;
    let mut told = findings;
    for Other { node, verdict, .. } in others {
        match verdict {
            // A node speaks for itself only, whatever it says of others.
            Ok(verdict) => {
                looked.extend(
                    verdict.nodes.into_iter().take(1).map(|one| Looked { node: node.clone(), ..one }),
                );
                let of = |finding: Finding| Finding { nodes: vec![node.clone()], ..finding };
                told.extend(verdict.findings.into_iter().map(of));
            }
            Err(_) => looked.push(Looked::unreachable(node)),
        }
    }
    found.extend(generations(&looked));
    found.extend(versions(&looked));
    found.extend(at_once(twice));
    // First what only shows from here: it is often the cause of the rest.
    found.extend(told);
    Verdict::new(&cluster, &node, measured_at, looked, found)
}

fn finding(severity: Severity, nodes: Vec<String>, fault: String, remedy: String) -> Finding {
    Finding { severity, check: "cluster".into(), nodes, fault, remedy }
}

fn unreachable(node: &str, why: &str) -> Finding {
    let mut lines = why.lines().map(str::trim);
    let said = lines.next().unwrap_or("no answer");
    let fault = if said.starts_with(node) { said.to_string() } else { format!("{node}: {said}") };
    let remedy =
        lines.next().map_or_else(|| format!("switch {node} on, or look at its console"), String::from);
    finding(Severity::Problem, vec![node.into()], fault, remedy)
}

/// A verdict was made between the moments at which it was asked for and had arrived.
fn drift(
    node: &str,
    verdict: &Verdict,
    (asked, answered): (OffsetDateTime, OffsetDateTime),
) -> Option<Finding> {
    let theirs = OffsetDateTime::parse(&verdict.measured_at, &Rfc3339).ok()?;
    let (distance, way) = if theirs < asked - DRIFT {
        (asked - theirs, "behind")
    } else if theirs > answered + DRIFT {
        (theirs - answered, "ahead of")
    } else {
        return None;
    };
    let fault = format!("the clock of {node} is {} s {way} this one", distance.whole_seconds());
    Some(finding(
        Severity::Problem,
        vec![node.into()],
        fault,
        format!("timedatectl timesync-status, on {node}"),
    ))
}

fn reached(looked: &[Looked]) -> impl Iterator<Item = &Looked> {
    looked.iter().filter(|node| node.reachable)
}

/// Another file in force makes another cluster.
fn generations(looked: &[Looked]) -> Option<Finding> {
    let of = |node: &Looked| (node.generation, node.sha256.clone());
    let distinct: BTreeSet<_> = reached(looked).map(of).collect();
    if distinct.len() < 2 {
        return None;
    }
    let newest = reached(looked).max_by_key(|node| node.generation)?;
    let number = |generation: Option<u64>| generation.map_or("none".into(), |number| number.to_string());
    let behind: Vec<&Looked> = reached(looked).filter(|node| of(node) != of(newest)).collect();
    let theirs: Vec<String> = behind
        .iter()
        .map(|node| format!("{} has generation {}", node.node, number(node.generation)))
        .collect();
    let other =
        if behind.iter().all(|node| node.generation == newest.generation) { ", another one" } else { "" };
    let fault = format!(
        "the nodes have different files in force: {}{other}, {} has {}",
        theirs.join(", "),
        newest.node,
        number(newest.generation)
    );
    let nodes = behind.iter().map(|node| node.node.clone()).collect();
    Some(finding(Severity::Problem, nodes, fault, format!("pc-config push, on {}", newest.node)))
}

/// Two of one VM write to one disk.
fn at_once(twice: &BTreeSet<At>) -> Vec<Finding> {
    let mut running: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (vm, node) in twice {
        running.entry(vm).or_default().push(node.clone());
    }
    let several = running.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    several
        .map(|(vm, nodes)| {
            let fault =
                format!("vm {vm} runs on {} at once: each writes to its disk", nodes.join(" and on "));
            // A record of the owner alone says nothing of which one the guests' clients have been talking to.
            let remedy = format!(
                "pc-vm list; if it is still so: virsh destroy {vm}, on the node that is not its owner and whose QEMU has lost \
                 the disk's lock, by `pc-vm status` of both"
            );
            finding(Severity::Problem, nodes, fault, remedy)
        })
        .collect()
}

fn versions(looked: &[Looked]) -> Option<Finding> {
    let distinct: BTreeSet<&str> = reached(looked).filter_map(|node| node.version.as_deref()).collect();
    if distinct.len() < 2 {
        return None;
    }
    let each: Vec<String> = reached(looked)
        .map(|node| format!("{} {}", node.node, node.version.as_deref().unwrap_or("unknown")))
        .collect();
    let nodes = reached(looked).map(|node| node.node.clone()).collect();
    let fault = format!("the nodes have different versions: {}", each.join(", "));
    Some(finding(Severity::Warning, nodes, fault, "finish the upgrade on every node".into()))
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
