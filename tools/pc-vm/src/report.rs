//! What the VMs do: `list` over all nodes, `status` of this one. Values here, gathering in gather.rs.

use std::fmt;

use cluster::Bytes;
use serde::Serialize;

use crate::spare::Misfit;
use crate::together::Together;

/// `pc.vm.list/1`: every VM of the file, as far as the nodes answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct List {
    /// `pc.vm.list/1`.
    pub schema: &'static str,
    /// The node that asked.
    pub node: String,
    /// By name.
    pub vms: Vec<ListedVm>,
    /// In the order of the file.
    pub nodes: Vec<ListedNode>,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedVm {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// virsh's word; `undefined` where no libvirt knows it; `unknown` while a node that may run it is silent.
    pub state: String,
    /// Why, when it is paused or unknown.
    pub reason: Option<String>,
    /// Where it runs.
    pub node: Option<String>,
    /// Where it should run; null when pacemaker decides.
    pub should_run_on: Option<String>,
    /// The node it prefers.
    pub home: String,
    /// Virtual CPUs, by the file.
    pub cpus: u16,
    /// Memory it has now, else what the file gives it.
    pub memory_bytes: u64,
    /// The volume of its disk.
    pub volume: String,
    /// Size of the disk that the guest sees, by the file.
    pub disk_bytes: u64,
    /// What the disk really takes; null when it cannot be seen from here.
    pub disk_allocated_bytes: Option<u64>,
    /// How long it has been running on this node; null when it runs elsewhere.
    pub uptime_seconds: Option<u64>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedNode {
    /// Its name.
    pub name: String,
    /// Its libvirt answered.
    pub reachable: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["VM", "STATE", "NODE", "HOME", "CPUS", "MEMORY", "DISK", "VOLUME"].map(String::from);
        let mut rows = vec![header.to_vec()];
        rows.extend(self.vms.iter().map(|vm| {
            vec![
                vm.name.clone(),
                vm.state.clone(),
                vm.node.clone().unwrap_or_else(|| "-".into()),
                vm.home.clone(),
                vm.cpus.to_string(),
                Bytes(vm.memory_bytes).to_string(),
                Bytes(vm.disk_bytes).to_string(),
                vm.volume.clone(),
            ]
        }));
        table(f, &rows)?;
        for vm in &self.vms {
            if let Some(reason) = &vm.reason {
                writeln!(f, "{}: {reason}", vm.name)?;
            }
        }
        for node in self.nodes.iter().filter(|node| !node.reachable) {
            writeln!(f, "{} does not answer: {}", node.name, node.reason.as_deref().unwrap_or("no reason"))?;
        }
        Ok(())
    }
}

/// Columns as wide as their widest cell.
fn table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// `pc.vm.status/1`: this node. Also the last status in /run/personal-cluster/vm.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `pc.vm.status/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// When, RFC 3339 UTC.
    pub measured_at: String,
    /// Nothing is wrong.
    pub healthy: bool,
    /// libvirt listens for the other nodes, or there are none.
    pub reachable_by_peers: bool,
    /// What is wrong or worth knowing, a line each.
    pub problems: Vec<String>,
    /// Nodes whose loss the others have no room for; no fault of now.
    pub misfits: Vec<Misfit>,
    /// VMs that the file keeps apart, and that run here all the same; no fault while nodes are away.
    pub together: Vec<Together>,
    /// By name: every VM of the file, and what of ours this libvirt knows besides.
    pub vms: Vec<StatusVm>,
}

/// One VM on this node.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusVm {
    /// Its name.
    pub name: String,
    /// libvirt knows it here.
    pub defined: bool,
    /// The definition is the file's; a running VM has it from its next start.
    pub current: bool,
    /// It runs by another definition than the file's, which takes effect at its next start.
    pub pending: bool,
    /// virsh's word on this node; `unknown` while its libvirt does not answer.
    pub state: String,
    /// Why, when it is paused or unknown.
    pub reason: Option<String>,
    /// It runs on this node: libvirt says so, or the kernel shows its QEMU.
    pub here: bool,
    /// It should run on this node; null when pacemaker decides.
    pub should_run_here: Option<bool>,
    /// Who owns it by the record on its volume; null when it was never started or the volume is not mounted.
    pub owner: Option<String>,
    /// QEMU holds its lock on the disk; absent where it does not run, and where nobody knows. Without it a second QEMU would
    /// not be kept away; no fault of now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_locked: Option<bool>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.healthy { "healthy" } else { "not healthy" };
        writeln!(f, "{}: {verdict}", self.node)?;
        for vm in &self.vms {
            write!(f, "vm {}: {}", vm.name, vm.state)?;
            if let Some(reason) = &vm.reason {
                write!(f, " ({reason})")?;
            }
            if let Some(owner) = vm.owner.as_ref().filter(|owner| **owner != self.node) {
                write!(f, ", owned by {owner}")?;
            }
            if vm.pending {
                write!(f, ", by an older definition: the file's takes effect at its next start")?;
            }
            if vm.disk_locked == Some(false) {
                write!(f, ", without QEMU's lock on its disk: it is taken anew where the VM is moved to")?;
            }
            writeln!(f)?;
        }
        self.problems.iter().try_for_each(|line| writeln!(f, "problem: {line}"))?;
        self.misfits.iter().try_for_each(|Misfit { node, vms }| {
            writeln!(f, "note: were {node} lost, no other node would have the memory for {}", vms.join(", "))
        })?;
        self.together.iter().try_for_each(|Together { group, vms }| {
            writeln!(f, "note: {} run here together, group {group} keeps them apart", vms.join(" and "))
        })
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
