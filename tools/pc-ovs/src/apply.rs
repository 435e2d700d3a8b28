//! `pc-ovs apply`: plan, guard, change, ask whether the network still works.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::NodeView;
use nix::sys::signal::{SigSet, Signal};
use pc_cli::{log, refused};
use pc_plan::{Plan, Step};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::action::Action;
use crate::change::{Change, carry_out};
use crate::connection::{self, Session};
use crate::host::Host;
use crate::ip;
use crate::model::{Bridge, Have};
use crate::ovsdb::Error;
use crate::plan::{self, Planned};
use crate::probation;
use crate::probe;
use crate::record::{Lock, Record};
use crate::switch::Switch;
use crate::want::{Want, nics_of};

/// How often a change starts anew when somebody else changed the database meanwhile.
const ATTEMPTS: u32 = 5;
/// How long another pc-ovs may take to finish.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the kernel may take at boot to find a NIC, whose driver may want firmware first.
const FOUND: Duration = Duration::from_secs(10);
/// How long a link may take to come up at boot: autonegotiation is 3 s on copper.
const CARRIER: Duration = Duration::from_secs(10);

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// NICs that somebody else configures may be taken over.
    pub take_over: bool,
    /// Go back by itself after this long.
    pub confirm: Option<Duration>,
    /// Only these steps.
    pub only: Option<Plan<Action>>,
    /// Nobody is there to ask: leave alone what is refused, do the rest.
    pub boot: bool,
    /// A NIC that has just come.
    pub came: Option<String>,
}

/// What came of it.
#[derive(Default)]
pub struct Applied {
    /// Ids of the steps that were done.
    pub done: Vec<String>,
    /// The switch and the machine as they are, when nothing had to be done.
    pub seen: Option<(Switch, Have)>,
}

/// Brings the node to the file.
pub fn apply(host: &Host, view: &NodeView, want: &Want, options: &Options) -> Result<Applied> {
    hold_signals();
    let lock = Lock::take(host, PATIENCE)?;
    in_the_way(host)?;
    if options.boot {
        await_nic(want)?;
    }
    let (planned, applied, record) = while_stale("the switch's database", || {
        let mut switch = Switch::open(&host.socket())?;
        let have = host.have(&switch, want)?;
        let planned = plan::plan(want, &have, options.take_over);
        planned.notes.iter().for_each(log::warning);
        if !options.boot {
            refuse(&planned)?;
        }
        let steps = chosen(view, &have, &planned, options)?;
        if steps.is_empty() {
            return Ok((planned, Applied { seen: Some((switch, have)), ..Applied::default() }, None));
        }
        let session = connection::session();
        let touched = through(session, &steps, &have);
        if let (Some(device), None) = (&touched, options.confirm) {
            return Err(refused(format!(
                "this would move the address that you are connected through ({device})\n  \
                 give yourself a way back: pc-ovs apply{} --confirm 60s",
                if options.take_over { " --take-over" } else { "" }
            )));
        }
        let applied = Applied { done: steps.iter().map(|step| step.id.clone()).collect(), seen: None };
        let actions: Vec<Action> = steps.into_iter().map(|step| step.action).collect();
        let probe = probe::targets(view, want, session.map(|session| session.client));
        let change = Change { have: &have, actions: &actions, confirm: options.confirm, probe };
        let record = carry_out(host, &mut switch, &change)?;
        Ok((planned, applied, record))
    })?;
    if let Some(record) = record {
        drop(lock);
        probation::settle(host, &record, options.confirm)?;
    }
    finish(&planned, options, applied)
}

/// Looks, plans and changes, and all of it anew while somebody else has changed the database in between.
pub fn while_stale<T>(database: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        match attempt() {
            Err(error) if is_stale(&error) => log::debug(format_args!("{error:#}: planning anew")),
            done => return done,
        }
    }
    Err(pc_cli::try_again(format!("{database} changed {ATTEMPTS} times while it was read")))
}

/// A lost terminal must not stop a change half-way: these signals wait until the process ends by itself.
fn hold_signals() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        signals.add(signal);
    }
    if let Err(error) = signals.thread_block() {
        log::warning(format_args!("holding back signals: {error}"));
    }
}

/// A probation that is still open is in the way of the next change.
fn in_the_way(host: &Host) -> Result<()> {
    let Some(record) = Record::open(host)? else { return Ok(()) };
    // 75: a unit that comes in between tries again once it is settled.
    Err(pc_cli::try_again(format!(
        "a change of {} is on probation\n  pc-ovs confirm (it stays) or pc-ovs rollback (it goes)",
        record.started
    )))
}

/// At boot what was refused is told at the end, with the rest done. 75 while a NIC may still come: the unit asks again.
fn finish(planned: &Planned, options: &Options, applied: Applied) -> Result<Applied> {
    if options.boot {
        refuse(planned).map_err(|error| {
            let waits = planned.refusals.iter().any(|refusal| refusal.waits);
            if waits { pc_cli::try_again(error.to_string()) } else { error }
        })?;
    }
    Ok(applied)
}

