//! One change, carried out in the order that keeps the gap short: files, DHCP clients, the switch in one
//! transaction, then all addresses and routes in one `ip -batch`.

use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::log;
use time::OffsetDateTime;

use crate::action::Action;
use crate::apply::stamp;
use crate::claims::Claim;
use crate::guard;
use crate::host::Host;
use crate::ip::{self, Batch};
use crate::model::Have;
use crate::record::{Outcome, Probe, Record, SCHEMA, boot_id};
use crate::switch::Switch;
use crate::systemd::{Bus, UNIT};
use crate::takeover;
use crate::undo;

/// How long a device of the switch may take to appear.
const APPEAR: Duration = Duration::from_secs(30);

/// What is to be done, and what it was planned on.
pub struct Change<'a> {
    /// The machine before.
    pub have: &'a Have,
    /// In order.
    pub actions: &'a [Action],
    /// Go back by itself after this long.
    pub confirm: Option<Duration>,
    /// Whom to ask afterwards.
    pub probe: Probe,
}

/// When the guard strikes, counted from before the change: on a slow machine the change itself takes a while, and
/// must not be taken for a failure. As long as we live we count from after the change.
fn latest(delay: Duration) -> Duration {
    delay + delay.min(Duration::from_secs(60))
}

impl Change<'_> {
    fn parts(&self) -> Vec<&Action> {
        self.actions.iter().flat_map(Action::parts).collect()
    }

    fn take_overs(&self) -> (Vec<Claim>, Vec<String>) {
        let mut all = (Vec::new(), Vec::new());
        for action in self.actions {
            if let Action::TakeOver { claims, nics, .. } = action {
                all.0.extend(claims.iter().cloned());
                all.1.extend(nics.iter().cloned());
            }
        }
        all
    }
}

/// Carries a change out. Gives the record of the probation when there is one; after a failure with a record
/// everything is back as it was.
pub fn carry_out(host: &Host, switch: &mut Switch, change: &Change) -> Result<Option<Record>> {
    let (claims, nics) = change.take_overs();
    if nics.is_empty() && change.confirm.is_none() {
        on_switch(switch, &change.parts())?;
        on_host(&change.parts())?;
        return Ok(None);
    }
    // Only now: an ordinary boot must not wait for D-Bus.
    let bus = guard::bus(host);
    let bus = bus.as_ref();
    let mut record = record(Record::begin(host)?, change, claims)?;
    let edits = takeover::edits(host, &change.actions.iter().collect::<Vec<_>>());
    record.files = takeover::file_changes(host, &edits, &record.kept);
    record.save(host)?;
    let mut attempt = || -> Result<()> {
        if let Some(delay) = change.confirm {
            guard::arm(host, bus, latest(delay))?;
        }
        if !nics.is_empty() {
            enable_boot_unit(host, bus, &mut record)?;
        }
        takeover::write(host, &edits, &record.files)?;
        takeover::end_dhcp_clients(&nics);
        takeover::reload(bus, &record.claims, &record.files)?;
        on_switch(switch, &change.parts())?;
        on_host(&change.parts())?;
        record.complete = true;
        record.save(host)
    };
    match attempt() {
        Ok(()) => Ok(Some(record)),
        Err(error) => {
            log::error(format_args!("{error:#}"));
            undo::go_back(host, record)?;
            Err(error.context("rolled back"))
        }
    }
}

