//! One writer per repository, whichever node it is on.
//!
//! Two things have to agree. A POSIX lock on a file of the volume, which the kernel (and Gluster, across nodes) gives to
//! one process and takes back when that process is gone. And a record beside it that names the holder: node, boot,
//! process, and a token that grows by one with every holder. The lock alone is not enough, for Gluster forgets locks when a
//! brick restarts; the record alone is not enough, for a dead holder cannot take it away. A record that was not
//! withdrawn is overruled only by proof that its holder is gone; every step of a run looks whether the record still
//! carries its own token (fencing), so that whoever lost it stops.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::{log, refused, try_again, write_atomic};
use serde::{Deserialize, Serialize};

use crate::left;
use crate::queue::{self, Kind};

/// Schema of the record.
pub const SCHEMA: &str = "pc.borg.lock/1";

/// `pc.borg.lock/1`: who holds, or held last, a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `pc.borg.lock/1`.
    pub schema: String,
    /// Grows by one with every holder.
    pub token: u64,
    /// The node.
    pub node: String,
    /// Its boot.
    pub boot_id: String,
    /// The process there.
    pub pid: u32,
    /// When that process was started, in the kernel's ticks since boot: a number that is not used twice.
    pub started_ticks: u64,
    /// The verb.
    pub what: String,
    /// Since when, RFC 3339 UTC.
    pub since: String,
    /// It was given back: nobody holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// Boots of nodes that are proven to be gone and may have left locks of borg's own. Kept from holder to holder until
    /// one of them has looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<Boot>,
}

/// One boot of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The node.
    pub node: String,
    /// Its boot.
    pub boot_id: String,
}

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// This node.
    pub node: String,
    /// This boot of it.
    pub boot_id: String,
    /// This process.
    pub pid: u32,
    /// Its start.
    pub started_ticks: u64,
}

/// What the record says to somebody who has the file's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody held it, or the last holder gave it back.
    Free,
    /// The last holder is gone: the proof.
    Stale(String),
    /// The last holder may still be there.
    Held,
}

/// Judges a record. `alive` tells whether a process of this boot of this node is still the same one; `boot_of` gives the
/// boot that a node has noted on the volume since; `dead` are nodes that the administrator vouches for.
pub fn judge(
    last: Option<&Holder>,
    me: &Me,
    alive: impl Fn(u32, u64) -> bool,
    boot_of: impl Fn(&str) -> Option<String>,
    dead: &[String],
) -> Verdict {
    let Some(last) = last else { return Verdict::Free };
    if last.released {
        return Verdict::Free;
    }
    let (node, pid) = (&last.node, last.pid);
    if *node == me.node && last.boot_id == me.boot_id {
        return if alive(pid, last.started_ticks) {
            Verdict::Held
        } else {
            Verdict::Stale(format!("its process {pid} is gone"))
        };
    }
    if *node == me.node || boot_of(node).is_some_and(|boot| boot != last.boot_id) {
        return Verdict::Stale(format!("{node} was rebooted since"));
    }
    if dead.iter().any(|dead| dead == node) {
        return Verdict::Stale(format!("{node} is switched off, says --holder-is-dead"));
    }
    Verdict::Held
}

/// Held while one run works with a repository.
#[derive(Debug)]
pub struct Lock {
    /// The lock lives as long as the file is open.
    _file: File,
    record: PathBuf,
    mine: Holder,
}

/// The files of a policy's lock.
#[derive(Debug, Clone)]
pub struct LockFiles {
    /// The policy's directory.
    pub directory: PathBuf,
    /// Where nodes note their boots.
    pub boots: PathBuf,
    /// `proc` of this machine.
    pub proc: PathBuf,
}

impl LockFiles {
    fn record(&self) -> PathBuf {
        self.directory.join("holder.json")
    }

    /// Who has it, as far as the record tells; `None` when nobody has.
    pub fn holder(&self) -> Result<Option<Holder>> {
        let last = self.last()?;
        Ok(last.filter(|last| !last.released))
    }

