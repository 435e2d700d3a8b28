//! Whether a VM's QEMU is on this node: what the kernel shows, and, when asked for, what libvirt says. A libvirt that hangs
//! or has forgotten a domain hides no process; a process that cannot be looked at may be any.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Exit, emit, try_again};
use serde::Serialize;

use crate::hypervisor::LOOK;
use crate::site::Site;

/// Reading the command line of a process whose memory is locked by a fault on a hanging volume may never end.
const DEADLINE: Duration = Duration::from_secs(10);

/// Every QEMU that ends lingers for a moment, and most are another VM's: one that is still there after this may hang.
const LINGERING: Duration = Duration::from_secs(4);
/// How often it is looked at. The kernel tells only its parent when it has gone.
const AGAIN: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Options {
    /// Ask libvirt as well: it is gone only when both say so
    #[arg(long)]
    pub libvirt: bool,
    /// Exit with 3 when it is not here
    #[arg(long)]
    pub exit_code: bool,
}

/// `pc.vm.probe/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// `pc.vm.probe/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// Its UUID.
    pub uuid: String,
    /// Its QEMU is on this node; null when that is not known.
    pub here: Option<bool>,
    /// The process, when there is one.
    pub pid: Option<u32>,
    /// libvirt's word, when it was asked and answered; `undefined` when it does not know the VM.
    pub libvirt: Option<String>,
    /// Why it is not known.
    pub reason: Option<String>,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.here, self.pid) {
            (Some(true), Some(pid)) => writeln!(f, "vm {} is here: process {pid}", self.vm),
            (Some(true), None) => writeln!(f, "vm {} is here, says libvirt", self.vm),
            (Some(false), _) => writeln!(f, "vm {} is not here", self.vm),
            (None, _) => writeln!(f, "vm {}: nobody knows", self.vm),
        }
    }
}

/// Answers, and ends with 75 when it is not known.
pub fn probe(site: &Site, name: &str, options: Options) -> Result<Exit> {
    let uuid = site.uuid_of(name)?;
    let process = process(site, &uuid);
    // One of the two is enough to know that it is here.
    let asked = options.libvirt.then(|| {
        let live = site.nodes.local_within(LOOK).and_then(|local| local.live(&uuid, LOOK));
        live.map_err(|error| format!("{error:#}"))
    });
    let answer = judge(name, uuid, process, asked);
    emit(site.common.json, &answer)?;
    match (answer.here, answer.reason) {
        (None, reason) => Err(try_again(format!("vm {name}: {}", reason.unwrap_or_default()))),
        (Some(here), _) => Ok(Exit::of_answer(options.exit_code, !here)),
    }
}

type Asked = Option<Result<Option<crate::hypervisor::Live>, String>>;

fn judge(name: &str, uuid: String, process: Result<Option<u32>, String>, asked: Asked) -> Probe {
    let (pid, unread) = match process {
        Ok(pid) => (pid, None),
        Err(reason) => (None, Some(reason)),
    };
    let (word, active, unanswered) = match asked {
        None => (None, false, None),
        Some(Ok(None)) => (Some("undefined".to_string()), false, None),
        Some(Ok(Some(live))) => (Some(live.state.to_string()), live.active, None),
        Some(Err(reason)) => (None, false, Some(reason)),
    };
    let reason: Vec<String> = [unread, unanswered].into_iter().flatten().collect();
    let here = if pid.is_some() || active { Some(true) } else { reason.is_empty().then_some(false) };
    Probe {
        schema: "pc.vm.probe/1",
        vm: name.into(),
        uuid,
        here,
        pid,
        libvirt: word,
        reason: (here.is_none()).then(|| reason.join("; ")),
    }
}

/// The process of a VM on this node, or why that is not known.
pub fn process(site: &Site, uuid: &str) -> Result<Option<u32>, String> {
    within_deadline(site.common.under_root("/proc"), uuid.into())
}

/// Looks on a thread of its own.
fn within_deadline(proc: PathBuf, uuid: String) -> Result<Option<u32>, String> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(find(&proc, &uuid, LINGERING))));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        Err(format!("a process did not let itself be looked at within {} s", DEADLINE.as_secs()))
    })
}

/// What a look at the processes shows.
enum Seen {
    Here(u32),
    /// A QEMU without a command line: whose it was cannot be told any more.
    Lingers(u32),
    Nowhere,
}

/// The process of a VM, once no QEMU lingers or `patience` is over.
fn find(proc: &Path, uuid: &str, patience: Duration) -> Result<Option<u32>, String> {
    let since = Instant::now();
    loop {
        match look(proc, uuid)? {
            Seen::Here(pid) => return Ok(Some(pid)),
            Seen::Nowhere => return Ok(None),
            Seen::Lingers(_) if since.elapsed() < patience => std::thread::sleep(AGAIN),
            Seen::Lingers(pid) => {
                return Err(format!(
                    "a QEMU (process {pid}) was killed and still waits for its disk: it may be this one"
                ));
            }
        }
    }
}

/// libvirt starts QEMU with `-uuid`, and proc(5) shows a process's arguments.
fn look(proc: &Path, uuid: &str) -> Result<Seen, String> {
    let entries = fs::read_dir(proc).map_err(|error| format!("reading {}: {error}", proc.display()))?;
    let mut seen = Seen::Nowhere;
    for entry in entries {
        let entry = entry.map_err(|error| format!("reading {}: {error}", proc.display()))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match fs::read(entry.path().join("cmdline")) {
            Ok(arguments) if arguments.is_empty() => {
                if lingers(&entry.path()) {
                    seen = Seen::Lingers(pid);
                }
            }
            Ok(arguments) if is_its(&arguments, uuid) => return Ok(Seen::Here(pid)),
            Ok(_) => {}
            // It ended while we looked: ENOENT, or ESRCH from a file that was open already.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => {
            }
            Err(error) => return Err(format!("reading the command line of process {pid}: {error}")),
        }
    }
    Ok(seen)
}

fn is_its(arguments: &[u8], uuid: &str) -> bool {
    let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    words.windows(2).any(|pair| pair[0] == b"-uuid" && pair[1].eq_ignore_ascii_case(uuid.as_bytes()))
}

/// A QEMU whose first thread has ended while another still hangs in the kernel, with a write that may yet be carried out.
/// It has no command line any more (proc(5): a zombie's is empty).
fn lingers(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // `4711 (qemu-system-x86) Z ...`: the name may hold anything, the state follows its last bracket.
    let Some((before, after)) = stat.rsplit_once(") ") else { return false };
    let name = before.split_once('(').map_or("", |(_, name)| name);
    let tasks = fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    name.starts_with("qemu") && after.starts_with('Z') && tasks > 1
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