fn record(started: String, change: &Change, claims: Vec<Claim>) -> Result<Record> {
    let kept = format!("/var/lib/personal-cluster/ovs/taken-over/{}", started.replace(':', ""));
    let until = change.confirm.map(|delay| stamp(OffsetDateTime::now_utc() + latest(delay))).transpose()?;
    let have = change.have;
    let ours = have.bridges.iter().filter(|have| have.ours);
    let mut devices: Vec<String> = have.links.keys().cloned().collect();
    for action in change.parts() {
        if let Action::AddPort { port, .. } = action {
            devices.extend(port.interfaces.iter().map(|interface| interface.name.clone()));
        } else if let Action::AddBridge { bridge } = action {
            devices.push(bridge.name.clone());
        }
    }
    devices.sort();
    devices.dedup();
    Ok(Record {
        schema: SCHEMA.into(),
        outcome: Outcome::Open,
        started,
        until,
        boot_id: boot_id(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        complete: false,
        kept,
        files: Vec::new(),
        claims,
        bridges: ours.map(|have| have.bridge.clone()).collect(),
        links: have.links.clone(),
        devices,
        routes: have.routes.clone(),
        enabled_unit: false,
        probe: change.probe.clone(),
        errors: Vec::new(),
    })
}

/// From now on nothing else gives this machine its address when it boots.
fn enable_boot_unit(host: &Host, bus: Option<&Bus>, record: &mut Record) -> Result<()> {
    let Some(bus) = bus else { return Ok(()) };
    match bus.enable() {
        Ok(true) => {
            log::info(format_args!("{UNIT}: enabled"));
            record.enabled_unit = true;
            record.save(host)
        }
        Ok(false) => Ok(()),
        Err(error) => {
            log::warning(format_args!("{error:#}\n  before the next boot: systemctl enable {UNIT}"));
            Ok(())
        }
    }
}

/// The switch's part, in one transaction.
fn on_switch(switch: &mut Switch, parts: &[&Action]) -> Result<()> {
    if switch.commit(parts)? {
        for action in parts.iter().filter(|action| action.is_switch()) {
            log::info(action);
        }
        let made = parts.iter().filter_map(|action| match action {
            Action::AddPort { port, .. } | Action::SetPort { port, .. } => Some(vec![port]),
            Action::AddBridge { bridge } => Some(bridge.ports.iter().collect()),
            _ => None,
        });
        let interfaces =
            made.flatten().flat_map(|port| &port.interfaces).map(|interface| interface.name.clone());
        report(switch, &interfaces.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// A NIC that is not plugged in is no reason to leave the others in the dark: it is named, and comes by itself.
fn report(switch: &Switch, interfaces: &[String]) -> Result<()> {
    let missing = |error: &str| error.contains("No such device");
    for (name, error) in switch.errors().iter().filter(|(name, _)| interfaces.contains(name)) {
        if missing(error) {
            log::warning(format_args!("{name}: {error}"));
        }
    }
    let rest: Vec<String> = switch
        .errors()
        .into_iter()
        .filter(|(name, error)| interfaces.contains(name) && !missing(error))
        .map(|(name, _)| name)
        .collect();
    switch.check(&rest)
}

/// The host's part: every address and route in one process.
fn on_host(parts: &[&Action]) -> Result<()> {
    let mut batch = Batch::default();
    let mut done = Vec::new();
    for action in parts.iter().filter(|action| !action.is_switch()) {
        match action {
            Action::Flush { interface, addresses } => {
                for address in addresses {
                    batch.remove(interface, address);
                }
            }
            Action::Up { interface } => {
                appear(interface)?;
                batch.up(interface);
            }
            Action::SetAddress { interface, address } => {
                appear(interface)?;
                batch.add(interface, address);
            }
            Action::SetRouter { interface, router } => batch.route(interface, router),
            Action::RemoveRouter { interface, router } => batch.unroute(interface, router),
            _ => continue,
        }
        done.push(action);
    }
    if done.is_empty() {
        return Ok(());
    }
    // A line may fail because somebody else did it first (networkd takes its addresses away by itself):
    // what counts is the result.
    if let Err(error) = batch.run(true) {
        let missing = missing(&done)?;
        if !missing.is_empty() {
            return Err(error.context(missing.join("; ")));
        }
    }
    for action in done {
        log::info(action);
    }
    Ok(())
}

/// What should be so and is not.
fn missing(done: &[&&Action]) -> Result<Vec<String>> {
    let links = ip::links()?;
    let routes = ip::routes()?;
    let holds = |action: &Action| match action {
        Action::Flush { interface, addresses } => links.get(interface).is_none_or(|link| {
            addresses
                .iter()
                .all(|address| !link.addresses.contains(address) && !link.advertised.contains(address))
        }),
        Action::Up { interface } => links.get(interface).is_some_and(|link| link.up),
        Action::SetAddress { interface, address } => {
            links.get(interface).is_some_and(|link| link.addresses.contains(address))
        }
        Action::SetRouter { interface, router } | Action::RemoveRouter { interface, router } => {
            let there = routes.iter().any(|route| {
                route.ours
                    && route.interface == *interface
                    && route.router.is_some_and(|found| found.to_string() == *router)
            });
            there == matches!(action, Action::SetRouter { .. })
        }
        _ => true,
    };
    Ok(done.iter().filter(|action| !holds(action)).map(ToString::to_string).collect())
}

/// Waits for a device that ovs-vswitchd makes.
fn appear(device: &str) -> Result<()> {
    let until = Instant::now() + APPEAR;
    loop {
        if ip::links()?.contains_key(device) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(pc_cli::try_again(format!(
                "{device} is not there after {} s: ovs-vswitchd has not made it\n  systemctl status ovs-vswitchd",
                APPEAR.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
