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

    /// Grows a disk under a running guest, which sees it at once.
    pub fn grow_disk(&self, uuid: &str, disk: &str, bytes: u64) -> Result<()> {
        let disk = disk.to_string();
        self.on(uuid, QUICK, move |domain| {
            domain.block_resize(&disk, bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        })
    }

    /// Presses its reset button.
    pub fn reset(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, Domain::reset)
    }
}
