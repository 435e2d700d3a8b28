//! The walk itself: looks at the world, does what comes next, and writes down how far it is before anything else is begun.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use pc_cli::{Common, Exit, emit, emit_heard, log, try_again};
use time::OffsetDateTime;

use super::answer::Answer;
use super::walk::{self, Act, Asked, Current, Doubt, Lease, Next, Phase, Seen, Walk};
use super::{ahead, ground, lease, node};
use crate::drain;
use crate::engine::Engine;
use crate::host::upgrade::{self as files, WALK};
use crate::host::{self, siblings, tell};
use crate::want::Want;

/// Between two looks at a node that is at work.
const PAUSE: Duration = Duration::from_secs(5);
/// A unit that was asked for begins at once; machines under emulation are slow.
const BEGINS: Duration = Duration::from_secs(120);

/// The error that a walk ends with which has stopped.
pub fn stopped(walk: &Walk) -> anyhow::Error {
    let Some(Doubt { reason, remedy, failed }) = &walk.stopped else {
        return anyhow!("the upgrade has stopped");
    };
    let drained = walk.current.as_ref().filter(|at| ![Phase::Drain, Phase::Undrain].contains(&at.phase));
    let drained = drained.map(|at| format!(" ({} stays drained)", at.node)).unwrap_or_default();
    let then = if remedy.starts_with("pc-ha upgrade") { "" } else { "; then pc-ha upgrade goes on" };
    let text = format!("stopped{drained}: {reason}\n  {remedy}{then}");
    if *failed { anyhow!(text) } else { try_again(text) }
}

/// A walk, and the phase that it is in.
pub struct Course<'a> {
    common: &'a Common,
    want: &'a Want,
    walk: Walk,
    started: Instant,
    /// When the phase began, in this process, by both clocks.
    began: (Instant, OffsetDateTime),
    /// When this process asked for what the phase needs.
    asked: Option<Instant>,
}

