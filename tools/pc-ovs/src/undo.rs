//! Ending a probation: the change stays, or everything goes back to what the record says.

use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::log;
use pc_run::run;
use xshell::{Shell, cmd};

use crate::action::Action;
use crate::claims::By;
use crate::guard;
use crate::host::Host;
use crate::ip::{self, Batch};
use crate::model::{Have, Link, Route};
use crate::plan::switch_actions;
use crate::probe;
use crate::record::{Lock, Outcome, Record, boot_id};
use crate::switch::Switch;
use crate::systemd::Bus;
use crate::takeover;

/// How long somebody else's work may take before it is ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// `pc-ovs confirm`: the change stays.
pub fn confirm(host: &Host) -> Result<()> {
    let _lock = Lock::take(host, PATIENCE)?;
    let Some(record) = Record::open(host)? else {
        return match Record::last(host)? {
            Some(last) if last.outcome == Outcome::RolledBack => Err(pc_cli::refused(format!(
                "nothing is on probation: the change of {} was rolled back\n  pc-ovs apply --take-over --confirm 120s",
                last.started
            ))),
            _ => Ok(()),
        };
    };
    if !record.complete {
        return Err(pc_cli::try_again("the change is not complete yet\n  pc-ovs status"));
    }
    keep(host, record)
}

/// The change stays; the caller holds the lock.
pub fn keep(host: &Host, record: Record) -> Result<()> {
    record.close(host, Outcome::Confirmed)?;
    guard::disarm(guard::bus(host).as_ref());
    log::info("confirmed");
    Ok(())
}

/// Who asks for a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A person.
    Asked,
    /// The guard: the probation is over, and the network is asked a last time.
    Expired,
    /// The boot unit: only what a machine that went down left behind, without asking anybody.
    Interrupted,
}

/// `pc-ovs rollback`.
pub fn rollback(host: &Host, occasion: Occasion) -> Result<()> {
    let Some(seen) = Record::open(host)? else {
        if occasion == Occasion::Asked {
            log::info("nothing is on probation");
        }
        return Ok(());
    };
    if occasion == Occasion::Interrupted && seen.boot_id == boot_id() {
        return Ok(());
    }
    let _lock = Lock::seize(host, PATIENCE, seen.pid)?;
    // Whoever held the lock may have ended it.
    let Some(record) = Record::open(host)? else { return Ok(()) };
    if occasion == Occasion::Expired && record.complete {
        if let Some(answered) = probe::ask(&record.probe) {
            log::info(format_args!("{answered} answers"));
            return keep(host, record);
        }
    }
    go_back(host, record)
}

/// Puts everything back; the caller holds the lock. Each part is tried even when another one fails: half a
/// network is better than none. The record stays open then, so that it can be tried again.
pub fn go_back(host: &Host, record: Record) -> Result<()> {
    let bus = guard::bus(host);
    let bus = bus.as_ref();
    log::warning(format_args!("going back to the network before {}", record.started));
    let parts = [
        takeover::put_back(host, &record.files).context("putting files back"),
        switch_back(host, &record).context("putting the switch back"),
        addresses_back(&record).context("putting addresses back"),
        configure_again(bus, &record).context("waking up who configured the NICs before"),
        unit_back(bus, &record),
    ];
    pc_cli::together(parts.into_iter().filter_map(Result::err)).context("rolling back")?;
    record.close(host, Outcome::RolledBack)?;
    guard::disarm(bus);
    log::info("rolled back");
    Ok(())
}

fn switch_back(host: &Host, record: &Record) -> Result<()> {
    let mut switch = Switch::open(&host.socket())?;
    let have = Have { bridges: switch.bridges(), ..Have::default() };
    let actions = switch_actions(&record.bridges, &have);
    switch.commit(&actions.iter().collect::<Vec<&Action>>())?;
    for action in actions {
        log::info(action);
    }
    Ok(())
}

/// Addresses and routes as they were. Devices that have gone meanwhile have none.
fn addresses_back(record: &Record) -> Result<()> {
    let links = ip::links()?;
    let none = Link::default();
    let mut batch = Batch::default();
    for device in record.devices.iter().filter(|device| links.contains_key(*device)) {
        let before = record.links.get(device).unwrap_or(&none);
        let now = &links[device];
        for address in now.addresses.iter().filter(|address| !before.addresses.contains(address)) {
            batch.remove(device, address);
        }
        if before.up && !now.up {
            batch.up(device);
        }
        for address in before.addresses.iter().filter(|address| !now.addresses.contains(address)) {
            batch.add(device, address);
        }
    }
    let present = ip::routes()?;
    for route in present.iter().filter(|route| route.ours && !record.routes.contains(route)) {
        if let Some(router) = route.router {
            batch.unroute(&route.interface, &router.to_string());
        }
    }
    for route in record.routes.iter().filter(|route| !present.contains(route)) {
        batch.restore(route);
    }
    // A line fails when the kernel was first: it drops a route with its address. The result counts.
    batch.run(true).or_else(|error| if is_back(record)? { Ok(()) } else { Err(error) })
}

/// Every address and route of the record is there, on devices that are there.
fn is_back(record: &Record) -> Result<bool> {
    let (links, routes) = (ip::links()?, ip::routes()?);
    let address = |(device, before): (&String, &Link)| {
        links.get(device).is_none_or(|now| before.addresses.iter().all(|one| now.addresses.contains(one)))
    };
    let route = |route: &Route| !links.contains_key(&route.interface) || routes.contains(route);
    Ok(record.links.iter().all(address) && record.routes.iter().all(route))
}

/// Those whose files are back configure again what needs more than an address: leases.
fn configure_again(bus: Option<&Bus>, record: &Record) -> Result<()> {
    if record.files.is_empty() {
        return Ok(());
    }
    takeover::reload(bus, &record.claims, &record.files)?;
    let sh = Shell::new()?;
    for claim in record.claims.iter().filter(|claim| claim.by == By::Ifupdown && claim.dhcp) {
        let device = &claim.device;
        let called = run(cmd!(sh, "ifup --force {device}")).deadline(Duration::from_secs(90)).output();
        match called {
            Ok(_) => log::info(format_args!("{device}: DHCP client started again")),
            // Its address is back already; the lease is renewed when somebody does this by hand.
            Err(error) => log::warning(format_args!("{error}\n  ifup --force {device}")),
        }
    }
    Ok(())
}

fn unit_back(bus: Option<&Bus>, record: &Record) -> Result<()> {
    match bus {
        Some(bus) if record.enabled_unit => bus.disable(),
        _ => Ok(()),
    }
}
