//! The whole cluster at once: maintenance, and its end of the day.
//!
//! Maintenance mode alone would not do: a node without quorum is reset by its own sbd, whatever pacemaker was told. Once
//! pacemaker has been stopped, with the guests left running, sbd takes that for intention and feeds the watchdog on. So from
//! then on nobody is fenced, and silence proves nothing: the records of the VMs stop saying that pacemaker's word is enough.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use pc_cli::{Common, Exit, emit, log, together, try_again};

use crate::cib::{SHUTDOWN, SHUTS_DOWN};
use crate::engine::{Engine as Members, Resource};
use crate::host::{self, locks, pacemaker, peers, siblings, systemd, tell, upgrade};
use crate::rows::vm_resource;
use crate::want::{Vm, Want};
use crate::{claim, moving};

const MAINTENANCE: &str = "cib-bootstrap-options-maintenance-mode";
const PACEMAKER: &str = "pacemaker.service";
/// `pc-ha apply`: among others it notes whose the VMs are.
const ADOPTS: &str = "pc-ha.service";
/// pacemaker.service has half an hour.
const STOP: Duration = Duration::from_secs(1900);
/// Pacemaker starts, joins and elects.
const START: Duration = Duration::from_secs(300);

/// What a node may be asked to do to its own engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Have the VMs' records say that they are not pacemaker's.
    Release,
    /// Have the records of the VMs that run here say that they are pacemaker's, now or as soon as this node can be fenced.
    Adopt,
    /// Stop pacemaker; whatever it does not manage runs on.
    Stop,
    /// Start pacemaker.
    Start,
    /// Switch the machine off.
    PowerOff,
    /// Have the kernel reset the machine at once, as if its power was cut.
    PowerCut,
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
        Engine::Release => release()?,
        Engine::Adopt => adopt()?,
        Engine::Stop => systemd::stop(PACEMAKER, STOP)?,
        Engine::Start => systemd::start(PACEMAKER, START)?,
        Engine::PowerOff => systemd::power_off()?,
        Engine::PowerCut => host::files::power_cut(common)?,
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

fn online(want: &Want, engine: &Members) -> Vec<String> {
    let mut peers = peers_of(want);
    peers.retain(|name| engine.node(name).is_some_and(|node| node.online));
    peers
}

/// The unit first: it would adopt again what is released here.
fn release() -> Result<()> {
    systemd::stop(ADOPTS, START)?;
    siblings::release()
}

/// By the unit, which asks again by itself while the node cannot be fenced.
fn adopt() -> Result<()> {
    systemd::restart(ADOPTS, START)
}

fn adopt_everywhere(common: &Common, peers: &[String]) -> Result<()> {
    let both = [others(common, peers, "adopt"), adopt()];
    together(both.into_iter().filter_map(Result::err)).map_err(|error| {
        try_again(format!(
            "the VMs are not all noted as pacemaker's yet: a node that dies keeps those down; {ADOPTS} asks again: {error:#}"
        ))
    })
}

/// An error in the middle of all nodes, with what to do about all of them.
fn and_then(error: &anyhow::Error, remedy: &str) -> anyhow::Error {
    let text = format!("{error:#}\n  {remedy}");
    if Exit::of(error) == Exit::TryAgain { try_again(text) } else { anyhow!(text) }
}

/// Nothing is restarted and nobody is fenced: the guests run on, pacemaker does not. Nodes that are away are to be `dead`.
pub fn maintenance_on(common: &Common, want: &Want, dead: &[String]) -> Result<Exit> {
    for node in dead {
        moving::known(want, node)?;
    }
    let engine = host::engine()?;
    claim::check(want, &engine, "--dead", dead)?;
    if let Some(lost) = engine.nodes.iter().find(|node| node.unclean) {
        return Err(try_again(format!(
            "{} was lost and is not yet known to be dead\n  pc-ha status",
            lost.name
        )));
    }
    let away = missing(want, &engine, dead);
    if !away.is_empty() {
        return Err(try_again(out_of_reach(&away)));
    }
    let there = online(want, &engine);
    let (mut released, begun) = (false, leave_alone());
    let begun = begun.and_then(|()| {
        released = true;
        let both = [others(common, &there, "release"), release()];
        together(both.into_iter().filter_map(Result::err))
    });
    if let Err(error) = begun {
        // Pacemaker still runs on all of them: as if nobody had asked.
        if pacemaker::option(MAINTENANCE, "maintenance-mode", None).is_err() {
            let error = error.context("maintenance did not begin");
            return Err(and_then(&error, "pacemaker leaves everything alone still: pc-ha maintenance off"));
        }
        let adopted = if released { adopt_everywhere(common, &there) } else { Ok(()) };
        if let Err(error) = adopted {
            log::warning(format_args!("{error:#}"));
        }
        return Err(error.context("maintenance did not begin"));
    }
    let both = || others(common, &there, "stop").and_then(|()| systemd::stop(PACEMAKER, STOP));
    both().map_err(|error| and_then(&error, "to go back: pc-ha maintenance off"))?;
    log::info(
        "maintenance: guests run on, nothing is restarted, nobody is fenced; end it with: pc-ha maintenance off",
    );
    Ok(Exit::Done)
}

