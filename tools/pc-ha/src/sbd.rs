//! sbd's environment, in the style of /etc/default/sbd. That file is the distribution's and stays as it is: ours is read
//! after it by drop-ins of sbd.service and pacemaker.service, so that both know the same watchdog.

use crate::want::Want;
use crate::watchdog::Watchdog;

/// Read by the drop-ins.
pub const PATH: &str = "/var/lib/personal-cluster/ha/sbd.env";

/// The watchdog's time in an environment that was written before.
pub fn seconds(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("SBD_WATCHDOG_TIMEOUT=")?.parse().ok())
}

/// The same environment with another watchdog.
pub fn on_device(text: &str, device: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("SBD_WATCHDOG_DEV", _)) => format!("SBD_WATCHDOG_DEV={device}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The whole file.
pub fn render(want: &Want, watchdog: &Watchdog) -> String {
    let seconds = want.timing.watchdog_ms / 1000;
    format!(
        "# Made by pc-ha out of the cluster file: it is written again when that changes.\n\
         # No SBD_DEVICE: there is no shared disk, the watchdog alone fences.\n\
         SBD_PACEMAKER=yes\n\
         SBD_STARTMODE=always\n\
         SBD_DELAY_START=no\n\
         SBD_WATCHDOG_DEV={}\n\
         SBD_WATCHDOG_TIMEOUT={seconds}\n\
         SBD_TIMEOUT_ACTION=flush,reboot\n\
         SBD_MOVE_TO_ROOT_CGROUP=auto\n\
         SBD_SYNC_RESOURCE_STARTUP=yes\n\
         SBD_OPTS=\n",
        watchdog.device
    )
}
