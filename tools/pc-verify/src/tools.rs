//! The tools' own judgements: each `status --json` as findings. Nothing is judged here that a tool has not judged;
//! where two tools see the same fault, the nearer one tells it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::disks;
use crate::lints::Ours;
use crate::told::Told;
use crate::verdict::Severity::{Problem, Warning};

/// What is known beside a tool's own answer.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The checks that have answered on this node.
    pub answered: &'a BTreeSet<&'a str>,
    /// What of the cluster file counts.
    pub ours: &'a Ours,
}

impl Around<'_> {
    /// Whether a check has answered.
    pub fn has(self, check: &str) -> bool {
        self.answered.contains(check)
    }
}

/// A tool's answer to findings.
type Reader = fn(Value, Around) -> Result<Vec<Told>>;

/// A tool that has a status.
pub struct Tool {
    /// The check: `brick` is `pc-brick status`.
    pub name: &'static str,
    /// The tool.
    pub program: &'static str,
    /// The `schema` of its answer.
    pub schema: &'static str,
    /// Reads it.
    pub read: Reader,
}

/// In the order in which a node boots: the cause before its effects.
pub static TOOLS: &[Tool] = &[
    Tool { name: "config", program: "pc-config", schema: "pc.config.status/1", read: config },
    Tool { name: "ovs", program: "pc-ovs", schema: "pc.ovs.status/1", read: ovs },
    Tool { name: "trust", program: "pc-trust", schema: "pc.trust.status/1", read: trust },
    Tool { name: "unlock", program: "pc-unlock", schema: "pc.unlock.status/1", read: disks::unlock },
    Tool { name: "brick", program: "pc-brick", schema: "pc.brick.status/1", read: disks::brick },
    Tool { name: "gluster", program: "pc-gluster", schema: "pc.gluster.status/1", read: gluster },
    Tool { name: "vm", program: "pc-vm", schema: "pc.vm.status/1", read: vm },
    Tool { name: "ha", program: "pc-ha", schema: "pc.ha.status/1", read: ha },
    Tool { name: "borg", program: "pc-borg", schema: "pc.borg.status/1", read: borg },
];

/// Whether an answer has the shape that is understood here.
pub fn is_ours(name: &str, answer: &Value) -> bool {
    let schema = answer.get("schema").and_then(Value::as_str);
    TOOLS.iter().any(|tool| tool.name == name && schema == Some(tool.schema))
}

/// Reads an answer. A tool that calls itself unhealthy and gives no reason has one all the same.
pub fn told(tool: &Tool, answer: Value, around: Around) -> Result<Vec<Told>> {
    let schema = answer.get("schema").and_then(Value::as_str).unwrap_or("none");
    anyhow::ensure!(schema == tool.schema, "its answer is {schema:?}, not {:?}", tool.schema);
    let unhealthy = answer.get("healthy") == Some(&Value::Bool(false));
    let mut told = (tool.read)(answer.clone(), around)?;
    let reasonless = |told: &[Told]| !told.iter().any(|told| told.severity == Problem);
    let alone = Around { answered: &BTreeSet::new(), ..around };
    if unhealthy && reasonless(&told) && reasonless(&(tool.read)(answer, alone)?) {
        let command = format!("{} status", tool.program);
        told.push(Told::problem(format!("{command} says that something is wrong"), command));
    }
    Ok(told)
}

/// An answer as what its reader needs of it.
pub fn parsed<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).context("reading its answer")
}

/// Sentences of a tool; what it has yet to do is done by its `apply`.
pub fn sentences(tool: &str, problems: &[String]) -> Vec<Told> {
    let one = |text: &String| {
        let to_do = text.starts_with("not done yet: ") || text.starts_with("to do: ");
        Told::sentence(Problem, text, &format!("pc-{tool} {}", if to_do { "apply" } else { "status" }))
    };
    problems.iter().map(one).collect()
}

