//! A VM's disk out of a file from elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use cluster::Bytes;
use pc_cli::{Exit, emit, log, refused};
use pc_run::Cost;

use crate::disk::{Answer, Did, foreign};
use crate::idle::{Claims, Disk, hold};
use crate::image::{Expected, make_disk};
use crate::one_disk::only_disk;
use crate::qemu_img;
use crate::site::{Site, tell};

/// How an import was asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// What the file has to be: `sha256:HEX` or `sha512:HEX`
    #[arg(long)]
    pub digest: Option<String>,
    #[command(flatten)]
    pub claims: Claims,
}

/// Makes the disk. It gets its name when it is complete and on stable storage: an interrupted import leaves none.
pub fn import(site: &Site, name: &str, image: &Path, options: &Options) -> Result<Exit> {
    let started = Instant::now();
    let command = format!("pc-vm import {name} {}", image.display());
    let expected = options.digest.as_deref().map(Expected::parse).transpose()?;
    let path = regular(image)?;
    let wanted = site.guest(name)?.vm.disk;
    let called = image.display().to_string();
    if let Some(expected) = expected {
        expected.check(&path, &called)?;
    }
    let input = foreign::look(&path, &called)?;
    let found = qemu_img::info(&input)?;
    if found.reads_other_files() {
        return Err(refused(format!(
            "{called}: refers to another file (backing file or data file)\n  \
             where both are: qemu-img convert -O qcow2 {called} whole.qcow2"
        )));
    }
    if found.virtual_size > wanted.0 {
        let needed = Bytes(found.virtual_size);
        return Err(refused(format!(
            "{called}: holds {needed}, and the file gives vm {name} a disk of {wanted}\n  disk = \"{needed}\" in [vm.{name}]"
        )));
    }
    let idle = hold(site, name, Disk::Missing, &options.claims, &command)?;
    if site.is_local(&idle.guest) {
        only_disk(site, &idle.guest)?;
    }
    tell(&format!("making the disk of vm {name} out of {called}"));
    let disk = idle.store.disk();
    let made =
        make_disk(&disk, wanted, |temporary| qemu_img::convert(&input, qemu_img::Format::Raw, temporary))?;
    if !made {
        return Err(refused(format!("vm {name}: {} has come into being meanwhile", disk.display())));
    }
    log::info(format_args!("made the disk of vm {name}, {wanted}, out of {called}"));
    let answer = Answer {
        schema: "pc.vm.disk/1",
        vm: name.into(),
        did: Did::Imported,
        disk: disk.display().to_string(),
        size_bytes: wanted.0,
        was_bytes: None,
        from: Some(called),
        to: None,
        running: false,
        cost: Cost::since(started),
    };
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// The whole path of a file, which begins with a slash: a name with a colon would be an address to qemu-img.
fn regular(image: &Path) -> Result<PathBuf> {
    let path = image.canonicalize().map_err(|error| {
        refused(format!("{}: {error}\n  the file has to be on this node", image.display()))
    })?;
    if !path.is_file() {
        return Err(refused(format!("{}: is no regular file", image.display())));
    }
    File::open(&path).with_context(|| format!("opening {}", image.display()))?;
    Ok(path)
}
