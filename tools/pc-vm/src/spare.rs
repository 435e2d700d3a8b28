//! Whether the other nodes have room for the VMs of one that is lost. Pure, by the sizes in the file, and counted as pacemaker
//! does: of each node's memory what its guests may have.

use std::collections::BTreeMap;

use cluster::room::for_guests;
use cluster::{Bytes, Cluster};
use serde::Serialize;

/// VMs that would be down until a node is back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// The node that would be lost.
    pub node: String,
    /// Its VMs for which no other node has the memory.
    pub vms: Vec<String>,
}

/// For each node whose loss would not fit. Only where VMs fail over (`[ha]`), and the file tells every node's memory.
pub fn misfits(cluster: &Cluster) -> Vec<Misfit> {
    let memory: Option<BTreeMap<&str, Bytes>> =
        cluster.nodes.iter().map(|node| Some((node.name.as_str(), node.memory?))).collect();
    let (Some(memory), true) = (memory, cluster.ha.is_some()) else { return Vec::new() };
    let without = |lost: &&str| {
        let vms = homeless(cluster, &memory, lost);
        (!vms.is_empty()).then(|| Misfit { node: (*lost).into(), vms })
    };
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    names.iter().filter_map(without).collect()
}

/// VMs of a lost node that find no room, the others staying where they are: the most important first, and of those the
/// largest, each to the node with most room left.
fn homeless(cluster: &Cluster, memory: &BTreeMap<&str, Bytes>, lost: &str) -> Vec<String> {
    let mut room: BTreeMap<&str, u64> = memory
        .iter()
        .filter(|(node, _)| **node != lost)
        .map(|(node, bytes)| (*node, for_guests(bytes.0)))
        .collect();
    let mut moving = Vec::new();
    for (name, vm) in &cluster.vms {
        let home = cluster.home_of(vm).map_or("", |node| node.name.as_str());
        if home == lost {
            // What is on the node alone is lost with it.
            if !cluster.stays_home(vm) {
                moving.push((name, vm));
            }
        } else if let Some(left) = room.get_mut(home) {
            *left = left.saturating_sub(vm.memory.0);
        }
    }
    moving.sort_by_key(|(_, vm)| (std::cmp::Reverse(vm.priority), std::cmp::Reverse(vm.memory)));
    let mut homeless = Vec::new();
    for (name, vm) in moving {
        let best = room.values_mut().max();
        match best.filter(|left| **left >= vm.memory.0) {
            Some(left) => *left -= vm.memory.0,
            None => homeless.push(name.to_string()),
        }
    }
    homeless
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes with 8 GiB for guests; VMs by home, memory in GiB and priority.
    fn cluster(ha: &str, volume: &str, vms: &[(&str, &str, u32, u32)]) -> Cluster {
        let node = |number| {
            format!(
                "[[node]]\nname = \"n{number}\"\naddress = \"192.0.2.{number}/24\"\nmemory = \"8739MiB\"\n\
                 disks.vms = [\"/dev/disk/by-id/virtio-n{number}\"]\n"
            )
        };
        let vm = |(name, home, memory, priority): &(&str, &str, u32, u32)| {
            format!(
                "[vm.{name}]\nmemory = \"{memory}GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\nhome = \"{home}\"\n\
                 priority = {priority}\n"
            )
        };
        let head = format!("schema = \"personal-cluster/1\"\nname = \"home\"\n{ha}[volume.vms]\n{volume}\n");
        let sections: Vec<String> = (1..=3).map(node).chain(vms.iter().map(vm)).collect();
        let file = head + &sections.concat();
        cluster::parse("test", &file).unwrap()
    }

    const HA: &str = "ha = {}\n";
    const SHARED: &str = "use = \"vm\"\nreplicas = 3";

    fn told(cluster: &Cluster) -> Vec<String> {
        misfits(cluster)
            .into_iter()
            .map(|misfit| format!("{}: {}", misfit.node, misfit.vms.join(" ")))
            .collect()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn each_loss_is_tried() {
        // Beside n1 there are 2 and 5 GiB free, beside n2 6 and 5, beside n3 6 and 2.
        let vms = [("a", "n1", 2, 0), ("b", "n2", 6, 0), ("c", "n3", 3, 0)];
        assert_eq!(told(&cluster(HA, SHARED, &vms)), NOTHING);
        // That of n2 wants 7, and the others have 5 left.
        let vms = [("a", "n1", 3, 0), ("b", "n2", 7, 0), ("c", "n3", 3, 0)];
        assert_eq!(told(&cluster(HA, SHARED, &vms)), ["n2: b"]);
        // The important one gets the room that both would need.
        let vms = [("a", "n1", 4, 1), ("b", "n1", 4, 9), ("c", "n2", 4, 0), ("d", "n3", 7, 0)];
        assert_eq!(told(&cluster(HA, SHARED, &vms)), ["n1: a", "n2: c", "n3: d"]);
    }

    #[test]
    fn where_nothing_fails_over_nothing_is_told() {
        let vms = [("a", "n1", 8, 0), ("b", "n2", 8, 0), ("c", "n3", 1, 0)];
        assert_eq!(told(&cluster(HA, SHARED, &vms)), ["n1: a", "n2: b", "n3: c"]);
        assert_eq!(told(&cluster("", SHARED, &vms)), NOTHING);
        // Their disks would be lost with the node.
        assert_eq!(told(&cluster(HA, "use = \"local\"", &vms)), NOTHING);
        let mut unknown = cluster(HA, SHARED, &vms);
        unknown.nodes[2].memory = None;
        assert_eq!(told(&unknown), NOTHING);
    }
}
