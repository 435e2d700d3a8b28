//! Whether a new file puts another disk in the place of one that holds VMs. Pure, but for the warning.

use cluster::{Cluster, DevicePath, Name, Use, paths};
use pc_cli::log;

use crate::plan::Have;

/// A disk of a local volume that leaves the file, and whose disks lie on it.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    node: String,
    volume: Name,
    before: DevicePath,
    after: Option<DevicePath>,
    vms: Vec<String>,
}

/// Says which VMs have no disk on what takes its place; of `only` one node, if any. A disk that has died is replaced like this, so
/// nothing is refused.
pub fn warn(have: &Have, new: &Cluster, only: Option<&str>) {
    let before = have.before();
    let left = before.file().map(|kept| left(kept, new)).unwrap_or_default();
    for left in left.iter().filter(|left| only.is_none_or(|only| only == left.node)) {
        log::warning(format_args!("{}", told(left)));
    }
}

fn told(left: &Left) -> String {
    let Left { node, volume, before, after, vms } = left;
    let (names, first) = (vms.join(", "), vms.first().map_or("", String::as_str));
    let after = after.as_ref().map_or("no disk".into(), ToString::to_string);
    format!(
        "{node}: {after} takes the place of {before} in the local volume {volume}: the disk of {names} stays behind on that one, and \
         {} is empty after the next boot\n  \
         where {before} has died: pc-borg restore {first}, or pc-vm import {first} FILE; else write it again and push",
        paths::volume_mount(volume)
    )
}

/// Disks of local volumes with VMs of both files that are others in the new one.
fn left(kept: &Cluster, new: &Cluster) -> Vec<Left> {
    let mut all: Vec<Left> = Vec::new();
    for (name, vm) in kept.vms.iter().filter(|(name, _)| new.vms.contains_key(*name)) {
        let is_local = kept.volumes.get(&vm.volume).is_some_and(|volume| volume.purpose == Use::Local);
        let Some(home) = kept.home_of(vm).filter(|_| is_local) else { continue };
        let (Some(before), after) = (disk(kept, &home.name, &vm.volume), disk(new, &home.name, &vm.volume))
        else {
            continue;
        };
        if after == Some(before) {
            continue;
        }
        match all.iter_mut().find(|left| left.before == *before) {
            Some(left) => left.vms.push(name.to_string()),
            None => all.push(Left {
                node: home.name.to_string(),
                volume: vm.volume.clone(),
                before: before.clone(),
                after: after.cloned(),
                vms: vec![name.to_string()],
            }),
        }
    }
    all
}

/// The disk of a node for a local volume, which has one.
fn disk<'a>(cluster: &'a Cluster, node: &Name, volume: &Name) -> Option<&'a DevicePath> {
    cluster.nodes.iter().find(|known| known.name == *node)?.disks.get(volume)?.first()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes with a disk each, two VMs on the first, one on the second.
    fn file(purpose: &str, disks: [&str; 2]) -> Cluster {
        use std::fmt::Write;
        let mut text = String::from("schema = \"personal-cluster/1\"\nname = \"home\"\n");
        for (number, disk) in (1..).zip(disks) {
            let _ = writeln!(
                text,
                "[[node]]\nname = \"node{number}\"\naddress = \"10.0.0.{number}\"\n\
                 disks.v = [\"/dev/disk/by-id/ata-{disk}\"]"
            );
        }
        let _ = writeln!(text, "[volume.v]\nuse = \"{purpose}\"\nreplicas = 1");
        for (vm, home) in [("dns", 1), ("mail", 1), ("web", 2)] {
            let _ = writeln!(
                text,
                "[vm.{vm}]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"v\"\nhome = \"node{home}\""
            );
        }
        cluster::parse("x", &text).unwrap()
    }

    #[test]
    fn only_the_disk_below_a_vm_is_told() {
        let of = |purpose: &str, disks| {
            let left = left(&file(purpose, ["A", "B"]), &file(purpose, disks));
            left.iter()
                .map(|left| format!("{} {}", left.node, left.vms.join(" ")))
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(of("local", ["A", "B"]), "");
        assert_eq!(of("local", ["C", "B"]), "node1 dns mail");
        assert_eq!(of("local", ["B", "A"]), "node1 dns mail; node2 web");
        assert_eq!(of("vm", ["B", "A"]), "", "replicated");
        let mut without = file("local", ["C", "B"]);
        without.vms.clear();
        assert!(left(&file("local", ["A", "B"]), &without).is_empty(), "taken out");
        without = file("local", ["A", "B"]);
        without.nodes[0].disks.clear();
        let found = left(&file("local", ["A", "B"]), &without);
        assert_eq!((found.len(), found[0].after.as_ref()), (1, None));
        assert!(
            told(&found[0]).starts_with("node1: no disk takes the place of /dev/disk/by-id/ata-A in the ")
        );
    }
}