#[derive(Deserialize)]
struct Problems {
    problems: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

fn trust(answer: Value, _: Around) -> Result<Vec<Told>> {
    Ok(sentences("trust", &parsed::<Problems>(answer)?.problems))
}

fn vm(answer: Value, around: Around) -> Result<Vec<Told>> {
    #[derive(Deserialize)]
    struct Status {
        problems: Vec<String>,
        #[serde(default)]
        misfits: Vec<Misfit>,
        #[serde(default)]
        together: Vec<Together>,
        #[serde(default)]
        vms: Vec<Vm>,
    }
    #[derive(Deserialize)]
    struct Vm {
        name: String,
        should_run_here: Option<bool>,
        #[serde(default)]
        disk_locked: Option<bool>,
    }
    #[derive(Deserialize)]
    struct Misfit {
        node: String,
        vms: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Together {
        group: String,
        vms: Vec<String>,
    }
    let Status { problems, misfits, together, vms } = parsed(answer)?;
    let mut told = sentences("vm", &problems);
    told.extend(misfits.iter().map(|Misfit { node, vms }| {
        Told::warning(
            format!("no other node has the memory for {} when {node} is lost", vms.join(", ")),
            "give VMs less memory in the file, or a node more",
        )
    }));
    told.extend(together.iter().map(|Together { group, vms }| {
        let fault = format!("{} run on one node, group {group} keeps them apart", vms.join(" and "));
        Told::warning(fault, "move one of them to another node")
    }));
    for Vm { name, should_run_here, .. } in vms.iter().filter(|vm| vm.disk_locked == Some(false)) {
        // Pacemaker decides where there is no home. The QEMU that takes over takes the lock.
        let (starter, mover) =
            if should_run_here.is_none() { ("pc-ha", "move") } else { ("pc-vm", "migrate") };
        let fault =
            format!("vm {name}: QEMU has lost its lock on the disk, and keeps no second one away from it");
        let remedy = if around.ours.immovable.contains(name) {
            format!("{starter} stop {name}, then {starter} start {name}: it can run nowhere else")
        } else {
            format!("{starter} {mover} {name} NODE")
        };
        told.push(Told::warning(fault, remedy));
    }
    Ok(told)
}

fn ha(answer: Value, _: Around) -> Result<Vec<Told>> {
    let Problems { problems, warnings } = parsed(answer)?;
    let mut told = sentences("ha", &problems);
    told.extend(warnings.iter().map(|text| Told::sentence(Warning, text, "pc-ha status")));
    Ok(told)
}

fn borg(answer: Value, _: Around) -> Result<Vec<Told>> {
    Ok(crate::borg::read(&parsed(answer)?))
}

fn config(answer: Value, _: Around) -> Result<Vec<Told>> {
    #[derive(Deserialize)]
    struct Config {
        applied: bool,
        edited: bool,
    }
    let Config { applied, edited } = parsed(answer)?;
    let mut told = Vec::new();
    if !applied {
        told.push(Told::problem("no cluster file is in force: nothing starts at boot", "pc-config put FILE"));
    } else if edited {
        let file = pc_cli::CLUSTER_FILE;
        told.push(Told::problem(format!("{file} was edited and is not in force"), "pc-config push"));
    }
    Ok(told)
}

fn ovs(answer: Value, _: Around) -> Result<Vec<Told>> {
    #[derive(Deserialize)]
    struct Ovs {
        converged: bool,
        errors: Vec<String>,
        bridges: Vec<Bridge>,
        probation: Option<Value>,
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
    }
    let Ovs { converged, errors, bridges, probation } = parsed(answer)?;
    let mut told: Vec<Told> =
        errors.iter().map(|text| Told::sentence(Problem, text, "pc-ovs status")).collect();
    if probation.is_some() {
        told.push(Told::warning("a change is on probation and may be rolled back", "pc-ovs confirm"));
    } else if !converged && errors.is_empty() {
        told.push(Told::problem("bridges and addresses are not as the file has them", "pc-ovs apply"));
    }
    for (bridge, port) in
        bridges.iter().flat_map(|bridge| bridge.ports.iter().map(move |port| (bridge, port)))
    {
        let down = || port.interfaces.iter().filter(|interface| !interface.link_up);
        // All of them down is an error of its own.
        if down().count() < port.interfaces.len() {
            told.extend(down().map(|interface| {
                let place = format!("bond {} on {}", port.name, bridge.name);
                Told::warning(
                    format!("{place} works without {}", interface.name),
                    format!("look at the cable of {}", interface.name),
                )
            }));
        }
    }
    Ok(told)
}

fn gluster(answer: Value, around: Around) -> Result<Vec<Told>> {
    Ok(crate::gluster::read(&parsed(answer)?, around.has("brick")))
}
