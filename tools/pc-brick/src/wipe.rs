//! The verbs that take one disk by its full name: destroy what is on it, or change what is remembered of it.

use std::fmt;

use anyhow::{Context, Result, bail};
use cluster::{Brick, DevicePath, Name, Use};
use pc_cli::{Common, log};
use serde::Serialize;

use crate::facts::{Content, Device, Record, State};
use crate::host::{Host, copies, cryptsetup, disk, lvm, wipefs};

/// `pc.brick.disk/1`: what was done to one disk.
#[derive(Debug, Serialize)]
pub struct Answer {
    schema: &'static str,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_name: Option<String>,
    /// What was on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    /// In words.
    done: &'static str,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.as_ref().map(|held| format!(" (held {held})")).unwrap_or_default();
        writeln!(f, "{}: {}{held}", self.device, self.done)
    }
}

/// Names of mapper and group depend on the disk alone; the volume here is a stand-in.
fn brick_of(device: &str) -> Result<Brick> {
    let device = DevicePath::try_from(device.to_string())
        .map_err(|fault| pc_cli::refused(format!("{device}: {fault}\n  ls -l /dev/disk/by-id")))?;
    let volume = Name::try_from("none".to_string()).map_err(anyhow::Error::msg)?;
    Ok(Brick { volume, purpose: Use::Local, device })
}

fn present(host: &Host, brick: &Brick) -> Result<Device> {
    let found = host.device(brick.device.as_str(), &brick.mapper(), &brick.volume_group())?;
    found.with_context(|| format!("{}: no such device", brick.device))
}

fn in_words(content: &Content) -> Option<String> {
    match content {
        Content::Blank => None,
        Content::Unknown | Content::UnknownStart => Some("data without a signature".into()),
        Content::Luks2(luks) => Some(format!("crypto_LUKS version 2, UUID {}", luks.uuid)),
        Content::Found(found) => Some(found.join(", ")),
        Content::Unreadable(fault) => Some(format!("what cannot be read: {fault}")),
    }
}

/// Destroys all data on a disk and forgets it.
pub fn wipe(common: &Common, host: &Host, device: &str, yes: bool) -> Result<Answer> {
    let brick = brick_of(device)?;
    let found = present(host, &brick)?;
    let held = in_words(&found.content);
    let words = held.clone().unwrap_or_else(|| "nothing".into());
    if !found.users.is_empty() {
        bail!(pc_cli::refused(format!("{device}: in use: {}\n  lsblk {device}", found.users.join(", "))));
    }
    let open = found.stack.open;
    if open {
        not_mounted(host, &brick)?;
    }
    if !yes {
        let backups: Vec<_> = host.records.backups(brick.name())?;
        let backups: Vec<_> = backups.iter().map(|backup| backup.display().to_string()).collect();
        let lost = match &backups[..] {
            [] => String::new(),
            backups => format!("; its header backups are lost with it: {}", backups.join(", ")),
        };
        bail!(pc_cli::refused(format!(
            "{device} ({}, {} bytes) holds {words}{lost}\n  pc-brick wipe {device} --yes-destroy-all-data-on-it",
            found.kernel_name, found.size_bytes
        )));
    }
    let _lock = host.lock()?;
    let path = std::fs::canonicalize(host.under(device)).with_context(|| format!("opening {device}"))?;
    if matches!(found.content, Content::Luks2(_)) {
        // Before closing it: nobody who tries for ever (pc-unlock.service) can open it again.
        cryptsetup::erase(host.shell(), &path)?;
    }
    if open {
        lvm::deactivate(host.shell(), &brick.volume_group())?;
        cryptsetup::close(host.shell(), &brick.mapper())?;
    }
    if !disk::is_free(&path)? {
        bail!(pc_cli::refused(format!(
            "{device}: held by the kernel or by another program\n  lsblk {device}"
        )));
    }
    wipefs::erase(host.shell(), &path)?;
    disk::zero(&path, found.size_bytes)?;
    // The header backups hold the keyslots that were just destroyed.
    copies::remove(common, brick.name());
    host.records.forget(brick.name(), false)?;
    log::info(format_args!("{device}: wiped, held {words}"));
    Ok(Answer {
        schema: "pc.brick.disk/1",
        device: device.into(),
        kernel_name: Some(found.kernel_name),
        held,
        done: "wiped",
    })
}

/// Refuses while anything of the brick's group is mounted, wherever that is.
fn not_mounted(host: &Host, brick: &Brick) -> Result<()> {
    let places = host.mounted(brick)?;
    if let Some(place) = places.first() {
        bail!(pc_cli::refused(format!("{}: mounted at {place}\n  umount {place}", brick.device)));
    }
    Ok(())
}

/// Removes the record of a disk that is gone for good, or that somebody wiped by other means.
pub fn forget(host: &Host, device: &str) -> Result<Answer> {
    let brick = brick_of(device)?;
    let _lock = host.lock()?;
    if !host.records.forget(brick.name(), true)? {
        bail!(pc_cli::refused(format!("{device}: nothing is remembered of it\n  pc-brick status")));
    }
    log::info(format_args!("{device}: forgotten"));
    Ok(Answer {
        schema: "pc.brick.disk/1",
        device: device.into(),
        kernel_name: None,
        held: None,
        done: "forgotten",
    })
}

/// Takes over a brick that our tools made and this node does not remember: its system disk was replaced, or
/// the disk comes from another node. Writes nothing to the disk.
pub fn adopt(host: &Host, device: &str) -> Result<Answer> {
    let brick = brick_of(device)?;
    let _lock = host.lock()?;
    if host.records.read(brick.name())?.is_some() {
        bail!(pc_cli::refused(format!("{device}: is known already\n  pc-brick status")));
    }
    let found = present(host, &brick)?;
    let held = in_words(&found.content);
    let luks = match &found.content {
        Content::Luks2(luks) if luks.subsystem == "personal-cluster" && luks.keyslots > 0 => luks,
        _ => bail!(pc_cli::refused(format!(
            "{device}: holds {}, not a brick that pc-brick made\n  pc-brick status",
            held.unwrap_or_else(|| "nothing".into())
        ))),
    };
    // `Made`: whatever is missing inside is an error from now on, and nothing is ever formatted.
    let record = Record {
        schema: "pc.brick.record/1".into(),
        device: device.into(),
        luks_uuid: luks.uuid.clone(),
        file_system_uuid: None,
        size_bytes: found.size_bytes,
        state: State::Made,
        claimed: crate::now()?,
    };
    host.records.write(brick.name(), &record)?;
    log::info(format_args!("{device}: adopted"));
    Ok(Answer {
        schema: "pc.brick.disk/1",
        device: device.into(),
        kernel_name: Some(found.kernel_name),
        held,
        done: "adopted",
    })
}
