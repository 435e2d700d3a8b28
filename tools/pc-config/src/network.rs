//! Which nodes get another network of a new file, which nobody has tried. Pure, but for the warning.

use cluster::{Cluster, Name, Node};
use pc_cli::log;

use crate::plan::Have;

/// pc-ovs.service brings the network to the file at the next boot, where nobody asks whether the node still reaches anyone: says
/// which nodes that concerns; of them `only` one, if any.
pub fn warn(have: &Have, new: &Cluster, only: Option<&str>) {
    let before = have.before();
    let changed = before.file().map(|kept| changed(kept, new)).unwrap_or_default();
    let names: Vec<&str> =
        changed.iter().map(Name::as_str).filter(|name| only.is_none_or(|only| only == *name)).collect();
    if !names.is_empty() {
        log::warning(format_args!(
            "the network of {} changes, and would first be tried at the next boot, which has no way back\n  \
             before any reboot, on every node: pc-ovs apply --confirm 60s",
            names.join(", ")
        ));
    }
}

/// Nodes of both files whose NICs, address, or place of the address differ.
fn changed(kept: &Cluster, new: &Cluster) -> Vec<Name> {
    let before = |node: &Node| kept.nodes.iter().find(|before| before.name == node.name);
    let differs = |node: &&Node| {
        let has_nics = |node: &Node| node.nics.values().any(|nics| !nics.is_empty());
        before(node).is_some_and(|before| {
            (has_nics(before) || has_nics(node)) && network(kept, before) != network(new, node)
        })
    };
    new.nodes.iter().filter(differs).map(|node| node.name.clone()).collect()
}

/// What pc-ovs makes of a node.
fn network<'a>(cluster: &'a Cluster, node: &'a Node) -> impl PartialEq + 'a {
    let place = cluster.node_network(node).and_then(|place| {
        let network = cluster.networks.get(place.name)?;
        Some((place.prefix, &network.uplink, network.vlan, network.router, network.mtu))
    });
    (&node.nics, node.ip(), place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\n\
        [[node]]\nname = \"n1\"\naddress = \"10.0.0.1\"\nnics.lan = [\"eth0\"]\n\
        [[node]]\nname = \"n2\"\naddress = \"10.0.0.2\"\nnics.lan = [\"eth0\"]\n\
        [network.lan]\nuplink = \"lan\"\nsubnet = \"10.0.0.0/24\"\nrouter = \"10.0.0.254\"\n\
        [network.vms]\nuplink = \"lan\"\nvlan = 20\n";

    #[test]
    fn only_what_concerns_a_node_is_told() {
        let of = |text: &str| cluster::parse("test", text).unwrap();
        for (from, to, told) in [
            ("name = \"home\"", "name = \"other\"", ""),
            ("vlan = 20", "vlan = 21", ""),
            ("0.2\"\nnics.lan = [\"eth0\"]", "0.2\"\nnics.lan = [\"eth9\"]", "n2"),
            ("10.0.0.1\"", "10.0.0.7\"", "n1"),
            ("10.0.0.1\"", "10.0.0.1/24\"", ""),
            ("0.254", "0.253", "n1 n2"),
            ("0/24\"", "0/24\"\nvlan = 9", "n1 n2"),
            ("0.2\"\nnics.lan = [\"eth0\"]", "0.2\"\nnics.lan = [\"eth0\", \"eth1\"]", "n2"),
            ("name = \"n2\"", "name = \"n3\"", ""),
        ] {
            let names = changed(&of(FILE), &of(&FILE.replacen(from, to, 1)));
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            assert_eq!(names.join(" "), told, "{from} -> {to}");
        }
        let bare = FILE.split("[network").next().unwrap().replace("nics.lan = [\"eth0\"]\n", "");
        assert!(
            changed(&of(&bare), &of(&bare.replacen("10.0.0.1", "10.0.0.7", 1))).is_empty(),
            "pc-ovs has none of it"
        );
    }
}
