//! The time between a change and the proof that the node still reaches somebody.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use pc_cli::log;

use crate::host::Host;
use crate::probe;
use crate::record::{Lock, Outcome, Record};
use crate::undo;

/// How long another pc-ovs may take to finish.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// We end this much before the guard strikes, so that the two do not meet.
const MARGIN: Duration = Duration::from_secs(2);

/// Waits for a sign of life, for `pc-ovs confirm`, or for the end of the probation.
pub fn settle(host: &Host, record: &Record, confirm: Option<Duration>) -> Result<()> {
    let Some(patience) = confirm else {
        let _lock = Lock::take(host, PATIENCE)?;
        return undo::keep(host, record.clone());
    };
    release_signals();
    let until = Instant::now() + patience.saturating_sub(MARGIN);
    let asked = names(record);
    let mut told = false;
    loop {
        if let Some(outcome) = ended(host)? {
            return outcome;
        }
        if let Some(answered) = probe::ask(&record.probe) {
            let _lock = Lock::take(host, PATIENCE)?;
            let Some(record) = Record::open(host)? else { continue };
            log::info(format_args!("{answered} answers"));
            return undo::keep(host, record);
        }
        if Instant::now() >= until {
            return give_up(host, &asked, patience);
        }
        if !std::mem::replace(&mut told, true) {
            tell(&asked, patience);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Somebody else ended the probation.
fn ended(host: &Host) -> Result<Option<Result<()>>> {
    if Record::open(host)?.is_some() {
        return Ok(None);
    }
    Ok(Some(match Record::last(host)?.map(|last| last.outcome) {
        Some(Outcome::Confirmed) => Ok(()),
        _ => Err(anyhow::anyhow!("the change was rolled back")),
    }))
}

fn give_up(host: &Host, asked: &str, patience: Duration) -> Result<()> {
    let _lock = Lock::take(host, PATIENCE)?;
    if let Some(outcome) = ended(host)? {
        return outcome;
    }
    if let Some(record) = Record::open(host)? {
        undo::go_back(host, record)?;
    }
    let seconds = patience.as_secs();
    if asked.is_empty() {
        bail!("rolled back: nobody confirmed within {seconds} s");
    }
    bail!("rolled back: nobody confirmed within {seconds} s, and none of these answered: {asked}");
}

fn names(record: &Record) -> String {
    let mut names: Vec<String> = record.probe.targets.iter().map(|target| target.ip().to_string()).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

fn tell(asked: &str, patience: Duration) {
    let seconds = patience.as_secs();
    if asked.is_empty() {
        log::warning(format_args!("the file names nobody to ask\n  within {seconds} s: pc-ovs confirm"));
    } else {
        log::info(format_args!("on probation for {seconds} s: waiting for {asked}, or pc-ovs confirm"));
    }
}

/// From here on Ctrl-C ends us again: the guard does the rest.
fn release_signals() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Failing to do so leaves them held, which does no harm.
    let _ = signals.thread_unblock();
}
