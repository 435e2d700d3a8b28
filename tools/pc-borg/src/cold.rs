//! Removable disks: mounted for one run, at the same place each time, unmounted before anybody is told to unplug.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{log, refused, try_again};

use crate::site::Site;
use crate::want::{DISKS, Policy, Target};

/// Mounting replays a journal on a slow disk; unmounting writes back what is left.
const PATIENCE: Duration = Duration::from_secs(300);

/// A disk that is mounted, until this is dropped.
#[derive(Debug)]
pub struct Plugged {
    label: String,
    mount: PathBuf,
}

/// Whether a disk with that label is there.
pub fn is_plugged(site: &Site, label: &str) -> bool {
    site.at(&format!("/dev/disk/by-label/{label}")).exists()
}

impl Plugged {
    /// Mounts the policy's disk; `None` when its repository is on none.
    ///
    /// # Errors
    /// 75 when the disk is not plugged in.
    pub fn mount(site: &Site, policy: &Policy) -> Result<Option<Plugged>> {
        let Target::Disk { label } = &policy.target else { return Ok(None) };
        let device = site.at(&format!("/dev/disk/by-label/{label}"));
        if !is_plugged(site, label) {
            return Err(try_again(format!(
                "backup.{}: no disk is labelled {label:?}: plug it in",
                policy.name
            )));
        }
        let mut probe = Command::new("blkid");
        probe.args(["-p", "-o", "value", "-s", "TYPE", "--"]).arg(&device);
        let kind = pc_run::run(probe).read().with_context(|| format!("probing {}", device.display()))?;
        if kind == "crypto_LUKS" {
            return Err(refused(format!(
                "backup.{}: {label} is a LUKS device: label its file system, and open it first; the repository is encrypted anyway",
                policy.name
            )));
        }
        let mount = site.at(&format!("{DISKS}/{label}"));
        let place = mount.display().to_string();
        fs::create_dir_all(&mount).with_context(|| format!("making {place}"))?;
        // A run that was killed left it mounted.
        if !site.mounts()?.has(&place) {
            let mut command = Command::new("mount");
            command.args(["-o", "nodev,nosuid,noexec,noatime", "--"]).arg(&device).arg(&mount);
            let mounted = pc_run::run(command).deadline(PATIENCE).output();
            mounted.map(drop).with_context(|| format!("mounting {label}"))?;
        }
        log::info(format_args!("{label}: mounted"));
        Ok(Some(Plugged { label: label.clone(), mount }))
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg("--").arg(&self.mount);
        match pc_run::run(command).deadline(PATIENCE).output() {
            Ok(_) => log::info(format_args!("{}: safe to unplug", self.label)),
            Err(error) => {
                log::error(format_args!("{}: do NOT unplug, it is still mounted: {error}", self.label));
            }
        }
    }
}