/// All refusals as one error.
pub fn refuse(planned: &Planned) -> Result<()> {
    if planned.refusals.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = planned.refusals.iter().map(ToString::to_string).collect();
    Err(refused(all.join("\n")))
}

/// All steps, or those of a plan that was read.
fn chosen(view: &NodeView, have: &Have, planned: &Planned, options: &Options) -> Result<Vec<Step<Action>>> {
    let Some(only) = &options.only else { return Ok(planned.steps.clone()) };
    let fresh = Plan::new(plan::SCHEMA, view.node.name.as_str(), have, planned.steps.clone());
    only.still_true(&fresh).map_err(refused)
}

/// The device that the session runs through, when these steps touch it.
fn through(session: Option<Session>, steps: &[Step<Action>], have: &Have) -> Option<String> {
    let local = session?.local.to_string();
    let is_local = |address: &String| address.split('/').next() == Some(local.as_str());
    let (device, _) =
        have.links.iter().find(|(_, link)| link.addresses.iter().chain(&link.advertised).any(is_local))?;
    let bridge = have.bridges.iter().find(|have| {
        have.bridge.ports.iter().flat_map(|port| &port.interfaces).any(|interface| interface.name == *device)
    });
    let bridge = bridge.map(|have| have.bridge.name.as_str());
    let touches = |action: &Action| match action {
        Action::AddBridge { .. } | Action::Up { .. } | Action::SetRouter { .. } => false,
        Action::SetBridge { bridge: set } => bridge == Some(set.name.as_str()),
        Action::RemoveBridge { name, .. } => bridge == Some(name.as_str()),
        Action::AddPort { port, .. } => port.interfaces.iter().any(|interface| interface.name == *device),
        Action::SetPort { bridge: on, .. } | Action::RemovePort { bridge: on, .. } => {
            bridge == Some(on.as_str())
        }
        Action::Flush { interface, .. } | Action::SetAddress { interface, .. } => interface == device,
        Action::RemoveRouter { .. } => true,
        Action::TakeOver { nics, .. } => nics.contains(device),
    };
    steps
        .iter()
        .flat_map(|step| std::iter::once(&step.action).chain(step.action.parts()))
        .any(touches)
        .then(|| device.clone())
}

/// Somebody else changed the database between reading and writing.
pub fn is_stale(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref::<Error>(), Some(Error::Stale)))
}

/// A NIC of the file that is not up: a card that was there when the machine booted needs no second look.
pub fn wants(want: &Want, nic: &str) -> Result<bool> {
    let known = want.bridges.iter().flat_map(nics_of).any(|own| own == nic);
    Ok(known && ip::links()?.get(nic).is_some_and(|link| !link.up))
}

/// The bridge with the node's address.
fn own_bridge(want: &Want) -> Option<&Bridge> {
    let host = want.host.as_ref()?;
    want.bridges.iter().find(|bridge| bridge.name == host.bridge)
}

/// At boot: gives the kernel some time to find a NIC for the node's address. One that comes later is brought up by
/// pc-ovs-nic@.service.
fn await_nic(want: &Want) -> Result<()> {
    let Some(bridge) = own_bridge(want) else { return Ok(()) };
    let nics: Vec<&str> = nics_of(bridge).collect();
    let found = || Ok::<_, anyhow::Error>(ip::links()?.keys().any(|link| nics.contains(&link.as_str())));
    if nics.is_empty() || found()? {
        return Ok(());
    }
    log::info(format_args!("uplink {}: waiting for {}", bridge.uplink, nics.join(", ")));
    let until = Instant::now() + FOUND;
    while !found()? {
        if Instant::now() >= until {
            log::warning(format_args!("uplink {}: no {}", bridge.uplink, nics.join(", no ")));
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// At boot: gives the link of the node's address some time, so that network-online.target means something. A
/// cable that is not there must not hold the boot.
pub fn await_carrier(want: &Want) -> Result<()> {
    let bridge = own_bridge(want);
    let until = Instant::now() + CARRIER;
    while let Some(bridge) = bridge {
        let links = ip::links()?;
        let mut nics = nics_of(bridge).filter_map(|nic| links.get(nic)).peekable();
        if nics.peek().is_none() || nics.any(|nic| nic.carrier) {
            break;
        }
        if Instant::now() >= until {
            log::warning(format_args!("uplink {} has no link", bridge.uplink));
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Now, as the outputs have it.
pub fn now() -> Result<String> {
    stamp(OffsetDateTime::now_utc())
}

/// A time as RFC 3339 in UTC, to the second.
pub fn stamp(time: OffsetDateTime) -> Result<String> {
    let time = time.replace_nanosecond(0).context("reading the clock")?;
    time.format(&Rfc3339).context("reading the clock")
}
