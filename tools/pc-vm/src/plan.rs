//! What would bring this node's libvirt to the file. Pure.

use std::collections::BTreeMap;
use std::fmt;

use pc_plan::{Plan, Step};
use serde::{Deserialize, Serialize};

use crate::domain::Definition;
use crate::hypervisor::Found;
use crate::listen::{self, Listening};

/// What the file asks of this node.
#[derive(Debug, Clone)]
pub struct Want {
    /// This node.
    pub node: String,
    /// Every VM of the file: each may come to run here.
    pub definitions: Vec<Definition>,
    /// Where other nodes reach this libvirt; `None` when there are no others, or no certificate yet.
    pub listen: Option<listen::Want>,
}

/// What there is.
#[derive(Debug, Clone, Serialize)]
pub struct Have {
    /// All domains of this libvirt.
    pub domains: Vec<Found>,
    /// Definitions on the node's own disk, by VM.
    pub files: BTreeMap<String, String>,
    /// Whether other nodes can reach this libvirt.
    pub listening: Listening,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Write the definition to the node's own disk.
    Render {
        /// The VM.
        vm: String,
        /// SHA-256 of what it says.
        digest: String,
    },
    /// Hand the definition to libvirt.
    Define {
        /// The VM.
        vm: String,
        /// SHA-256 of what it says.
        digest: String,
        /// It runs: the change counts from its next start.
        running: bool,
    },
    /// Stop libvirt from starting it by itself.
    AutostartOff {
        /// The VM.
        vm: String,
    },
    /// Forget a definition of ours that the file no longer has. The disk stays.
    Forget {
        /// The VM.
        vm: String,
        /// Its domain, when libvirt still knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<String>,
    },
    /// Have libvirt listen for the other nodes, with TLS.
    Listen {
        /// The node's address and libvirt's port.
        address: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Render { vm, .. } => write!(f, "render the definition of vm {vm}"),
            Action::Define { vm, running: false, .. } => write!(f, "define vm {vm}"),
            Action::Define { vm, running: true, .. } => write!(f, "redefine vm {vm}, from its next start"),
            Action::AutostartOff { vm } => write!(f, "turn off libvirt's autostart of vm {vm}"),
            Action::Forget { vm, .. } => write!(f, "forget vm {vm}, which left the file; its disk stays"),
            Action::Listen { address } => write!(f, "have libvirt listen on {address} with TLS"),
        }
    }
}

/// A plan, and what needs a person.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan<Action>,
    /// Domains that stand in the way and are not ours to change.
    pub conflicts: Vec<String>,
    /// Worth knowing, nothing to do.
    pub notices: Vec<String>,
    /// VMs that run by another definition than the file's, which takes effect at their next start.
    pub pending: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        self.conflicts.iter().try_for_each(|line| writeln!(f, "cannot be done: {line}"))?;
        self.notices.iter().try_for_each(|line| writeln!(f, "note: {line}"))?;
        self.pending.iter().try_for_each(|vm| {
            writeln!(
                f,
                "note: vm {vm} runs by an older definition, the file's takes effect at its next start"
            )
        })
    }
}

/// Compares.
pub fn plan(want: &Want, have: &Have) -> Outcome {
    let mut steps = Vec::new();
    let mut conflicts = Vec::new();
    let mut notices = Vec::new();
    for definition in &want.definitions {
        match obstacle(definition, have) {
            Some(conflict) => conflicts.push(conflict),
            None => steps.extend(for_vm(definition, have)),
        }
    }
    let wanted = |name: &str| want.definitions.iter().any(|definition| definition.name == name);
    for found in have.domains.iter().filter(|found| found.mark.is_some() && !wanted(&found.name)) {
        if found.active {
            notices.push(format!("vm {} left the file and runs: left alone", found.name));
        } else {
            steps.push(forget(&found.name, Some(found.uuid.clone())));
        }
    }
    let known = |name: &str| have.domains.iter().any(|found| found.name == name);
    steps.extend(
        have.files.keys().filter(|name| !wanted(name) && !known(name)).map(|name| forget(name, None)),
    );
    if let Some(listen) = want.listen.as_ref().filter(|listen| !have.listening.is(listen)) {
        let action = Action::Listen { address: listen.address() };
        steps.push(Step { id: "listen".into(), needs: Vec::new(), action });
    }
    let pending = want.definitions.iter().filter(|definition| is_pending(definition, have));
    let pending = pending.map(|definition| definition.name.clone()).collect();
    Outcome { plan: Plan::new("pc.vm.plan/1", &want.node, have, steps), conflicts, notices, pending }
}

/// It was started by another definition of ours.
fn is_pending(definition: &Definition, have: &Have) -> bool {
    let found = have.domains.iter().find(|found| found.uuid == definition.uuid);
    let mark = found.and_then(|found| found.running_mark.as_ref());
    mark.is_some_and(|mark| *mark != definition.digest)
}

fn forget(name: &str, uuid: Option<String>) -> Step<Action> {
    let action = Action::Forget { vm: name.into(), uuid };
    Step { id: format!("{name}/forget"), needs: Vec::new(), action }
}

/// A domain in the way that is not ours to change.
fn obstacle(definition: &Definition, have: &Have) -> Option<String> {
    let Definition { name, uuid, .. } = definition;
    let in_the_way = have.domains.iter().find(|found| {
        let same_name = found.name == *name;
        let same_uuid = found.uuid == *uuid;
        (same_name || same_uuid) && !(same_name && same_uuid && found.mark.is_some())
    })?;
    Some(match in_the_way.mark {
        None => format!(
            "vm {name}: libvirt has a domain {} that was not made by pc-vm\n  virsh domrename {} {}-old",
            in_the_way.name, in_the_way.name, in_the_way.name
        ),
        Some(_) => format!(
            "vm {name}: its domain has UUID {}, of another cluster name; the file's is {uuid}\n  virsh undefine --keep-nvram {}",
            in_the_way.uuid, in_the_way.name
        ),
    })
}

fn for_vm(definition: &Definition, have: &Have) -> Vec<Step<Action>> {
    let vm = definition.name.clone();
    let digest = definition.digest.clone();
    let mut steps = Vec::new();
    let mut needs = Vec::new();
    if have.files.get(&vm) != Some(&definition.xml) {
        let id = format!("{vm}/render");
        needs.push(id.clone());
        let action = Action::Render { vm: vm.clone(), digest: digest.clone() };
        steps.push(Step { id, needs: Vec::new(), action });
    }
    let found = have.domains.iter().find(|found| found.uuid == definition.uuid);
    if found.and_then(|found| found.mark.as_ref()) != Some(&digest) {
        let running = found.is_some_and(|found| found.active);
        let action = Action::Define { vm: vm.clone(), digest, running };
        steps.push(Step { id: format!("{vm}/define"), needs, action });
    }
    if found.is_some_and(|found| found.autostart) {
        let action = Action::AutostartOff { vm: vm.clone() };
        steps.push(Step { id: format!("{vm}/autostart-off"), needs: Vec::new(), action });
    }
    steps
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub mod tests;
