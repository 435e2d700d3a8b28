//! Whether this machine is the node it says it is. A host name can be cloned and `--node` mistyped, and all that keeps
//! a VM from running twice rests on who we are: whoever takes itself for the owner asks nobody.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use cluster::{Cluster, NodeView};
use own_address::is_ours;
use pc_cli::{refused, try_again};

use crate::nodes::address_of;

/// 2 when this machine is another node of the file, 75 while it has no node's address. In a file of one node there is
/// nobody to be mistaken for, and a directory that is treated as the root of a machine has no addresses.
pub fn require_self(root: &Path, view: &NodeView) -> Result<()> {
    if root != Path::new("/") || view.cluster.nodes.len() < 2 {
        return Ok(());
    }
    prove(view.cluster, view.node.name.as_str(), is_ours)
}

/// Decides by the addresses of this machine. After a blackout a network may come later than we do: no address of any
/// node is worth a retry.
fn prove(cluster: &Cluster, me: &str, is_ours: impl Fn(IpAddr) -> bool) -> Result<()> {
    let mut instead = None;
    for node in &cluster.nodes {
        if is_ours(address_of(node)?) {
            if node.name.as_str() == me {
                return Ok(());
            }
            instead.get_or_insert(node.name.as_str());
        }
    }
    let Some(instead) = instead else {
        return Err(try_again(format!(
            "this machine has no address of the file yet, so that it cannot be told from {me}\n  ip -brief address"
        )));
    };
    let remedy = format!("without --node, and with the host name {instead}: hostnamectl hostname {instead}");
    Err(refused(format!("this machine has the address of {instead}, it is not {me}\n  {remedy}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Exit;

    const FILE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\n\
                        [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\n\
                        [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\n";

    fn code(me: &str, ours: &[&str]) -> Exit {
        let cluster = cluster::parse("test", FILE).unwrap();
        let proof = prove(&cluster, me, |address| ours.contains(&address.to_string().as_str()));
        proof.map_or_else(|error| Exit::of(&error), |()| Exit::Done)
    }

    #[test]
    fn a_node_is_known_by_its_address() {
        assert_eq!(code("n1", &["192.0.2.51"]), Exit::Done);
        assert_eq!(code("n2", &["192.0.2.51"]), Exit::Refused, "--node n2, typed on n1");
        assert_eq!(code("n2", &["192.0.2.51", "192.0.2.52"]), Exit::Done, "both are here");
        assert_eq!(code("n1", &["198.51.100.7"]), Exit::TryAgain, "a clone, or the network is not up yet");
    }

    #[test]
    fn only_a_real_machine_with_others_beside_it_has_to_prove_anything() {
        let cluster = cluster::parse("test", &FILE.replace("192.0.2.", "203.0.113.")).unwrap();
        let view = cluster.view("n1").unwrap();
        require_self(Path::new("/somewhere"), &view).unwrap();
        assert!(require_self(Path::new("/"), &view).unwrap_err().is::<pc_cli::TryAgain>());
        let alone = cluster::parse("test", FILE.split("[[node]]\nname = \"n2\"").next().unwrap()).unwrap();
        require_self(Path::new("/"), &alone.view("n1").unwrap()).unwrap();
    }
}
