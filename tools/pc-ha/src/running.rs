//! What corosync runs with, against what its file says: a reload may have failed, or never have been asked for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::corosync;
use crate::plan::{Action, Have, Slower, held};
use crate::want::Want;

/// The keys of corosync-cmapctl(8) that say it: the numbers in force, and the nodes.
pub const KEYS: [&str; 2] = ["runtime.config.totem.", "nodelist."];

/// What a corosync runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Silence before a node counts as lost.
    pub token_ms: u64,
    /// Agreeing on who is left.
    pub consensus_ms: u64,
    /// Number, name, address.
    pub nodes: BTreeSet<(u16, String, String)>,
}

/// Reads `corosync-cmapctl KEYS...`; none when it does not say all of it.
pub fn read(text: &str) -> Option<Running> {
    let pair = |line: &str| {
        let (key, value) = line.trim().split_once(" = ")?;
        let (key, _kind) = key.split_once(' ')?;
        Some((key.to_string(), value.to_string()))
    };
    let pairs: BTreeMap<String, String> = text.lines().filter_map(pair).collect();
    let number = |key: &str| pairs.get(key)?.parse().ok();
    let node = |key: &String| {
        let place = key.strip_prefix("nodelist.node.")?.strip_suffix(".nodeid")?;
        let of = |what: &str| pairs.get(&format!("nodelist.node.{place}.{what}")).cloned();
        Some((of("nodeid")?.parse().ok()?, of("name")?, of("ring0_addr")?))
    };
    Some(Running {
        token_ms: number("runtime.config.totem.token")?,
        consensus_ms: number("runtime.config.totem.consensus")?,
        nodes: pairs.keys().filter_map(node).collect(),
    })
}

impl Running {
    /// What it has otherwise than the file that is wanted.
    pub fn otherwise(&self, want: &Want) -> Vec<String> {
        let numbers = [
            ("token", self.token_ms, want.timing.token_ms),
            ("consensus", self.consensus_ms, want.timing.consensus_ms),
        ];
        let mut found: Vec<String> = numbers
            .iter()
            .filter(|(_, is, wanted)| is != wanted)
            .map(|(name, is, wanted)| format!("{name} {is} ms, not {wanted}"))
            .collect();
        let wanted = want.members.iter().map(|node| (node.id, node.name.clone(), node.address.clone()));
        if self.nodes != wanted.collect() {
            found.push("other nodes".into());
        }
        found
    }
}

/// corosync.conf, who reads it, and what the others are told of it.
pub fn plan(
    want: &Want,
    have: &Have,
    slower: &Slower,
    step: &mut impl FnMut(String, Action),
    waiting: &mut Vec<String>,
    faults: &mut Vec<String>,
) {
    let ours = corosync::is_free(have.corosync.as_deref());
    let write = ours && have.corosync.as_deref() != Some(corosync::render(want).as_str());
    let behind = ours && have.running.as_ref().is_some_and(|running| !running.otherwise(want).is_empty());
    if !ours {
        faults.push(format!(
            "{} is somebody else's cluster: it is not touched\n  mv {0} {0}.old",
            corosync::PATH
        ));
    } else if (write || behind) && slower.token && have.cib.is_none() {
        return waiting.push(held(corosync::PATH));
    }
    tell(want, have, if write || behind { want.timing.token_ms } else { 0 }, step);
    if write {
        step("corosync".into(), Action::CorosyncWrite);
    }
    if have.corosync_runs && (write || behind) {
        step("corosync-reload".into(), Action::CorosyncReload);
    }
}

/// The others hear the longest token that this node may have before they hear of a shorter one: before its file has it, for from
/// then on anybody's reload puts it in force.
fn tell(want: &Want, have: &Have, next: u64, step: &mut impl FnMut(String, Action)) {
    let Some(cib) = &have.cib else { return };
    let told = cib.tokens.get(&want.node).copied();
    let file = have.corosync.as_deref().and_then(corosync::token_ms);
    // What runs may be longer than what is known: then only what is longer still is told.
    let runs = have.running.as_ref().map(|running| running.token_ms).or(told);
    let Some(token_ms) = runs.map(|runs| runs.max(next).max(file.unwrap_or(0))) else { return };
    if told != Some(token_ms) {
        step("token".into(), Action::TokenTell { token_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// corosync 3.1.7 with three nodes.
    #[test]
    fn what_corosync_runs_with() {
        let text = include_str!("../tests/recorded/cmapctl-config.txt");
        let node = |id, name: &str, address: &str| (id, name.to_string(), address.to_string());
        let nodes = [
            node(15687, "node1", "10.78.0.1"),
            node(13390, "node2", "10.78.0.2"),
            node(34418, "node3", "10.78.0.3"),
        ];
        assert_eq!(read(text), Some(Running { token_ms: 3000, consensus_ms: 3600, nodes: nodes.into() }));
        assert_eq!(read(&text.replace("totem.token (u32)", "totem.other (u32)")), None);
        assert_eq!(read(""), None);
    }
}
