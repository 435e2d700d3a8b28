//! A plain `reboot` or `poweroff`: logind waits for us while this node's VMs move away. What is still here when it waits no
//! longer moves, or stops, when pacemaker.service is stopped: before anything that guests need.

use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Exit, log};

use crate::engine::Engine;
use crate::host::{self, logind, pacemaker, systemd, tell};
use crate::want::Want;

/// logind goes on by itself when its own patience is over: we let go before, and say so.
const MARGIN: Duration = Duration::from_secs(2);
/// Between two questions whether all have left, at least: the processor is the migrations'.
const PAUSE: Duration = Duration::from_millis(500);
/// And this many times as long as the last answer took.
const QUIET: u32 = 4;

/// Why nothing would move, whatever was asked; `None` when it will.
fn stays(me: &str, engine: &Engine) -> Option<&'static str> {
    let takes = |node: &crate::engine::NodeState| node.name != me && node.online && !node.drained;
    let reasons = [
        (engine.maintenance, "maintenance mode is on"),
        (engine.stops_all, "all guests are told to stop"),
        (engine.vms_on(me).is_empty(), "no VM runs here"),
        (!engine.nodes.iter().any(takes), "no other node is there to take the VMs"),
    ];
    reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason))
}

/// Holds logind's delay until the machine is going down, moves the VMs away, and lets go. For ever.
pub fn hold(want: &Want) -> Result<Exit> {
    let bus = logind::Bus::connect()?;
    // Its patience came with our package, and logind with the machine.
    if let Err(error) = systemd::reread_logind() {
        log::debug(format_args!("logind keeps its old patience: {error:#}"));
    }
    loop {
        let lock = bus.delay("VMs move to other nodes")?;
        logind::ready("holds a delay of reboot and poweroff");
        bus.wait(true)?;
        let deadline = Instant::now() + bus.patience()?.saturating_sub(MARGIN);
        let asked = leave(want, deadline);
        drop(lock);
        // Still here: somebody called the shutdown off.
        bus.wait(false)?;
        if asked {
            pacemaker::standby_until_boot(&want.node, false)?;
            log::info(format_args!("the shutdown was called off: {} takes VMs again", want.node));
        }
    }
}

/// Moves all away, and waits until they are gone; whether pacemaker was asked to.
fn leave(want: &Want, deadline: Instant) -> bool {
    let me = &want.node;
    let reason = match host::engine() {
        Ok(engine) => stays(me, &engine).map(String::from),
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(reason) = reason {
        log::info(format_args!("going down, nothing to move: {reason}"));
        return false;
    }
    // Forgotten at the next boot, unlike a drain.
    if let Err(error) = pacemaker::standby_until_boot(me, true) {
        log::warning(format_args!("going down with the VMs here: {error:#}"));
        return false;
    }
    loop {
        let asked = Instant::now();
        let left = match host::engine() {
            Ok(engine) => engine.vms_on(me),
            // Asked for, and nobody answers any more: pacemaker.service says how it ends.
            Err(error) => {
                log::warning(format_args!("going down: {error:#}"));
                return true;
            }
        };
        if left.is_empty() {
            log::info("going down: all VMs have left");
            return true;
        }
        if Instant::now() >= deadline {
            log::warning(format_args!(
                "going down: {} still here, and logind waits no longer\n  \
                 more time: InhibitDelayMaxSec= in /etc/systemd/logind.conf.d/",
                left.join(", ")
            ));
            return true;
        }
        tell(&format!("going down: {} to move", left.len()));
        // Pacemaker has no event for "all have left" that a program could wait for.
        let pause = PAUSE.max(asked.elapsed() * QUIET);
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{NodeState, Resource};

    fn engine() -> Engine {
        let node = |name: &str| NodeState { name: name.into(), online: true, drained: false, unclean: false };
        let mail = Resource {
            id: "pc-vm-mail".into(),
            role: "Started".into(),
            managed: true,
            failed: false,
            told_to_stop: false,
            nodes: vec!["n2".into()],
        };
        Engine { nodes: ["n1", "n2", "n3"].map(node).to_vec(), vms: vec![mail], ..Engine::default() }
    }

    #[test]
    fn a_node_that_goes_down_moves_its_vms_when_somebody_can_take_them() {
        assert_eq!(stays("n2", &engine()), None);
        assert_eq!(stays("n1", &engine()), Some("no VM runs here"));
        assert_eq!(stays("n2", &Engine { maintenance: true, ..engine() }), Some("maintenance mode is on"));
        assert_eq!(stays("n2", &Engine { stops_all: true, ..engine() }), Some("all guests are told to stop"));
        let mut alone = engine();
        alone.nodes[0].online = false;
        assert_eq!(stays("n2", &alone), None, "n3 is left");
        alone.nodes[2].drained = true;
        assert_eq!(stays("n2", &alone), Some("no other node is there to take the VMs"));
    }
}
