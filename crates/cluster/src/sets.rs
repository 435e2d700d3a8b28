//! Which bricks hold the copies of the same files: the replica sets of a replicated volume.
//!
//! Deterministic: every node computes the same sets from the same file. No set has two bricks on one node.

use std::collections::BTreeMap;

use crate::model::{Cluster, Use};
use crate::names::Name;
use crate::view::Brick;

/// A brick and the node that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBrick {
    /// The node.
    pub node: Name,
    /// The brick.
    pub brick: Brick,
}

impl PlacedBrick {
    /// `node1:/srv/bricks/vms/ata-A/brick`, as Gluster writes it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.node, self.brick.brick_directory())
    }
}

/// Why bricks cannot be grouped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetsFault {
    /// The file has no such volume, or it is not replicated.
    #[error("is no replicated volume")]
    NotReplicated,
    /// No node names a disk for it.
    #[error("no node has a disk for it")]
    NoBricks,
    /// The number of bricks is no multiple of a set's size.
    #[error("{bricks} bricks do not make whole sets of {size}")]
    NotWhole {
        /// How many bricks there are.
        bricks: usize,
        /// How many make a set.
        size: usize,
    },
    /// One node has so many bricks that two of them would share a set.
    #[error(
        "{node} has {bricks} of the bricks, but there are only {sets} sets: two copies would share one node"
    )]
    Crowded {
        /// The node.
        node: String,
        /// Its bricks.
        bricks: usize,
        /// How many sets there are.
        sets: usize,
    },
}

/// Bricks of one set: the copies, and with an arbiter one more.
pub fn set_size(volume: &crate::model::Volume) -> usize {
    usize::from(volume.replicas()) + usize::from(volume.arbiter)
}

/// The replica sets of `volume`; with `arbiter = true` the last brick of each set is the arbiter.
/// Bricks are taken node by node in the order of the file.
pub fn replica_sets(cluster: &Cluster, volume: &Name) -> Result<Vec<Vec<PlacedBrick>>, SetsFault> {
    let settings = cluster.volumes.get(volume).ok_or(SetsFault::NotReplicated)?;
    if settings.purpose == Use::Local {
        return Err(SetsFault::NotReplicated);
    }
    let bricks = volume_bricks(cluster, volume);
    if bricks.is_empty() {
        return Err(SetsFault::NoBricks);
    }
    group(bricks, set_size(settings), |brick| brick.node.as_str())
}

/// Every brick of `volume`, node by node in the order of the file.
pub fn volume_bricks(cluster: &Cluster, volume: &Name) -> Vec<PlacedBrick> {
    let of_node = |node: &crate::model::Node| {
        let name = node.name.clone();
        let bricks = cluster.bricks_of(node).into_iter().filter(|brick| brick.volume == *volume);
        bricks.map(|brick| PlacedBrick { node: name.clone(), brick }).collect::<Vec<_>>()
    };
    cluster.nodes.iter().flat_map(of_node).collect()
}

/// Groups bricks (all bricks of one node next to each other) into sets of `size` without putting two
/// bricks of one node into the same set: brick k goes to set k modulo the number of sets, and a node has
/// at most as many bricks as there are sets.
pub fn group<T>(bricks: Vec<T>, size: usize, node: impl Fn(&T) -> &str) -> Result<Vec<Vec<T>>, SetsFault> {
    let total = bricks.len();
    if size == 0 || total % size != 0 {
        return Err(SetsFault::NotWhole { bricks: total, size });
    }
    let count = total / size;
    let mut own: BTreeMap<&str, usize> = BTreeMap::new();
    for brick in &bricks {
        *own.entry(node(brick)).or_default() += 1;
    }
    if let Some((node, same)) = own.into_iter().find(|(_, same)| *same > count) {
        return Err(SetsFault::Crowded { node: node.into(), bricks: same, sets: count });
    }
    let mut sets: Vec<Vec<T>> = (0..count).map(|_| Vec::with_capacity(size)).collect();
    for (index, brick) in bricks.into_iter().enumerate() {
        if let Some(set) = sets.get_mut(index % count) {
            set.push(brick);
        }
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn name(text: &str) -> Name {
        Name::try_from(text.to_string()).unwrap()
    }

    fn cluster(volume: &str, disks: &[&[&str]]) -> Cluster {
        let mut text = format!("schema = \"personal-cluster/1\"\nname = \"t\"\n[volume.vms]\n{volume}\n");
        for (index, disks) in disks.iter().enumerate() {
            let paths: Vec<String> = disks.iter().map(|disk| format!("\"/dev/disk/by-id/{disk}\"")).collect();
            write!(text, "[[node]]\nname = \"n{0}\"\naddress = \"10.0.0.{0}\"\n", index + 1).unwrap();
            writeln!(text, "disks.vms = [{}]", paths.join(", ")).unwrap();
        }
        toml::from_str(&text).unwrap()
    }

    fn shown(volume: &str, disks: &[&[&str]]) -> Result<Vec<String>, SetsFault> {
        let shown = |set: Vec<PlacedBrick>| {
            set.iter().map(|b| format!("{}:{}", b.node, b.brick.name())).collect::<Vec<_>>().join(" ")
        };
        Ok(replica_sets(&cluster(volume, disks), &name("vms"))?.into_iter().map(shown).collect())
    }

    #[test]
    fn sets_follow_the_file_and_never_double_a_node() {
        let vm = "use = \"vm\"";
        assert_eq!(shown(vm, &[&["a"], &["b"], &["c"]]).unwrap(), ["n1:a n2:b n3:c"]);
        let two = shown(vm, &[&["a1", "a2"], &["b1", "b2"], &["c1", "c2"]]).unwrap();
        assert_eq!(two, ["n1:a1 n2:b1 n3:c1", "n1:a2 n2:b2 n3:c2"]);
        let uneven = shown(vm, &[&["a1", "a2"], &["b1"], &["c1"], &["d1", "d2"]]).unwrap();
        assert_eq!(uneven, ["n1:a1 n2:b1 n4:d1", "n1:a2 n3:c1 n4:d2"]);
        let arbiter = shown("use = \"vm\"\nreplicas = 2\narbiter = true", &[&["a"], &["b"], &["c"]]);
        assert_eq!(arbiter.unwrap(), ["n1:a n2:b n3:c"]);
        assert_eq!(shown("use = \"vm\"\nreplicas = 1", &[&["a1", "a2"]]).unwrap(), ["n1:a1", "n1:a2"]);
    }

    #[test]
    fn what_cannot_be_grouped_is_named() {
        let vm = "use = \"vm\"";
        assert_eq!(shown(vm, &[&["a"], &["b"]]), Err(SetsFault::NotWhole { bricks: 2, size: 3 }));
        let crowded = SetsFault::Crowded { node: "n1".into(), bricks: 2, sets: 1 };
        assert_eq!(shown(vm, &[&["a1", "a2"], &["b"]]), Err(crowded));
        assert_eq!(shown("use = \"local\"", &[&["a"]]), Err(SetsFault::NotReplicated));
        assert_eq!(shown(vm, &[]), Err(SetsFault::NoBricks));
    }

    #[test]
    fn an_address_is_what_gluster_shows() {
        let cluster = cluster("use = \"vm\"\nreplicas = 1", &[&["ata-A"]]);
        let sets = replica_sets(&cluster, &name("vms")).unwrap();
        assert_eq!(sets[0][0].address(), "n1:/srv/bricks/vms/ata-A/brick");
    }
}