    fn last(&self) -> Result<Option<Holder>> {
        let path = self.record();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let unreadable = |what: String| {
            let path = path.display();
            refused(format!("{path}: {what}\n  when no pc-borg runs on any node: rm {path}"))
        };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if value["schema"] != SCHEMA {
            return Err(unreadable(format!("its schema is {}, not {SCHEMA:?}", value["schema"])));
        }
        serde_json::from_value(value).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Notes this boot, so that other nodes can see that what an earlier one held is nobody's.
    pub fn note_boot(&self, me: &Me) -> Result<()> {
        make(&self.boots)?;
        let path = self.boots.join(&me.node);
        if fs::read_to_string(&path).is_ok_and(|noted| noted == me.boot_id) {
            return Ok(());
        }
        write_atomic(&path, me.boot_id.as_bytes(), 0o644)
    }

    /// Takes the lock, waiting at most `patience` for another run to end.
    ///
    /// # Errors
    /// 75 when somebody has it, or may have it.
    pub fn acquire(
        &self,
        me: &Me,
        what: &str,
        patience: Duration,
        dead: &[String],
        may_go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Lock> {
        make(&self.directory)?;
        self.note_boot(me)?;
        let path = self.directory.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| unusable(&path, &error))?;
        let taken = queue::take(file, Kind::Posix, patience, may_go_on).map_err(|error| {
            // The caller's own errors (a signal) are no fault of the volume.
            match error.downcast_ref::<rustix::io::Errno>() {
                Some(errno) => unusable(&path, &(*errno).into()),
                None => error,
            }
        })?;
        let Some(file) = taken else { return Err(self.busy(me)) };
        let last = self.last()?;
        let boot_of = |node: &str| fs::read_to_string(self.boots.join(node)).ok();
        let alive = |pid, ticks| started(&self.proc, pid) == Some(ticks);
        let mut verdict = judge(last.as_ref(), me, alive, boot_of, dead);
        // The kernel takes a lock back before a process that was killed is gone altogether.
        let here = last.as_ref().is_some_and(|last| last.node == me.node && last.boot_id == me.boot_id);
        let until = Instant::now() + Duration::from_secs(2);
        while here && verdict == Verdict::Held && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            verdict = judge(last.as_ref(), me, alive, boot_of, dead);
        }
        let mut left_behind = last.as_ref().map_or_else(Vec::new, |last| last.left_behind.clone());
        match (&verdict, &last) {
            (Verdict::Free, _) | (_, None) => (),
            (Verdict::Held, _) => return Err(self.busy(me)),
            (Verdict::Stale(proof), Some(last)) => {
                log::warning(format_args!(
                    "an earlier {} did not end properly, {proof}: going on after it",
                    last.what
                ));
                let boot = Boot { node: last.node.clone(), boot_id: last.boot_id.clone() };
                if !left_behind.contains(&boot) {
                    left_behind.push(boot);
                }
            }
        }
        let mine = Holder {
            schema: SCHEMA.into(),
            token: last.map_or(0, |last| last.token) + 1,
            node: me.node.clone(),
            boot_id: me.boot_id.clone(),
            pid: me.pid,
            started_ticks: me.started_ticks,
            what: what.into(),
            since: crate::archive::rfc3339(time::OffsetDateTime::now_utc())?,
            released: false,
            left_behind,
        };
        write(&self.record(), &mine)?;
        Ok(Lock { _file: file, record: self.record(), mine })
    }

    fn busy(&self, me: &Me) -> anyhow::Error {
        // Who it is, when that can be read: it may be about to end.
        match self.holder() {
            Ok(Some(holder)) => {
                let Holder { node, what, since, pid, .. } = holder;
                let remedy = if node == me.node {
                    "wait for it: --lock-wait 3600".to_string()
                } else {
                    format!("when {node} is switched off for certain: --holder-is-dead {node}")
                };
                let directory = self.directory.display();
                try_again(format!(
                    "{directory}: in use by {node} since {since} ({what}, process {pid})\n  {remedy}"
                ))
            }
            _ => try_again(format!("{}: another pc-borg is at work", self.directory.display())),
        }
    }
}

impl Lock {
    /// An error, 75, once another holder has been let in.
    pub fn still_ours(&self) -> Result<()> {
        let text = fs::read_to_string(&self.record).map_err(|error| unusable(&self.record, &error))?;
        let now: Holder =
            serde_json::from_str(&text).with_context(|| format!("reading {}", self.record.display()))?;
        if now.token == self.mine.token && now.node == self.mine.node {
            return Ok(());
        }
        Err(try_again(format!(
            "{} took over since {}, token {} after our {}: ending without a further write",
            now.node, now.since, now.token, self.mine.token
        )))
    }

    /// Who is gone and may have left locks of borg's own.
    pub fn left_behind(&self) -> &[Boot] {
        &self.mine.left_behind
    }

    /// They have left none any more.
    pub fn cleared(&mut self) -> Result<()> {
        self.still_ours()?;
        self.mine.left_behind.clear();
        write(&self.record, &self.mine)
    }

    /// How borg's own locks are to name this node and its boot.
    pub fn host_id(&self) -> String {
        left::host_id(&self.mine.node, &self.mine.boot_id)
    }

    /// The number of this holder.
    pub fn token(&self) -> u64 {
        self.mine.token
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.still_ours().is_err() {
            return;
        }
        let mut mine = self.mine.clone();
        mine.released = true;
        if let Err(error) = write(&self.record, &mine) {
            log::warning(format_args!("giving the lock back: {error:#}"));
        }
    }
}

fn make(directory: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| unusable(directory, &error))
}

fn write(path: &Path, holder: &Holder) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(holder).context("writing the lock's record")?;
    text.push(b'\n');
    write_atomic(path, &text, 0o600)
}

/// A volume without quorum or with a dead client answers with one of many errors; all of them may pass.
fn unusable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    try_again(format!("{}: {error}\n  pc-gluster status", path.display()))
}

/// When a process was started (proc(5), stat: the 22nd field; the second is in parentheses and may hold anything).
pub fn started(proc: &Path, pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(proc.join(format!("{pid}/stat"))).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // A zombie does nothing any more.
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
