//! What a file from elsewhere is, by its own bytes. qemu-img's own guess opens every file that an image names, and a raw
//! disk can be written so that it looks like an image: what we do not know by its mark is raw.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::refused;

use crate::disk::ova;
use crate::qemu_img::{Format, Input};

/// How to read an image.
pub fn look(path: &Path, called: &str) -> Result<Input> {
    let reading = || format!("reading {called}");
    let file = File::open(path).with_context(reading)?;
    let length = file.metadata().with_context(reading)?.len();
    let (head, tail) = (at(&file, 0, 512)?, at(&file, length.saturating_sub(512), 512)?);
    if length == 0 {
        return Err(refused(format!("{called}: is empty")));
    }
    if ova::is_archive(&head) {
        return appliance(&file, length, path, called);
    }
    if let Some(what) = unknown(&head, &tail) {
        let remedy = format!("qemu-img convert -O qcow2 {called} disk.qcow2");
        return Err(refused(format!("{called}: is {what}, not raw, qcow2, VMDK or an OVA\n  {remedy}")));
    }
    if let Some((what, program)) = compressed(&head) {
        return Err(refused(format!("{called}: is compressed ({what})\n  {program} {called}")));
    }
    let format = format(&head, called)?.unwrap_or(Format::Raw);
    Ok(Input::File { path: path.into(), format })
}

/// The one disk of an appliance.
fn appliance(file: &File, length: u64, path: &Path, called: &str) -> Result<Input> {
    let mut disks = Vec::new();
    for member in ova::members(file, length, called)? {
        if let Some(format) = format(&at(file, member.offset, 512)?, &format!("{called}: {}", member.name))? {
            disks.push((member, format));
        }
    }
    match (disks.pop(), disks.len()) {
        (Some((member, format)), 0) => {
            Ok(Input::Part { path: path.into(), offset: member.offset, bytes: member.bytes, format })
        }
        (None, _) => {
            Err(refused(format!("{called}: is an archive without a VMDK or qcow2 disk\n  tar -tvf {called}")))
        }
        (Some(_), more) => Err(refused(format!(
            "{called}: holds {} disks, and a VM has one\n  tar -xf {called}, then import the one that it boots from",
            more + 1
        ))),
    }
}

/// By its mark; none for what may be raw.
fn format(head: &[u8], called: &str) -> Result<Option<Format>> {
    if head.starts_with(b"QFI\xfb") {
        return Ok(Some(Format::Qcow2));
    }
    if head.starts_with(b"KDMV") {
        // VMware, Virtual Disk Format 5.0: after magic, version and flags (4 bytes each) the capacity, which is 0 when a
        // description somewhere in the file names other files for the data.
        if head.get(12..20).is_none_or(|capacity| capacity.iter().all(|byte| *byte == 0)) {
            return Err(named_elsewhere(called));
        }
        return Ok(Some(Format::Vmdk));
    }
    let is_description = head.windows(10).any(|window| window == b"createType" || window == b"Descriptor");
    if is_description && head.starts_with(b"#") {
        return Err(named_elsewhere(called));
    }
    Ok(None)
}

fn named_elsewhere(called: &str) -> anyhow::Error {
    refused(format!(
        "{called}: describes a disk whose data is in other files\n  where they are: qemu-img convert -O qcow2 {called} disk.qcow2"
    ))
}

/// Formats that are neither read nor raw.
fn unknown(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    if head.get(0x40..0x44).is_some_and(|mark| mark == b"\x7f\x10\xda\xbe") {
        return Some("a VirtualBox disk (VDI)");
    }
    if head.starts_with(b"vhdxfile") {
        return Some("a Hyper-V disk (VHDX)");
    }
    if head.starts_with(b"conectix") || tail.starts_with(b"conectix") {
        return Some("a Virtual PC disk (VHD)");
    }
    head.starts_with(b"COWD").then_some("an old VMware disk")
}

fn compressed(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let known: [(&[u8], &str, &str); 5] = [
        (b"\x1f\x8b", "gzip", "gunzip -k"),
        (b"\xfd7zXZ\0", "xz", "xz -dk"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
        (b"BZh", "bzip2", "bunzip2 -k"),
        (b"PK\x03\x04", "zip", "unzip"),
    ];
    known.into_iter().find(|(mark, ..)| head.starts_with(mark)).map(|(_, what, program)| (what, program))
}

/// Up to so many bytes from there.
fn at(file: &File, offset: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut have = 0;
    while have < bytes {
        let read = file.read_at(&mut buffer[have..], offset + have as u64).context("reading the image")?;
        if read == 0 {
            break;
        }
        have += read;
    }
    buffer.truncate(have);
    Ok(buffer)
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
