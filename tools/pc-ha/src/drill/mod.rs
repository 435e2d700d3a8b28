//! `pc-ha drill`: one node resets itself as if its power was cut, and what the others make of it is measured against what
//! `status` computes. Nothing is simulated: it is what a person does who pulls the plug to see whether all of this works.

mod answer;
mod course;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use pc_cli::{Common, Exit, emit, log, refused, try_again};

use crate::engine::Engine;
use crate::host::{self, peers, tell, upgrade};
use crate::want::Want;
use crate::{Patience, drain, gate, moving};
use answer::Answer;
use course::Course;

/// The last one that this node has measured.
const LAST: &str = "/var/lib/personal-cluster/ha/drill.json";
/// Between two looks at pacemaker.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two looks at a report that is made every minute.
const SLOW: Duration = Duration::from_secs(5);
/// Beyond the time in which a silent node is missed: asking it takes a while on slow machines.
const ASKING: Duration = Duration::from_secs(60);

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The node that resets itself
    #[arg(value_name = "NODE")]
    target: String,
    /// Print what would happen, and what is in the way, and do nothing
    #[arg(long, conflicts_with = "power_cut")]
    plan: bool,
    /// Yes: NODE loses its power as far as anybody can tell, and its VMs with it, what they had not written out included
    #[arg(long)]
    power_cut: bool,
    #[command(flatten)]
    patience: Patience,
}

/// `pc-ha drill`.
pub fn drill(common: &Common, want: &Want, options: &Options) -> Result<Exit> {
    let node = options.target.as_str();
    moving::known(want, node)?;
    if node == want.node {
        return Err(refused(format!(
            "{node} is this node: nobody would be left to measure\n  on another node: pc-ha drill {node}"
        )));
    }
    let engine = host::engine()?;
    let mut answer = ahead(want, node, &engine);
    answer.in_the_way = in_the_way(common, want, node, &engine)?;
    if options.plan {
        return emit(common.json, &answer).map(|()| Exit::Done);
    }
    if !options.power_cut {
        return Err(refused(format!(
            "{}  to do it: pc-ha drill {node} --power-cut",
            Answer { in_the_way: Vec::new(), ..answer }
        )));
    }
    if !answer.in_the_way.is_empty() {
        return Err(try_again(format!("nothing was done: {}", answer.in_the_way.join("; "))));
    }
    answer.planned = false;
    answer.at = Some(host::now()?);
    let result = cut(common, want, &mut answer, options.patience.duration());
    // Also what was only half seen: it has happened.
    if answer.lost_seconds.is_some() {
        upgrade::write(common, LAST, &answer)?;
        emit(common.json, &answer)?;
    }
    result?;
    match answer.too_slow() {
        Some(slow) => {
            Err(anyhow!("{slow}\n  pc-ha status; journalctl --unit pacemaker on the node that runs it"))
        }
        None => Ok(Exit::Done),
    }
}

/// What would happen.
fn ahead(want: &Want, node: &str, engine: &Engine) -> Answer {
    let (waits, restarts) =
        engine.vms_on(node).into_iter().partition(|vm| want.vm(vm).is_some_and(|vm| vm.pinned));
    // Far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of minutes")]
    let worst = want.timing.worst_case_ms() as f64 / 1000.0;
    Answer::plan(node, restarts, waits, worst)
}

/// Why it would hurt, or show nothing.
fn in_the_way(common: &Common, want: &Want, node: &str, engine: &Engine) -> Result<Vec<String>> {
    let mut reasons = gate::reasons(node, engine, host::quorum().ok().as_ref(), &host::storage(&common.root));
    if !engine.fences {
        reasons.push(
            "pacemaker fences nobody (stonith-enabled): what ran there would start nowhere\n  pc-ha apply"
                .into(),
        );
    }
    match engine.node(node) {
        Some(state) if !state.online => reasons.push(format!("{node} is away")),
        Some(state) if state.drained => {
            reasons.push(format!("{node} is drained: nothing runs there\n  pc-ha undrain {node}"));
        }
        _ => reasons.extend(drain::no_room(want, node, engine)?),
    }
    Ok(reasons)
}

