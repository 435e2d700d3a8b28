//! All calls of virsh: one moment of a running VM's disk, as an export that stays what it was while the guest goes on; and
//! the copy that a drill boots.
//!
//! libvirt's pull backup: QEMU keeps the old content of whatever the guest overwrites in a scratch file and serves the
//! moment over NBD on a Unix socket. The guest's file systems are frozen, through its agent, only while that begins.

pub mod copying;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::{log, try_again};
use sha2::{Digest, Sha256};

use crate::child::bound_to_us;
use crate::freeze::Freezer;

/// This node's libvirt.
const SYSTEM: &str = "qemu:///system";
/// Commands that only change something inside QEMU.
const QUICK: Duration = Duration::from_secs(60);
/// A guest writes back what it holds before it says that it is frozen.
const FREEZE: Duration = Duration::from_secs(120);

/// A frozen moment, until it is dropped.
#[derive(Debug)]
pub struct Export {
    vm: String,
    socket: PathBuf,
    marker: PathBuf,
    /// As pc-dirty and pc-segments take it.
    pub source: String,
    /// `frozen`: the guest's file systems were; `crash`: as after a power cut, which a journal mends.
    pub consistency: &'static str,
}

/// Names the socket of a job that has to be ended, left before it is begun, so that a run that was killed cannot leave the
/// job behind. On this node only: a job ends with its QEMU, and no guest moves while it has one.
const JOB: &str = "job";

/// A moment that is wanted of a guest, and where the things of its export go.
#[derive(Debug)]
pub struct Job<'a> {
    /// The guest.
    pub vm: &'a str,
    /// A directory of this run on this node.
    pub work: PathBuf,
    /// A socket that QEMU makes, in [`directory`].
    pub socket: PathBuf,
    /// What the guest overwrites meanwhile: beside its disk, where there is space for it.
    pub scratch: PathBuf,
    /// Freezes it.
    pub freezer: &'a Freezer,
}

/// What the socket of one policy's export of one VM is called: a job that shows it is ours, and nobody else's.
pub fn socket_name(policy: &str, vm: &str) -> String {
    let name = format!("{policy}.{vm}");
    // A socket's path has 107 bytes (unix(7)), and each of the names may have 63.
    if name.len() <= 32 {
        return format!("pc-borg-{name}.sock");
    }
    let digest = format!("{:x}", Sha256::digest(&name));
    format!("pc-borg-{}.sock", &digest[..32])
}

impl Export {
    /// One moment of all these guests: all are frozen, then every job is begun, then all go on. The error is that of one of
    /// them, by its place in `jobs`; no export is left then.
    pub fn begin(jobs: &[&Job]) -> Result<Vec<Export>, (usize, anyhow::Error)> {
        for (at, job) in jobs.iter().enumerate() {
            let xml = job.definition();
            let written = fs::write(&xml, definition(job));
            written.with_context(|| format!("writing {}", xml.display())).map_err(|error| (at, error))?;
        }
        let mut frozen = Vec::new();
        let mut begun = Ok(());
        for (at, job) in jobs.iter().enumerate() {
            match job.freezer.freeze() {
                Ok(is_frozen) => frozen.push(is_frozen),
                Err(error) => {
                    begun = Err((at, error));
                    break;
                }
            }
        }
        // Whatever is wrong from here on, dropping these ends the jobs.
        let mut exports = Vec::new();
        if begun.is_ok() {
            for (at, (job, is_frozen)) in jobs.iter().zip(&frozen).enumerate() {
                let result = job.begin();
                exports.push(job.export(*is_frozen));
                if let Err(error) = result {
                    begun = Err((at, error));
                    break;
                }
            }
        }
        // At once, whether they began or not: a frozen guest stands still.
        let mut thawed = Ok(());
        for (at, job) in jobs.iter().enumerate() {
            if frozen.get(at) == Some(&true) {
                if let Err(error) = job.freezer.thaw() {
                    thawed = thawed.and(Err((at, error)));
                }
            }
        }
        let of_vm = |(at, error): (usize, anyhow::Error)| {
            let vm = jobs.get(at).map_or("", |job| job.vm);
            (at, error.context(format!("vm {vm}")))
        };
        begun.and(thawed).map_err(of_vm)?;
        Ok(exports)
    }

    /// An error, 75, when what was read was not the export of this job to its end.
    pub fn still_there(&self) -> Result<()> {
        if is_ours(&self.vm, &self.socket)? {
            return Ok(());
        }
        Err(try_again("its backup job ended before everything was read: no archive was kept"))
    }
}

