//! Where a drill's copy of a VM lies: on a volume, which is encrypted, in a directory of this node's own beside the VMs' and
//! never among them. Whatever ends the drill, the copy is ended first and its files are removed then.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{Bytes, Name, paths};
use pc_cli::{Exit, log, together, try_again};

use crate::hypervisor;
use crate::queue;
use crate::site::Site;

/// Of each volume.
const DIRECTORY: &str = "pc-drill";
/// One drill at a time on a node, for it takes the memory of a VM. No VM has such a name.
const LOCK: &str = ".drill";
/// What a copy is called goes on with the VM's name. No VM's name has a dot.
const DOMAIN: &str = "pc-drill.";
/// What the VMs of a volume, whose disks grow, are left of it: a tenth, and no more than this.
const SPARE: u64 = 10 << 30;
/// What a node keeps when a copy has its memory.
const SPARE_MEMORY: u64 = 512 << 20;

/// The files of one copy, until this is dropped.
#[derive(Debug)]
pub struct Scratch {
    /// All that belongs to it.
    pub directory: PathBuf,
    /// What libvirt calls it.
    pub domain: String,
    volume: Name,
}

/// This node's drill, until it is dropped: nobody else's copy is there, nor one that was left behind.
///
/// # Errors
/// 75 while another drill is at work on this node.
pub fn alone(site: &Site, patience: Duration) -> Result<fs::File> {
    let busy = "another drill is at work on this node\n  wait for it: --lock-wait 3600";
    let lock = queue::on_node(site, LOCK, patience, busy)?;
    clear(site)?;
    Ok(lock)
}

/// Ends and removes what a drill that was killed has left on this node; one that is at work is let alone.
pub fn recover(site: &Site) -> Result<()> {
    match alone(site, Duration::ZERO) {
        Err(error) if Exit::of(&error) == Exit::TryAgain => {
            log::debug("a drill is under way, nothing to recover");
            Ok(())
        }
        other => other.map(drop),
    }
}

fn clear(site: &Site) -> Result<()> {
    let (mounts, mut errors) = (site.mounts()?, Vec::new());
    for volume in site.cluster().volumes.keys() {
        if !mounts.has(&paths::volume_mount(volume)) {
            continue;
        }
        for entry in fs::read_dir(of_node(site, volume)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(vm) = name.to_str() else { continue };
            match remove(&format!("{DOMAIN}{vm}"), &entry.path()) {
                Ok(()) => {
                    log::info(format_args!("the copy of vm {vm}: removed, after a drill that was cut off"))
                }
                Err(error) => errors.push(error.context(format!("the copy of vm {vm}"))),
            }
        }
    }
    together(errors)
}

fn of_node(site: &Site, volume: &Name) -> PathBuf {
    site.at(&format!("{}/{DIRECTORY}/{}", paths::volume_mount(volume), site.node()))
}

/// The files go only when nobody has them open any more.
fn remove(domain: &str, directory: &Path) -> Result<()> {
    hypervisor::end_copy(domain, directory)?;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

impl Scratch {
    /// Makes the directory of a VM's copy.
    pub fn make(site: &Site, vm: &Name, volume: &Name) -> Result<Scratch> {
        let directory = of_node(site, volume).join(vm.as_str());
        // QEMU passes through, and nobody lists.
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&directory);
        made.with_context(|| format!("making {}", directory.display()))?;
        let scratch = Scratch { directory, domain: format!("{DOMAIN}{vm}"), volume: volume.clone() };
        scratch.require_room()?;
        Ok(scratch)
    }

    /// A file of the copy.
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
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
            "volume {}: {} are free, and a drill leaves {} to the VMs\n  pc-borg drill VM --to VOLUME",
            self.volume,
            mebibytes(free),
            mebibytes(spare)
        )))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.domain, &self.directory) {
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
