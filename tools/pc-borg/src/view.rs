//! All calls of pc-segments: the view of a VM's disk that borg reads, committed only after the archive is there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pc_cli::log;
use serde::Deserialize;

use crate::child::{bound_to_us, how, spawn};
use crate::siblings::answered;

/// The view is up within moments; an image on a volume that hangs is not.
const READY: Duration = Duration::from_secs(300);
/// Writing the state of a large disk to a slow volume.
const COMMIT: Duration = Duration::from_secs(300);
/// Unmounting without a commit.
const LEAVE: Duration = Duration::from_secs(30);

/// pc.segments.mount/1.
#[derive(Debug, Deserialize)]
struct Mounted {
    schema: String,
    pid: i32,
    dirty_bytes: u64,
}

/// pc.segments.run/1, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Report {
    schema: String,
    committed: bool,
    ended_by: String,
    disks: Vec<ReportDisk>,
    read_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct ReportDisk {
    left_dirty_segments: u64,
    mismatched_segments: Vec<u64>,
}

/// How a view ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// What was read counts as saved. Bytes read from the image.
    Committed(u64),
    /// Segments that counted as clean are not what they were: the archive is wrong, and the next run reads everything.
    Mismatch(Vec<u64>),
}

/// A view that is mounted. Dropped without a commit it is unmounted, and nothing counts as saved.
#[derive(Debug)]
pub struct View {
    child: Child,
    pid: Pid,
    stderr: Receiver<Vec<String>>,
    report: PathBuf,
    /// Of the segments that borg will read.
    pub dirty_bytes: u64,
}

/// What a view is made of.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// `vda=SOURCE`.
    pub image: &'a str,
    /// Where it is mounted.
    pub mount_point: &'a Path,
    /// Digests and time stamps of the last run.
    pub state: &'a Path,
    /// What pc-dirty wrote.
    pub extents: &'a Path,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Where the report goes.
    pub report: &'a Path,
}

impl View {
    /// Mounts it.
    pub fn open(wanted: &Wanted) -> Result<View> {
        let _ = fs::remove_file(wanted.report);
        let mut command = bound_to_us("pc-segments", "TERM");
        command.arg(wanted.image).arg(wanted.mount_point).arg("--state").arg(wanted.state);
        command.arg("--extents").arg(wanted.extents).arg("--report").arg(wanted.report);
        command.args(["--segment", &wanted.segment_bytes.to_string(), "--json"]);
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command).context("running pc-segments\n  apt-get install pc-segments")?;
        let stderr = gather(child.stderr.take());
        let (sender, receiver) = channel();
        let mut out = child.stdout.take().context("listening to pc-segments")?;
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let read = out.read_to_end(&mut text);
            let _ = sender.send(read.map(|_| text));
        });
        let answer = pc_run::timed(|| receiver.recv_timeout(READY));
        let own = Pid::from_raw(i32::try_from(child.id()).context("the number of a process")?);
        // From here on whatever goes wrong ends the child.
        let mut view = View { child, pid: own, stderr, report: wanted.report.into(), dirty_bytes: 0 };
        let Ok(answer) = answer else { bail!("pc-segments: no view within {} s", READY.as_secs()) };
        let answer = answer.context("listening to pc-segments")?;
        if answer.is_empty() {
            return Err(view.failed());
        }
        let mounted: Mounted = serde_json::from_slice(&answer).context("reading what pc-segments said")?;
        if mounted.schema != "pc.segments.mount/1" {
            bail!(
                "pc-segments answers {:?}, not pc.segments.mount/1: install the same version",
                mounted.schema
            );
        }
        view.pid = Pid::from_raw(mounted.pid);
        view.dirty_bytes = mounted.dirty_bytes;
        Ok(view)
    }

    /// It ended by itself, or before it began: what it said.
    fn failed(&mut self) -> anyhow::Error {
        let ended = self.wait(LEAVE);
        let said = self.stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default().join("\n");
        let (code, how) = ended.map_or((None, "does not end".into()), |status| (status.code(), how(status)));
        match answered("pc-segments", code, &how, &said) {
            Ok(()) => anyhow::anyhow!("pc-segments: ended before it was asked to"),
            Err(error) => error,
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        pc_run::timed(|| {
            loop {
                match self.child.try_wait() {
                    Ok(Some(status)) => return Some(status),
                    Ok(None) if Instant::now() < until => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(100));
                    }
                    _ => return None,
                }
            }
        })
    }

    /// Segments that were found to differ from what the state says, when the view ended for that.
    pub fn mismatch(&mut self) -> Option<Vec<u64>> {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            return None;
        }
        let report = self.read_report().ok()?;
        let mismatched = mismatched(&report);
        (report.ended_by == "mismatch" || !mismatched.is_empty()).then_some(mismatched)
    }

    /// What was read counts as saved from now on.
    pub fn commit(mut self) -> Result<Ending> {
        // It may have ended already, over a mismatch: then the report says so.
        let _ = kill(self.pid, Signal::SIGUSR1);
        let Some(status) = self.wait(COMMIT) else {
            bail!("pc-segments: no commit within {} s", COMMIT.as_secs());
        };
        if let Ok(report) = self.read_report() {
            let mismatched = mismatched(&report);
            if report.ended_by == "mismatch" || !mismatched.is_empty() {
                return Ok(Ending::Mismatch(mismatched));
            }
        }
        if !status.success() {
            return Err(self.failed());
        }
        let report = self.read_report()?;
        if !report.committed {
            bail!("pc-segments: ended by {} without a commit", report.ended_by);
        }
        let left: u64 = report.disks.iter().map(|disk| disk.left_dirty_segments).sum();
        if left > 0 {
            bail!("borg skipped {left} segments that have changed: the archive is not whole");
        }
        Ok(Ending::Committed(report.read_bytes))
    }

    fn read_report(&self) -> Result<Report> {
        let text = fs::read(&self.report).with_context(|| format!("reading {}", self.report.display()))?;
        let report: Report = serde_json::from_slice(&text).context("reading the report of pc-segments")?;
        if report.schema != "pc.segments.run/1" {
            bail!("pc-segments reports {:?}, not pc.segments.run/1: install the same version", report.schema);
        }
        Ok(report)
    }
}

fn mismatched(report: &Report) -> Vec<u64> {
    report.disks.iter().flat_map(|disk| disk.mismatched_segments.iter().copied()).collect()
}

impl Drop for View {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill(self.pid, Signal::SIGTERM);
        if self.wait(LEAVE).is_none() {
            log::warning("pc-segments does not end: killed, and its mount is removed by the next run");
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// All that a child says on stderr, at its end.
fn gather(pipe: Option<ChildStderr>) -> Receiver<Vec<String>> {
    let (sender, receiver) = channel();
    if let Some(pipe) = pipe {
        std::thread::spawn(move || {
            let lines = BufReader::new(pipe).lines().map_while(std::result::Result::ok);
            let lines: Vec<String> =
                lines.inspect(|line| log::debug(format_args!("pc-segments: {line}"))).collect();
            let _ = sender.send(lines);
        });
    }
    receiver
}
