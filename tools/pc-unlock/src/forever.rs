//! `open --forever`: secrets first, disks beside them, until everything is open, and then on watch for
//! disks that come back. Never ends by itself, never waits for a job of the boot.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pc_cli::{Common, log};
use tang_client::Client;

use crate::device::Device;
use crate::open::{self, Task};
use crate::secrets::Secrets;
use crate::status::{DeviceStatus, Status};
use crate::systemd;

/// For systemd to queue a start.
const BUS: Duration = Duration::from_secs(30);
/// Whatever needs a secret hangs there.
const SECRETS_TARGET: &str = "pc-secrets.target";
/// The one secret that the target waits for: without it glusterd and libvirt cannot speak to their peers. What else is
/// sealed is missed by its own users only, which ask again (75) until it is there.
const GATE: &str = "node.key";
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest pause between attempts, and how often a node at rest looks for its disks in sysfs: nothing is read
/// from them, and nothing goes over the network.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause while only secrets are left that the target does not wait for: one that is damaged is asked for
/// until somebody mends it, which must not cost the servers much.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// The most that one server is given in the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the loops know of each other.
#[derive(Default)]
struct Shared {
    secrets: BTreeMap<String, String>,
    gate_open: bool,
    disks: Vec<Disk>,
}

/// What a disk's loop has found last.
struct Disk {
    status: DeviceStatus,
    /// Why it is not open.
    reason: Option<String>,
}

/// What all loops work with.
struct Work<'a> {
    common: &'a Common,
    client: &'a Client,
    secrets: &'a Secrets,
    shared: Mutex<Shared>,
    /// One report after the other: an older one must not come after a newer one.
    telling: Mutex<()>,
}

/// Runs for ever.
pub fn run(common: &Common, client: &Client, devices: &[Device], secrets: &Secrets) {
    let disk = |device| Disk { status: DeviceStatus::unknown(device), reason: Some("not tried yet".into()) };
    let shared = Shared { disks: devices.iter().map(disk).collect(), ..Shared::default() };
    let work = Work { common, client, secrets, shared: Mutex::new(shared), telling: Mutex::new(()) };
    std::thread::scope(|scope| {
        // A loop for each: a disk that hangs, in the kernel or in cryptsetup, holds up nobody else.
        for (index, device) in devices.iter().enumerate() {
            let work = &work;
            scope.spawn(move || work.disk_loop(index, device));
        }
        work.secrets_loop();
    });
}

impl Work<'_> {
    fn secrets_loop(&self) {
        let (mut pause, mut patience) = (SHORTEST, self.client.clone());
        // Which secrets were open when the target was started last, and why it could not be.
        let (mut started, mut fault) = (None, None);
        loop {
            let mut failed = unseal_all(&patience, self.secrets);
            let mut open = self.secrets.names().unwrap_or_default();
            open.retain(|name| self.secrets.is_open(name));
            // Once more for every secret that comes later: a start of a target that is active starts whatever it wants and
            // has ended, pc-trust-apply above all.
            let start = gate_is_open(self.secrets) && started.as_ref() != Some(&open);
            failed.extend(fault.filter(|_| start).map(|fault| (SECRETS_TARGET.to_string(), fault)));
            // Before the bus is asked, which may be silent until a deadline: what is open is open.
            self.tell_secrets(&failed, start || started.is_some());
            fault = None;
            if start {
                failed.remove(SECRETS_TARGET);
                match systemd_jobs::request(SECRETS_TARGET, BUS) {
                    Ok(()) => started = Some(open),
                    Err(error) => {
                        fault = Some(format!("{error:#}"));
                        failed.extend(fault.clone().map(|fault| (SECRETS_TARGET.to_string(), fault)));
                    }
                }
                self.tell_secrets(&failed, true);
            }
            if failed.is_empty() {
                // Until another one is sealed: nothing is asked for over the network meanwhile.
                while unopened(self.secrets).is_ok_and(|sealed| sealed.is_empty()) {
                    std::thread::sleep(LONGEST);
                }
                (pause, patience) = (SHORTEST, self.client.clone());
                continue;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(if started.is_some() { LEFT_OVER } else { LONGEST });
            grow(&mut patience);
        }
    }

    /// A reason is logged when it is new, not at every attempt.
    fn tell_secrets(&self, failed: &BTreeMap<String, String>, gate_open: bool) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, reason) in failed {
            if shared.secrets.get(name) != Some(reason) {
                log::warning(format_args!("{name}: {reason}"));
            }
        }
        shared.secrets.clone_from(failed);
        shared.gate_open = gate_open;
        drop(shared);
        self.tell();
    }

    fn disk_loop(&self, index: usize, device: &Device) {
        let (mut pause, mut patience) = (SHORTEST, self.client.clone());
        let mut before = None;
        loop {
            let report = open::run(self.common, &patience, from_ref(device), Task::Open);
            let outcome = report.devices.first().map(|line| line.outcome);
            let reason = report.failures().into_iter().next().map(|(_, reason)| reason);
            let complete = reason.is_none();
            self.tell_disk(index, Disk { status: DeviceStatus::look(device), reason });
            if outcome != before {
                pause = SHORTEST;
            }
            before = outcome;
            if complete {
                patience = self.client.clone();
                // As long as nothing changes the disk itself is left alone.
                std::thread::sleep(LONGEST);
                while device.stays_open() {
                    std::thread::sleep(LONGEST);
                }
            } else {
                device.sleep(pause);
                grow(&mut patience);
            }
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// As for secrets; what has not changed is not told again.
    fn tell_disk(&self, index: usize, now: Disk) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(disk) = shared.disks.get_mut(index) else { return };
        let changed = disk.reason != now.reason || disk.status.state != now.status.state;
        if let Some(reason) = now.reason.as_ref().filter(|reason| disk.reason.as_ref() != Some(*reason)) {
            log::warning(format_args!("{}: {reason}", now.status.device));
        }
        *disk = now;
        drop(shared);
        if changed {
            self.tell();
        }
    }

    /// STATUS= for `systemctl status`, the whole for the other tools.
    fn tell(&self) {
        let _one = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        systemd::status(&sentence(&shared));
        let (failed, disks) = (shared.secrets.clone().into_iter().collect::<Vec<_>>(), shared.failures());
        let devices = shared.disks.iter().map(|disk| disk.status.clone()).collect();
        drop(shared);
        let left = Status::of(devices, self.secrets).and_then(|mut status| {
            status.explain(&disks, &failed);
            status.leave(self.common)
        });
        if let Err(error) = left {
            log::warning(format_args!("leaving the status: {error:#}"));
        }
    }
}

