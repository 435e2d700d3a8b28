//! The moment that is saved: of one VM, or of all VMs of a group, which are frozen together and go on together.

use std::time::Instant;

use anyhow::Result;
use time::OffsetDateTime;

use crate::hypervisor::{self, Export, Job};
use crate::making::Work;
use crate::site::tell;
use crate::stage::Fingerprint;

/// What is saved, and since when.
pub struct Moment {
    /// When its run began.
    pub started: Instant,
    /// The moment.
    pub taken_at: OffsetDateTime,
    /// The disk, as pc-dirty and pc-segments take it.
    pub source: String,
    /// `stopped`, `frozen` or `crash`.
    pub consistency: &'static str,
    /// Size of the disk.
    pub disk_bytes: u64,
}

/// A moment that lasts until it was read.
pub struct Begun {
    /// The moment.
    pub moment: Moment,
    /// What the disk of a stopped VM was before the first byte.
    pub before: Fingerprint,
    /// A running VM's disk as it was.
    pub export: Option<Export>,
}

/// One VM on its way there.
struct Candidate<'a> {
    at: usize,
    before: Fingerprint,
    /// `None`: it is stopped.
    job: Option<Job<'a>>,
}

/// One moment of all of these; `true`: it runs. Whoever cannot be part of it fails alone, in its place of the answer, and the
/// others are asked again.
pub fn begin(works: &[(&Work, bool)]) -> Vec<Result<Begun>> {
    let started = Instant::now();
    let mut results: Vec<Option<Result<Begun>>> = works.iter().map(|_| None).collect();
    let mut candidates = Vec::new();
    for (at, (work, running)) in works.iter().enumerate() {
        match candidate(at, work, *running) {
            Ok(candidate) => candidates.push(candidate),
            Err(error) => results[at] = Some(Err(error)),
        }
    }
    loop {
        let taken_at = OffsetDateTime::now_utc();
        let jobs: Vec<&Job> = candidates.iter().filter_map(|candidate| candidate.job.as_ref()).collect();
        match Export::begin(&jobs) {
            Ok(exports) => {
                let mut exports = exports.into_iter();
                for candidate in candidates {
                    let export = if candidate.job.is_some() { exports.next() } else { None };
                    let (work, _) = works[candidate.at];
                    let disk = work.files.disk();
                    let moment = Moment {
                        started,
                        taken_at,
                        source: export
                            .as_ref()
                            .map_or_else(|| disk.display().to_string(), |export| export.source.clone()),
                        consistency: export.as_ref().map_or("stopped", |export| export.consistency),
                        disk_bytes: candidate.before.1,
                    };
                    results[candidate.at] = Some(Ok(Begun { moment, before: candidate.before, export }));
                }
                break;
            }
            Err((which, error)) => {
                let mut running = candidates.iter().enumerate().filter(|(_, one)| one.job.is_some());
                let Some(place) = running.nth(which).map(|(place, _)| place) else { break };
                let failed = candidates.remove(place);
                results[failed.at] = Some(Err(error));
            }
        }
    }
    let lost = || Err(anyhow::anyhow!("another VM of its group kept it from being saved"));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

/// All that needs no guest to stand still.
fn candidate<'a>(at: usize, work: &'a Work, running: bool) -> Result<Candidate<'a>> {
    let vm = work.pair.vm.as_str();
    let before = work.files.fingerprint()?;
    if running {
        tell(&format!("{vm}: freezing"));
        hypervisor::require_idle(vm)?;
    }
    work.files.sweep()?;
    if !running {
        return Ok(Candidate { at, before, job: None });
    }
    let name = hypervisor::socket_name(work.policy.name.as_str(), vm);
    let socket = work.site.at(&format!("{}/{name}", hypervisor::directory(vm)?));
    let scratch = work.files.scratch(work.policy.name);
    let job = Job { vm, work: work.stage.work(), socket, scratch, freezer: work.freezer };
    Ok(Candidate { at, before, job: Some(job) })
}