impl Job<'_> {
    fn definition(&self) -> PathBuf {
        self.work.join("backup.xml")
    }

    fn marker(&self) -> PathBuf {
        self.work.join(JOB)
    }

    fn begin(&self) -> Result<()> {
        let marker = self.marker();
        fs::write(&marker, self.socket.display().to_string())
            .with_context(|| format!("writing {}", marker.display()))?;
        let mut command = virsh(&["backup-begin", self.vm, "--backupxml"]);
        command.arg(self.definition());
        pc_run::run(command).deadline(QUICK).output().map(drop).context("beginning a backup job")
    }

    fn export(&self, is_frozen: bool) -> Export {
        Export {
            vm: self.vm.into(),
            socket: self.socket.clone(),
            marker: self.marker(),
            source: format!("nbd+unix:///vda?socket={}", self.socket.display()),
            consistency: if is_frozen { "frozen" } else { "crash" },
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = end_job(&self.vm, &self.socket) {
            log::warning(format_args!("vm {}: ending its backup job: {error:#}", self.vm));
            return;
        }
        let _ = fs::remove_file(&self.marker);
    }
}

/// Ends the job that a run left behind which was killed: `work` is its directory.
pub fn recover(vm: &str, work: &Path) -> Result<()> {
    let marker = work.join(JOB);
    let Ok(socket) = fs::read_to_string(&marker) else { return Ok(()) };
    if end_job(vm, Path::new(&socket))? {
        log::info(format_args!("vm {vm}: ended the backup job of a run that was cut off"));
    }
    let _ = fs::remove_file(marker);
    Ok(())
}

/// libvirt's own directory for this run of the guest: it belongs to QEMU's user, and is the one place of libvirt's where
/// the guest's `AppArmor` profile lets QEMU make a socket (virt-aa-helper.c).
pub fn directory(vm: &str) -> Result<String> {
    let id = pc_run::run(virsh(&["domid", vm])).deadline(QUICK).read();
    let id = id.with_context(|| format!("asking for the number of {vm}"))?;
    match id.trim().parse() {
        Ok(id) => Ok(directory_of(id, vm)),
        // `-`: it does not run.
        Err(_) => Err(try_again("it has been stopped just now")),
    }
}

/// `virDomainDefGetShortName`: the name's first 20 characters.
fn directory_of(id: u32, vm: &str) -> String {
    let short: String = vm.chars().take(20).collect();
    format!("/var/lib/libvirt/qemu/domain-{id}-{short}")
}

/// An error, 75, while libvirt works on the guest: one that is being moved is not frozen, for the thaw might come too late
/// to reach it here, and no second job is begun beside one.
pub fn require_idle(vm: &str) -> Result<()> {
    let text = pc_run::run(virsh(&["domjobinfo", vm])).deadline(QUICK).read();
    match job(&text.with_context(|| format!("asking what libvirt does with {vm}"))?)? {
        None => Ok(()),
        Some(what) => Err(try_again(format!(
            "libvirt is busy with it ({}): neither frozen nor read meanwhile",
            what.to_lowercase()
        ))),
    }
}

/// What `virsh domjobinfo` says: the operation under way, `None` when there is none.
fn job(text: &str) -> Result<Option<String>> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Job type:") {
        None => bail!("virsh domjobinfo names no job type: {text:?}"),
        Some("None") => Ok(None),
        Some(kind) => Ok(Some(field("Operation:").unwrap_or(kind).into())),
    }
}

/// Whether this node's libvirt runs the guest: a paused one, as one that arrives is, hears nothing.
pub fn runs_here(vm: &str) -> Result<bool> {
    match pc_run::run(virsh(&["domstate", vm])).deadline(QUICK).read() {
        Ok(state) => Ok(state.trim() == "running"),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("asking whether {vm} runs")),
    }
}

/// Freezes the guest's file systems through its agent.
pub fn freeze(vm: &str) -> Result<(), pc_run::Error> {
    pc_run::run(virsh(&["domfsfreeze", vm])).deadline(FREEZE).output().map(drop)
}

/// Thaws them; one that is not frozen takes no harm from it.
pub fn thaw(vm: &str) -> Result<(), pc_run::Error> {
    let once = || pc_run::run(virsh(&["domfsthaw", vm])).deadline(QUICK).output().map(drop);
    // Twice: nothing is worse than a guest that stands still.
    once().or_else(|_| once())
}