/// A node that has no such secret (it is no member of a cluster yet) waits for none.
fn gate_is_open(secrets: &Secrets) -> bool {
    let sealed = |names: Vec<String>| names.iter().any(|name| name == GATE);
    secrets.is_open(GATE) || secrets.names().is_ok_and(|names| !sealed(names))
}

/// A server that is flooded by all nodes at once (a blackout has ended) would never be fast enough for
/// a fixed limit: each attempt that failed makes the next one more patient.
fn grow(client: &mut Client) {
    client.budget.server = (client.budget.server * 2).min(PATIENCE).max(client.budget.server);
    client.budget.attempt = client.budget.attempt.max(client.budget.server);
}

/// Names of the sealed secrets that are not open.
fn unopened(secrets: &Secrets) -> anyhow::Result<Vec<String>> {
    Ok(secrets.names()?.into_iter().filter(|name| !secrets.is_open(name)).collect())
}

/// Opens every sealed secret that is not open, all at once; says why for those that stay sealed.
pub fn unseal_all(client: &Client, secrets: &Secrets) -> BTreeMap<String, String> {
    let sealed = match unopened(secrets) {
        Ok(sealed) => sealed,
        Err(error) => return BTreeMap::from([("sealed".into(), format!("{error:#}"))]),
    };
    let outcomes = secrets.unseal_all(client, &sealed);
    let failed = sealed.into_iter().zip(outcomes);
    failed.filter_map(|(name, outcome)| Some((name, format!("{:#}", outcome.err()?)))).collect()
}

impl Shared {
    /// The disks that are not open, and why.
    fn failures(&self) -> Vec<(String, String)> {
        let failed =
            self.disks.iter().filter_map(|disk| Some((disk.status.device.clone(), disk.reason.clone()?)));
        failed.collect()
    }
}

fn sentence(shared: &Shared) -> String {
    let secrets = match shared.secrets.len() {
        _ if !shared.gate_open => "secrets sealed".to_string(),
        0 => "secrets open".to_string(),
        left => format!("secrets open but {left}"),
    };
    let (disks, failed) = (shared.disks.len(), shared.failures());
    let head = format!("{secrets}, {} of {disks} disks open", disks - failed.len());
    let failed = failed.iter().map(|(name, reason)| (name.rsplit('/').next().unwrap_or(name), reason));
    let secrets = shared.secrets.iter().map(|(name, reason)| (name.as_str(), reason));
    let reasons = secrets
        .chain(failed)
        .map(|(name, reason)| format!("{name}: {}", reason.lines().next().unwrap_or_default()));
    std::iter::once(head).chain(reasons).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, reason: Option<&str>) -> Disk {
        let (device, mapper) = (format!("/dev/disk/by-id/{name}"), format!("pc-{name}"));
        let status = DeviceStatus { device, mapper, state: "locked", bindings: Vec::new(), reason: None };
        Disk { status, reason: reason.map(Into::into) }
    }

    #[test]
    fn the_sentence_names_what_is_missing_and_why() {
        let mut shared = Shared {
            secrets: BTreeMap::from([("node.key".into(), "asking http://a: timed out after 2 s".into())]),
            gate_open: false,
            disks: vec![disk("ata-A", None), disk("ata-B", Some("is not plugged in\n  hint"))],
        };
        assert_eq!(
            sentence(&shared),
            "secrets sealed, 1 of 2 disks open; node.key: asking http://a: timed out after 2 s; ata-B: is not plugged in"
        );
        shared.secrets = BTreeMap::from([("borg".into(), "reading borg.jwe: not a JWE".into())]);
        shared.gate_open = true;
        shared.disks = vec![disk("ata-A", None)];
        assert_eq!(
            sentence(&shared),
            "secrets open but 1, 1 of 1 disks open; borg: reading borg.jwe: not a JWE"
        );
    }
}
