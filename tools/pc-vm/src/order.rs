//! The order in which this node starts its VMs by itself (`after`): one waits while another that comes before it is being
//! started. The first tries are ordered by systemd, those after them here.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{log, try_again};

use crate::domain::Guest;
use crate::site::Site;
use crate::systemd;

/// How long a VM stays down for another one's sake: that one may want a node that is dead.
const PATIENCE: Duration = Duration::from_secs(600);

/// 75 while a VM that comes before this one is being started on this node, but not for ever.
pub fn wait_for_others(site: &Site, guest: &Guest) -> Result<()> {
    let me = site.nodes.me();
    let here = |name: &&cluster::Name| {
        let vm = site.cluster().vms.get(*name);
        vm.and_then(|vm| site.cluster().home_of(vm)).is_some_and(|home| home.name.as_str() == me)
    };
    let units: Vec<String> =
        guest.vm.after.iter().filter(here).map(|name| format!("pc-vm@{name}.service")).collect();
    let starting = if units.is_empty() {
        Vec::new()
    } else {
        // An order that nobody can tell keeps no VM down.
        systemd::starting(&units).unwrap_or_else(|error| {
            log::warning(format_args!("vm {}: its order is not known: {error:#}", guest.name));
            Vec::new()
        })
    };
    let stamp = format!("run/personal-cluster/vm-{}.waits", guest.name);
    hold(guest.name.as_str(), &starting, &site.common.root.join(stamp), since_boot().unwrap_or_default())
}

/// How long this machine has been up: no clock that somebody sets (`proc_uptime(5)`). What is below /run ends with it.
fn since_boot() -> Result<Duration> {
    let text = fs::read_to_string("/proc/uptime").context("reading /proc/uptime")?;
    read(&text).context("reading /proc/uptime: it holds no seconds")
}

fn read(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// `stamp` says since when it waits.
fn hold(vm: &str, starting: &[String], stamp: &Path, now: Duration) -> Result<()> {
    if starting.is_empty() {
        match fs::remove_file(stamp) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => unnoted(vm, stamp, &error),
            _ => {}
        }
        return Ok(());
    }
    let others: Vec<&str> = starting.iter().map(|unit| name_of(unit)).collect();
    let others = others.join(" and ");
    let waited = match fs::read_to_string(stamp) {
        // What is no time says nothing, and nobody waits for ever.
        Ok(text) => read(&text).and_then(|since| now.checked_sub(since)).unwrap_or(PATIENCE),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let directory = stamp.parent().map_or(Ok(()), fs::create_dir_all);
            if let Err(error) = directory.and_then(|()| fs::write(stamp, now.as_secs_f64().to_string())) {
                unnoted(vm, stamp, &error);
                return Ok(());
            }
            Duration::ZERO
        }
        Err(error) => {
            unnoted(vm, stamp, &error);
            return Ok(());
        }
    };
    if waited >= PATIENCE {
        log::warning(format_args!(
            "vm {vm}: starts before {others}, which is being started for {} min and more",
            PATIENCE.as_secs() / 60
        ));
        return Ok(());
    }
    Err(try_again(format!(
        "vm {vm}: starts after {others}, which is being started\n  journalctl -u {}",
        starting[0]
    )))
}

/// An order that cannot be kept keeps no VM down.
fn unnoted(vm: &str, stamp: &Path, error: &std::io::Error) {
    log::warning(format_args!("vm {vm}: noting how long it waits in {}: {error}", stamp.display()));
}

/// `mail` of `pc-vm@mail.service`.
fn name_of(unit: &str) -> &str {
    unit.strip_prefix("pc-vm@").and_then(|rest| rest.strip_suffix(".service")).unwrap_or(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_waits_for_another_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let stamp = directory.path().join("run/vm-web.waits");
        let db = ["pc-vm@db.service".to_string()];
        let at = Duration::from_secs_f64;
        hold("web", &[], &stamp, at(30.0)).unwrap();
        for now in [31.25, 35.0, 630.0] {
            let error = hold("web", &db, &stamp, at(now)).unwrap_err();
            assert!(error.is::<pc_cli::TryAgain>());
            assert_eq!(
                error.to_string(),
                "vm web: starts after db, which is being started\n  journalctl -u pc-vm@db.service"
            );
        }
        hold("web", &db, &stamp, at(631.25)).unwrap();
        // The other one runs: the next wait is a new one.
        hold("web", &[], &stamp, at(632.0)).unwrap();
        assert!(!stamp.exists());
        assert!(hold("web", &db, &stamp, at(633.0)).is_err());
        // What nobody can read, or write, keeps no VM down.
        for text in ["", "soon", "-1", "1e300", "9999"] {
            fs::write(&stamp, text).unwrap();
            hold("web", &db, &stamp, at(634.0)).unwrap();
        }
        fs::remove_file(&stamp).unwrap();
        fs::create_dir(&stamp).unwrap();
        hold("web", &db, &stamp, at(635.0)).unwrap();
        hold("web", &[], &stamp, at(635.0)).unwrap();
        assert!(since_boot().unwrap() > Duration::ZERO);
    }
}
