//! The disk of a guest that runs, copied to another file under it: libvirt's block copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{Exit, try_again};

use super::{QUICK, escaped, is_absent, is_cut_off, virsh};

/// The name of the disk in its definition.
const DISK: &str = "vda";
/// Opening images on a slow volume, and writing the last of them to stable storage.
const SLOW: Duration = Duration::from_secs(600);

/// A guest that has a QEMU here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// virsh's word: `running`, `paused`, ...
    pub state: String,
    /// It stands still for an I/O error, and not because somebody wants it to.
    pub stuck: bool,
    /// The file that it reads and writes.
    pub disk: PathBuf,
    /// Its disk is being copied; `true`: everything is there, and what it writes goes to both.
    pub copy: Option<bool>,
}

/// The guest as it runs here; `None` when it does not. 75 where nobody says.
pub fn live(vm: &str) -> Result<Option<Live>> {
    look(vm).map_err(|error| if is_silence(&error) { try_again(format!("{error:#}")) } else { error })
}

fn look(vm: &str) -> Result<Option<Live>> {
    let said = match pc_run::run(virsh(&["domstate", vm, "--reason"])).deadline(QUICK).read() {
        Ok(said) => said,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("asking how {vm} is")),
    };
    let (state, reason) = how(&said);
    if ["shut off", "crashed"].contains(&state) {
        return Ok(None);
    }
    let xml = match pc_run::run(virsh(&["dumpxml", vm])).deadline(QUICK).read() {
        Ok(xml) => xml,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("asking for {vm}")),
    };
    let (disk, copy) = parse(&xml).with_context(|| format!("{vm} has no disk {DISK}, as libvirt says"))?;
    let stuck = state == "paused" && reason == "I/O error";
    Ok(Some(Live { state: state.into(), stuck, disk, copy }))
}

/// `virsh domstate --reason`: the state, and why.
fn how(said: &str) -> (&str, &str) {
    let said = said.trim();
    let (state, reason) = said.split_once(" (").unwrap_or((said, ""));
    (state, reason.trim_end_matches(')'))
}

/// Whether an error says nothing of the guest: libvirt is restarted, is slow, or whoever asked it was ended.
pub fn is_silence(error: &anyhow::Error) -> bool {
    // libvirt's own word, while something else that it does with the guest takes longer than 30 s.
    const BUSY: &str = "Timed out during operation";
    Exit::of(error) == Exit::TryAgain
        || error.chain().filter_map(|cause| cause.downcast_ref()).any(|error| match error {
            pc_run::Error::TimedOut { .. } => true,
            pc_run::Error::Failed { stderr, .. } => {
                error.code().is_none() || is_cut_off(stderr) || stderr.contains(BUSY)
            }
            pc_run::Error::Start { .. } => false,
        })
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

/// From now on the guest has the copy, and it is on stable storage; the file that it had is closed. What came of it, [`live`] says.
pub fn pivot(vm: &str) -> Result<()> {
    let pivot = virsh(&["blockjob", vm, DISK, "--pivot"]);
    pc_run::run(pivot).deadline(SLOW).output().map(drop).context("changing over to the copy of the disk")
}

/// The guest keeps the file that it has, and the copy is nothing.
pub fn abort(vm: &str) -> Result<()> {
    let abort = virsh(&["blockjob", vm, DISK, "--abort"]);
    pc_run::run(abort).deadline(SLOW).output().map(drop).context("ending the copy of the disk")
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

    /// virsh 9.0.
    #[test]
    fn why_a_guest_stands_still_is_read() {
        assert_eq!(how("paused (I/O error)\n"), ("paused", "I/O error"));
        assert_eq!(how("shut off (destroyed)\n\n"), ("shut off", "destroyed"));
        assert_eq!(how("running"), ("running", ""));
    }

    #[test]
    fn who_says_nothing_of_the_guest_is_asked_again() {
        let said = |script: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]);
            let error = pc_run::run(command).deadline(Duration::from_millis(500)).output().unwrap_err();
            is_silence(&anyhow::Error::new(error).context("asking for mail"))
        };
        assert!(said("echo 'error: Disconnected from qemu:///system due to end of file' >&2; exit 1"));
        assert!(said(
            "echo 'error: Timed out during operation: cannot acquire state change lock' >&2; exit 1"
        ));
        assert!(said("sleep 9"));
        assert!(said("kill -TERM $$"));
        assert!(!said(
            "echo \"error: internal error: unable to execute QEMU command 'block-job-complete'\" >&2; exit 1"
        ));
    }

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
