//! All calls of virsh: one moment of a running VM's disk, as an export that stays what it was while the guest goes on.
//!
//! libvirt's pull backup: QEMU keeps the old content of whatever the guest overwrites in a scratch file and serves the
//! moment over NBD on a Unix socket. The guest's file systems are frozen, through its agent, only while that begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::log;

/// Commands that only change something inside QEMU.
const QUICK: Duration = Duration::from_secs(60);
/// A guest writes back what it holds before it says that it is frozen.
const FREEZE: Duration = Duration::from_secs(120);

/// A frozen moment, until it is dropped.
#[derive(Debug)]
pub struct Export {
    vm: String,
    marker: PathBuf,
    /// As pc-dirty and pc-segments take it.
    pub source: String,
    /// `frozen`: the guest's file systems were; `crash`: as after a power cut, which a journal mends.
    pub consistency: &'static str,
}

/// Marks of what has to be taken back, left before it is done, so that a run that was killed cannot leave it behind.
const FROZEN: &str = "frozen";
const JOB: &str = "job";

/// Where things of one export go.
#[derive(Debug)]
pub struct Places<'a> {
    /// A directory of this run on this node.
    pub work: &'a Path,
    /// A socket that QEMU makes: in a directory of libvirt's, which QEMU's user and profile may use.
    pub socket: &'a Path,
    /// What the guest overwrites meanwhile: beside its disk, where there is space for it.
    pub scratch: &'a Path,
}

impl Export {
    /// Begins it.
    pub fn begin(vm: &str, places: &Places) -> Result<Export> {
        let xml = places.work.join("backup.xml");
        fs::write(&xml, definition(places)).with_context(|| format!("writing {}", xml.display()))?;
        let frozen = freeze(vm, places.work)?;
        let job = places.work.join(JOB);
        let begun =
            fs::write(&job, vm).with_context(|| format!("writing {}", job.display())).and_then(|()| {
                let mut command = virsh();
                command.arg("backup-begin").arg(vm).arg("--backupxml").arg(&xml);
                pc_run::run(command).deadline(QUICK).output().map(drop).context("beginning a backup job")
            });
        // At once, whether it began or not: a frozen guest stands still.
        let thawed = if frozen { thaw(vm, places.work) } else { Ok(()) };
        // Whatever is wrong from here on, dropping this ends the job.
        let export = Export {
            vm: vm.into(),
            marker: job,
            source: format!("nbd+unix:///vda?socket={}", places.socket.display()),
            consistency: if frozen { "frozen" } else { "crash" },
        };
        begun.and(thawed).with_context(|| format!("vm {vm}"))?;
        Ok(export)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = end_job(&self.vm) {
            log::warning(format_args!("vm {}: ending its backup job: {error:#}", self.vm));
            return;
        }
        let _ = fs::remove_file(&self.marker);
    }
}

/// Takes back what a run that was killed left behind: `work` is its directory.
pub fn recover(vm: &str, work: &Path) -> Result<()> {
    if work.join(FROZEN).exists() {
        thaw(vm, work)?;
        log::info(format_args!("vm {vm}: thawed, after a backup that was cut off"));
    }
    if work.join(JOB).exists() {
        end_job(vm)?;
        let _ = fs::remove_file(work.join(JOB));
        log::info(format_args!("vm {vm}: ended the backup job of a run that was cut off"));
    }
    Ok(())
}

/// `false` where there is no agent: a guest without one is backed up as a power cut would leave it.
fn freeze(vm: &str, work: &Path) -> Result<bool> {
    let marker = work.join(FROZEN);
    fs::write(&marker, vm).with_context(|| format!("writing {}", marker.display()))?;
    let mut command = virsh();
    command.args(["domfsfreeze", vm]);
    match pc_run::run(command).deadline(FREEZE).output() {
        Ok(_) => Ok(true),
        Err(error) => {
            log::warning(format_args!("vm {vm}: not frozen, its archive is as after a power cut: {error}"));
            // It may be half frozen: a guest that is not takes no harm from it.
            let mut command = virsh();
            command.args(["domfsthaw", vm]);
            let _ = pc_run::run(command).deadline(QUICK).output();
            let _ = fs::remove_file(marker);
            Ok(false)
        }
    }
}

fn thaw(vm: &str, work: &Path) -> Result<()> {
    let mut command = virsh();
    command.args(["domfsthaw", vm]);
    let thawed = pc_run::run(command).deadline(QUICK).output();
    // Twice: nothing is worse than a guest that stands still.
    let thawed = thawed.or_else(|_| {
        let mut command = virsh();
        command.args(["domfsthaw", vm]);
        pc_run::run(command).deadline(QUICK).output()
    });
    thawed.with_context(|| format!("thawing the file systems of {vm}\n  virsh domfsthaw {vm}"))?;
    let _ = fs::remove_file(work.join(FROZEN));
    Ok(())
}

fn end_job(vm: &str) -> Result<()> {
    let mut command = virsh();
    command.args(["domjobabort", vm]);
    match pc_run::run(command).deadline(QUICK).output() {
        Ok(_) => Ok(()),
        // It ended with the guest, with a migration, or never began.
        Err(error) if error.code().is_some() => {
            log::debug(format_args!("vm {vm}: {error}"));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn virsh() -> Command {
    let mut command = Command::new("virsh");
    command.args(["--connect", "qemu:///system", "--quiet"]);
    command
}

/// libvirt, docs/formatbackup.rst.
fn definition(places: &Places) -> String {
    let escape = |path: &Path| {
        let text = path.display().to_string();
        text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
    };
    format!(
        "<domainbackup mode='pull'>\n  <server transport='unix' socket='{}'/>\n  <disks>\n    \
         <disk name='vda' backup='yes' type='file'>\n      <scratch file='{}'/>\n    </disk>\n  </disks>\n\
         </domainbackup>\n",
        escape(places.socket),
        escape(places.scratch)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_is_as_libvirt_reads_it() {
        let (work, socket) = (Path::new("/w"), Path::new("/run/x.sock"));
        let text = definition(&Places { work, socket, scratch: Path::new("/mnt/a&b/scratch") });
        assert!(text.contains("<server transport='unix' socket='/run/x.sock'/>"), "{text}");
        assert!(text.contains("<scratch file='/mnt/a&amp;b/scratch'/>"), "{text}");
    }
}
