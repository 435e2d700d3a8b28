//! Whether a new file gives this node other disks, and who has to be told. Pure.

use cluster::Cluster;

use crate::plan::Have;

/// Units that read the disks of the file when they start, and not again: pc-unlock opens them for ever, pc-brick is active
/// once all of them are bricks.
pub const READERS: [&str; 2] = ["pc-unlock.service", "pc-brick.service"];

/// Whether `new` has other disks for `node`, or other volumes for them, than the file in force. A first file changes nothing
/// that runs.
pub fn are_others(node: &str, have: &Have, new: &Cluster) -> bool {
    let before = have.before();
    let bricks = |cluster: &Cluster| {
        let mut bricks: Vec<_> = cluster
            .view(node)
            .map(|view| view.bricks())
            .unwrap_or_default()
            .into_iter()
            .map(|brick| (brick.device.to_string(), brick.volume.to_string()))
            .collect();
        bricks.sort();
        bricks
    };
    before.file().is_some_and(|kept| bricks(kept) != bricks(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Generation;

    /// Two nodes with these disks each.
    fn file(disks: [&str; 2], more: &str) -> String {
        let [one, two] = disks;
        format!(
            "schema = \"personal-cluster/1\"\nname = \"home\"\n\
             [[node]]\nname = \"node1\"\naddress = \"10.0.0.1\"\n{one}\n\
             [[node]]\nname = \"node2\"\naddress = \"10.0.0.2\"\n{two}\n\
             [volume.v]\nuse = \"vm\"\nreplicas = 1\n[volume.w]\nuse = \"local\"\n{more}"
        )
    }

    #[test]
    fn only_other_disks_of_this_node_count() {
        const A: &str = "disks.v = [\"/dev/disk/by-id/ata-A\"]";
        const AB: &str = "disks.v = [\"/dev/disk/by-id/ata-A\", \"/dev/disk/by-id/ata-B\"]";
        const BA: &str = "disks.v = [\"/dev/disk/by-id/ata-B\", \"/dev/disk/by-id/ata-A\"]";
        const C: &str = "disks.v = [\"/dev/disk/by-id/ata-C\"]";
        const CD: &str = "disks.v = [\"/dev/disk/by-id/ata-C\", \"/dev/disk/by-id/ata-D\"]";
        const MOVED: &str = "disks.w = [\"/dev/disk/by-id/ata-A\"]";
        let before = Have {
            kept: Some((Generation::new(1, &file([A, C], "")), true)),
            applied: Some(b"x".into()),
            ..Have::default()
        };
        for (what, disks, more, others) in [
            ("the same", [A, C], "", false),
            ("something else", [A, C], "[volume.x]\nuse = \"local\"\n", false),
            ("another node's", [A, CD], "", false),
            ("one more", [AB, C], "", true),
            ("replaced", [C, A], "", true),
            ("for another volume", [MOVED, C], "", true),
            ("none left", ["", C], "", true),
        ] {
            let new = cluster::parse("x", &file(disks, more)).unwrap();
            assert_eq!(are_others("node1", &before, &new), others, "{what}");
            assert!(!are_others("node1", &Have::default(), &new), "{what}: a first file");
        }
        let both = Have { kept: Some((Generation::new(1, &file([AB, C], "")), true)), ..Have::default() };
        let turned = cluster::parse("x", &file([BA, C], "")).unwrap();
        assert!(!are_others("node1", &both, &turned), "only their order");
    }
}
