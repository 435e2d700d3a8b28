//! The whole cluster at once: maintenance, and its end of the day.
//!
//! Maintenance mode alone would not do: a node without quorum is reset by its own sbd, whatever pacemaker was told. Once
//! pacemaker has been stopped, with the guests left running, sbd takes that for intention and feeds the watchdog on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::{Common, Exit, log, together, try_again};

use crate::cib::SHUTDOWN;
use crate::host::{self, pacemaker, peers, systemd, tell};
use crate::want::Want;

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
}

/// `pc-ha engine`: on this node.
pub fn engine(verb: Engine) -> Result<Exit> {
    match verb {
        Engine::Stop => systemd::stop(PACEMAKER, STOP)?,
        Engine::Start => systemd::start(PACEMAKER, START)?,
        Engine::PowerOff => systemd::power_off()?,
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

/// Pacemaker comes back, finds the guests as they are, and is in charge again.
pub fn maintenance_off(common: &Common, want: &Want) -> Result<Exit> {
    systemd::start(PACEMAKER, START)?;
    others(common, &peers_of(want), "start")?;
    let until = Instant::now() + START;
    loop {
        let engine = host::engine();
        let missing = |engine: &crate::engine::Engine| -> Vec<String> {
            let away = |name: &&String| !engine.node(name).is_some_and(|node| node.online);
            want.members.iter().map(|member| &member.name).filter(away).cloned().collect()
        };
        let reason = match &engine {
            Ok(engine) => match missing(engine) {
                away if away.is_empty() => break,
                away => format!("{} away", away.join(", ")),
            },
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= until {
            return Err(try_again(format!("maintenance stays on: {reason}\n  pc-ha status")));
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
