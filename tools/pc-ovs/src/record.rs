//! The record of a change on probation: everything that is needed to go back, written before anything changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::claims::Claim;
use crate::host::Host;
use crate::model::{Bridge, Link, Route};

/// One file that a change writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Absolute path.
    pub path: String,
    /// Where its former content is kept; none when there was no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// How a probation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Still open.
    Open,
    /// It stays.
    Confirmed,
    /// Everything is as it was before.
    RolledBack,
}

/// The machine before a change, and how to ask whether it still reaches anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `pc.ovs.probation/1`.
    pub schema: String,
    /// Where it stands.
    pub outcome: Outcome,
    /// When it began, UTC.
    pub started: String,
    /// When it rolls back by itself, UTC; none when nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The boot it happened in: nobody confirms a change of an earlier one.
    pub boot_id: String,
    /// The process that carries it out.
    pub pid: i32,
    /// Everything has been carried out; before that an expired probation is always rolled back.
    pub complete: bool,
    /// Directory of the copies.
    pub kept: String,
    /// Files that change.
    pub files: Vec<FileChange>,
    /// What configured the NICs before.
    pub claims: Vec<Claim>,
    /// Bridges of ours before.
    pub bridges: Vec<Bridge>,
    /// Devices before; a name with no entry did not exist.
    pub links: BTreeMap<String, Link>,
    /// Devices that the change touches.
    pub devices: Vec<String>,
    /// Routes through them before.
    pub routes: Vec<Route>,
    /// The boot unit was enabled by this change.
    pub enabled_unit: bool,
    /// Whom to ask: any answer ends the probation.
    pub probe: Probe,
    /// What a boot could not put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// Whom to ask whether the network works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The device that questions leave through.
    pub interface: Option<String>,
    /// Our address: questions must come from it.
    pub source: Option<IpAddr>,
    /// Address and TCP port of those who may answer.
    pub targets: Vec<std::net::SocketAddr>,
}

/// Schema of a record.
pub const SCHEMA: &str = "pc.ovs.probation/1";
const OPEN: &str = "probation.json";
const LAST: &str = "last.json";

impl Record {
    /// The probation that is open, if any. One whose end was written down is not, though its file may still be there.
    pub fn open(host: &Host) -> Result<Option<Record>> {
        let Some(record) = read(&open_path(host))? else { return Ok(None) };
        // While the last end cannot be read, nothing says that it was this one's.
        let last = Record::last(host).ok().flatten();
        Ok(Some(record).filter(|record| last.is_none_or(|last| last.started != record.started)))
    }

    /// The last one that ended.
    pub fn last(host: &Host) -> Result<Option<Record>> {
        read(&host.state().join(LAST))
    }

    /// Removes what is left of a probation that has ended: whoever ended it was killed, or the power cut, before its
    /// file was gone. Gives how it ended. The caller holds the lock.
    pub fn remove_ended(host: &Host) -> Result<Option<Record>> {
        if !open_path(host).exists() || Record::open(host)?.is_some() {
            return Ok(None);
        }
        remove_open(host)?;
        Record::last(host)
    }

    /// When a change begins, UTC. It is the name of the change, to the second: the second in which the last one began
    /// is waited out.
    pub fn begin(host: &Host) -> Result<String> {
        let last = Record::last(host).ok().flatten().map(|last| last.started);
        loop {
            let started = crate::apply::now()?;
            if last.as_ref() != Some(&started) {
                return Ok(started);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes it down; survives a power cut from then on.
    pub fn save(&self, host: &Host) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing the record of this change")?;
        pc_cli::write_atomic(&open_path(host), &text, 0o600)
    }

    /// Ends the probation.
    pub fn close(mut self, host: &Host, outcome: Outcome) -> Result<()> {
        self.outcome = outcome;
        let text = serde_json::to_vec_pretty(&self).context("writing the record of this change")?;
        pc_cli::write_atomic(&host.state().join(LAST), &text, 0o600)?;
        remove_open(host)
    }
}

/// It does not come back with the power.
fn remove_open(host: &Host) -> Result<()> {
    let open = open_path(host);
    std::fs::remove_file(&open)
        .and_then(|()| std::fs::File::open(host.state())?.sync_all())
        .with_context(|| format!("removing {}", open.display()))
}

/// Names this boot of the kernel (random(4)).
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

/// Where the open one is.
pub fn open_path(host: &Host) -> PathBuf {
    host.state().join(OPEN)
}

fn read(path: &Path) -> Result<Option<Record>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let unreadable = |found: &str| {
        pc_cli::refused(format!(
            "reading {}: {found}\n  set it aside, and put back what can be told: pc-ovs rollback --interrupted",
            path.display()
        ))
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error.to_string()))?;
    if record.schema != SCHEMA {
        return Err(unreadable(&format!("its schema is {:.60}, not {SCHEMA}", record.schema)));
    }
    Ok(Some(record))
}

