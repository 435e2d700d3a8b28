//! Handing the VMs of this node over from systemd's units to pacemaker.

use std::time::Duration;

use anyhow::Result;
use pc_cli::log;

use super::systemd;

/// Units that start VMs without pacemaker.
const STARTERS: &str = "pc-vm@*.service";

/// Starters that are active beside pacemaker. Nothing is known where there is no systemd.
pub fn second_starters() -> Vec<String> {
    systemd::active(STARTERS).unwrap_or_else(|error| {
        log::debug(format_args!("{error:#}"));
        Vec::new()
    })
}

/// Ends the units while their guests run on: with the marker in place their `ExecStop=` hands the guest over.
pub fn hand_over() -> Result<()> {
    for unit in systemd::active(STARTERS)? {
        systemd::disable(&unit)?;
        systemd::stop(&unit, Duration::from_secs(400))?;
        log::info(format_args!("{unit}: its VM runs on, and is pacemaker's"));
    }
    // The generator pulls none of them in any more.
    systemd::reload()
}
