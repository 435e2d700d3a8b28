//! The VMs that run here become pacemaker's: only once this node can be fenced. Before that their records name a node whose
//! answer everybody waits for; from then on its fencing counts as the answer. A crash in between leaves the first.

use anyhow::Result;
use pc_cli::{Common, try_again};

use crate::engine::{Engine, Quorum};
use crate::host::{self, files, siblings};
use crate::want::Want;
use crate::watchdog::{self, Watchdog};

/// Nobody is fenced while it is on.
const MAINTENANCE: &str = "maintenance mode is on";

/// Why nobody could rely on this node's fencing yet; `None` when they can.
fn unready(
    me: &str,
    engine: &Engine,
    quorum: Option<&Quorum>,
    watchdog: Option<&Watchdog>,
    sbd_runs: bool,
) -> Option<&'static str> {
    let reasons = [
        (engine.maintenance, MAINTENANCE),
        (!sbd_runs, "sbd does not run"),
        (!watchdog.is_some_and(|watchdog| watchdog.armed), "the watchdog is not armed"),
        (!quorum.is_some_and(|quorum| quorum.quorate), "the cluster has no quorum"),
        (!engine.node(me).is_some_and(|node| node.online), "pacemaker has not taken this node in"),
        (!engine.fences, "pacemaker was not told to fence"),
    ];
    reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason))
}

/// Has pc-vm note whose VMs run here; does nothing where pacemaker was not enabled.
pub fn take_over(common: &Common, want: &Want) -> Result<()> {
    if !files::is_enabled(&common.root) {
        return Ok(());
    }
    let watchdogs = files::watchdogs(&common.root)?;
    let chosen = watchdog::choose(&want.watchdog, &watchdogs).ok();
    let (engine, quorum) = (host::engine()?, host::quorum().ok());
    match unready(&want.node, &engine, quorum.as_ref(), chosen, files::sbd_runs(&common.root)) {
        None => siblings::adopt(),
        Some(reason) => Err(try_again(format!(
            "the VMs that run here are not pacemaker's yet: {reason}\n  {}",
            if reason == MAINTENANCE {
                "pc-ha maintenance off"
            } else {
                "systemctl status corosync sbd pacemaker"
            }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NodeState;

    #[test]
    fn a_node_counts_as_fenced_when_all_of_it_is_in_force() {
        let state = |online| NodeState { name: "n1".into(), online, drained: false, unclean: false };
        let engine = |online, fences| Engine { fences, nodes: vec![state(online)], ..Engine::default() };
        let quorum = |quorate| Quorum { quorate, votes: 2, expected: 3, needed: 2 };
        let watchdog = |armed: &str| {
            Watchdog::new("/dev/watchdog0".into(), |name| (name == "state").then(|| armed.to_string()))
        };
        let why = |online, fences, quorate, armed, sbd| {
            unready("n1", &engine(online, fences), Some(&quorum(quorate)), Some(&watchdog(armed)), sbd)
        };
        assert_eq!(why(true, true, true, "active", true), None);
        assert_eq!(why(true, true, true, "active", false), Some("sbd does not run"));
        assert_eq!(why(true, true, true, "inactive", true), Some("the watchdog is not armed"));
        assert_eq!(why(true, true, false, "active", true), Some("the cluster has no quorum"));
        assert_eq!(why(false, true, true, "active", true), Some("pacemaker has not taken this node in"));
        assert_eq!(why(true, false, true, "active", true), Some("pacemaker was not told to fence"));
        let maintenance = Engine { maintenance: true, ..engine(true, true) };
        let told = unready("n1", &maintenance, None, None, false);
        assert_eq!(told, Some("maintenance mode is on"), "whatever else is missing");
        let blind = unready("n1", &engine(true, true), None, None, true);
        assert_eq!(blind, Some("the watchdog is not armed"));
    }
}
