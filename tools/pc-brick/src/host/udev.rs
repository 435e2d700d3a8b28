//! Waiting for udev: before it has seen a device, that device has no links, and LVM knows it by another name or not at all.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// Waits until udev has finished with the device `path`; at once where no udev runs.
pub fn initialized(sh: &Shell, path: &Path) -> Result<()> {
    if !Path::new("/run/udev/control").exists() {
        return Ok(());
    }
    let command = cmd!(sh, "udevadm wait --initialized=yes --timeout=30 {path}");
    let run = pc_run::run(command).deadline(Duration::from_secs(40));
    run.output().with_context(|| format!("waiting for udev to finish with {}", path.display()))?;
    Ok(())
}
