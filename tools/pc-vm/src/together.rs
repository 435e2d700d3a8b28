//! Which VMs that the file keeps apart run on a node together.

use std::collections::BTreeMap;

use cluster::{Cluster, identity};
use pc_cli::log;
use serde::Serialize;

use crate::domain::Guest;
use crate::hypervisor::{Hypervisor, LOOK};

/// VMs of a group on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Together {
    /// What they have in common (`apart`).
    pub group: String,
    /// Those that run here, by name.
    pub vms: Vec<String>,
}

/// By group, of those VMs that run on a node.
pub fn together<'a>(cluster: &Cluster, running: impl Iterator<Item = &'a str>) -> Vec<Together> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in running {
        if let Some(group) = cluster.vms.get(name).and_then(|vm| vm.apart.as_ref()) {
            groups.entry(group.as_str()).or_default().push(name.into());
        }
    }
    let several = groups.into_iter().filter(|(_, vms)| vms.len() > 1);
    several.map(|(group, vms)| Together { group: group.into(), vms }).collect()
}

/// Says so when a VM comes to a node that runs another one of its group. Whoever asks for that may mean it: for once, or
/// because no other node is left.
pub fn warn(guest: &Guest, node: &str, libvirt: &Hypervisor) {
    let Some(group) = &guest.vm.apart else { return };
    let others = guest.cluster.vms.iter();
    let others = others.filter(|(name, vm)| *name != guest.name && vm.apart.as_ref() == Some(group));
    for (other, _) in others {
        let uuid = identity::uuid(&guest.cluster.name, other);
        // What cannot be told now, `status` tells later.
        if libvirt.live(&uuid, LOOK).is_ok_and(|live| live.is_some_and(|live| live.active)) {
            log::warning(format_args!(
                "vm {}: {node} runs {other} too, group {group} keeps them apart",
                guest.name
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_a_group_on_one_node_are_told() {
        let node = |number| {
            format!(
                "[[node]]\nname = \"n{number}\"\naddress = \"192.0.2.{number}/24\"\n\
                 disks.vms = [\"/dev/disk/by-id/virtio-n{number}\"]\n"
            )
        };
        let vm = |(name, rest): (&str, &str)| {
            format!("[vm.{name}]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\n{rest}")
        };
        let head =
            "schema = \"personal-cluster/1\"\nname = \"home\"\n[volume.vms]\nuse = \"vm\"\nreplicas = 3\n";
        let vms = [
            ("ns1", "apart = \"dns\"\n"),
            ("ns2", "apart = \"dns\"\nhome = \"n2\"\n"),
            ("mx1", "apart = \"mail\"\n"),
            ("mx2", "apart = \"mail\"\nhome = \"n2\"\n"),
            ("web", ""),
        ];
        let file: String =
            std::iter::once(head.to_string()).chain((1..=3).map(node)).chain(vms.map(vm)).collect();
        let cluster = cluster::parse("test", &file).unwrap();
        let told = together(&cluster, ["mx1", "ns1", "ns2", "web"].into_iter());
        assert_eq!(told, [Together { group: "dns".into(), vms: vec!["ns1".into(), "ns2".into()] }]);
        assert_eq!(together(&cluster, ["mx1", "ns2", "web"].into_iter()), []);
    }
}
