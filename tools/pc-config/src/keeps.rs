//! What a new file may not change of VMs that exist: which of them they are, and where their disk is. Pure.

use anyhow::Result;
use cluster::{Cluster, Name, Use, Vm};
use pc_cli::refused;

use crate::plan::Have;

/// Refuses a file that would make VMs of the one in force into others, or give one an empty disk.
pub fn keeps_vms(file: &str, have: &Have, new: &Cluster) -> Result<()> {
    let kept = have.kept.as_ref().and_then(|(kept, _)| cluster::parse("", &kept.file).ok());
    match kept {
        Some(kept) => keeps_its_name(file, &kept, new).and_then(|()| keep_their_homes(file, &kept, new)),
        None => Ok(()),
    }
}

/// The UUID of a VM is derived from the names of the cluster and of the VM (pc-vm): under another name a VM that runs is one
/// that nobody has started yet.
fn keeps_its_name(file: &str, kept: &Cluster, new: &Cluster) -> Result<()> {
    let Some(vm) = kept.vms.keys().find(|_| kept.name != new.name) else { return Ok(()) };
    Err(refused(format!(
        "{file}: name = \"{}\": this cluster is called {kept_name} and has VMs, {vm} for one, which would be others under another name\n  \
         name = \"{kept_name}\"",
        new.name,
        kept_name = kept.name,
    )))
}

/// The disk and the owner record of a VM on a local volume are on its home alone: another home would make an empty disk and
/// start a second VM of that name.
fn keep_their_homes(file: &str, kept: &Cluster, new: &Cluster) -> Result<()> {
    let home = |cluster: &Cluster, vm: &Vm| cluster.home_of(vm).map(|node| node.name.clone());
    let moved = |(name, vm): (&Name, &Vm)| {
        let (before, after) = (home(kept, vm)?, home(new, new.vms.get(name)?)?);
        let is_local = kept.volumes.get(&vm.volume).is_some_and(|volume| volume.purpose == Use::Local);
        (is_local && before != after).then(|| (name.clone(), vm.volume.clone(), before, after))
    };
    let Some((name, volume, before, after)) = kept.vms.iter().find_map(moved) else { return Ok(()) };
    Err(refused(format!(
        "{file}: vm.{name}: its home would be {after}, and its disk is on {before} alone: {volume} is a local volume\n  \
         home = \"{before}\"; or stop it, take [vm.{name}] out, push, copy its disk to {after}, put it in again and push"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Generation;

    /// Two nodes; `purpose` of the volume, the first of the nodes, the VM's own lines.
    fn file(purpose: &str, nodes: [&str; 2], vm: &str) -> String {
        use std::fmt::Write;
        let mut text = String::from("schema = \"personal-cluster/1\"\nname = \"home\"\n");
        for node in nodes {
            let number = node.trim_start_matches("node");
            let _ = writeln!(
                text,
                "[[node]]\nname = \"{node}\"\naddress = \"10.0.0.{number}\"\ndisks.v = [\"/dev/disk/by-id/ata-{number}\"]\n\
                 disks.w = [\"/dev/disk/by-id/nvme-{number}\"]"
            );
        }
        let vm = if vm == "none" {
            String::new()
        } else {
            format!("[vm.mail]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\n{vm}")
        };
        format!("{text}[volume.v]\nuse = \"{purpose}\"\nreplicas = 1\n[volume.w]\nuse = \"local\"\n{vm}")
    }

    #[test]
    fn a_local_disk_stays_with_its_home() {
        const NODES: [&str; 2] = ["node1", "node2"];
        const TURNED: [&str; 2] = ["node2", "node1"];
        let (on1, on2) = ("volume = \"v\"\nhome = \"node1\"\n", "volume = \"v\"\nhome = \"node2\"\n");
        let (bare, to_w) = ("volume = \"v\"\n", "volume = \"w\"\nhome = \"node2\"\n");
        for (what, kept, new, passes) in [
            ("the same", ("local", NODES, on1), ("local", NODES, on1), true),
            ("another home", ("local", NODES, on1), ("local", NODES, on2), false),
            ("the first node is another", ("local", NODES, bare), ("local", TURNED, bare), false),
            ("only written down", ("local", NODES, bare), ("local", TURNED, on1), true),
            ("another home and volume", ("local", NODES, on1), ("local", NODES, to_w), false),
            ("a replicated disk", ("vm", NODES, on1), ("vm", NODES, on2), true),
            ("a new VM", ("local", NODES, "none"), ("local", NODES, on2), true),
            ("taken out", ("local", NODES, on1), ("local", NODES, "none"), true),
        ] {
            let of = |(purpose, nodes, vm)| file(purpose, nodes, vm);
            let have = Have { kept: Some((Generation::new(1, &of(kept)), true)), ..Have::default() };
            let told = keeps_vms("x.toml", &have, &cluster::parse("x", &of(new)).unwrap());
            assert_eq!(told.is_ok(), passes, "{what}: {told:?}");
            if let Err(told) = told {
                let told = told.to_string();
                assert!(
                    told.starts_with("x.toml: vm.mail: its home would be node2, and its disk is on node1 alone: v is a local volume\n  home = \"node1\"; or "),
                    "{what}: {told}"
                );
            }
        }
    }
}