impl Course<'_> {
    /// At its beginning, or where it was.
    pub fn new<'a>(common: &'a Common, want: &'a Want, walk: Walk) -> Course<'a> {
        let now = Instant::now();
        Course { common, want, walk, started: now, began: (now, OffsetDateTime::now_utc()), asked: None }
    }

    /// To its end, or to the first doubt.
    pub fn run(mut self) -> Result<Exit> {
        loop {
            let seen = self.look();
            match walk::next(&self.walk, &seen) {
                Next::Finished => break,
                Next::Enter(node) => {
                    if let Ok(report) = &seen.report {
                        self.walk.enter(node, report);
                        self.turn()?;
                    }
                }
                Next::Go(phase) => {
                    self.walk.go(phase, seen.report.as_ref().ok());
                    self.turn()?;
                }
                Next::Do(act) => match self.perform(act) {
                    Ok(()) => {}
                    // Whoever was asked over the network may be asked again until the time is over.
                    Err(error)
                        if matches!(act, Act::Upgrade | Act::Reboot)
                            && Exit::of(&error) == Exit::TryAgain
                            && !seen.late =>
                    {
                        self.wait(&format!("{error:#}"));
                    }
                    Err(error) => {
                        // Its second line, when it has one, gives the drain up; this does not.
                        let text = format!("{error:#}");
                        let text = if act == Act::Drain { text.lines().take(1).collect() } else { text };
                        let failed = Exit::of(&error) != Exit::TryAgain;
                        return self.stop(Doubt::of(&[text], failed, "pc-ha status"));
                    }
                },
                Next::Wait(reason) => self.wait(&reason),
                Next::Stop(doubt) => return self.stop(doubt),
            }
        }
        lease::release(Some(&self.walk.id))?;
        files::remove(self.common, WALK)?;
        emit(self.common.json, &self.answer(true))?;
        Ok(Exit::Done)
    }

    fn answer(&self, finished: bool) -> Answer {
        Answer::of(&self.walk, finished, self.started.elapsed().as_secs_f64().round())
    }

    fn stop(mut self, doubt: Doubt) -> Result<Exit> {
        self.walk.stopped = Some(doubt);
        files::write(self.common, WALK, &self.walk)?;
        // A reader that has gone shall not make a success of it.
        if let Err(error) = emit_heard(self.common.json, &self.answer(false)) {
            log::debug(format_args!("{error:#}"));
        }
        Err(stopped(&self.walk))
    }

    /// A phase begins: written down before anything of it is done.
    fn turn(&mut self) -> Result<()> {
        files::write(self.common, WALK, &self.walk)?;
        self.began = (Instant::now(), OffsetDateTime::now_utc());
        self.asked = None;
        log::info(self.walk.standing());
        Ok(())
    }

    fn wait(&self, reason: &str) {
        tell(&format!("{}: {reason}", self.walk.standing()));
        // Another machine, pacemaker and the storage have no event in common that a program could wait for.
        std::thread::sleep(PAUSE);
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.walk.timeout_seconds)
    }

    fn perform(&mut self, act: Act) -> Result<()> {
        let (common, want, me) = (self.common, self.want, self.want.node.as_str());
        let Some(current) = &mut self.walk.current else { return Ok(()) };
        let (node, patience) = (current.node.clone(), Duration::from_secs(self.walk.timeout_seconds));
        match act {
            Act::Drain => {
                // What left before this process was killed is counted too.
                let left = drain::empty(common, want, &node, patience)?.moved;
                current.moved.extend(left);
                self.walk.go(Phase::Upgrade, None);
                self.turn()
            }
            Act::Upgrade => {
                files::upgrade(common, me, &node, &self.walk.run())?;
                self.asked = Some(Instant::now());
                Ok(())
            }
            Act::Reboot => {
                log::info(format_args!("{node} goes down and comes back"));
                files::reboot(common, me, &node)?;
                self.asked = Some(Instant::now());
                Ok(())
            }
            Act::Undrain => {
                drain::refill(want, &node, false, patience)?;
                self.walk.leave();
                self.turn()
            }
        }
    }

    /// The storage, by a report that was made after this phase began where the phase before may have changed it.
    fn storage(&self) -> crate::gate::Known {
        let known = host::storage(&self.common.root)?;
        let phase = self.walk.current.as_ref().map(|current| current.phase);
        let fresh = match phase {
            Some(Phase::Reboot | Phase::Settle) => true,
            Some(_) => false,
            None => !self.walk.done.is_empty(),
        };
        // Reports tell whole seconds.
        let since = (OffsetDateTime::now_utc() - self.began.1).whole_seconds();
        if fresh && i64::try_from(known.1).is_ok_and(|age| age > since + 1) {
            return Err("it is measured every minute, and was not yet".into());
        }
        Ok(known)
    }

    fn look(&self) -> Seen {
        let (common, want, walk) = (self.common, self.want, &self.walk);
        let late = self.began.0.elapsed() >= self.patience();
        let report = match walk.at() {
            Some(node) => files::report_of(common, &want.node, node).map_err(|error| format!("{error:#}")),
            None => Err(String::new()),
        };
        let storage = self.storage();
        let quorum = host::quorum().ok();
        let (mut in_the_way, mut unsettled, mut drained) = (Vec::new(), Vec::new(), false);
        match host::engine() {
            Err(error) => {
                in_the_way.push(format!("{error:#}"));
                unsettled.push(format!("{error:#}"));
            }
            Ok(engine) => {
                if let Some(node) = walk.at() {
                    drained = engine.node(node).is_some_and(|node| node.drained);
                    in_the_way.extend(ground::in_the_way(want, node, &engine, quorum.as_ref(), &storage));
                    unsettled.extend(ground::unsettled(want, node, &engine, quorum.as_ref(), &storage));
                }
                match &walk.current {
                    None => in_the_way.extend(self.between(&engine)),
                    // What left it may run nowhere: then it is the last one that could.
                    Some(at) if matches!(at.phase, Phase::Upgrade | Phase::Reboot) => {
                        let fallen = ground::fallen_elsewhere(want, &at.node, &walk.running, &engine);
                        in_the_way.extend(fallen);
                    }
                    Some(_) => {}
                }
            }
        }
        let settling = walk.current.as_ref().filter(|current| current.phase == Phase::Settle);
        let well = |report: &node::Report, at: &Current| {
            at.boot_id.as_ref() != Some(&report.boot_id)
                && report.unwell(&at.node, &at.failed_before).is_empty()
        };
        // It takes its time: asked when nobody else has anything to say.
        if let (Some(at), Ok(report), true) = (settling, &report, unsettled.is_empty()) {
            if well(report, at) {
                unsettled.extend(self.verdict());
            }
        }
        let lease = if walk.at().is_some() { lease::look(&walk.id) } else { Lease::Ours };
        let asked = match self.asked {
            None => Asked::No,
            Some(asked) if asked.elapsed() < BEGINS => Asked::Yes,
            Some(_) => Asked::LongAgo,
        };
        Seen { lease, in_the_way, unsettled, report, drained, asked, late }
    }

    /// Between two nodes: everything runs that ran, and the next one's VMs have room.
    fn between(&self, engine: &Engine) -> Vec<String> {
        let mut reasons = ground::fallen(&self.walk.running, engine);
        if let Some(node) = self.walk.upcoming() {
            let (memory, silent) = ahead::memory(self.common, self.want, node);
            reasons.extend(silent);
            reasons.extend(ground::no_room(self.want, node, engine, &memory));
        }
        reasons
    }

    fn verdict(&self) -> Vec<String> {
        let Some(known) = &self.walk.known else { return Vec::new() };
        match siblings::verdict() {
            Ok(Some(verdict)) => ground::new_problems(&verdict, known),
            Ok(None) => vec!["pc-verify was there and is not any more\n  apt-get install pc-verify".into()],
            Err(error) => vec![format!("{error:#}")],
        }
    }
}
