//! What libvirt does to a guest that runs on.

use anyhow::Result;
use virt::domain::Domain;
use virt::sys;

use super::{Hypervisor, QUICK};

impl Hypervisor {
    /// Asks a guest to restart itself: its agent where that answers, else its power button.
    pub fn reboot(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, |domain| domain.reboot(sys::VIR_DOMAIN_REBOOT_DEFAULT))
    }

    /// Presses its reset button.
    pub fn reset(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, Domain::reset)
    }
}
