//! An upgrade of the nodes, one after the other: what is done, what is under way, and what comes next. Pure: whoever was
//! killed in any phase reads the same walk, sees the same world, and does the same next.

use serde::{Deserialize, Serialize};

use super::node::{Report, Run};

/// What becomes of a node, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its VMs move away.
    Drain,
    /// Its packages, or its generation, are upgraded by a unit of its own.
    Upgrade,
    /// It goes down and comes back.
    Reboot,
    /// Everything is whole again.
    Settle,
    /// It takes VMs again.
    Undrain,
}

impl Phase {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Drain => "drain",
            Phase::Upgrade => "upgrade",
            Phase::Reboot => "reboot",
            Phase::Settle => "settle",
            Phase::Undrain => "undrain",
        }
    }
}

/// The node that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its name.
    pub node: String,
    /// How far it is.
    pub phase: Phase,
    /// An upgrade that failed is asked for anew under another number.
    pub attempt: u32,
    /// The boot in which it was upgraded; it comes back with another one.
    pub boot_id: Option<String>,
    /// Units that had failed before anything was done.
    pub failed_before: Vec<String>,
    /// VMs that moved away.
    pub moved: Vec<String>,
    /// Packages that its package manager did not upgrade.
    pub kept_back: Vec<String>,
}

/// A node that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Its name.
    pub node: String,
    /// VMs that moved away.
    pub moved: Vec<String>,
    /// Packages that its package manager did not upgrade.
    pub kept_back: Vec<String>,
}

/// Why the walk stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// One line.
    pub reason: String,
    /// The one thing to do next.
    pub remedy: String,
    /// Something failed; false: it may pass by itself.
    pub failed: bool,
}

impl Doubt {
    /// Out of messages of which each may have its remedy on a second line: the first remedy is the one to begin with.
    pub fn of(reasons: &[String], failed: bool, otherwise: &str) -> Doubt {
        let remedies = reasons.iter().filter_map(|text| text.lines().nth(1));
        let remedy = remedies.map(str::trim).next().unwrap_or(otherwise).to_string();
        Doubt { reason: heads(reasons), remedy, failed }
    }
}

/// The first lines, as one.
pub fn heads(reasons: &[String]) -> String {
    let first = reasons.iter().filter_map(|text| text.lines().next()).map(|line| line.trim_end_matches(','));
    first.collect::<Vec<_>>().join("; ")
}

/// `/var/lib/personal-cluster/ha/upgrade.json`, on the node that walks, until it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// The node that walks, and when it began: what the cluster's lease says.
    pub id: String,
    /// The node that walks.
    pub walker: String,
    /// Its boot: one that was restarted in the middle has to know whether it was itself under way.
    pub boot_id: String,
    /// How long each step may take.
    pub timeout_seconds: u64,
    /// All nodes of this walk, in its order.
    pub nodes: Vec<String>,
    /// VMs that ran when it began: they run after each node.
    pub running: Vec<String>,
    /// What pc-verify found wrong before anything was done; null when it is not installed.
    pub known: Option<Vec<String>>,
    /// Nodes that are done.
    pub done: Vec<Done>,
    /// The one that is under way.
    pub current: Option<Current>,
    /// Why it stopped, when it did.
    pub stopped: Option<Doubt>,
}

/// Who walks, by the cluster's configuration, which all nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// This walk.
    Ours,
    /// Nobody, or another one.
    Lost,
    /// The configuration cannot be read now.
    Unknown(String),
}

/// Whether this process has made the request of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It has not.
    No,
    /// It has.
    Yes,
    /// So long ago that what was asked for should have begun.
    LongAgo,
}

/// What the world looks like.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who walks.
    pub lease: Lease,
    /// Why the node that is under way, or the next one, cannot be missed now; without one, what does not run.
    pub in_the_way: Vec<String>,
    /// What is not whole again.
    pub unsettled: Vec<String>,
    /// What that node says of itself.
    pub report: Result<Report, String>,
    /// It is drained: leaving it half empty helps nobody, and one that is not is neither upgraded nor rebooted.
    pub drained: bool,
    /// The phase's request.
    pub asked: Asked,
    /// The phase's time is over.
    pub late: bool,
}

