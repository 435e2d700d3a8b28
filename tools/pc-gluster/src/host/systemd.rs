//! The units that pc-gluster starts: mounts of volumes, and what waits for them.

use std::time::Duration;

use anyhow::Result;
use pc_cli::try_again;
pub use systemd_jobs::is_stopping;
use systemd_jobs::{Auxiliary, Manager, NO_SUCH_UNIT, Properties};
use zbus::zvariant::{OwnedObjectPath, Value};

/// What is asked of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start it if it is not active.
    Start,
    /// Start it; where no unit of this name exists, make one that lasts until the next reboot.
    Mount(Mount),
    /// Stop it first.
    Restart,
}

/// The mount of a volume for a machine without pc-generator, which otherwise writes the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `localhost:/vms`.
    pub what: String,
    /// `/mnt/vms`.
    pub point: String,
    /// Mount options.
    pub options: String,
}

impl Mount {
    /// As pc-generator writes it: outside remote-fs.target, stopped before glusterd.
    fn properties(&self) -> Properties<'_> {
        let description = format!("Volume {}", self.what);
        vec![
            ("Description", Value::from(description)),
            ("DefaultDependencies", Value::from(false)),
            ("After", Value::from(vec!["glusterd.service", "network.target"])),
            ("Before", Value::from(vec!["pc-storage.target", "pc-vm.service", "umount.target"])),
            ("Conflicts", Value::from(vec!["umount.target"])),
            ("What", Value::from(self.what.as_str())),
            ("Where", Value::from(self.point.as_str())),
            ("Type", Value::from("glusterfs")),
            ("Options", Value::from(self.options.as_str())),
        ]
    }
}

/// The name of the unit that mounts `/mnt/<volume>` (systemd.unit(5): a hyphen is escaped).
pub fn mount_unit(volume: &str) -> String {
    format!("mnt-{}.mount", volume.replace('-', "\\x2d"))
}

/// Whether a unit is active; `false` also where no systemd answers.
pub fn is_active(unit: &str) -> bool {
    systemd_jobs::is_active(unit).unwrap_or_else(|error| {
        pc_cli::log::debug(format_args!("{error:#}"));
        false
    })
}

/// Starts (or restarts) a unit and waits until its job ends as `done`.
pub fn run_job(unit: &str, request: Request, deadline: Duration) -> Result<()> {
    let name = unit.to_string();
    let result = systemd_jobs::job("start", unit, deadline, move |bus| queue(bus, &name, &request))?;
    if result == "done" {
        return Ok(());
    }
    Err(try_again(format!("{unit}: its job ended as {result}\n  journalctl -b -u '{unit}'")))
}

fn queue(manager: &Manager<'_>, unit: &str, request: &Request) -> zbus::Result<OwnedObjectPath> {
    match request {
        Request::Start => manager.start_unit(unit, "replace"),
        Request::Mount(mount) => match manager.start_unit(unit, "replace") {
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => {
                manager.start_transient_unit(unit, "replace", &mount.properties(), &Auxiliary::new())
            }
            other => other,
        },
        Request::Restart => manager.restart_unit(unit, "replace"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_hyphen_in_a_volume_is_escaped() {
        assert_eq!(super::mount_unit("vms"), "mnt-vms.mount");
        assert_eq!(super::mount_unit("vm-fast"), "mnt-vm\\x2dfast.mount");
    }
}
