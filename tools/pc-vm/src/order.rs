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
    hold(guest.name.as_str(), &starting, &site.common.root.join(stamp))
}

/// `stamp` is as old as the wait.
fn hold(vm: &str, starting: &[String], stamp: &Path) -> Result<()> {
    let place = || format!("noting the wait of vm {vm} in {}", stamp.display());
    if starting.is_empty() {
        return match fs::remove_file(stamp) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(place),
            _ => Ok(()),
        };
    }
    let others: Vec<&str> = starting.iter().map(|unit| name_of(unit)).collect();
    let others = others.join(" and ");
    let waited = match fs::metadata(stamp).and_then(|meta| meta.modified()) {
        // A clock that was set back: it is not known how long, and nobody waits for ever.
        Ok(since) => since.elapsed().unwrap_or(PATIENCE),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(directory) = stamp.parent() {
                fs::create_dir_all(directory).with_context(place)?;
            }
            fs::write(stamp, "").with_context(place)?;
            Duration::ZERO
        }
        Err(error) => return Err(error).with_context(place),
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

/// `mail` of `pc-vm@mail.service`.
fn name_of(unit: &str) -> &str {
    unit.strip_prefix("pc-vm@").and_then(|rest| rest.strip_suffix(".service")).unwrap_or(unit)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_vm_waits_for_another_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let stamp = directory.path().join("run/vm-web.waits");
        let db = ["pc-vm@db.service".to_string()];
        hold("web", &[], &stamp).unwrap();
        for _ in 0..2 {
            let error = hold("web", &db, &stamp).unwrap_err();
            assert!(error.is::<pc_cli::TryAgain>());
            assert_eq!(
                error.to_string(),
                "vm web: starts after db, which is being started\n  journalctl -u pc-vm@db.service"
            );
        }
        let file = fs::File::options().write(true).open(&stamp).unwrap();
        file.set_modified(SystemTime::now() - PATIENCE).unwrap();
        hold("web", &db, &stamp).unwrap();
        // The clock was set back.
        file.set_modified(SystemTime::now() + PATIENCE).unwrap();
        hold("web", &db, &stamp).unwrap();
        // The other one runs: the next wait is a new one.
        hold("web", &[], &stamp).unwrap();
        assert!(!stamp.exists());
        assert!(hold("web", &db, &stamp).is_err());
    }
}
