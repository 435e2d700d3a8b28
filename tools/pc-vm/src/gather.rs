//! Gathers what `list` and `status` print.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use cluster::Node;

use crate::domain::Guest;
use crate::hypervisor::Live;
use crate::plan::Action;
use crate::report::{List, ListedNode, ListedVm, Status, StatusVm};
use crate::site::{Site, now};
use crate::store::Store;
use crate::systemd;

/// A libvirt that answers at all answers this fast, even on an emulated machine.
const LIVE: Duration = Duration::from_secs(20);

type Seen = BTreeMap<String, Live>;

/// All VMs, by asking all nodes at once.
pub fn list(site: &Site) -> List {
    let cluster = site.cluster();
    let guests: Vec<Guest> = cluster.vms.iter().map(|(name, vm)| Guest { cluster, name, vm }).collect();
    let answers = site.nodes.everywhere(|hypervisor| {
        let mut seen = Seen::new();
        for guest in &guests {
            if let Some(live) = hypervisor.live(&guest.uuid(), LIVE)? {
                seen.insert(guest.name.to_string(), live);
            }
        }
        Ok(seen)
    });
    List {
        schema: "pc.vm.list/1",
        node: site.nodes.me().into(),
        vms: guests.iter().map(|guest| listed(site, guest, &answers)).collect(),
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

fn listed(site: &Site, guest: &Guest, answers: &[(&Node, Result<Seen>)]) -> ListedVm {
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
        disk_allocated_bytes: on_volume(site, guest, Store::allocated_bytes),
        uptime_seconds: if here { uptime(site, name) } else { None },
        node,
    }
}

/// Asks the volume, which may hang: on a thread, and not for long.
fn on_volume<T: Send + 'static>(
    site: &Site,
    guest: &Guest,
    ask: impl FnOnce(&Store) -> Option<T> + Send + 'static,
) -> Option<T> {
    let store = site.store(guest);
    store.require_mounted().ok()?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(sender.send(ask(&store))));
    receiver.recv_timeout(Duration::from_secs(5)).ok().flatten()
}

/// libvirt writes the pid file when QEMU starts.
fn uptime(site: &Site, name: &str) -> Option<u64> {
    let path = site.common.under_root(&format!("/run/libvirt/qemu/{name}.pid"));
    let started = std::fs::metadata(path).ok()?.modified().ok()?;
    started.elapsed().ok().map(|elapsed| elapsed.as_secs())
}

/// This node.
pub fn status(site: &Site) -> Result<Status> {
    let host = site.host()?;
    let outcome = host.outcome()?;
    let mut problems = outcome.conflicts.clone();
    problems.extend(outcome.notices.clone());
    problems.extend(outcome.plan.steps.iter().map(|step| format!("not done yet: {}", step.action)));
    if systemd::is_active("libvirt-guests.service").unwrap_or(false) {
        problems.push(
            "libvirt-guests runs: a second one who starts and stops VMs\n  systemctl disable --now libvirt-guests".into(),
        );
    }
    let waits = outcome.notices.iter().any(|notice| notice.starts_with("libvirt does not listen"));
    let reachable =
        !waits && !outcome.plan.steps.iter().any(|step| matches!(step.action, Action::Listen { .. }));
    let mut vms = Vec::new();
    let cluster = site.cluster();
    for (name, vm) in &cluster.vms {
        let guest = Guest { cluster, name, vm };
        let live = host.hypervisor.live(&guest.uuid(), LIVE)?;
        let changed = outcome.plan.steps.iter().any(|step| step.id == format!("{name}/define"));
        vms.push(on_this_node(site, &guest, live.as_ref(), changed, &mut problems));
    }
    Ok(Status {
        schema: "pc.vm.status/1",
        node: site.nodes.me().into(),
        measured_at: now()?,
        healthy: problems.is_empty(),
        reachable_by_peers: reachable,
        problems,
        vms,
    })
}

fn on_this_node(
    site: &Site,
    guest: &Guest,
    live: Option<&Live>,
    changed: bool,
    problems: &mut Vec<String>,
) -> StatusVm {
    let (name, me) = (guest.name, site.nodes.me());
    let here = live.is_some_and(|live| live.active);
    let owner = on_volume(site, guest, |store| store.owner().ok().flatten()).map(|owner| owner.node);
    let should = (!site.has_pacemaker()).then(|| site.home_of(guest) == me);
    if here && owner.as_deref().is_some_and(|owner| owner != me) {
        problems.push(format!("vm {name} runs here and {} owns it", owner.as_deref().unwrap_or_default()));
    }
    // Moved away on purpose is fine; nowhere is not.
    if should == Some(true) && !here && owner.as_deref().is_none_or(|owner| owner == me) {
        problems.push(format!("vm {name} should run here\n  systemctl start pc-vm@{name}"));
    }
    if let Some(reason) = live.and_then(|live| live.reason) {
        problems.push(format!("vm {name} is paused: {reason}"));
    }
    StatusVm {
        name: name.to_string(),
        defined: live.is_some(),
        current: live.is_some() && !changed,
        state: live.map_or("undefined", |live| live.state).into(),
        reason: live.and_then(|live| live.reason).map(String::from),
        here,
        should_run_here: should,
        owner,
    }
}

/// Leaves the status for siblings. A node without libvirt has no status, which is no reason to fail otherwise; one
/// that is going down needs none.
pub fn leave_status(site: &Site) {
    if systemd::is_stopping() {
        return;
    }
    let written = status(site).and_then(|status| pc_cli::write_status(&site.common.root, "vm", &status));
    if let Err(error) = written {
        pc_cli::log::debug(format_args!("leaving the status: {error:#}"));
    }
}
