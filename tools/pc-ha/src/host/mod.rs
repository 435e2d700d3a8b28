//! The only module that touches the machine.

pub mod cmap;
pub mod files;
pub mod locks;
pub mod logind;
pub mod pacemaker;
pub mod peers;
pub mod siblings;
pub mod sockets;
pub mod systemd;
pub mod units;
pub mod upgrade;

use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::Common;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cib::Cib;
use crate::engine::{Engine, Quorum, Resource};
use crate::gate::{Known, Storage};
use crate::plan::Have;
use crate::room::Counted;
use crate::{corosync, sbd, sending};

/// What the plan is made from; without pacemaker there is no CIB.
pub fn look(common: &Common) -> Result<Have> {
    let engine = engine().ok();
    let asked = engine.is_some();
    let active = engine.into_iter().flat_map(|engine| engine.vms).filter(Resource::is_active);
    let active = active.map(|vm| (vm.id, vm.nodes)).collect();
    let cib = if asked {
        let xml = pacemaker::query()?;
        let left = sending::left(&xml, &active, &sending::stamp(OffsetDateTime::now_utc())?)?;
        Some(Cib { left, ..crate::cib::read(&xml)? })
    } else {
        None
    };
    let quorum = pacemaker::quorum().ok();
    let corosync_runs = quorum.as_deref().is_some_and(|text| crate::engine::read_quorum(text).is_ok());
    Ok(Have {
        quorum_device: files::read(&common.under_root(corosync::QUORUM_DEVICE))?,
        quorum_device_votes: quorum.as_deref().is_some_and(crate::engine::read_quorum_device),
        corosync: files::read(&common.under_root(corosync::PATH))?,
        corosync_runs,
        shuts_down: locks::shuts_down(common)?,
        running: if corosync_runs { cmap::running() } else { None },
        sbd: files::read(&common.under_root(sbd::PATH))?,
        watchdogs: files::watchdogs(&common.root)?,
        boot_modules: files::boot_modules(&common.root)?,
        cib,
        active,
        memory_bytes: upgrade::memory(common).ok(),
    })
}

/// The cluster as pacemaker sees it.
pub fn engine() -> Result<Engine> {
    crate::engine::read(&pacemaker::monitor()?)
}

/// The cluster as pacemaker would have it if a node were drained, and what it counts; nothing is touched.
pub fn without(node: &str) -> Result<(Engine, Counted)> {
    let cib = pacemaker::query()?;
    let draft = pacemaker::Draft::new(&cib)?;
    draft.standby(node)?;
    let answer = draft.simulate()?;
    let state = crate::room::revised(&answer).context("reading crm_simulate's answer: it has no end")?;
    Ok((crate::engine::read(state)?, crate::cib::read(&cib)?.counted))
}

/// The same, with the fencing that failed, as far as anybody can be asked for it.
pub fn engine_and_fencing() -> Result<Engine> {
    crate::engine::read(&pacemaker::monitor_and_fencing()?)
}

/// corosync's quorum.
pub fn quorum() -> Result<Quorum> {
    crate::engine::read_quorum(&pacemaker::quorum()?)
}

/// The same, for whoever cannot wait.
pub fn quorum_within(deadline: std::time::Duration) -> Result<Quorum> {
    crate::engine::read_quorum(&pacemaker::quorum_within(deadline)?)
}

/// Who is a member of corosync's, by name; empty while it does not answer.
pub fn members() -> Vec<String> {
    pacemaker::quorum().map(|text| crate::engine::read_members(&text)).unwrap_or_default()
}

/// What is known of the storage, and how old that is.
pub fn storage(root: &Path) -> Known {
    let path = root.join("run/personal-cluster/storage.json");
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let storage: Storage =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let measured = OffsetDateTime::parse(&storage.measured_at, &Rfc3339)
        .map_err(|error| format!("{}: measured_at: {error}", path.display()))?;
    let age = (OffsetDateTime::now_utc() - measured).whole_seconds();
    // A report of the future is of a clock that was set back: nobody knows its age.
    let age = u64::try_from(age).unwrap_or(u64::MAX);
    Ok((storage, age))
}

/// The time, RFC 3339 UTC, whole seconds.
pub fn now() -> Result<String> {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).context("reading the clock")?;
    now.format(&Rfc3339).context("writing the time")
}

/// Starts what connects to the host of the third vote.
pub fn start_quorum_device() -> Result<()> {
    systemd::start(crate::corosync::QDEVICE, std::time::Duration::from_secs(90)).map_err(|error| {
        pc_cli::try_again(format!(
            "{error:#}\n  apt-get install corosync-qdevice, and make its certificates (pc-ha(8), Two nodes)"
        ))
    })
}

/// Progress for whoever looks at the unit.
pub fn tell(status: &str) {
    pc_cli::log::debug(status);
    // No NOTIFY_SOCKET: nobody listens, which is fine.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(status)]);
}