/// virsh that begins a drill's copy and stays: libvirt ends the copy when this virsh goes, which it does with us, or by
/// itself after a while.
pub fn begin_copy(name: &str, definition: &Path, longest: Duration) -> Command {
    let mut command = bound_to_us("virsh", "KILL");
    command.args(["--connect", SYSTEM, "--quiet"]);
    // Two commands of one connection. Names and paths of ours hold neither quotes nor blanks.
    command.arg(format!(
        "create '{}' --autodestroy ; event --domain '{name}' --event lifecycle --loop --timeout {}",
        definition.display(),
        longest.as_secs()
    ));
    command
}

/// What libvirt says of a domain of this node; `None` when there is none of that name.
pub fn state(name: &str) -> Result<Option<String>> {
    match pc_run::run(virsh(&["domstate", name])).deadline(QUICK).read() {
        Ok(state) => Ok(Some(state.trim().into())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) if is_cut_off(error.stderr()) => Err(try_again(format!("asking how {name} is: {error}"))),
        Err(error) => Err(error).with_context(|| format!("asking how {name} is")),
    }
}

/// Whether the guest's agent answers: one that is not there yet, and one that is slow, does not.
pub fn agent_answers(name: &str) -> Result<bool> {
    let ping = virsh(&["qemu-agent-command", name, "--timeout", "5", "{\"execute\":\"guest-ping\"}"]);
    match pc_run::run(ping).deadline(QUICK).output() {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing() => Err(error).context("asking for a guest's agent"),
        Err(_) => Ok(false),
    }
}

/// Ends a drill's copy, if it is there: none of its files is open afterwards.
///
/// # Errors
/// When a domain of that name has other files: somebody else's is left alone.
pub fn end_copy(name: &str, directory: &Path) -> Result<()> {
    let xml = match pc_run::run(virsh(&["dumpxml", name])).deadline(QUICK).read() {
        Ok(xml) => xml,
        // Where no libvirt is installed, nothing runs.
        Err(error) if is_absent(&error) || error.is_missing() => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("asking for {name}")),
    };
    if !xml.contains(&format!("file='{}/", escaped(directory))) {
        bail!(
            "the domain {name} has no file in {}: it is somebody else's, and left alone",
            directory.display()
        );
    }
    match pc_run::run(virsh(&["destroy", name])).deadline(QUICK).output() {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("ending {name}")),
    }
}

/// `true` when there was one of ours. Whatever else libvirt does with the guest, a move above all, is somebody else's.
fn end_job(vm: &str, socket: &Path) -> Result<bool> {
    if !is_ours(vm, socket)? {
        return Ok(false);
    }
    match pc_run::run(virsh(&["domjobabort", vm])).deadline(QUICK).output() {
        Ok(_) => Ok(true),
        // It ended by itself just now, or with the guest.
        Err(error) if error.code().is_some() && !is_ours(vm, socket)? => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether the guest's backup job serves this socket.
fn is_ours(vm: &str, socket: &Path) -> Result<bool> {
    match pc_run::run(virsh(&["backup-dumpxml", vm])).deadline(QUICK).read() {
        Ok(xml) => Ok(xml.contains(&format!("socket='{}'", escaped(socket)))),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("asking for the backup job of {vm}")),
    }
}

/// There is no such guest here, it does not run, or it has no backup job: libvirt's own words, for its exit code is the
/// same as when libvirt itself does not answer.
fn is_absent(error: &pc_run::Error) -> bool {
    const WORDS: [&str; 4] =
        ["backup job", "failed to get domain", "Domain not found", "domain is not running"];
    error.code().is_some() && WORDS.iter().any(|word| error.stderr().contains(word))
}

/// Words of a virsh that has lost its libvirt, or found none: what that says of a guest is nothing.
pub fn is_cut_off(said: &str) -> bool {
    const WORDS: [&str; 5] = [
        "Disconnected from ",
        "failed to connect to the hypervisor",
        "Failed to connect socket",
        "client socket is closed",
        "End of file while reading data",
    ];
    WORDS.iter().any(|word| said.contains(word))
}

fn virsh(arguments: &[&str]) -> Command {
    let mut command = Command::new("virsh");
    command.args(["--connect", SYSTEM, "--quiet"]).args(arguments);
    command
}

fn escaped(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

/// libvirt, docs/formatbackup.rst.
fn definition(job: &Job) -> String {
    format!(
        "<domainbackup mode='pull'>\n  <server transport='unix' socket='{}'/>\n  <disks>\n    \
         <disk name='vda' backup='yes' type='file'>\n      <scratch file='{}'/>\n    </disk>\n  </disks>\n\
         </domainbackup>\n",
        escaped(&job.socket),
        escaped(&job.scratch)
    )
}

#[cfg(test)]
#[path = "hypervisor_tests.rs"]
mod tests;