/// Cuts it, and looks on until all is as it was.
fn cut(common: &Common, want: &Want, answer: &mut Answer, patience: Duration) -> Result<()> {
    let node = answer.node.clone();
    // It answers, and is not in its package manager.
    let before = upgrade::report_of(common, &want.node, &node)?;
    if before.active {
        return Err(try_again(crate::upgrade::node::still(&node)));
    }
    log::warning(format_args!("{node} resets itself now"));
    let started = Instant::now();
    let refusal = told(common, &node);
    let missed_by = Duration::from_millis(want.timing.self_reset_ms()) + ASKING;
    let (mut course, mut silence) = (Course::new(&node, &answer.restarts), None);
    while !course.is_over() {
        let look = Instant::now();
        match host::engine() {
            Ok(engine) => course.see(started.elapsed().as_secs_f64(), &engine),
            Err(error) => log::debug(format_args!("{error:#}")),
        }
        answer.note(&course);
        if course.lost.is_none() {
            silence = refusal.try_recv().ok().or(silence);
            // A connection that breaks is what a node that resets itself leaves behind; any other answer is a refusal.
            let broken = silence.as_ref().is_none_or(|error| Exit::of(error) == Exit::TryAgain);
            if !broken || started.elapsed() > missed_by {
                let silence = silence.unwrap_or_else(|| anyhow!("nothing has come back"));
                return Err(silence.context(format!(
                    "{node} was told to reset itself, and is a member still after {:.0} s",
                    started.elapsed().as_secs_f64()
                )));
            }
        }
        tell(&format!("drill: {}", standing(&course)));
        if started.elapsed() > patience {
            return Err(try_again(format!(
                "after {:.0} s: {}\n  pc-ha status",
                patience.as_secs_f64(),
                standing(&course)
            )));
        }
        // A machine for which a look is work is not to be kept busy by it.
        std::thread::sleep(PAUSE.max(2 * look.elapsed()));
    }
    wait_until_whole(common, want, answer, &before.boot_id, started, patience)
}

/// The node restarted, and what was written meanwhile is on it as well.
fn wait_until_whole(
    common: &Common,
    want: &Want,
    answer: &mut Answer,
    boot_id: &str,
    started: Instant,
    patience: Duration,
) -> Result<()> {
    let (node, back) = (answer.node.clone(), Instant::now());
    let mut restarted = false;
    loop {
        let reason = if restarted {
            drain::unhealed(common, Some(back))
        } else {
            match upgrade::report_of(common, &want.node, &node) {
                Ok(report) if report.boot_id == boot_id => {
                    return Err(anyhow!(
                        "{node} was missed and is back without a restart: it was cut off, and this drill has shown nothing\n  journalctl --unit corosync on {node}"
                    ));
                }
                Ok(_) => {
                    restarted = true;
                    continue;
                }
                Err(error) => Some(format!("{error:#}")),
            }
        };
        let Some(reason) = reason else {
            answer.whole(started.elapsed().as_secs_f64());
            return Ok(());
        };
        tell(&format!("drill: {node} is back: {}", reason.lines().next().unwrap_or_default()));
        if started.elapsed() > patience {
            return Err(try_again(format!("{node} is back, but: {reason}")));
        }
        std::thread::sleep(SLOW);
    }
}

/// Tells the node, beside everything else: one that resets itself never answers. What comes back is why it did not.
fn told(common: &Common, node: &str) -> mpsc::Receiver<anyhow::Error> {
    let (send, refusal) = mpsc::channel();
    let (common, node) = (common.clone(), node.to_string());
    std::thread::spawn(move || {
        if let Err(error) = peers::ask(&common, &node, "power-cut", "") {
            // Nobody listens any more: the node is gone, as it should be.
            let _ = send.send(error);
        }
    });
    refusal
}

fn standing(course: &Course) -> String {
    let waits = course.waits();
    match (course.lost, course.fenced) {
        (None, _) => "the node is still a member".into(),
        (Some(_), None) => "the node is lost, and not yet held for dead".into(),
        _ if !waits.is_empty() => format!("{} does not run yet", waits.join(", ")),
        _ => "the VMs run, the node is not back yet".into(),
    }
}