/// Something to do to the node that is under way. Each may be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Move its VMs away.
    Drain,
    /// Have it upgrade itself.
    Upgrade,
    /// Have it go down.
    Reboot,
    /// Have it take VMs again.
    Undrain,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Begin with the next node.
    Enter(String),
    /// Do something.
    Do(Act),
    /// On to another phase.
    Go(Phase),
    /// Look again.
    Wait(String),
    /// Leave everything as it is.
    Stop(Doubt),
    /// All nodes are done.
    Finished,
}

/// What comes of a walk that is taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It goes on.
    Go,
    /// It stopped, and waits for a person.
    Rests,
    /// It stops now.
    Stop(Doubt),
}

impl Walk {
    /// The first node that is not done.
    pub fn upcoming(&self) -> Option<&str> {
        let done = |name: &&String| self.done.iter().any(|done| done.node == **name);
        self.nodes.iter().find(|name| !done(name)).map(String::as_str)
    }

    /// The node that matters now.
    pub fn at(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.node.as_str()).or(self.upcoming())
    }

    /// What the upgrade of the node that is under way is called.
    pub fn run(&self) -> String {
        let (node, attempt) = self.current.as_ref().map_or(("", 0), |at| (&at.node, at.attempt));
        format!("{}.{node}.{attempt}", self.id)
    }

    /// A node is begun with.
    pub fn enter(&mut self, node: String, report: &Report) {
        let failed_before = report.failed_units.clone();
        let (moved, kept_back) = (Vec::new(), Vec::new());
        let phase = Phase::Drain;
        self.current =
            Some(Current { node, phase, attempt: 1, boot_id: None, failed_before, moved, kept_back });
    }

    /// Another phase of the node that is under way; `report` is what it said last.
    pub fn go(&mut self, phase: Phase, report: Option<&Report>) {
        let run = self.run();
        let Some(current) = &mut self.current else { return };
        current.phase = phase;
        if let (Phase::Reboot, Some(Run::Done { boot_id, kept_back })) =
            (phase, report.map(|report| report.run(&run)))
        {
            current.boot_id = Some(boot_id);
            current.kept_back = kept_back;
        }
    }

    /// The node that is under way is done.
    pub fn leave(&mut self) {
        if let Some(Current { node, moved, kept_back, .. }) = self.current.take() {
            self.done.push(Done { node, moved, kept_back });
        }
    }

    /// Taken up again, after whatever ended the last process: by a person, who has seen why, or by the unit at boot.
    pub fn resume(&mut self, boot_id: &str, by_hand: bool) -> Resumed {
        if self.stopped.is_some() && !by_hand {
            return Resumed::Rests;
        }
        if let (Some(Doubt { failed: true, .. }), Some(current)) = (&self.stopped, &mut self.current) {
            if current.phase == Phase::Upgrade {
                current.attempt += 1;
            }
        }
        self.stopped = None;
        let own = |at: &Current| at.node == self.walker && at.phase == Phase::Reboot;
        if self.boot_id != boot_id && !by_hand && !self.current.as_ref().is_some_and(own) {
            let at = self.at().unwrap_or("its end");
            return Resumed::Stop(Doubt {
                reason: format!(
                    "{} was restarted while it walked, at {at}, and nobody asked it to",
                    self.walker
                ),
                remedy: "journalctl -b -1 -p warning".into(),
                failed: true,
            });
        }
        self.boot_id = boot_id.into();
        Resumed::Go
    }

    /// A sentence about how it stands.
    pub fn standing(&self) -> String {
        match (&self.current, self.upcoming()) {
            (Some(at), _) => format!("{} is under way ({})", at.node, at.phase.word()),
            (None, Some(next)) => format!("{next} is next"),
            (None, None) => "all nodes are done".into(),
        }
    }
}

