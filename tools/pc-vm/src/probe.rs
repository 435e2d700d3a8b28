//! Whether a VM's QEMU is on this node: what the kernel shows, and, when asked for, what libvirt says. A libvirt that hangs
//! or has forgotten a domain hides no process; a process that cannot be looked at may be any.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Common, Exit, emit, log, refused, try_again};
use serde::{Deserialize, Serialize};

use crate::emulator;
use crate::hypervisor::LOOK;
use crate::pending;
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
    /// Every QEMU of a VM that the kernel shows, whatever the file says: what another node asks before it starts one
    #[arg(long, conflicts_with_all = ["name", "libvirt", "exit_code"])]
    pub all: bool,
    /// Ask libvirt as well: it is gone only when both say so, or when libvirt is silent and was told nothing that could become one
    #[arg(long)]
    pub libvirt: bool,
    /// Exit with 3 when it is not here
    #[arg(long)]
    pub exit_code: bool,
}

/// A QEMU that the kernel shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process.
    pub pid: u32,
    /// The VM's UUID, as it was started with.
    pub uuid: String,
}

/// Schema of [`Shown`].
pub const PROCESSES: &str = "pc.vm.processes/1";

/// `pc.vm.processes/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// `pc.vm.processes/1`.
    pub schema: String,
    /// Every QEMU of a VM that could be told.
    pub processes: Vec<Process>,
    /// Why there may be more.
    pub reason: Option<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.processes.iter().try_for_each(|found| writeln!(f, "process {}: {}", found.pid, found.uuid))
    }
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
    let mut asked = options.libvirt.then(|| {
        let live = site.nodes.local_within(LOOK).and_then(|local| local.live(&uuid, LOOK));
        live.map_err(|error| format!("{error:#}"))
    });
    if let (Ok(None), Some(Err(silent))) = (&process, &asked) {
        asked = match pending::cannot_come(site, name, &uuid) {
            Ok(()) => {
                log::warning(format_args!("vm {name}: /proc alone says that it is not here: {silent}"));
                None
            }
            Err(reason) => Some(Err(format!("{silent}; {reason}"))),
        };
    }
    let answer = judge(name, uuid, process, asked);
    emit(site.common.json, &answer)?;
    match (answer.here, answer.reason) {
        (None, reason) => Err(try_again(format!("vm {name}: {}", reason.unwrap_or_default()))),
        (Some(here), _) => Ok(Exit::of_answer(options.exit_code, !here)),
    }
}

/// Every QEMU on this node; 75 when there may be more. The file is not asked: while somebody edits it, it may be none.
pub fn all(common: &Common) -> Result<Exit> {
    let (processes, reason) = processes(common, LINGERING);
    let answer = Shown { schema: PROCESSES.into(), processes, reason };
    emit(common.json, &answer)?;
    answer.reason.map_or(Ok(Exit::Done), |reason| Err(try_again(reason)))
}

/// A QEMU that libvirt has lost: it can neither be stopped nor moved, and must not be started beside itself.
pub fn forgotten(vm: &str, pid: u32) -> anyhow::Error {
    refused(format!("vm {vm}: runs here, process {pid}, and libvirt does not know it\n  {}", remedy(pid)))
}

/// What to do about it.
pub fn remedy(pid: u32) -> String {
    format!(
        "systemctl restart libvirtd    (finds what it has lost, as a rule; kill {pid} is pulling the plug)"
    )
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
    let uuid = uuid.to_string();
    within_deadline(site.common.under_root("/proc"), move |proc| find(proc, &uuid, LINGERING))?
}

/// Every QEMU of this node, and why there may be more; one that ends is waited for within `patience`.
pub fn processes(common: &Common, patience: Duration) -> (Vec<Process>, Option<String>) {
    let looked = within_deadline(common.under_root("/proc"), move |proc| watch(proc, None, patience));
    looked.unwrap_or_else(|reason| (Vec::new(), Some(reason)))
}

