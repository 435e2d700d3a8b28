//! What pacemaker says of itself (`crm_mon --output-as=xml`), and corosync of its quorum. Parsers on recorded output.

use anyhow::{Context, Result};
use roxmltree::{Document, Node};
use serde::Serialize;

use crate::rows::{PROVIDER, vm_of};

/// The cluster as pacemaker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Engine {
    /// The node that decides; none while one is elected.
    pub dc: Option<String>,
    /// `maintenance-mode`.
    pub maintenance: bool,
    /// `stop-all-resources`.
    pub stops_all: bool,
    /// `stonith-enabled`: a node that is lost is waited for until its watchdog must have reset it.
    pub fences: bool,
    /// Fencing that failed, since somebody last forgot the history: so often at least; 0 where it was not asked for, or could
    /// not be.
    pub failed_fencing: usize,
    /// All nodes it knows.
    pub nodes: Vec<NodeState>,
    /// Our VMs, by resource: `pc-vm-mail`.
    pub vms: Vec<Resource>,
    /// Instances of our probes.
    pub probes: Vec<Resource>,
}

/// A node as pacemaker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// It is a member and pacemaker runs there.
    pub online: bool,
    /// It was drained.
    pub drained: bool,
    /// It was lost and is not yet known to be dead.
    pub unclean: bool,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: String,
    /// Pacemaker's word: `Started`, `Stopped`, `Starting`, `Stopping`, `Migrating`.
    pub role: String,
    /// Pacemaker starts and stops it.
    pub managed: bool,
    /// Its last operation failed.
    pub failed: bool,
    /// Somebody has said that it shall not run (`target-role`).
    pub told_to_stop: bool,
    /// Where it is; two while it moves.
    pub nodes: Vec<String>,
}

impl Resource {
    /// It runs somewhere, as far as anybody knows.
    pub fn is_active(&self) -> bool {
        !self.nodes.is_empty()
    }
}

/// Reads `crm_mon --output-as=xml`.
pub fn read(xml: &str) -> Result<Engine> {
    let document = Document::parse(xml).context("reading crm_mon's answer")?;
    let all = |tag: &'static str| document.descendants().filter(move |node| node.has_tag_name(tag));
    let yes = |node: &Node, name: &str| node.attribute(name) == Some("true");
    let options = all("cluster_options").next();
    let nodes = all("nodes")
        .next()
        .into_iter()
        .flat_map(|nodes| nodes.children().filter(|node| node.has_tag_name("node")).collect::<Vec<_>>());
    let resource = |node: Node| Resource {
        id: node.attribute("id").unwrap_or_default().into(),
        role: node.attribute("role").unwrap_or("unknown").into(),
        managed: yes(&node, "managed"),
        failed: yes(&node, "failed"),
        told_to_stop: node.attribute("target_role") == Some("Stopped"),
        nodes: node
            .children()
            .filter(|child| child.has_tag_name("node"))
            .filter_map(|child| child.attribute("name"))
            .map(String::from)
            .collect(),
    };
    let of = |agent: &str| {
        let agent = format!("ocf:{PROVIDER}:{agent}");
        all("resource")
            .filter(|node| node.attribute("resource_agent") == Some(&agent))
            .map(resource)
            .collect()
    };
    Ok(Engine {
        dc: all("current_dc").next().and_then(|dc| dc.attribute("name")).map(String::from),
        maintenance: options.is_some_and(|options| yes(&options, "maintenance-mode")),
        stops_all: options.is_some_and(|options| yes(&options, "stop-all-resources")),
        fences: options.is_some_and(|options| yes(&options, "stonith-enabled")),
        nodes: nodes
            .map(|node| NodeState {
                name: node.attribute("name").unwrap_or_default().into(),
                online: yes(&node, "online") && !yes(&node, "pending"),
                drained: yes(&node, "standby"),
                unclean: yes(&node, "unclean"),
            })
            .collect(),
        failed_fencing: all("fence_event")
            .filter(|event| event.attribute("status") == Some("failed"))
            .count(),
        vms: of("pc-vm"),
        probes: of("pc-volume"),
    })
}

impl Engine {
    /// A node.
    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A resource of a VM.
    pub fn vm(&self, resource: &str) -> Option<&Resource> {
        self.vms.iter().find(|vm| vm.id == resource)
    }

    /// Our VMs that are on a node.
    pub fn vms_on(&self, node: &str) -> Vec<String> {
        let on = self.vms.iter().filter(|vm| vm.nodes.iter().any(|at| at == node));
        on.map(|vm| vm_of(&vm.id).to_string()).collect()
    }
}

/// What `corosync-quorumtool -s` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quorum {
    /// This node's part of the cluster may act.
    pub quorate: bool,
    /// Votes there are.
    pub votes: u32,
    /// Votes that all nodes (and the quorum device) have.
    pub expected: u32,
    /// Votes that are needed.
    pub needed: u32,
}

/// Reads `corosync-quorumtool -s`.
pub fn read_quorum(text: &str) -> Result<Quorum> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(str::trim).with_context(|| format!("reading corosync-quorumtool's answer: no {key:?}"))
    };
    let number = |key: &str| -> Result<u32> {
        let text = value(key)?;
        // `Quorum:  2 Activity blocked`
        let digits = text.split_whitespace().next().unwrap_or_default();
        digits.parse().with_context(|| format!("reading corosync-quorumtool's answer: {key}: {text:?}"))
    };
    Ok(Quorum {
        quorate: value("Quorate")? == "Yes",
        votes: number("Total votes")?,
        expected: number("Expected votes")?,
        needed: number("Quorum")?,
    })
}

/// Whether corosync-qdevice has registered its vote, by the flags of `corosync-quorumtool -s`.
pub fn read_quorum_device(text: &str) -> bool {
    let flags = text.lines().find_map(|line| line.strip_prefix("Flags:"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "Qdevice"))
}

/// Names (or addresses) of the members that `corosync-quorumtool -s` lists: whoever is among them is alive.
pub fn read_members(text: &str) -> Vec<String> {
    let table = text.lines().skip_while(|line| line.trim() != "Membership information");
    // Title, rule, header; then `Nodeid Votes [Qdevice] Name [(local)]`.
    let names = table.skip(3).filter_map(|line| line.trim_end_matches("(local)").split_whitespace().last());
    names.map(String::from).collect()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
