//! The only module that asks libvirt and the clock.

use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::domain::{self, Domain};

/// What virsh says about a VM. It only reads.
pub fn domain(uri: &str, vm: &str) -> Result<Domain> {
    let mut command = Command::new("virsh");
    command.args(["--connect", uri, "--readonly", "dumpxml", "--domain", vm]);
    let xml = pc_run::run(command).deadline(Duration::from_secs(60)).read().map_err(|error| {
        if error.is_missing() {
            anyhow::anyhow!("running virsh: not installed\n  apt-get install libvirt-clients")
        } else if error.stderr().contains("failed to get domain") {
            pc_cli::refused(format!("libvirt ({uri}) knows no VM {vm:?}\n  virsh --connect {uri} list --all"))
        } else {
            error.into()
        }
    })?;
    domain::parse(vm, &xml)
}

/// RFC 3339, UTC, whole seconds.
pub fn now() -> String {
    let now =
        time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// Nanoseconds since 1970.
pub fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
}
