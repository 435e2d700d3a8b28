//! The definition of a VM whose disk pc-borg is still copying out of an archive.

use anyhow::{Result, ensure};

use super::{DISK, Definition, Guest, disk, escape};
use crate::places::Places;

/// The same machine while its disk is still being copied out of an archive: what it writes goes to an overlay, and `archive` is
/// the file below it. The mark is that of the definition: it is no other machine.
///
/// # Errors
/// The definition does not have the disk: as it is it would start the guest on whatever is called `disk.img` by now.
pub fn over(guest: &Guest, definition: &Definition, archive: &str) -> Result<String> {
    let (places, bus) = (guest.places(), guest.vm.disk_bus);
    let overlay = Places { disk: places.overlay.clone(), ..places.clone() };
    let below = format!(
        "      <backingStore type='file'>\n        <format type='raw'/>\n        <source file='{}'/>\n        \
         <backingStore/>\n      </backingStore>\n      <target dev='{DISK}'",
        escape(archive)
    );
    let replaced = |text: &str, from: &str, to: &str| {
        let there = text.contains(from);
        ensure!(there, "vm {}: its definition has no disk that could lie over an archive", guest.name);
        Ok(text.replacen(from, to, 1))
    };
    let disk_over = replaced(&disk(&overlay, bus), "type='raw'", "type='qcow2'")?;
    let disk_over = replaced(&disk_over, &format!("      <target dev='{DISK}'"), &below)?;
    replaced(&definition.xml, &disk(&places, bus), &disk_over)
}
