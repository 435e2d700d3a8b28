//! Ending a probation: the change stays, or everything goes back to what the record says.

use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{Exit, log};
use pc_run::run;
use xshell::{Shell, cmd};

use crate::action::Action;
use crate::claims::{By, Claim};
use crate::guard;
use crate::host::Host;
use crate::ip::{self, Batch};
use crate::model::{Bridge, Have, Link, Route};
use crate::plan::switch_actions;
use crate::probe;
use crate::record::{FileChange, Lock, Outcome, Record, boot_id, open_path};
use crate::switch::Switch;
use crate::systemd::Bus;
use crate::{takeover, unreadable};

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
    let seen = match Record::open(host) {
        // Nobody is there to mend it, and while it stands nothing gives this machine an address.
        Err(error) if occasion == Occasion::Interrupted => {
            let _lock = Lock::take(host, PATIENCE)?;
            return unreadable::go_back(host, &error);
        }
        seen => seen?,
    };
    let Some(seen) = seen else {
        let ended = open_path(host).exists() && tidy_up(host)?;
        if occasion == Occasion::Asked && !ended {
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
    match occasion {
        Occasion::Interrupted => go_back_at_boot(host, record),
        Occasion::Asked | Occasion::Expired => go_back(host, record),
    }
}

/// Removes the file of a probation that has ended already; tells whether there was one.
fn tidy_up(host: &Host) -> Result<bool> {
    let _lock = Lock::take(host, PATIENCE)?;
    let Some(last) = Record::remove_ended(host)? else { return Ok(false) };
    guard::disarm(guard::bus(host).as_ref());
    let how = if last.outcome == Outcome::RolledBack { "rolled back" } else { "confirmed" };
    log::info(format_args!("the change of {} was {how} already", last.started));
    Ok(true)
}

/// Puts everything back; the caller holds the lock. Each part is tried even when another one fails: half a
/// network is better than none. The record stays open then, so that it can be tried again.
pub fn go_back(host: &Host, record: Record) -> Result<()> {
    let bus = guard::bus(host);
    pc_cli::together(parts_back(host, bus.as_ref(), &record)).context("rolling back")?;
    end(host, bus.as_ref(), record)
}

/// As `go_back`, but what failed is told and kept with the record, which is closed all the same: nobody is there
/// to try again, and `apply` must run.
fn go_back_at_boot(host: &Host, mut record: Record) -> Result<()> {
    let bus = guard::bus(host);
    let failed = parts_back(host, bus.as_ref(), &record);
    record.errors = told_at_boot(failed).context("rolling back")?;
    end(host, bus.as_ref(), record)
}

/// Tells what failed, and gives it back as text. What another attempt may mend (ovsdb-server is not up yet) ends
/// with 75: the unit tries again.
pub fn told_at_boot(failed: Vec<anyhow::Error>) -> Result<Vec<String>> {
    let (later, never): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|error| Exit::of(error) == Exit::TryAgain);
    let errors = never.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>();
    errors.iter().for_each(log::error);
    pc_cli::together(later)?;
    Ok(errors)
}

fn end(host: &Host, bus: Option<&Bus>, record: Record) -> Result<()> {
    let entirely = record.errors.is_empty();
    record.close(host, Outcome::RolledBack)?;
    guard::disarm(bus);
    log::info(if entirely { "rolled back" } else { "rolled back as far as it went" });
    Ok(())
}

/// Tries every part; gives the errors.
fn parts_back(host: &Host, bus: Option<&Bus>, record: &Record) -> Vec<anyhow::Error> {
    log::warning(format_args!("going back to the network before {}", record.started));
    let files = takeover::put_back(host, &record.files).context("putting files back");
    // While somebody's file is not back, only our unit gives this machine an address.
    let unit = if files.is_ok() { unit_back(bus, record) } else { Ok(()) };
    let parts = [
        files,
        switch_back(host, &record.bridges).context("putting the switch back"),
        addresses_back(record).context("putting addresses back"),
        configure_again(bus, &record.claims, &record.files)
            .context("waking up who configured the NICs before"),
        unit,
    ];
    parts.into_iter().filter_map(Result::err).collect()
}

/// Our bridges as they were.
pub fn switch_back(host: &Host, bridges: &[Bridge]) -> Result<()> {
    let mut switch = Switch::open(&host.socket())?;
    let have = Have { bridges: switch.bridges(), ..Have::default() };
    let actions = switch_actions(bridges, &have);
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
fn configure_again(bus: Option<&Bus>, claims: &[Claim], files: &[FileChange]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    takeover::reload(bus, claims, files)?;
    let leases = claims.iter().filter(|claim| claim.by == By::Ifupdown && claim.dhcp);
    force_up(leases.map(|claim| claim.device.as_str()))
}

/// Has ifupdown configure these devices now.
pub fn force_up<'a>(devices: impl Iterator<Item = &'a str>) -> Result<()> {
    let sh = Shell::new()?;
    for device in devices {
        let called = run(cmd!(sh, "ifup --force {device}")).deadline(Duration::from_secs(90)).output();
        match called {
            Ok(_) => log::info(format_args!("{device}: configured by ifupdown again")),
            // A fixed address is back already; what is missing comes when somebody does this by hand.
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
