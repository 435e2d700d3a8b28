//! pc-vm: what this node knows of every VM of the file.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_vm_healthy" [] "1 when nothing is wrong with the VMs, as far as this node knows.";
    REACHABLE: Gauge "pc_vm_reachable_by_peers" [] "1 when this node's libvirt listens for the other nodes, or there are none.";
    PROBLEMS: Gauge "pc_vm_problems" [] "What is wrong with the VMs, counted; pc-vm status says it in words.";
    STATE: Gauge "pc_vm_state" ["vm", "state"] "1 for the state that this node's libvirt gives the VM, in virsh's words; unknown when it does not answer.";
    RUNNING_HERE: Gauge "pc_vm_running_here" ["vm"] "1 when the VM runs on this node.";
    SHOULD_RUN_HERE: Gauge "pc_vm_should_run_here" ["vm"] "1 when the VM should run on this node; no series where pacemaker decides.";
    DEFINED: Gauge "pc_vm_defined" ["vm"] "1 when this node's libvirt knows the VM.";
    CURRENT: Gauge "pc_vm_definition_current" ["vm"] "1 when this node's definition of the VM is the file's.";
    DISK_LOCKED: Gauge "pc_vm_disk_locked" ["vm"] "1 when QEMU holds its lock on the disk of a VM that runs on this node; 0 after the restart of a brick.";
    OWNER: Info "pc_vm_owner_info" ["vm", "owner"] "The node that the VM's record on its volume names.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    reachable_by_peers: bool,
    problems: Vec<String>,
    vms: Vec<Vm>,
}

#[derive(Deserialize)]
struct Vm {
    name: String,
    defined: bool,
    current: bool,
    state: String,
    here: bool,
    should_run_here: Option<bool>,
    owner: Option<String>,
    #[serde(default)]
    disk_locked: Option<bool>,
}

/// `pc.vm.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    samples.truth(&REACHABLE, &[], status.reachable_by_peers);
    samples.length(&PROBLEMS, &[], &status.problems);
    for vm in &status.vms {
        let name = [vm.name.as_str()];
        samples.info(&STATE, &[&vm.name, &vm.state]);
        if let Some(should) = vm.should_run_here {
            samples.truth(&SHOULD_RUN_HERE, &name, should);
        }
        if let Some(owner) = &vm.owner {
            samples.info(&OWNER, &[&vm.name, owner]);
        }
        if let Some(locked) = vm.disk_locked {
            samples.truth(&DISK_LOCKED, &name, locked);
        }
        // While libvirt is silent, "not here" would be a claim.
        if vm.state != "unknown" {
            samples.truth(&RUNNING_HERE, &name, vm.here);
            samples.truth(&DEFINED, &name, vm.defined);
            samples.truth(&CURRENT, &name, vm.current);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, render};

    #[test]
    fn a_lock_is_told_where_it_is_known() {
        let vm = |name: &str| {
            serde_json::json!({"name": name, "defined": true, "current": true, "state": "running", "here": true,
                "should_run_here": null, "owner": null})
        };
        let (mut lost, unknown) = (vm("mail"), vm("web"));
        lost["disk_locked"] = false.into();
        let answer = serde_json::json!({"schema": "pc.vm.status/1", "healthy": true, "reachable_by_peers": true,
            "problems": [], "vms": [lost, unknown]});
        let text = render(&read(answer).unwrap().0, Format::Text);
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with("pc_vm_disk_locked{")).collect();
        assert_eq!(told, ["pc_vm_disk_locked{vm=\"mail\"} 0"]);
    }
}
