//! Facts: what only root may ask, asked by root beside every scrape and left as JSON for everybody.
//!
//! `pc-exporter facts` runs the siblings and a few programs, each with its own deadline, and leaves
//! `/run/personal-cluster/facts/NAME.json`. It is a oneshot of a timer, so that systemd ends whatever a killed
//! sibling leaves behind, before the next run.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::{Common, log};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::jobs::{Job, Work};
use crate::nouns::versions::{self, Versions};

/// Schema of a fact.
pub const SCHEMA: &str = "pc.exporter.fact/1";
/// Where facts are left.
pub const DIRECTORY: &str = "/run/personal-cluster/facts";
/// Programs that run side by side.
const AT_ONCE: usize = 4;
/// A program that was killed may still be held by a dead disk; nobody waits longer than this for its end.
const GRACE: Duration = Duration::from_secs(5);
/// No answer of any of our tools is nearly this long.
const LONGEST: u64 = 8 << 20;

/// `pc.exporter.fact/1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// `pc.exporter.fact/1`.
    pub schema: String,
    /// `gluster`, `smart-nvme-A`.
    pub name: String,
    /// When the program was run last, RFC 3339 UTC.
    pub tried_at: String,
    /// How long that took.
    pub seconds: f64,
    /// Why it gave no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the answer below was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<String>,
    /// The last answer: a program's JSON, or its text as a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
}

/// A file of facts, or of a sibling's status.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes)
}

/// An RFC 3339 time.
pub fn time_of(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// What a worker has done with a job.
enum Done {
    Began(String),
    Missing(String),
    Ended(Box<Fact>),
}

/// Runs what is due, and removes what there is no job for any more. Fails only when facts cannot be written.
pub fn run(common: &Common, jobs: Vec<Job>, all: bool, deadline: Duration) -> Result<()> {
    let directory = common.under_root(DIRECTORY);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    sweep(&directory, &jobs)?;
    let now = OffsetDateTime::now_utc();
    let due: Vec<Job> = jobs
        .into_iter()
        .filter(|job| all || is_due(last(&directory, &job.name).as_ref(), job, now))
        .collect();
    let rounds = u32::try_from(due.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    let until = Instant::now() + deadline * rounds + GRACE;
    let mut open: BTreeSet<String> = due.iter().map(|job| job.name.clone()).collect();
    let mut begun = BTreeSet::new();
    let answers = work(due, deadline);
    while !open.is_empty() {
        match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Done::Began(name)) => {
                begun.insert(name);
            }
            Ok(Done::Missing(name)) => {
                // Not installed: there is nothing to know, and nothing wrong.
                let _ = fs::remove_file(file(&directory, &name));
                open.remove(&name);
            }
            Ok(Done::Ended(fact)) => {
                open.remove(&fact.name);
                keep(&directory, *fact)?;
            }
            // What was killed and does not end, or waits behind such: the thread is left behind.
            Err(_) => break,
        }
    }
    for name in open {
        let why = if begun.contains(&name) {
            "was killed and does not end"
        } else {
            "waits behind programs that do not end"
        };
        keep(&directory, failed(&name, deadline, why.into()))?;
    }
    Ok(())
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.json"))
}

fn last(directory: &Path, name: &str) -> Option<Fact> {
    serde_json::from_slice(&read_bounded(&file(directory, name)).ok()?).ok()
}

