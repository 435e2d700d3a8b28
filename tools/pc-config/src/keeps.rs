//! What a new file may not change of VMs that exist: which of them they are, and where their disk is. Pure.

use anyhow::Result;
use cluster::{Cluster, Name, Use, Vm, paths};
use pc_cli::refused;

use crate::before::Before;
use crate::plan::Have;

/// Refuses a file that would make VMs of the one in force into others, or give one an empty disk.
pub fn keeps_vms(file: &str, have: &Have, new: &Cluster) -> Result<()> {
    let kept = match have.before() {
        Before::Nothing => return Ok(()),
        Before::Unreadable(told) => return Err(refused(format!("{file}: {told}"))),
        Before::File(kept) => kept,
    };
    keeps_its_name(file, &kept, new)
        .and_then(|()| keep_their_homes(file, &kept, new))
        .and_then(|()| keep_their_volumes(file, &kept, new))
        .and_then(|()| volumes_keep_their_use(file, &kept, new))
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

/// A VM whose disk is elsewhere would start with an empty one, and its backups would go on with that.
fn keep_their_volumes(file: &str, kept: &Cluster, new: &Cluster) -> Result<()> {
    let moved = |(name, vm): (&Name, &Vm)| {
        let after = &new.vms.get(name)?.volume;
        (*after != vm.volume).then(|| (name.clone(), vm.volume.clone(), after.clone()))
    };
    let Some((name, before, after)) = kept.vms.iter().find_map(moved) else { return Ok(()) };
    let [from, to] = [&before, &after].map(|volume| format!("{}/vms/{name}", paths::volume_mount(volume)));
    Err(refused(format!(
        "{file}: vm.{name}: its volume would be {after}, and its disk is on {before}: it would start with an empty one\n  \
         volume = \"{before}\"; or stop it, take [vm.{name}] out, push, move {from} to {to}, put it in again and push"
    )))
}

/// A local volume is a file system of one node, a replicated one Gluster's over bricks: what lies in the one is not to be seen
/// in the other, although both are mounted at the same place.
fn volumes_keep_their_use(file: &str, kept: &Cluster, new: &Cluster) -> Result<()> {
    let purpose = |cluster: &Cluster, vm: &Vm| cluster.volumes.get(&vm.volume).map(|volume| volume.purpose);
    let changed = |(name, vm): (&Name, &Vm)| {
        let (before, after) = (purpose(kept, vm)?, purpose(new, new.vms.get(name)?)?);
        ((before == Use::Local) != (after == Use::Local)).then(|| (name.clone(), vm.volume.clone(), before))
    };
    let Some((name, volume, before)) = kept.vms.iter().find_map(changed) else { return Ok(()) };
    let (before, after) = if before == Use::Local { ("local", "vm") } else { ("vm", "local") };
    Err(refused(format!(
        "{file}: vm.{name}: its volume {volume} would have use = \"{after}\", and its disk is where \"{before}\" has it: it would start \
         with an empty one\n  use = \"{before}\" in [volume.{volume}]; or write a second [volume.OTHER] with use = \"{after}\", stop \
         {name}, take [vm.{name}] out, push, move {from} to /mnt/OTHER/vms/{name}, put it in again with volume = \"OTHER\" and push",
        from = format_args!("{}/vms/{name}", paths::volume_mount(&volume)),
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
    fn a_disk_stays_where_it_is() {
        const NODES: [&str; 2] = ["node1", "node2"];
        const TURNED: [&str; 2] = ["node2", "node1"];
        let (on1, on2) = ("volume = \"v\"\nhome = \"node1\"\n", "volume = \"v\"\nhome = \"node2\"\n");
        let (bare, to_w) = ("volume = \"v\"\n", "volume = \"w\"\nhome = \"node2\"\n");
        let home = "its home would be node2, and its disk is on node1 alone: v is a local volume\n  home = \"node1\"; or ";
        let volume = "its volume would be w, and its disk is on v: it would start with an empty one\n  volume = \"v\"; or ";
        let to_vm = "its volume v would have use = \"vm\", and its disk is where \"local\" has it: it would start with an \
                     empty one\n  use = \"local\" in [volume.v]; or ";
        let to_local = "its volume v would have use = \"local\", and its disk is where \"vm\" has it: it would start with an \
                        empty one\n  use = \"vm\" in [volume.v]; or ";
        for (what, kept, new, said) in [
            ("the same", ("local", NODES, on1), ("local", NODES, on1), None),
            ("another home", ("local", NODES, on1), ("local", NODES, on2), Some(home)),
            ("the first node is another", ("local", NODES, bare), ("local", TURNED, bare), Some(home)),
            ("only written down", ("local", NODES, bare), ("local", TURNED, on1), None),
            ("another home and volume", ("local", NODES, on1), ("local", NODES, to_w), Some(home)),
            ("another volume", ("local", NODES, on2), ("local", NODES, to_w), Some(volume)),
            ("another volume than a replicated one", ("vm", NODES, on1), ("vm", NODES, to_w), Some(volume)),
            ("a replicated disk", ("vm", NODES, on1), ("vm", NODES, on2), None),
            ("a replicated volume instead", ("local", NODES, on1), ("vm", NODES, on1), Some(to_vm)),
            ("a local volume instead", ("vm", NODES, on1), ("local", NODES, on1), Some(to_local)),
            ("another use and volume", ("local", NODES, on2), ("vm", NODES, to_w), Some(volume)),
            ("another use, and nothing on it", ("local", NODES, "none"), ("vm", NODES, "none"), None),
            ("another use, and a new VM", ("vm", NODES, "none"), ("local", NODES, on1), None),
            ("another use, and taken out", ("local", NODES, on1), ("vm", NODES, "none"), None),
            ("a new VM", ("local", NODES, "none"), ("local", NODES, on2), None),
            ("taken out", ("local", NODES, on1), ("local", NODES, "none"), None),
        ] {
            let of = |(purpose, nodes, vm)| file(purpose, nodes, vm);
            let have = Have { kept: Some((Generation::new(1, &of(kept)), true)), ..Have::default() };
            let told = keeps_vms("x.toml", &have, &cluster::parse("x", &of(new)).unwrap());
            let told = told.err().map(|told| told.to_string());
            assert_eq!(told.is_some(), said.is_some(), "{what}: {told:?}");
            if let (Some(told), Some(said)) = (told, said) {
                assert!(told.starts_with(&format!("x.toml: vm.mail: {said}")), "{what}: {told}");
            }
        }
    }
}
