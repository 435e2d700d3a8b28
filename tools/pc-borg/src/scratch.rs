//! Where the copy of a VM's disk lies that somebody looks at, a drill or `restore-file`: on a volume, which is encrypted, in a
//! directory of this node's own beside the VMs' and never among them. Whatever ends the look, whoever has the files open is
//! ended first, and they are removed then.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{Bytes, Name, paths};
use pc_cli::{Exit, log, together, try_again};

use crate::hypervisor;
use crate::queue;
use crate::site::{STAGE, Site};

/// What a copy is for: one of a kind at a time on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is booted, and takes the memory of a VM.
    Drill,
    /// Files are taken out of it.
    Files,
}

impl Purpose {
    /// The directory on each volume; a domain's name begins with it.
    fn directory(self) -> &'static str {
        match self {
            Purpose::Drill => "pc-drill",
            Purpose::Files => "pc-files",
        }
    }

    /// No VM has such a name.
    fn lock(self) -> &'static str {
        match self {
            Purpose::Drill => ".drill",
            Purpose::Files => ".files",
        }
    }

    /// What it is called where somebody waits for it.
    fn verb(self) -> &'static str {
        match self {
            Purpose::Drill => "drill",
            Purpose::Files => "restore-file",
        }
    }

    /// What libvirt calls it. No VM's name has a dot.
    fn domain(self, vm: &str) -> String {
        format!("{}.{vm}", self.directory())
    }
}

/// What the VMs of a volume, whose disks grow, are left of it: a tenth, and no more than this.
const SPARE: u64 = 10 << 30;
/// What a node keeps when a copy has its memory.
const SPARE_MEMORY: u64 = 512 << 20;

/// The files of one copy, until this is dropped.
#[derive(Debug)]
pub struct Scratch {
    /// All that belongs to it.
    pub directory: PathBuf,
    /// What libvirt calls it, when it is booted.
    pub domain: String,
    /// What others write of it: on no volume, for virtlogd writes the consoles of all guests, and stands still with the
    /// volume of one.
    notes: PathBuf,
    purpose: Purpose,
    volume: Name,
}

/// This node's look of a kind, until it is dropped: nobody else's copy is there, nor one that was left behind.
///
/// # Errors
/// 75 while another one is at work on this node.
pub fn alone(site: &Site, purpose: Purpose, patience: Duration) -> Result<fs::File> {
    let verb = purpose.verb();
    let busy = format!("another {verb} is at work on this node\n  wait for it: --lock-wait 3600");
    let lock = queue::on_node(site, purpose.lock(), patience, &busy)?;
    clear(site, purpose)?;
    Ok(lock)
}

/// Ends and removes what was killed and has left copies on this node; what is at work is let alone.
pub fn recover(site: &Site) -> Result<()> {
    let mut errors = Vec::new();
    for purpose in [Purpose::Drill, Purpose::Files] {
        match alone(site, purpose, Duration::ZERO) {
            Err(error) if Exit::of(&error) == Exit::TryAgain => {
                log::debug(format_args!("a {} is under way, nothing to recover", purpose.verb()));
            }
            Err(error) => errors.push(error),
            Ok(_) => (),
        }
    }
    together(errors)
}

fn clear(site: &Site, purpose: Purpose) -> Result<()> {
    let (mounts, mut errors) = (site.mounts()?, Vec::new());
    for volume in site.cluster().volumes.keys() {
        if !mounts.has(&paths::volume_mount(volume)) {
            continue;
        }
        for entry in fs::read_dir(of_node(site, purpose, volume)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(vm) = name.to_str() else { continue };
            match remove(purpose, &purpose.domain(vm), &entry.path(), &notes(site, purpose, vm)) {
                Ok(()) => {
                    let verb = purpose.verb();
                    log::info(format_args!("the copy of vm {vm}: removed, after a {verb} that was cut off"));
                }
                Err(error) => errors.push(error.context(format!("the copy of vm {vm}"))),
            }
        }
    }
    together(errors)
}

/// Of the volume's directories those that are ours: purpose, node, VM.
const LEVELS: usize = 3;

fn of_node(site: &Site, purpose: Purpose, volume: &Name) -> PathBuf {
    site.at(&format!("{}/{}/{}", paths::volume_mount(volume), purpose.directory(), site.node()))
}

