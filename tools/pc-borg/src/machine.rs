//! Whether this machine is another node than the one it is told to be. What a node notes on the volumes (its boot, who has a
//! repository, the copies that it boots) is believed by all: told in another's name, a run that is at work there would be
//! taken for dead, and its files for left behind.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use cluster::NodeView;
use own_address::is_ours;
use pc_cli::refused;

/// Refuses `--node`, or a host name, of another node of the file. A machine without an address of any node, whose network is
/// down or not up yet, is believed: nobody who wants his data back is told to wait for a cable. A directory that is treated
/// as the root of a machine has no addresses.
pub fn require_self(root: &Path, view: &NodeView) -> Result<()> {
    if root == Path::new("/") { prove(view, is_ours) } else { Ok(()) }
}

fn prove(view: &NodeView, is_ours: impl Fn(IpAddr) -> bool) -> Result<()> {
    let me = &view.node.name;
    let ours = view.cluster.nodes.iter().filter(|node| node.ip().is_some_and(&is_ours));
    let names: Vec<_> = ours.map(|node| &node.name).collect();
    match names.first() {
        Some(other) if !names.contains(&me) => Err(refused(format!(
            "this machine has the address of {other}, it is not {me}\n  on {me} itself, or without --node"
        ))),
        _ => Ok(()),
    }
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
        let proof = prove(&cluster.view(me).unwrap(), |address| ours.contains(&address.to_string().as_str()));
        proof.map_or_else(|error| Exit::of(&error), |()| Exit::Done)
    }

    #[test]
    fn nobody_acts_in_the_name_of_another_node() {
        assert_eq!(code("n1", &["192.0.2.51"]), Exit::Done);
        assert_eq!(code("n2", &["192.0.2.51"]), Exit::Refused, "--node n2, typed on n1");
        assert_eq!(code("n2", &["192.0.2.51", "192.0.2.52"]), Exit::Done, "both are here");
        assert_eq!(code("n1", &[]), Exit::Done, "its network is down");
    }
}