/// What comes next. Nothing is asked of a node before the cluster can miss it, and no other one before it is whole again.
pub fn next(walk: &Walk, seen: &Seen) -> Next {
    let wait = |reasons: &[String], otherwise: &str| {
        if seen.late { Next::Stop(Doubt::of(reasons, false, otherwise)) } else { Next::Wait(heads(reasons)) }
    };
    if walk.current.is_none() && walk.upcoming().is_none() && seen.in_the_way.is_empty() {
        return Next::Finished;
    }
    match &seen.lease {
        Lease::Ours => {}
        Lease::Unknown(reason) => return wait(std::slice::from_ref(reason), "pc-ha status"),
        Lease::Lost => {
            return Next::Stop(Doubt {
                reason: "this upgrade was given up on another node".into(),
                remedy: "pc-ha upgrade --abandon".into(),
                failed: true,
            });
        }
    }
    let clear = || seen.in_the_way.is_empty();
    let Some(current) = &walk.current else {
        return match (walk.upcoming(), &seen.report) {
            (Some(_), Err(reason)) => wait(std::slice::from_ref(reason), "pc-ha status"),
            (Some(node), Ok(_)) if clear() => Next::Enter(node.into()),
            _ => wait(&seen.in_the_way, "pc-ha status"),
        };
    };
    let node = &current.node;
    let silent = format!("look at the console of {node}");
    match (current.phase, &seen.report) {
        (Phase::Drain, _) if clear() || seen.drained => Next::Do(Act::Drain),
        (Phase::Drain, _) => wait(&seen.in_the_way, "pc-ha status"),
        (Phase::Undrain, _) => Next::Do(Act::Undrain),
        (_, Err(reason)) => wait(std::slice::from_ref(reason), &silent),
        (Phase::Upgrade, Ok(report)) => match report.run(&walk.run()) {
            // Somebody undrained it meanwhile: its VMs are back.
            Run::Unknown if !seen.drained => Next::Go(Phase::Drain),
            Run::Unknown if !clear() => wait(&seen.in_the_way, "pc-ha status"),
            Run::Unknown if seen.late || seen.asked == Asked::LongAgo => Next::Stop(Doubt {
                reason: format!("{node} does not begin its upgrade"),
                remedy: format!("on {node}: systemctl status pc-ha-upgrade-node.service"),
                failed: false,
            }),
            Run::Unknown if seen.asked == Asked::Yes => {
                Next::Wait(format!("{node} is about to upgrade itself"))
            }
            Run::Unknown => Next::Do(Act::Upgrade),
            Run::Under => wait(
                &[format!("{node} upgrades itself")],
                &format!("on {node}: journalctl -u pc-ha-upgrade-node.service"),
            ),
            Run::Done { .. } => Next::Go(Phase::Reboot),
            Run::Failed(reason) => Next::Stop(Doubt {
                reason: format!("the upgrade of {node} failed: {reason}"),
                remedy: format!("on {node}: journalctl -u pc-ha-upgrade-node.service"),
                failed: true,
            }),
        },
        (Phase::Reboot, Ok(report)) if current.boot_id.as_ref() != Some(&report.boot_id) => {
            Next::Go(Phase::Settle)
        }
        (Phase::Reboot, Ok(_)) if !seen.drained && seen.asked == Asked::No => Next::Go(Phase::Drain),
        (Phase::Reboot, Ok(_)) if seen.asked != Asked::No => wait(&[format!("{node} goes down")], &silent),
        (Phase::Reboot, Ok(_)) if clear() => Next::Do(Act::Reboot),
        (Phase::Reboot, Ok(_)) => wait(&seen.in_the_way, "pc-ha status"),
        (Phase::Settle, Ok(report)) => {
            let mut reasons = report.unwell(node, &current.failed_before);
            reasons.extend(seen.unsettled.iter().cloned());
            if reasons.is_empty() { Next::Go(Phase::Undrain) } else { wait(&reasons, "pc-ha status") }
        }
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