/// Facts of a disk or program that is no longer asked for.
fn sweep(directory: &Path, jobs: &[Job]) -> Result<()> {
    let wanted: BTreeSet<PathBuf> = jobs.iter().map(|job| file(directory, &job.name)).collect();
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
        if !wanted.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// A timer is not exact: a few seconds early is due.
fn is_due(last: Option<&Fact>, job: &Job, now: OffsetDateTime) -> bool {
    let Some(tried) = last.and_then(|fact| time_of(&fact.tried_at)) else { return true };
    let since = now - tried;
    // Tried in the future: the clock was set back.
    since.is_negative() || since + Duration::from_secs(5) >= job.every
}

/// Writes a fact; a failed one keeps the answer before it.
fn keep(directory: &Path, mut fact: Fact) -> Result<()> {
    let before = last(directory, &fact.name);
    if let Some(error) = &fact.error {
        if before.as_ref().and_then(|before| before.error.as_ref()) != Some(error) {
            log::warning(format_args!("{}: {error}", fact.name));
        }
        if let Some(before) = before {
            fact.answer = before.answer;
            fact.measured_at = before.measured_at;
        }
    }
    let mut text = serde_json::to_vec_pretty(&fact).context("writing a fact as JSON")?;
    text.push(b'\n');
    pc_cli::write_atomic(&file(directory, &fact.name), &text, 0o644)
}

fn work(due: Vec<Job>, deadline: Duration) -> mpsc::Receiver<Done> {
    let queue = Arc::new(Mutex::new(VecDeque::from(due)));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..AT_ONCE {
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        std::thread::spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(job) = next else { return };
                // Nobody listens any more once the run is over.
                let _ = sender.send(Done::Began(job.name.clone()));
                let _ = sender.send(ask(&job, deadline));
            }
        });
    }
    receiver
}

fn now() -> String {
    // A year beyond 9999 has no such form, and no cluster.
    OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .ok()
        .and_then(|now| now.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn failed(name: &str, took: Duration, error: String) -> Fact {
    let seconds = took.as_secs_f64();
    let (tried_at, error) = (now(), Some(error));
    Fact {
        schema: SCHEMA.into(),
        name: name.into(),
        tried_at,
        seconds,
        error,
        measured_at: None,
        answer: None,
    }
}

fn ask(job: &Job, deadline: Duration) -> Done {
    let started = Instant::now();
    let answer = match &job.work {
        Work::Versions(programs) => Ok(of_versions(programs)),
        Work::Program { argv, text, codes } => match program(deadline, argv, *text, codes) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => return Done::Missing(job.name.clone()),
            Err(error) => Err(error),
        },
    };
    let took = started.elapsed();
    Done::Ended(Box::new(match answer {
        Err(error) => failed(&job.name, took, format!("{error:#}")),
        Ok(answer) => Fact {
            error: None,
            measured_at: Some(now()),
            answer: Some(answer),
            ..failed(&job.name, took, String::new())
        },
    }))
}

/// `None`: not installed.
fn program(deadline: Duration, argv: &[String], text: bool, codes: &[i32]) -> Result<Option<Value>> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(arguments);
    let output = match pc_run::run(command).deadline(deadline).allow(codes).output() {
        Ok(output) => output,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if text {
        return Ok(Some(Value::String(output.text())));
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{program}: its answer is no JSON"))
        .map(Some)
}

fn of_versions(programs: &[(&str, &str)]) -> Value {
    let mut found = Versions { schema: versions::SCHEMA.into(), programs: std::collections::BTreeMap::new() };
    for (program, flag) in programs {
        let mut command = Command::new(program);
        command.arg(flag);
        // Not installed, or does not say: there is nothing to tell of it.
        let Ok(said) = pc_run::run(command).deadline(Duration::from_secs(3)).read() else { continue };
        if let Some(version) = versions::version(&said) {
            found.programs.insert((*program).into(), version.into());
        }
    }
    serde_json::to_value(found).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_when_its_time_has_come_or_the_clock_was_set_back() {
        let job = Job::program("x", Duration::from_secs(60), &["true"]);
        let at = |text: &str| {
            let now = time_of("2026-01-01T00:10:00Z").unwrap();
            let mut fact = failed("x", Duration::ZERO, "no".into());
            fact.tried_at = text.into();
            is_due(Some(&fact), &job, now)
        };
        assert!(!at("2026-01-01T00:09:31Z"));
        assert!(at("2026-01-01T00:09:05Z"));
        assert!(at("2026-01-01T00:08:00Z"));
        assert!(at("2027-01-01T00:00:00Z"));
        assert!(at("yesterday"));
        assert!(is_due(None, &job, OffsetDateTime::now_utc()));
    }
}
