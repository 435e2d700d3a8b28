//! A copy of a VM's disk, for somewhere else. Of a VM that is stopped: a copy of a disk that is written to is none, and one
//! frozen moment of a running guest is what pc-borg makes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use pc_cli::{Exit, emit, log, refused};
use pc_run::Cost;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::disk::{Answer, Did};
use crate::idle::{Claims, Disk, hold};
use crate::qemu_img::{self, Format, Input};
use crate::site::{Site, tell};

/// How the copy was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What to write
    #[arg(long, value_enum, default_value_t = Form::Qcow2)]
    pub format: Form,
    #[command(flatten)]
    pub claims: Claims,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Only what is in use takes space, wherever it is copied to.
    Qcow2,
    /// Bytes as they are, with holes where the file system has them.
    Raw,
}

/// Copies the disk.
pub fn export(site: &Site, name: &str, to: &Path, options: &Options) -> Result<Exit> {
    let started = Instant::now();
    let called = to.display().to_string();
    let target = absent(to)?;
    let command = format!("pc-vm export {name} {called}");
    let idle = hold(site, name, Disk::There, &options.claims, &command)?;
    let format = match options.format {
        Form::Qcow2 => Format::Qcow2,
        Form::Raw => Format::Raw,
    };
    tell(&format!("copying the disk of vm {name} to {called}"));
    let disk = idle.store.disk();
    write(&target, |temporary| qemu_img::convert(&Input::raw(&disk), format, temporary))
        .with_context(|| format!("writing {called}"))?;
    log::info(format_args!("copied the disk of vm {name} to {called}"));
    let answer = Answer {
        schema: "pc.vm.disk/1",
        vm: name.into(),
        did: Did::Exported,
        disk: disk.display().to_string(),
        size_bytes: idle.store.disk_bytes().unwrap_or_default(),
        was_bytes: None,
        from: None,
        to: Some(called),
        running: false,
        cost: Cost::since(started),
    };
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// The whole path of a file that does not exist, in a directory that does.
fn absent(to: &Path) -> Result<PathBuf> {
    let called = to.display();
    let no_name = || refused(format!("{called}: names no file"));
    let name = to.file_name().ok_or_else(no_name)?;
    let directory = match to.parent() {
        Some(none) if none.as_os_str().is_empty() => Path::new("."),
        Some(directory) => directory,
        None => return Err(no_name()),
    };
    let directory = directory
        .canonicalize()
        .map_err(|error| refused(format!("{}: {error}\n  mkdir -p {0}", directory.display())))?;
    let target = directory.join(name);
    if target.symlink_metadata().is_ok() {
        return Err(refused(format!("{called}: is there, and is never written over")));
    }
    Ok(target)
}

/// Writes a file that gets its name when it is whole, and only when nobody else has taken it.
pub fn write(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(anyhow!("{} has no directory", target.display()));
    };
    let temporary = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = (|| -> Result<()> {
        // A disk holds secrets: never readable by others. qemu-img truncates it and keeps the mode.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        fill(&temporary)?;
        made.sync_all()?;
        take_name(&temporary, target)?;
        File::open(directory)?.sync_all()?;
        Ok(())
    })();
    if written.is_err() {
        // Half a copy is worth nothing.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Renames without replacing, also on a stick whose file system cannot promise that.
fn take_name(temporary: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, temporary, CWD, target, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if target.symlink_metadata().is_err() => {
            Ok(fs::rename(temporary, target)?)
        }
        renamed => Ok(renamed?),
    }
}
