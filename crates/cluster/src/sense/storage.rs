//! `[volume.NAME]`: replica arithmetic with its reasons.

use super::{Sense, count};
use crate::model::{Node, Use, Volume};
use crate::names::Name;
use crate::sets::{SetsFault, replica_sets, set_size};
use crate::tree::at;

impl Sense<'_> {
    pub(super) fn storage(&mut self) {
        for (name, volume) in &self.cluster.volumes {
            match volume.purpose {
                Use::Local => self.local(name, volume),
                Use::Vm | Use::Backup => self.replicated(name, volume),
            }
        }
    }

    fn local(&mut self, name: &Name, volume: &Volume) {
        if volume.replicas() != 1 {
            // Another `use` of this one would leave behind what lies on it.
            let remedy = "remove replicas, or write a second [volume] with use = \"vm\" for replicated disks";
            self.error(&at!["volume", name, "replicas"], "a local volume has one copy", remedy);
        }
        if volume.arbiter {
            self.error(&at!["volume", name, "arbiter"], "a local volume has no arbiter", "remove arbiter");
        }
        if self.whole && !self.cluster.nodes.iter().any(|node| disks(node, name) > 0) {
            let fault = format!("no node has a disk for it: /mnt/{name} is for you to mount");
            self.warn(
                &at!["volume", name],
                fault,
                format!("add disks.{name} = [\"/dev/disk/by-id/...\"] to a node"),
            );
        }
    }

    fn replicated(&mut self, name: &Name, volume: &Volume) {
        if volume.replicas() == 0 {
            self.error(&at!["volume", name, "replicas"], "keeps no copy at all", "write replicas = 3");
            return;
        }
        if volume.arbiter && volume.replicas() != 2 {
            let remedy = "write replicas = 2 with arbiter = true, or replicas = 3 without";
            self.error(&at!["volume", name, "arbiter"], "an arbiter goes with two replicas", remedy);
            return;
        }
        self.redundancy(name, volume);
        if !self.whole {
            // Some disk or node was left out: counting the rest would tell nonsense.
            return;
        }
        let holders = self.cluster.nodes.iter().filter(|node| disks(node, name) > 0).count();
        match holders {
            0 => {
                let remedy =
                    format!("add disks.{name} = [\"/dev/disk/by-id/...\"] to the nodes, or remove it");
                self.error(&at!["volume", name], "no node has a disk for it", remedy);
            }
            _ if holders < set_size(volume) => self.too_few_nodes(name, volume, holders),
            _ => self.divisible(name),
        }
    }

    fn too_few_nodes(&mut self, name: &Name, volume: &Volume, holders: usize) {
        let size = set_size(volume);
        let copies = if volume.arbiter { "2 copies and an arbiter".into() } else { format!("{size} copies") };
        let verb = if holders == 1 { "has" } else { "have" };
        let fault =
            format!("{copies} need {size} nodes, and {} {verb} a disk for it", count(holders, "node"));
        let fewer = match (volume.arbiter, holders) {
            (_, 1) => "replicas = 1 (no redundancy) until there are more nodes",
            (true, _) => "arbiter = false (split-brain is possible) until there is a third node",
            _ => "fewer replicas",
        };
        let missing = count(size - holders, "more node");
        self.error(
            &at!["volume", name, "replicas"],
            fault,
            format!("add disks.{name} to {missing}, or write {fewer}"),
        );
    }

    fn divisible(&mut self, name: &Name) {
        let own: Vec<String> = self
            .cluster
            .nodes
            .iter()
            .map(|node| format!("{} has {}", node.name, disks(node, name)))
            .collect();
        let replicas = at!["volume", name, "replicas"];
        match replica_sets(self.cluster, name) {
            Err(SetsFault::NotWhole { bricks, size }) if size > 0 => {
                let fault = format!("{bricks} disks are not a multiple of {size} ({})", own.join(", "));
                let remedy =
                    format!("add {} or remove {}", count(size - bricks % size, "disk"), bricks % size);
                self.error(&replicas, fault, remedy);
            }
            Err(SetsFault::Crowded { node, bricks, sets }) => {
                let own = own.join(", ");
                let fault =
                    format!("two of {node}'s {bricks} disks would hold copies of the same files ({own})");
                let remedy = format!("spread the disks: no node may have more than {sets} of them");
                self.error(&replicas, fault, remedy);
            }
            _ => {}
        }
    }

    fn redundancy(&mut self, name: &Name, volume: &Volume) {
        let replicas = at!["volume", name, "replicas"];
        if volume.replicas() == 1 {
            let remedy = "with three nodes write replicas = 3; until then rely on backups";
            self.warn(&replicas, "one copy: a dead disk takes its files along", remedy);
        } else if volume.replicas() == 2 && !volume.arbiter {
            let fault = "two copies without an arbiter: after a cut each side may win (split-brain)";
            let remedy = "add a third node and write replicas = 3, or arbiter = true with a small third disk";
            self.warn(&replicas, fault, remedy);
        }
    }
}

fn disks(node: &Node, volume: &Name) -> usize {
    node.disks.get(volume).map_or(0, Vec::len)
}
