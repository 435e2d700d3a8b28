//! Gathers what `list` and `status` print.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use cluster::Node;
use pc_cli::log;

use crate::disk::resize;
use crate::domain::Guest;
use crate::hypervisor::{Hypervisor, LOOK, Live};
use crate::plan::Action;
use crate::probe::{self, Process};
use crate::report::{List, ListedNode, ListedVm, Status, StatusVm};
use crate::site::{Site, now};
use crate::spare;
use crate::store::Store;
use crate::systemd;
use crate::together::together;
use crate::volumes::Volumes;

type Seen = BTreeMap<String, Live>;

/// All VMs, by asking all nodes at once.
pub fn list(site: &Site) -> List {
    let (guests, volumes) = (site.guests(), Volumes::default());
    let answers = site.nodes.everywhere(|hypervisor| {
        let mut seen = Seen::new();
        for guest in &guests {
            if let Some(live) = hypervisor.live(&guest.uuid(), LOOK)? {
                seen.insert(guest.name.to_string(), live);
            }
        }
        Ok(seen)
    });
    List {
        schema: "pc.vm.list/1",
        node: site.nodes.me().into(),
        vms: guests.iter().map(|guest| listed(site, &volumes, guest, &answers)).collect(),
        nodes: answers
            .iter()
            .map(|(node, answer)| ListedNode {
                name: node.name.to_string(),
                reachable: answer.is_ok(),
                reason: answer.as_ref().err().map(|error| format!("{error:#}")),
            })
            .collect(),
    }
}

fn listed(site: &Site, volumes: &Volumes, guest: &Guest, answers: &[(&Node, Result<Seen>)]) -> ListedVm {
    let name = guest.name.as_str();
    let seen = || answers.iter().filter_map(|(node, answer)| Some((*node, answer.as_ref().ok()?.get(name)?)));
    let running = seen().find(|(_, live)| live.active);
    let silent: Vec<&str> =
        answers.iter().filter(|(_, answer)| answer.is_err()).map(|(node, _)| node.name.as_str()).collect();
    let (state, reason) = match (running.or_else(|| seen().next()), silent.is_empty()) {
        (Some((_, live)), all) if live.active || all => (live.state, live.reason.map(String::from)),
        (None, true) => ("undefined", None),
        _ => ("unknown", Some(format!("no answer from {}", silent.join(", ")))),
    };
    let node = running.map(|(node, _)| node.name.to_string());
    let home = site.home_of(guest).to_string();
    let here = node.as_deref() == Some(site.nodes.me());
    ListedVm {
        name: name.into(),
        uuid: guest.uuid(),
        state: state.into(),
        reason,
        should_run_on: (!site.has_pacemaker()).then(|| home.clone()),
        home,
        cpus: guest.vm.cpus,
        memory_bytes: running.map_or(guest.vm.memory.0, |(_, live)| live.memory_bytes),
        volume: guest.vm.volume.to_string(),
        disk_bytes: guest.vm.disk.0,
        disk_allocated_bytes: on_volume(site, volumes, guest, Store::allocated_bytes),
        uptime_seconds: if here { uptime(site, name) } else { None },
        node,
    }
}

/// Asks the volume of a VM, when it is mounted.
fn on_volume<T: Send + 'static>(
    site: &Site,
    volumes: &Volumes,
    guest: &Guest,
    ask: impl FnOnce(&Store) -> Option<T> + Send + 'static,
) -> Option<T> {
    let store = site.store(guest);
    store.require_mounted().ok()?;
    volumes.ask(guest.vm.volume.as_str(), move || ask(&store))
}

/// libvirt writes it when QEMU starts.
fn pid_file(vm: &str) -> String {
    format!("/run/libvirt/qemu/{vm}.pid")
}

fn uptime(site: &Site, name: &str) -> Option<u64> {
    let path = site.common.under_root(&pid_file(name));
    let started = std::fs::metadata(path).ok()?.modified().ok()?;
    started.elapsed().ok().map(|elapsed| elapsed.as_secs())
}

/// This node. A libvirt that does not answer is an answer too: a problem, and nothing is known of the VMs.
pub fn status(site: &Site) -> Result<Status> {
    let (mut problems, volumes) = (Vec::new(), Volumes::default());
    // One that ends just now is no news.
    let (processes, unread) = probe::processes(site.common, Duration::ZERO);
    if let Some(reason) = unread {
        log::debug(format_args!("looking for what runs here: {reason}"));
    }
    let (reachable_by_peers, vms) = match seen(site, &volumes, &processes, &mut problems) {
        Ok(seen) => seen,
        Err(error) => {
            problems.push(format!("{error:#}"));
            (false, site.guests().iter().map(|guest| unknown(site, &volumes, guest, &processes)).collect())
        }
    };
    if systemd::is_active("libvirt-guests.service").unwrap_or(false) {
        problems.push(
            "libvirt-guests runs: a second one who starts and stops VMs\n  systemctl disable --now libvirt-guests".into(),
        );
    }
    Ok(Status {
        schema: "pc.vm.status/1",
        node: site.nodes.me().into(),
        measured_at: now()?,
        healthy: problems.is_empty(),
        reachable_by_peers,
        problems,
        misfits: spare::misfits(site.cluster()),
        together: together(site.cluster(), vms.iter().filter(|vm| vm.here).map(|vm| vm.name.as_str())),
        vms,
    })
}