/// Held by whoever changes something. Given up when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holding it is its use")] Flock<std::fs::File>);

impl Lock {
    /// Waits up to `patience` for the others.
    pub fn take(host: &Host, patience: Duration) -> Result<Lock> {
        Lock::attempt(host, patience)?.ok_or_else(|| {
            pc_cli::try_again("another pc-ovs is at work\n  wait for it, or see: pc-ovs status")
        })
    }

    /// As `take`, but a change that hangs is ended: going back must not wait for what went wrong.
    pub fn seize(host: &Host, patience: Duration, holder: i32) -> Result<Lock> {
        if let Some(lock) = Lock::attempt(host, patience)? {
            return Ok(lock);
        }
        let same = std::fs::read_link(format!("/proc/{holder}/exe")).ok() == std::env::current_exe().ok();
        if same && holder > 1 && kill(Pid::from_raw(holder), Signal::SIGKILL).is_ok() {
            pc_cli::log::warning(format_args!("ended the change that hung (process {holder})"));
        }
        Lock::take(host, patience)
    }

    fn attempt(host: &Host, patience: Duration) -> Result<Option<Lock>> {
        let path = state(host)?.join("lock");
        let opening = || format!("opening {}", path.display());
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = file.with_context(opening)?;
        let until = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Some(Lock(lock))),
                Err((_, _)) if Instant::now() >= until => return Ok(None),
                Err((back, _)) => file = back,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The directory of our state, made when needed.
fn state(host: &Host) -> Result<PathBuf> {
    let path = host.state();
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(pc_cli::refused(format!("creating {}: {error}\n  {}", path.display(), pc_cli::as_root())))
        }
        Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(started: &str) -> Record {
        let text = format!(
            r#"{{"schema":"{SCHEMA}","outcome":"open","started":"{started}","boot_id":"b","pid":1,"complete":true,
                 "kept":"/k","files":[],"claims":[],"bridges":[],"links":{{}},"devices":[],"routes":[],
                 "enabled_unit":false,"probe":{{"interface":null,"source":null,"targets":[]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_file_that_outlives_the_end_of_its_probation_opens_nothing() {
        let root = tempfile::tempdir().unwrap();
        let host = Host { root: root.path().into() };
        let _lock = Lock::take(&host, Duration::ZERO).unwrap();
        let mut at = String::new();
        for outcome in [Outcome::Confirmed, Outcome::RolledBack] {
            // The clock is asked within the second in which the last one began, and gives another one.
            let started = Record::begin(&host).unwrap();
            assert_ne!(started, at);
            record(&started).save(&host).unwrap();
            assert_eq!(Record::open(&host).unwrap(), Some(record(&started)));
            assert_eq!(Record::remove_ended(&host).unwrap(), None, "it is open");
            let bytes = std::fs::read(open_path(&host)).unwrap();
            record(&started).close(&host, outcome).unwrap();
            assert!(!open_path(&host).exists());
            std::fs::write(open_path(&host), bytes).unwrap();
            assert_eq!(Record::open(&host).unwrap(), None);
            assert_eq!(Record::remove_ended(&host).unwrap().unwrap().outcome, outcome);
            assert!(!open_path(&host).exists());
            at = started;
        }
        // Of another one's end nothing follows, and of one that cannot be read neither.
        record("2025-01-01T00:00:00Z").save(&host).unwrap();
        assert!(Record::open(&host).unwrap().is_some());
        std::fs::write(host.state().join(LAST), "").unwrap();
        assert!(Record::open(&host).unwrap().is_some());
    }
}
