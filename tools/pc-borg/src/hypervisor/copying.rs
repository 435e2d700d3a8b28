//! The disk of a guest that runs, copied to another file under it: libvirt's block copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{QUICK, escaped, is_absent, state, virsh};

/// The name of the disk in its definition.
const DISK: &str = "vda";
/// Opening images on a slow volume, and writing the last of them to stable storage.
const SLOW: Duration = Duration::from_secs(600);

/// A guest that has a QEMU here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// virsh's word: `running`, `paused`, ...
    pub state: String,
    /// The file that it reads and writes.
    pub disk: PathBuf,
    /// Its disk is being copied; `true`: everything is there, and what it writes goes to both.
    pub copy: Option<bool>,
}

/// The guest as it runs here; `None` when it does not.
pub fn live(vm: &str) -> Result<Option<Live>> {
    let Some(state) = state(vm)? else { return Ok(None) };
    if ["shut off", "crashed"].contains(&state.as_str()) {
        return Ok(None);
    }
    let xml = match pc_run::run(virsh(&["dumpxml", vm])).deadline(QUICK).read() {
        Ok(xml) => xml,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("asking for {vm}")),
    };
    let (disk, copy) = parse(&xml).with_context(|| format!("{vm} has no disk {DISK}, as libvirt says"))?;
    Ok(Some(Live { state, disk, copy }))
}

/// The file of the disk in `virsh dumpxml`, and how far its copy is.
fn parse(xml: &str) -> Option<(PathBuf, Option<bool>)> {
    let target = format!("<target dev='{DISK}'");
    let disks = xml.split("<disk ").skip(1).filter_map(|rest| rest.split("</disk>").next());
    let disk = disks.into_iter().find(|disk| disk.contains(&target))?;
    let mirror = disk.split_once("<mirror ").map(|(_, rest)| rest.split('>').next().unwrap_or_default());
    // The first source is the disk's own: what is below it, and what it is copied to, come later.
    let (_, source) = disk.split_once("<source file='")?;
    let file = source.split('\'').next()?.replace("&apos;", "'").replace("&lt;", "<").replace("&amp;", "&");
    Some((file.into(), mirror.map(|mirror| mirror.contains("ready='yes'"))))
}

/// Begins to copy the disk to `to`, a file as large that is all zero, whose path is what libvirt calls the disk later. From the
/// moment on at which everything is there, no write of the guest is done before it is in both.
pub fn begin(vm: &str, to: &Path, definition: &Path) -> Result<()> {
    let xml = format!(
        "<disk type='file'>\n  <driver type='raw' cache='none' io='threads' discard='unmap'/>\n  \
         <source file='{}'/>\n</disk>\n",
        escaped(to)
    );
    std::fs::write(definition, xml).with_context(|| format!("writing {}", definition.display()))?;
    let mut command = virsh(&["blockcopy", vm, DISK, "--reuse-external", "--transient-job"]);
    command.args(["--synchronous-writes", "--xml"]).arg(definition);
    pc_run::run(command).deadline(SLOW).output().map(drop).context("beginning to copy the disk")
}

/// How much of it is done, of how much.
pub fn progress(vm: &str) -> Result<(u64, u64)> {
    let text = pc_run::run(virsh(&["blockjob", vm, DISK, "--raw"])).deadline(QUICK).read();
    let text = text.with_context(|| format!("asking how far the copy of {vm}'s disk is"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        line.strip_prefix('=')?.parse().ok()
    };
    Ok((field("cur").unwrap_or(0), field("end").unwrap_or(0)))
}

/// From now on the guest has the copy, and it is on stable storage; the file that it had is closed.
pub fn pivot(vm: &str, to: &Path) -> Result<()> {
    let pivot = virsh(&["blockjob", vm, DISK, "--pivot"]);
    pc_run::run(pivot).deadline(SLOW).output().map(drop).context("changing over to the copy of the disk")?;
    match live(vm)? {
        Some(live) if live.disk == to && live.copy.is_none() => Ok(()),
        other => bail!("{vm} has not changed over to {}: {other:?}", to.display()),
    }
}

/// It stands still: nothing is read or written.
pub fn suspend(vm: &str) -> Result<()> {
    pc_run::run(virsh(&["suspend", vm])).deadline(QUICK).output().map(drop).context("halting the guest")
}

/// It goes on.
pub fn resume(vm: &str) -> Result<()> {
    let once = || pc_run::run(virsh(&["resume", vm])).deadline(QUICK).output().map(drop);
    // Twice: nothing is worse than a guest that stands still.
    once().or_else(|_| once()).with_context(|| format!("having the guest go on\n  virsh resume {vm}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// virsh 9.0 dumpxml, while a disk is copied, when all of it is there, and afterwards.
    #[test]
    fn what_a_guest_has_for_its_disk_is_read() {
        let xml = |disk: &str| {
            format!(
                "<domain type='kvm' id='1'>\n  <devices>\n    <disk type='file' device='disk'>\n      \
                 <source file='/mnt/vms/vms/mail/seed.img' index='4'/>\n      <target dev='vdb' bus='virtio'/>\n    </disk>\n    \
                 <disk type='file' device='disk'>\n      {disk}\n      <target dev='vda' bus='virtio'/>\n    </disk>\n"
            )
        };
        let over = |ready: &str| {
            xml(&format!(
                "<driver name='qemu' type='qcow2' cache='none'/>\n      \
                 <source file='/mnt/vms/vms/mail/instant.qcow2' index='1'/>\n      \
                 <backingStore type='file' index='2'>\n        <format type='raw'/>\n        \
                 <source file='/run/archive/vda'/>\n        <backingStore/>\n      </backingStore>\n      \
                 <mirror type='file' file='/mnt/vms/vms/mail/disk.img' format='raw' job='copy'{ready}>\n        \
                 <format type='raw'/>\n        <source file='/mnt/vms/vms/mail/disk.img' index='3'/>\n      </mirror>"
            ))
        };
        let overlay = PathBuf::from("/mnt/vms/vms/mail/instant.qcow2");
        assert_eq!(parse(&over("")), Some((overlay.clone(), Some(false))));
        assert_eq!(parse(&over(" ready='yes'")), Some((overlay, Some(true))));
        let whole = xml("<source file='/mnt/vms/vms/mail/disk.img' index='3'/>\n      <backingStore/>");
        assert_eq!(parse(&whole), Some(("/mnt/vms/vms/mail/disk.img".into(), None)));
        assert_eq!(parse("<domain/>"), None);
    }
}
