//! "NODE is dead", said by a person: believed only of a node that nothing shows to be alive.

use std::time::Duration;

use anyhow::Result;
use pc_cli::{Common, Exit, log, refused, try_again};

use crate::engine::{Engine, Resource};
use crate::host::{self, pacemaker, peers, siblings};
use crate::moving;
use crate::want::Want;

/// Why a node is known to be alive. Pure but for `answers`, which asks the machine at an address.
fn alive(
    want: &Want,
    engine: &Engine,
    members: &[String],
    node: &str,
    answers: impl Fn(&str) -> bool,
) -> Option<String> {
    if node == want.node {
        return Some("this is it".into());
    }
    if engine.node(node).is_some_and(|node| node.online) {
        return Some("pacemaker runs there".into());
    }
    let address = want.member(node).map(|member| member.address.as_str());
    if members.iter().any(|member| member == node || Some(member.as_str()) == address) {
        return Some("it is a member of corosync's".into());
    }
    let address = address.filter(|address| answers(address))?;
    Some(format!("it answers at {address}"))
}

/// Refuses a claim about a node that is alive.
pub fn check(want: &Want, engine: &Engine, flag: &str, dead: &[String]) -> Result<()> {
    let members = host::members();
    for node in dead {
        if let Some(reason) = alive(want, engine, &members, node, peers::answers) {
            return Err(refused(format!("{flag} {node}: {node} is alive: {reason}\n  pc-ha status")));
        }
        log::warning(format_args!("{node} is taken for dead because {flag} says so"));
    }
    Ok(())
}

/// Has a VM run. With `dead` first has pc-vm note that it runs nowhere, which otherwise only these nodes could say.
pub fn start(common: &Common, want: &Want, vm: &str, dead: &[String], patience: Duration) -> Result<Exit> {
    let resource = moving::resource(want, vm)?;
    let engine = host::engine()?;
    if engine.maintenance {
        return Err(try_again(
            "maintenance mode is on: pacemaker starts nothing, and has fenced nobody\n  pc-ha maintenance off",
        ));
    }
    if engine.stops_all {
        return Err(try_again(
            "all guests are told to stop (pc-ha shutdown): pacemaker starts nothing\n  to have them run again: pc-ha apply",
        ));
    }
    if !dead.is_empty() && !engine.vm(&resource).is_some_and(Resource::is_active) {
        check(want, &engine, "--owner-is-dead", dead)?;
        siblings::disown(vm, dead)?;
        pacemaker::forget_failures(&resource)?;
    }
    moving::target(common, want, vm, true, patience)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NodeState;

    const FILE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\nha = {}\n\
        [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\n\
        [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\n\
        [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\n";

    #[test]
    fn nobody_is_dead_who_shows_any_sign_of_life() {
        let cluster = cluster::parse("test", FILE).unwrap();
        let want = crate::want::want(&cluster.view("n1").unwrap()).unwrap();
        let state =
            |name: &str, online| NodeState { name: name.into(), online, drained: false, unclean: false };
        let engine =
            |online| Engine { nodes: vec![state("n1", true), state("n2", online)], ..Engine::default() };
        let members = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let why = |node: &str, online, corosync: &[&str], on: &str| {
            alive(&want, &engine(online), &members(corosync), node, |address| address == on)
        };
        assert_eq!(why("n1", false, &[], "").as_deref(), Some("this is it"));
        assert_eq!(why("n2", true, &[], "").as_deref(), Some("pacemaker runs there"));
        assert_eq!(why("n2", false, &["n1", "n2"], "").as_deref(), Some("it is a member of corosync's"));
        assert_eq!(why("n2", false, &["192.0.2.52"], "").as_deref(), Some("it is a member of corosync's"));
        assert_eq!(why("n2", false, &["n1"], "192.0.2.52").as_deref(), Some("it answers at 192.0.2.52"));
        assert_eq!(why("n2", false, &["n1", "n3"], "192.0.2.53"), None);
        assert_eq!(
            why("n4", false, &["n1"], "192.0.2.52"),
            None,
            "it has left the file: nobody knows its address"
        );
    }
}
