//! `pc-vm list`: sizes of the VMs that run on this node, and whether the other nodes' libvirt answers it.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    CPUS: Gauge "pc_vm_cpus" ["vm"] "Virtual CPUs of a VM that runs on this node.";
    MEMORY: Gauge "pc_vm_memory_bytes" ["vm"] "Memory of a VM that runs on this node.";
    DISK: Gauge "pc_vm_disk_bytes" ["vm"] "Disk of a VM that runs on this node, as the guest sees it.";
    ALLOCATED: Gauge "pc_vm_disk_allocated_bytes" ["vm"] "What the disk of a VM that runs on this node takes on its volume.";
    UPTIME: Gauge "pc_vm_uptime_seconds" ["vm"] "How long the VM has been running on this node.";
    PEER: Gauge "pc_vm_peer_reachable" ["peer"] "1 when the libvirt of that node answers this one.";
}

#[derive(Deserialize)]
struct List {
    node: String,
    vms: Vec<Vm>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Vm {
    name: String,
    node: Option<String>,
    cpus: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    disk_allocated_bytes: Option<u64>,
    uptime_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    reachable: bool,
}

/// `pc.vm.list/1`. Every node is asked for the same list: each tells only of what runs on itself.
pub fn read(answer: Value) -> Result<Samples> {
    let list: List = parsed(answer)?;
    let mut samples = Samples::default();
    for vm in list.vms.iter().filter(|vm| vm.node.as_ref() == Some(&list.node)) {
        let name = [vm.name.as_str()];
        samples.count(&CPUS, &name, vm.cpus);
        samples.count(&MEMORY, &name, vm.memory_bytes);
        samples.count(&DISK, &name, vm.disk_bytes);
        if let Some(bytes) = vm.disk_allocated_bytes {
            samples.count(&ALLOCATED, &name, bytes);
        }
        if let Some(seconds) = vm.uptime_seconds {
            samples.count(&UPTIME, &name, seconds);
        }
    }
    for node in list.nodes.iter().filter(|node| node.name != list.node) {
        samples.truth(&PEER, &[&node.name], node.reachable);
    }
    Ok(samples)
}