/// Whether other nodes reach this libvirt, and each VM as it sees it.
fn seen(
    site: &Site,
    volumes: &Volumes,
    processes: &[Process],
    problems: &mut Vec<String>,
) -> Result<(bool, Vec<StatusVm>)> {
    let host = site.host_within(LOOK)?;
    let outcome = host.outcome()?;
    let guests = site.guests();
    let live = guests.iter().map(|guest| host.hypervisor.live(&guest.uuid(), LOOK));
    let live = live.collect::<Result<Vec<_>>>()?;
    problems.extend(outcome.conflicts);
    problems.extend(outcome.notices.iter().cloned());
    problems.extend(outcome.plan.steps.iter().map(|step| format!("not done yet: {}", step.action)));
    let waits = outcome.notices.iter().any(|notice| notice.starts_with("libvirt does not listen"));
    let reachable =
        !waits && !outcome.plan.steps.iter().any(|step| matches!(step.action, Action::Listen { .. }));
    let vms = guests.iter().zip(live).map(|(guest, live)| {
        let current = !outcome.plan.steps.iter().any(|step| step.id == format!("{}/define", guest.name));
        let pending = outcome.pending.iter().any(|vm| vm == guest.name.as_str());
        let disk_locked = live
            .as_ref()
            .filter(|live| runs(live))
            .and_then(|_| lock(site, volumes, guest, &host.hypervisor));
        StatusVm {
            pending,
            disk_locked,
            ..on_this_node(
                site,
                volumes,
                guest,
                (live.as_ref(), process_of(guest, processes)),
                current,
                problems,
            )
        }
    });
    Ok((reachable, vms.collect()))
}

/// Whether QEMU holds its lock on the disk of a VM that runs here.
fn lock(site: &Site, volumes: &Volumes, guest: &Guest, hypervisor: &Hypervisor) -> Option<bool> {
    // libvirt's test driver has no QEMU.
    let process = || site.common.under_root(&pid_file(guest.name.as_str())).exists();
    // While it stops or is moved away the lock is no more.
    let still_runs = || hypervisor.live(&guest.uuid(), LOOK).ok().flatten().as_ref().is_some_and(runs);
    let held = process().then(|| on_volume(site, volumes, guest, Store::disk_is_locked)).flatten()?;
    (held || (still_runs() && process())).then_some(held)
}

fn runs(live: &Live) -> bool {
    live.state == "running"
}

fn process_of(guest: &Guest, processes: &[Process]) -> Option<u32> {
    let uuid = guest.uuid();
    processes.iter().find(|found| found.uuid.eq_ignore_ascii_case(&uuid)).map(|found| found.pid)
}

/// A VM of which this node's libvirt says nothing: the kernel shows whether it runs here.
fn unknown(site: &Site, volumes: &Volumes, guest: &Guest, processes: &[Process]) -> StatusVm {
    StatusVm {
        name: guest.name.to_string(),
        defined: false,
        current: false,
        pending: false,
        state: "unknown".into(),
        reason: Some("libvirt does not answer".into()),
        here: process_of(guest, processes).is_some(),
        should_run_here: (!site.has_pacemaker()).then(|| site.home_of(guest) == site.nodes.me()),
        owner: on_volume(site, volumes, guest, |store| store.owner().ok().flatten()).map(|owner| owner.node),
        disk_locked: None,
    }
}

fn on_this_node(
    site: &Site,
    volumes: &Volumes,
    guest: &Guest,
    (live, process): (Option<&Live>, Option<u32>),
    current: bool,
    problems: &mut Vec<String>,
) -> StatusVm {
    let (name, me) = (guest.name, site.nodes.me());
    let known = live.is_some_and(|live| live.active);
    let here = known || process.is_some();
    if let Some(pid) = process.filter(|_| !known && still_lost(site, guest)) {
        problems.push(format!("{:#}", probe::forgotten(name.as_str(), pid)));
    }
    let owner = on_volume(site, volumes, guest, |store| store.owner().ok().flatten()).map(|owner| owner.node);
    let should = (!site.has_pacemaker()).then(|| site.home_of(guest) == me);
    if here && owner.as_deref().is_some_and(|owner| owner != me) {
        problems.push(format!("vm {name} runs here and {} owns it", owner.as_deref().unwrap_or_default()));
    }
    // Moved away on purpose is fine; nowhere is not.
    if should == Some(true) && !here && owner.as_deref().is_none_or(|owner| owner == me) {
        // Its unit stays active whatever the guest does: starting that would do nothing.
        problems.push(format!("vm {name} should run here\n  pc-vm start {name}"));
    }
    // Told once: where it runs, else where it would.
    if here || should == Some(true) {
        let bytes = on_volume(site, volumes, guest, Store::disk_bytes);
        problems.extend(bytes.and_then(|bytes| resize::difference(guest, bytes)));
    }
    if let Some(reason) = live.and_then(|live| live.reason) {
        problems.push(format!("vm {name} is paused: {reason}"));
    }
    StatusVm {
        name: name.to_string(),
        defined: live.is_some(),
        current: live.is_some() && current,
        pending: false,
        state: live.map_or("undefined", |live| live.state).into(),
        reason: live.and_then(|live| live.reason).map(String::from),
        here,
        should_run_here: should,
        owner,
        disk_locked: None,
    }
}

/// Whether a QEMU that libvirt did not know when it was asked, before or after, is one that it has lost, and not one that has just
/// been started or is just being ended.
fn still_lost(site: &Site, guest: &Guest) -> bool {
    let uuid = guest.uuid();
    let known = site.nodes.local_within(LOOK).and_then(|local| local.live(&uuid, LOOK));
    known.is_ok_and(|live| !live.is_some_and(|live| live.active))
        && matches!(probe::process(site, &uuid), Ok(Some(_)))
}

/// Leaves the status for siblings; a node that is going down needs none.
pub fn leave_status(site: &Site) {
    if systemd::is_stopping() {
        return;
    }
    let written = status(site).and_then(|status| pc_cli::write_status(&site.common.root, "vm", &status));
    if let Err(error) = written {
        log::debug(format_args!("leaving the status: {error:#}"));
    }
}
