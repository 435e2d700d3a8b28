//! Which watchdog resets this node is found out before sbd opens one, at each boot: the kernel numbers them in the order in which their
//! drivers come, and the number of the last boot may be that of one that resets nothing.

use anyhow::Result;
use pc_cli::{Common, Exit, log, refused};

use crate::host::files;
use crate::want::Want;
use crate::{sbd, watchdog};

/// Writes the device into sbd's environment, and nothing else: how long it waits is `apply`'s matter. Refuses when nothing would reset
/// this node; sbd does not start then, and corosync and pacemaker not without it.
pub fn watchdog(common: &Common, want: &Want) -> Result<Exit> {
    let path = common.under_root(sbd::PATH);
    let there = files::read(&path)?;
    let known = there.as_deref().and_then(|text| Some((text, sbd::seconds(text)?)));
    // By what its package says it would open whatever comes first.
    let (text, seconds) =
        known.ok_or_else(|| refused(format!("{} says no time\n  pc-ha enable", path.display())))?;
    let found = files::watchdogs(&common.root)?;
    let chosen = watchdog::choose(&want.watchdog, &found).map_err(refused)?;
    chosen.takes(seconds).map_err(refused)?;
    let settled = sbd::on_device(text, &chosen.device);
    if settled != text {
        files::write(&path, &settled)?;
        log::info(format_args!("{}: watchdog {} ({})", path.display(), chosen.device, chosen.identity));
    }
    Ok(Exit::Done)
}
