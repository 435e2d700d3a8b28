//! One VM's disk as another's. The file makes them two: name, UUID, MAC addresses and cloud-init's instance come from there.

use std::time::Instant;

use anyhow::{Context, Result};
use cluster::{Bytes, Firmware};
use pc_cli::{Exit, emit, log, refused};
use pc_run::Cost;

use crate::disk::snapshot::copy_variables;
use crate::disk::{Answer, Did};
use crate::domain::Guest;
use crate::idle::{Claims, Disk, hold};
use crate::image::make_disk;
use crate::one_disk::only_disk;
use crate::qemu_img::{self, Format, Input, sectors};
use crate::site::{Site, tell};
use crate::store::Store;

/// Copies the disk of a VM that runs nowhere, to one that has none.
pub fn clone(site: &Site, from: &str, to: &str, claims: &Claims) -> Result<Exit> {
    let started = Instant::now();
    let command = format!("pc-vm clone {from} {to}");
    if from == to {
        return Err(refused(format!(
            "vm {from}: cannot be its own copy\n  write another [vm.NAME] into the file"
        )));
    }
    same_firmware(&site.guest(from)?, &site.guest(to)?)?;
    let source = hold(site, from, Disk::There, claims, &command)?;
    let target = hold(site, to, Disk::Missing, claims, &command)?;
    let wanted = large_enough(&source.store, &source.guest, &target.guest)?;
    if site.is_local(&target.guest) {
        only_disk(site, &target.guest)?;
    }
    tell(&format!("copying the disk of vm {from} to vm {to}"));
    // Before the disk gets its name, so that a copy that is there is whole. Those of a VM without Secure Boot hold no keys
    // for it: libvirt makes new ones.
    if source.guest.vm.secure_boot == target.guest.vm.secure_boot {
        copy_variables(&source.store.nvram(), &target.store.nvram())?;
    }
    let (disk, input) = (target.store.disk(), Input::raw(&source.store.disk()));
    if !make_disk(&disk, wanted, |temporary| qemu_img::convert(&input, Format::Raw, temporary))? {
        return Err(refused(format!("vm {to}: {} has come into being meanwhile", disk.display())));
    }
    log::info(format_args!("made the disk of vm {to}, {wanted}, out of that of vm {from}"));
    let answer = Answer {
        schema: "pc.vm.disk/1",
        vm: to.into(),
        did: Did::Cloned,
        disk: disk.display().to_string(),
        size_bytes: wanted.0,
        was_bytes: None,
        from: Some(from.into()),
        to: None,
        running: false,
        cost: Cost::since(started),
    };
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// What boots with one firmware does not boot with the other.
fn same_firmware(from: &Guest, to: &Guest) -> Result<()> {
    if from.vm.firmware == to.vm.firmware {
        return Ok(());
    }
    let wanted = if from.vm.firmware == Firmware::Uefi { "uefi" } else { "bios" };
    Err(refused(format!(
        "vm {}: would not boot a copy of vm {}, which has another firmware\n  firmware = \"{wanted}\" in [vm.{0}]",
        to.name, from.name
    )))
}

/// The size of the copy, which is the file's.
fn large_enough(source: &Store, from: &Guest, to: &Guest) -> Result<Bytes> {
    let is = source.disk_bytes().with_context(|| format!("looking at {}", source.disk().display()))?;
    let (needed, size) = (Bytes(sectors(is)), to.vm.disk);
    if needed.0 <= sectors(size.0) {
        return Ok(size);
    }
    Err(refused(format!(
        "vm {}: the file gives it a disk of {size}, and that of vm {} has {needed}\n  disk = \"{needed}\" in [vm.{0}]",
        to.name, from.name
    )))
}