/// Looks on a thread of its own.
fn within_deadline<T: Send + 'static>(
    proc: PathBuf,
    look: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(look(&proc))));
    receiver
        .recv_timeout(DEADLINE)
        .map_err(|_| format!("a process did not let itself be looked at within {} s", DEADLINE.as_secs()))
}

/// The process of a VM, once no QEMU lingers or `patience` is over.
fn find(proc: &Path, uuid: &str, patience: Duration) -> Result<Option<u32>, String> {
    let (found, reason) = watch(proc, Some(uuid), patience);
    match (found.iter().find(|found| found.uuid.eq_ignore_ascii_case(uuid)), reason) {
        (Some(found), _) => Ok(Some(found.pid)),
        (None, Some(reason)) => Err(reason),
        (None, None) => Ok(None),
    }
}

/// What a look at the processes shows.
#[derive(Debug, Default)]
struct Seen {
    found: Vec<Process>,
    /// A QEMU without a command line: whose it was cannot be told any more.
    lingers: Option<u32>,
    /// Why another process may be one.
    unread: Option<String>,
}

/// All QEMUs and why there may be more, once none lingers, the one that is wanted is there, or `patience` is over.
fn watch(proc: &Path, wanted: Option<&str>, patience: Duration) -> (Vec<Process>, Option<String>) {
    let since = Instant::now();
    loop {
        let Seen { found, lingers, unread } = look(proc);
        let is_wanted = |found: &Process| wanted.is_some_and(|uuid| found.uuid.eq_ignore_ascii_case(uuid));
        match lingers {
            Some(_) if unread.is_none() && !found.iter().any(is_wanted) && since.elapsed() < patience => {
                std::thread::sleep(AGAIN);
            }
            Some(pid) if unread.is_none() => {
                let why = "was killed and still waits for its disk: it may be this one";
                return (found, Some(format!("a QEMU (process {pid}) {why}")));
            }
            _ => return (found, unread),
        }
    }
}

/// libvirt starts QEMU with `-uuid`, and proc(5) shows a process's arguments; others may choose the same ones.
fn look(proc: &Path) -> Seen {
    let mut seen = Seen::default();
    let unread = |error: std::io::Error| Some(format!("reading {}: {error}", proc.display()));
    let entries = match fs::read_dir(proc) {
        Ok(entries) => entries,
        Err(error) => return Seen { unread: unread(error), ..seen },
    };
    let users = proc.parent().and_then(emulator::users);
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                seen.unread = unread(error);
                break;
            }
        };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match fs::read(entry.path().join("cmdline")) {
            Ok(arguments) if arguments.is_empty() => {
                if lingers(&entry.path()) {
                    seen.lingers = Some(pid);
                }
            }
            Ok(arguments) => {
                let uuid = uuid_of(&arguments).filter(|_| emulator::may_be(&entry.path(), &users));
                seen.found.extend(uuid.map(|uuid| Process { pid, uuid }));
            }
            // It ended while we looked: ENOENT, or ESRCH from a file that was open already.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => {
            }
            Err(error) => {
                seen.unread = Some(format!("reading the command line of process {pid}: {error}"));
            }
        }
    }
    seen
}

/// The UUID that a process was started with, when it is one.
fn uuid_of(arguments: &[u8]) -> Option<String> {
    let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let value = words.windows(2).find(|pair| pair[0] == b"-uuid")?[1];
    let plain = value.len() == 36 && value.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    plain.then(|| String::from_utf8_lossy(value).to_ascii_lowercase())
}

/// A QEMU whose first thread has ended while another still hangs in the kernel, with a write that may yet be carried out.
/// It has no command line any more (proc(5): a zombie's is empty).
fn lingers(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // `4711 (qemu-system-x86) Z ...`: the name may hold anything, the state follows its last bracket.
    let Some((before, after)) = stat.rsplit_once(") ") else { return false };
    let name = before.split_once('(').map_or("", |(_, name)| name);
    let tasks = fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    emulator::is_name(name) && after.starts_with('Z') && tasks > 1
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
