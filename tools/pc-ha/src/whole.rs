//! The whole cluster at once: maintenance, and its end of the day.
//!
//! Maintenance mode alone would not do: a node without quorum is reset by its own sbd, whatever pacemaker was told. Once
//! pacemaker has been stopped, with the guests left running, sbd takes that for intention and feeds the watchdog on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::{Common, Exit, emit, log, together, try_again};

use crate::cib::SHUTDOWN;
use crate::engine::Engine as Members;
use crate::host::{self, pacemaker, peers, systemd, tell, upgrade};
use crate::want::Want;
use crate::{claim, moving};

const MAINTENANCE: &str = "cib-bootstrap-options-maintenance-mode";
const PACEMAKER: &str = "pacemaker.service";
/// pacemaker.service has half an hour.
const STOP: Duration = Duration::from_secs(1900);
/// Pacemaker starts, joins and elects.
const START: Duration = Duration::from_secs(300);

/// What a node may be asked to do to its own engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Stop pacemaker; whatever it does not manage runs on.
    Stop,
    /// Start pacemaker.
    Start,
    /// Switch the machine off.
    PowerOff,
    /// Say how this node is, for an upgrade of all of them.
    Report,
    /// Have this node upgrade itself; standard input says what this upgrade is called.
    Upgrade,
    /// Go down and come back.
    Reboot,
    /// Upgrade this node (pc-ha-upgrade-node.service).
    UpgradeHere,
}

/// `pc-ha engine`: on this node.
pub fn engine(common: &Common, verb: Engine) -> Result<Exit> {
    match verb {
        Engine::Stop => systemd::stop(PACEMAKER, STOP)?,
        Engine::Start => systemd::start(PACEMAKER, START)?,
        Engine::PowerOff => systemd::power_off()?,
        Engine::Report => emit(true, &upgrade::report(common)?)?,
        Engine::Upgrade => upgrade::accept_from_stdin(common)?,
        Engine::Reboot => systemd::reboot()?,
        Engine::UpgradeHere => upgrade::here(common)?,
    }
    Ok(Exit::Done)
}

/// The other nodes, one after the other; every one is tried.
fn others(common: &Common, names: &[String], verb: &str) -> Result<()> {
    let each = names.iter().map(|name| {
        tell(&format!("{name}: engine {verb}"));
        peers::engine(common, name, verb).with_context(|| format!("engine {verb}"))
    });
    together(each.filter_map(Result::err).collect::<Vec<_>>())
}

fn peers_of(want: &Want) -> Vec<String> {
    let others = want.members.iter().filter(|member| member.name != want.node);
    others.map(|member| member.name.clone()).collect()
}

/// Nothing is restarted and nobody is fenced: the guests run on, pacemaker does not.
pub fn maintenance_on(common: &Common, want: &Want) -> Result<Exit> {
    let engine = host::engine()?;
    pacemaker::option(MAINTENANCE, "maintenance-mode", Some("true"))?;
    pacemaker::settle(Duration::from_secs(600))?;
    let there: Vec<String> =
        peers_of(want).into_iter().filter(|name| engine.node(name).is_some_and(|node| node.online)).collect();
    others(common, &there, "stop")?;
    systemd::stop(PACEMAKER, STOP)?;
    log::info(
        "maintenance: guests run on, nothing is restarted, nobody is fenced; end it with: pc-ha maintenance off",
    );
    Ok(Exit::Done)
}

/// Nodes of the file that have not come back; nobody waits for the dead.
fn missing(want: &Want, engine: &Members, dead: &[String]) -> Vec<String> {
    let names = want.members.iter().map(|member| &member.name);
    let away = |name: &&String| !dead.contains(name) && !engine.node(name).is_some_and(|node| node.online);
    names.filter(away).cloned().collect()
}

/// Pacemaker comes back, finds the guests as they are, and is in charge again: it fences whoever is `dead`, and starts
/// their guests elsewhere.
pub fn maintenance_off(common: &Common, want: &Want, dead: &[String]) -> Result<Exit> {
    for node in dead {
        moving::known(want, node)?;
    }
    // Pacemaker need not run here yet; corosync does.
    claim::check(want, &host::engine().unwrap_or_default(), "--dead", dead)?;
    systemd::start(PACEMAKER, START)?;
    let mut peers = peers_of(want);
    peers.retain(|peer| !dead.contains(peer));
    others(common, &peers, "start")?;
    let until = Instant::now() + START;
    loop {
        let reason = match host::engine() {
            Ok(engine) => match missing(want, &engine, dead) {
                away if away.is_empty() => break,
                away => format!("{} away", away.join(", ")),
            },
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= until {
            return Err(try_again(format!(
                "maintenance stays on: {reason}\n  a node that is gone for certain: pc-ha maintenance off --dead NODE"
            )));
        }
        tell(&format!("ending maintenance: {reason}"));
        std::thread::sleep(Duration::from_secs(1));
    }
    pacemaker::option(MAINTENANCE, "maintenance-mode", None)?;
    pacemaker::settle(START)?;
    log::info("maintenance is over");
    Ok(Exit::Done)
}

/// Guests first, then pacemaker everywhere, then power: no watchdog fires, for nobody loses anything that he holds.
pub fn shutdown(common: &Common, want: &Want, patience: Duration) -> Result<Exit> {
    let engine = host::engine()?;
    let there: Vec<String> =
        peers_of(want).into_iter().filter(|name| engine.node(name).is_some_and(|node| node.online)).collect();
    tell("stopping all guests");
    pacemaker::option(SHUTDOWN, "stop-all-resources", Some("true"))?;
    pacemaker::settle(patience)?;
    let left: Vec<String> =
        host::engine()?.vms.iter().filter(|vm| vm.is_active()).map(|vm| vm.id.clone()).collect();
    if !left.is_empty() {
        pacemaker::option(SHUTDOWN, "stop-all-resources", None)?;
        return Err(try_again(format!("{} did not stop: nothing is switched off", left.join(", "))));
    }
    others(common, &there, "stop")?;
    systemd::stop(PACEMAKER, STOP)?;
    others(common, &there, "power-off")?;
    log::info("every guest has stopped: switching off");
    systemd::power_off()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NodeState;

    #[test]
    fn the_end_of_maintenance_waits_for_everyone_but_the_dead() {
        let file = "schema = \"personal-cluster/1\"\nname = \"home\"\nha = {}\n\
            [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\n\
            [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\n\
            [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\n";
        let cluster = cluster::parse("test", file).unwrap();
        let want = crate::want::want(&cluster.view("n1").unwrap()).unwrap();
        let state =
            |name: &str, online| NodeState { name: name.into(), online, drained: false, unclean: false };
        let engine = Members { nodes: vec![state("n1", true), state("n2", false)], ..Members::default() };
        assert_eq!(missing(&want, &engine, &[]), ["n2", "n3"]);
        assert_eq!(missing(&want, &engine, &["n3".into()]), ["n2"]);
        assert_eq!(missing(&want, &engine, &["n3".into(), "n2".into()]), Vec::<String>::new());
    }
}
