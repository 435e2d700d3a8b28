//! `open --forever`: secrets first, disks beside them, until everything is open, and then on watch for
//! disks that come back. Never ends by itself, never waits for a job of the boot.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use pc_cli::{Common, log};
use tang_client::Client;

use crate::device::Device;
use crate::open::{self, Outcome, Report, Task};
use crate::secrets::Secrets;
use crate::status::Status;
use crate::systemd;

/// Whatever needs a secret hangs there.
const SECRETS_TARGET: &str = "pc-secrets.target";
/// The one secret that the target waits for: without it glusterd and libvirt cannot speak to their peers. What else is
/// sealed is missed by its own users only, which ask again (75) until it is there.
const GATE: &str = "node.key";
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest pause between attempts, and how often a node at rest looks at its disks' links: a few
/// calls of stat(2), no network.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause while only secrets are left that the target does not wait for: one that is damaged is asked for
/// until somebody mends it, which must not cost the servers much.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// The most that one server is given in the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the two loops know of each other.
#[derive(Default)]
struct Shared {
    secrets: BTreeMap<String, String>,
    gate_open: bool,
    disks: Vec<(String, String)>,
    disks_open: usize,
}

/// Runs for ever.
pub fn run(common: &Common, client: &Client, devices: &[Device], secrets: &Secrets) {
    let shared = Mutex::new(Shared::default());
    std::thread::scope(|scope| {
        scope.spawn(|| secrets_loop(common, client, devices, secrets, &shared));
        disks_loop(common, client, devices, secrets, &shared);
    });
}

fn secrets_loop(
    common: &Common,
    client: &Client,
    devices: &[Device],
    secrets: &Secrets,
    shared: &Mutex<Shared>,
) {
    let (mut pause, mut patience) = (SHORTEST, client.clone());
    // How many secrets were open when the target was started last.
    let mut started = None;
    loop {
        let mut failed = unseal_all(&patience, secrets);
        let open =
            secrets.names().map_or(0, |names| names.iter().filter(|name| secrets.is_open(name)).count());
        // Once more for every secret that comes later: a start of a target that is active starts whatever it wants and
        // has ended, pc-trust-apply above all.
        if gate_is_open(secrets) && started != Some(open) {
            match systemd_jobs::request(SECRETS_TARGET) {
                Ok(()) => started = Some(open),
                Err(error) => drop(failed.insert(SECRETS_TARGET.into(), format!("{error:#}"))),
            }
        }
        let done = failed.is_empty();
        if let Ok(mut shared) = shared.lock() {
            for (name, reason) in &failed {
                if shared.secrets.get(name) != Some(reason) {
                    log::warning(format_args!("{name}: {reason}"));
                }
            }
            shared.secrets = failed;
            shared.gate_open = started.is_some();
        }
        tell(common, devices, secrets, shared);
        if done {
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(if started.is_some() { LEFT_OVER } else { LONGEST });
        grow(&mut patience);
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

/// Opens every sealed secret that is not open, all at once; says why for those that stay sealed.
pub fn unseal_all(client: &Client, secrets: &Secrets) -> BTreeMap<String, String> {
    let names = match secrets.names() {
        Ok(names) => names,
        Err(error) => return BTreeMap::from([("sealed".into(), format!("{error:#}"))]),
    };
    let sealed: Vec<&String> = names.iter().filter(|name| !secrets.is_open(name)).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            sealed.iter().map(|name| scope.spawn(move || secrets.unseal(client, name))).collect();
        let outcomes = threads.into_iter().zip(&sealed);
        outcomes
            .filter_map(|(thread, name)| match thread.join() {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(((*name).clone(), format!("{error:#}"))),
                Err(_) => Some(((*name).clone(), "an error in this program".into())),
            })
            .collect()
    })
}

fn disks_loop(
    common: &Common,
    client: &Client,
    devices: &[Device],
    secrets: &Secrets,
    shared: &Mutex<Shared>,
) {
    let (mut pause, mut patience) = (SHORTEST, client.clone());
    let mut before: Vec<(String, Outcome)> = Vec::new();
    loop {
        let report = open::run(&patience, devices, Task::Open);
        let now: Vec<(String, Outcome)> =
            report.devices.iter().map(|line| (line.device.clone(), line.outcome)).collect();
        let complete = report.devices.iter().all(|line| line.outcome != Outcome::Failed);
        remember(shared, &report);
        if now != before {
            tell(common, devices, secrets, shared);
            pause = SHORTEST;
        }
        before = now;
        std::thread::sleep(if complete { LONGEST } else { pause });
        pause = (pause * 2).min(LONGEST);
        if complete {
            patience = client.clone();
        } else {
            grow(&mut patience);
        }
    }
}

/// Notes what failed; a reason is logged when it is new, not at every attempt.
fn remember(shared: &Mutex<Shared>, report: &Report) {
    let Ok(mut shared) = shared.lock() else { return };
    let failed = report.failures();
    for failure in failed.iter().filter(|failure| !shared.disks.contains(failure)) {
        log::warning(format_args!("{}: {}", failure.0, failure.1));
    }
    shared.disks_open = report.devices.len() - failed.len();
    shared.disks = failed;
}

/// STATUS= for `systemctl status`, the whole for the other tools.
fn tell(common: &Common, devices: &[Device], secrets: &Secrets, shared: &Mutex<Shared>) {
    let Ok(shared) = shared.lock() else { return };
    systemd::status(&sentence(&shared, devices.len()));
    let (sealed, locked) = (shared.secrets.clone().into_iter().collect::<Vec<_>>(), shared.disks.clone());
    drop(shared);
    let left = Status::look(devices, secrets).and_then(|mut status| {
        status.explain(&locked, &sealed);
        status.leave(common)
    });
    if let Err(error) = left {
        log::warning(format_args!("leaving the status: {error:#}"));
    }
}

fn sentence(shared: &Shared, disks: usize) -> String {
    let secrets = match shared.secrets.len() {
        _ if !shared.gate_open => "secrets sealed".to_string(),
        0 => "secrets open".to_string(),
        left => format!("secrets open but {left}"),
    };
    let head = format!("{secrets}, {} of {disks} disks open", shared.disks_open);
    let disks = shared.disks.iter().map(|(name, reason)| (name.rsplit('/').next().unwrap_or(name), reason));
    let secrets = shared.secrets.iter().map(|(name, reason)| (name.as_str(), reason));
    let reasons = secrets
        .chain(disks)
        .map(|(name, reason)| format!("{name}: {}", reason.lines().next().unwrap_or_default()));
    std::iter::once(head).chain(reasons).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_what_is_missing_and_why() {
        let mut shared = Shared {
            secrets: BTreeMap::from([("node.key".into(), "asking http://a: timed out after 2 s".into())]),
            gate_open: false,
            disks: vec![("/dev/disk/by-id/ata-B".into(), "is not plugged in\n  hint".into())],
            disks_open: 3,
        };
        assert_eq!(
            sentence(&shared, 4),
            "secrets sealed, 3 of 4 disks open; node.key: asking http://a: timed out after 2 s; ata-B: is not plugged in"
        );
        shared.secrets = BTreeMap::from([("borg".into(), "reading borg.jwe: not a JWE".into())]);
        shared.gate_open = true;
        shared.disks.clear();
        assert_eq!(
            sentence(&shared, 4),
            "secrets open but 1, 3 of 4 disks open; borg: reading borg.jwe: not a JWE"
        );
    }
}
