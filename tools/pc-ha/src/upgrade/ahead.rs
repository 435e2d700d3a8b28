//! What an upgrade would do, and what is in its way, found before anything is begun.

use std::collections::BTreeMap;

use anyhow::Result;
use pc_cli::{Common, refused};

use super::answer::{Answer, NodeAnswer};
use super::ground;
use super::node::{Report, still};
use crate::engine::Engine;
use crate::host::{self, upgrade as files};
use crate::moving;
use crate::want::Want;

/// What there is to do.
pub struct Ahead {
    nodes: Vec<NodeAnswer>,
    /// Why it cannot be begun now.
    pub in_the_way: Vec<String>,
    /// VMs that run.
    pub running: Vec<String>,
}

/// The nodes in their order: those that were named, or all; the one that walks comes last, and comes back by itself.
pub fn order(want: &Want, named: &[String]) -> Result<Vec<String>> {
    for (index, node) in named.iter().enumerate() {
        moving::known(want, node)?;
        if named[..index].contains(node) {
            return Err(refused(format!("{node} is named twice")));
        }
    }
    let all: Vec<String> = want.members.iter().map(|member| member.name.clone()).collect();
    let nodes = if named.is_empty() { all } else { named.to_vec() };
    let (own, others): (Vec<String>, Vec<String>) = nodes.into_iter().partition(|node| *node == want.node);
    if !named.is_empty() && !own.is_empty() && named.last() != Some(&want.node) {
        return Err(refused(format!(
            "{0} walks, so it is upgraded last\n  name it last, or start on another node",
            want.node
        )));
    }
    Ok(others.into_iter().chain(own).collect())
}

/// The memory of every node but one, and who does not tell.
pub fn memory(common: &Common, want: &Want, but: &str) -> (BTreeMap<String, u64>, Vec<String>) {
    let (mut memory, mut silent) = (BTreeMap::new(), Vec::new());
    for member in want.members.iter().filter(|member| member.name != but) {
        let bytes = if member.name == want.node {
            files::memory(common)
        } else {
            files::report_of(common, &want.node, &member.name).map(|report| report.memory_bytes)
        };
        match bytes {
            Ok(bytes) => drop(memory.insert(member.name.clone(), bytes)),
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    (memory, silent)
}

/// Asks everyone.
pub fn look(common: &Common, want: &Want, nodes: &[String]) -> Ahead {
    let mut in_the_way = Vec::new();
    let mut reports: BTreeMap<&str, Report> = BTreeMap::new();
    let mut memory = BTreeMap::new();
    for member in &want.members {
        let name = member.name.as_str();
        // Of a node that is not touched its memory matters, and whether it is busy: this one asks nobody about itself.
        if name == want.node && !nodes.contains(&want.node) {
            match files::memory(common) {
                Ok(bytes) => drop(memory.insert(name.to_string(), bytes)),
                Err(error) => in_the_way.push(format!("{error:#}")),
            }
            match files::upgrades(common, &want.node, name) {
                Ok(true) => in_the_way.push(still(name)),
                Ok(false) => {}
                Err(error) => in_the_way.push(format!("{error:#}")),
            }
            continue;
        }
        match files::report_of(common, &want.node, name) {
            Ok(report) => {
                // One that was given up goes on in its package manager.
                if report.active {
                    in_the_way.push(still(name));
                }
                memory.insert(name.to_string(), report.memory_bytes);
                reports.insert(name, report);
            }
            Err(error) => in_the_way.push(format!("{error:#}")),
        }
    }
    let engine = host::engine().unwrap_or_else(|error| {
        in_the_way.push(format!("{error:#}"));
        Engine::default()
    });
    let quorum = host::quorum().ok();
    let storage = host::storage(&common.root);
    let mut say = |reason: String| {
        if !in_the_way.contains(&reason) {
            in_the_way.push(reason);
        }
    };
    for node in nodes {
        ground::in_the_way(want, node, &engine, quorum.as_ref(), &storage).into_iter().for_each(&mut say);
        ground::no_room(want, node, &engine, &memory).into_iter().for_each(&mut say);
        let commands = reports.get(node.as_str()).map(|report| report.commands.is_empty());
        if commands == Some(true) {
            say(format!(
                "nobody says how {node} is upgraded\n  \
                 on {node}: write the command to /etc/personal-cluster/upgrade-command, a word a line"
            ));
        }
    }
    let answer = |node: &String| {
        let (stops, moved) =
            engine.vms_on(node).into_iter().partition(|vm| want.vm(vm).is_some_and(|vm| vm.pinned));
        let commands = reports.get(node.as_str()).map(|report| report.commands.clone()).unwrap_or_default();
        NodeAnswer { moved, stops, commands, ..NodeAnswer::new(node) }
    };
    let running = want
        .vms
        .iter()
        .filter(|vm| engine.vm(&crate::rows::vm_resource(&vm.name)).is_some_and(|at| at.role == "Started"));
    Ahead {
        nodes: nodes.iter().map(answer).collect(),
        running: running.map(|vm| vm.name.clone()).collect(),
        in_the_way,
    }
}

impl Ahead {
    /// As an answer.
    pub fn plan(self, walker: &str) -> Answer {
        Answer {
            schema: "pc.ha.upgrade/1",
            planned: true,
            walker: walker.into(),
            nodes: self.nodes,
            in_the_way: self.in_the_way,
            finished: false,
            stopped: None,
            seconds: 0.0,
        }
    }
}