/// Pacemaker is told to leave everything alone, and does.
fn leave_alone() -> Result<()> {
    pacemaker::option(MAINTENANCE, "maintenance-mode", Some("true"))?;
    pacemaker::settle(Duration::from_secs(600))?;
    if host::engine()?.maintenance {
        return Ok(());
    }
    Err(anyhow!(
        "pacemaker is not in maintenance mode although it was told to\n  crm_attribute --name maintenance-mode --query"
    ))
}

/// Why maintenance does not begin without nodes that pacemaker does not reach.
fn out_of_reach(away: &[String]) -> String {
    let are = if away.len() == 1 { "is" } else { "are" };
    let claims: Vec<String> = away.iter().map(|node| format!("--dead {node}")).collect();
    format!(
        "{} {are} away: maintenance would not reach what is not there, and when it comes back it knows nothing of it, restarts and fences\n  \
         switched off until maintenance is over, for certain: pc-ha maintenance on {}",
        away.join(", "),
        claims.join(" ")
    )
}

/// Nodes of the file that have not come back; nobody waits for the dead.
fn missing(want: &Want, engine: &Members, dead: &[String]) -> Vec<String> {
    let names = want.members.iter().map(|member| &member.name);
    let away = |name: &&String| !dead.contains(name) && !engine.node(name).is_some_and(|node| node.online);
    names.filter(away).cloned().collect()
}

/// Pacemaker comes back, finds the guests as they are, and is in charge again; the guests of whoever is `dead` start elsewhere,
/// by the word of the person who says so: what fences in maintenance is nothing.
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
    // What was under way on the nodes that are back is known by then.
    pacemaker::settle(START)?;
    let claimed = disown(want, &host::engine()?, dead);
    pacemaker::option(MAINTENANCE, "maintenance-mode", None)?;
    pacemaker::settle(START)?;
    log::info("maintenance is over");
    let adopted = adopt_everywhere(common, &peers);
    together([claimed, adopted].into_iter().filter_map(Result::err)).map(|()| Exit::Done)
}

/// In maintenance nobody was fenced: that the dead do not run a VM is what a person has said, and is noted of each VM that runs
/// nowhere else. One that is tied to its home waits for it.
fn disown(want: &Want, engine: &Members, dead: &[String]) -> Result<()> {
    if dead.is_empty() {
        return Ok(());
    }
    let lost = lost(want, engine, dead);
    together(lost.into_iter().filter_map(|vm| siblings::disown(vm, dead).err()))
}

/// VMs that run on nobody but the dead, as far as anybody knows.
fn lost<'a>(want: &'a Want, engine: &Members, dead: &[String]) -> Vec<&'a str> {
    let runs = |vm: &Vm| {
        let at = engine.vm(&vm_resource(&vm.name));
        at.is_some_and(|at| at.nodes.iter().any(|node| !dead.contains(node)))
    };
    want.vms.iter().filter(|vm| !vm.pinned && !runs(vm)).map(|vm| vm.name.as_str()).collect()
}

/// Guests first, then pacemaker everywhere, then power: no watchdog fires, for nobody loses anything that he holds.
pub fn shutdown(common: &Common, want: &Want, patience: Duration) -> Result<Exit> {
    let there = online(want, &host::engine()?);
    let _lock = locks::shut_down(common)?;
    // Until this node has left: whoever applies meanwhile would have the guests run again.
    pacemaker::tell_others(&want.node, SHUTS_DOWN, 1)?;
    let ended = go_down(common, &there, patience);
    if ended.is_err() {
        if let Err(error) = pacemaker::forget_telling(&want.node, SHUTS_DOWN) {
            log::debug(format_args!("this node has left, or: {error:#}"));
        }
    }
    ended.map(|()| Exit::Done)
}

fn go_down(common: &Common, there: &[String], patience: Duration) -> Result<()> {
    tell("stopping all guests");
    let stopped = pacemaker::option(SHUTDOWN, "stop-all-resources", Some("true"))
        .and_then(|()| pacemaker::settle(patience))
        .and_then(|()| host::engine());
    let left = stopped.map(|engine| -> Vec<String> {
        engine.vms.into_iter().filter(Resource::is_active).map(|vm| vm.id).collect()
    });
    let all_stopped = left.as_ref().is_ok_and(Vec::is_empty);
    if !all_stopped {
        let (then, remedy) = match pacemaker::option(SHUTDOWN, "stop-all-resources", None) {
            Ok(()) => {
                ("all guests may run again", "pc-ha status; when it is known why: pc-ha shutdown --all")
            }
            Err(_) => ("all guests are told to stop still", "to have them run again: pc-ha apply"),
        };
        let then = format!("nothing is switched off, and {then}");
        return Err(match left {
            Ok(left) => try_again(format!("{} did not stop: {then}\n  {remedy}", left.join(", "))),
            Err(error) => and_then(&error.context(then), remedy),
        });
    }
    let stopped = others(common, there, "stop").and_then(|()| systemd::stop(PACEMAKER, STOP));
    stopped.map_err(|error| {
        and_then(&error, "every guest has stopped, and some engines: on every node systemctl start pacemaker, then pc-ha apply has them run again, or pc-ha shutdown --all goes on")
    })?;
    others(common, there, "power-off").map_err(|error| {
        and_then(&error, "every guest has stopped: switch off by hand what is still on, this node last")
    })?;
    log::info("every guest has stopped: switching off");
    systemd::power_off()
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