/// A policy's directory there has no dot.
fn notes(site: &Site, purpose: Purpose, vm: &str) -> PathBuf {
    site.at(&format!("{STAGE}/.{}/{vm}", purpose.directory()))
}

/// The files go only when nobody has them open any more.
fn remove(purpose: Purpose, domain: &str, directory: &Path, notes: &Path) -> Result<()> {
    // guestfish ends what it began, and is ended with us.
    if purpose == Purpose::Drill {
        hypervisor::end_copy(domain, directory)?;
    }
    remove_all(directory)?;
    remove_all(notes)
}

fn remove_all(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

impl Scratch {
    /// Makes the directory of a VM's copy.
    pub fn make(site: &Site, purpose: Purpose, vm: &Name, volume: &Name) -> Result<Scratch> {
        let directory = of_node(site, purpose, volume).join(vm.as_str());
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        // QEMU, which is not root, passes through, and nobody lists; whatever the umask says, or was when they were made.
        for level in directory.ancestors().take(LEVELS) {
            fs::set_permissions(level, fs::Permissions::from_mode(0o711))
                .with_context(|| format!("letting QEMU into {}", level.display()))?;
        }
        let (domain, notes) = (purpose.domain(vm.as_str()), notes(site, purpose, vm.as_str()));
        // What an earlier copy said is no sign of life of this one.
        remove_all(&notes)?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&notes);
        made.with_context(|| format!("making {}", notes.display()))?;
        let scratch = Scratch { directory, domain, notes, purpose, volume: volume.clone() };
        scratch.require_room()?;
        Ok(scratch)
    }

    /// The copy's disk, new and empty.
    pub fn new_disk(&self) -> Result<fs::File> {
        let path = self.at("disk.img");
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.with_context(|| format!("making {}", path.display()))
    }

    /// A file of the copy.
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What its serial console says, when it is booted.
    pub fn console(&self) -> PathBuf {
        self.notes.join("console.log")
    }

    /// 75 when the volume is about to be full: the VMs on it come first.
    pub fn require_room(&self) -> Result<()> {
        let found = rustix::fs::statvfs(&self.directory);
        let found = found.with_context(|| format!("asking how full {} is", self.directory.display()))?;
        let (free, spare) = (found.f_bavail * found.f_frsize, spare(found.f_blocks * found.f_frsize));
        if free >= spare {
            return Ok(());
        }
        Err(try_again(format!(
            "volume {}: {} are free, and a copy leaves {} to the VMs\n  another one: --to VOLUME",
            self.volume,
            mebibytes(free),
            mebibytes(spare)
        )))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(self.purpose, &self.domain, &self.directory, &self.notes) {
            log::warning(format_args!("{}: {error:#}\n  pc-borg recover", self.domain));
        }
    }
}

fn spare(total: u64) -> u64 {
    (total / 10).min(SPARE)
}

/// 75 unless this node has the memory for one more VM: those that run come first.
pub fn require_memory(site: &Site, wanted: Bytes) -> Result<()> {
    let path = site.at("/proc/meminfo");
    let table = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let free = available(&table).with_context(|| format!("{}: names no MemAvailable", path.display()))?;
    let needed = wanted.0.saturating_add(SPARE_MEMORY);
    if free >= needed {
        return Ok(());
    }
    Err(try_again(format!(
        "{} of memory are free on {}, the copy and the node need {}: another node may have it",
        mebibytes(free),
        site.node(),
        mebibytes(needed)
    )))
}

/// For people.
fn mebibytes(bytes: u64) -> Bytes {
    Bytes(bytes >> 20 << 20)
}

/// proc(5), meminfo.
fn available(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_the_vms_is_a_tenth_and_no_more_than_they_need() {
        assert_eq!(spare(50 << 30), 5 << 30);
        assert_eq!(spare(4 << 40), 10 << 30);
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "MemTotal:       24689764 kB\nMemFree:         1234 kB\nMemAvailable:   21845632 kB\n";
        assert_eq!(available(table), Some(21_845_632 * 1024));
        assert_eq!(available("MemTotal:       24689764 kB\n"), None);
    }
}
