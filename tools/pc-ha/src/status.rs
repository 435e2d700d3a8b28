//! The actual state, and what a fail-over costs at worst.

use std::fmt;

use cluster::timing::Timing;
use serde::Serialize;

use crate::engine::{Engine, NodeState, Quorum};
use crate::plan::Outcome;
use crate::rows::vm_resource;
use crate::want::Want;
use crate::watchdog::Watchdog;

/// `pc.ha.status/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// `pc.ha.status/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// When this was measured, RFC 3339 UTC.
    pub measured_at: String,
    /// Pacemaker is the starter of VMs on this node.
    pub enabled: bool,
    /// Nothing is wrong.
    pub healthy: bool,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What could be better.
    pub warnings: Vec<String>,
    /// The numbers of the file, and of the profiles.
    pub timing: TimingStatus,
    /// The watchdog of this node; null when it has none.
    pub watchdog: Option<Watchdog>,
    /// Null while corosync does not run here.
    pub quorum: Option<Quorum>,
    /// The node that decides.
    pub dc: Option<String>,
    /// Pacemaker was told to leave everything alone.
    pub maintenance: bool,
    /// The nodes, as pacemaker sees them.
    pub nodes: Vec<NodeState>,
    /// The VMs of the file.
    pub vms: Vec<VmState>,
}

/// What the file's three numbers lead to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimingStatus {
    /// Silence before a node counts as lost.
    pub token_ms: u64,
    /// Agreeing on who is left.
    pub consensus_ms: u64,
    /// The watchdog.
    pub watchdog_seconds: u64,
    /// How long the others wait for a lost node to be dead.
    pub fencing_seconds: u64,
    /// Why not shorter.
    pub fencing_reason: String,
    /// A node that is cut off resets itself within this.
    pub self_reset_seconds: f64,
    /// From the loss of a node to QEMU running elsewhere, at worst, by phase.
    pub worst_case: Vec<Phase>,
    /// Their sum.
    pub worst_case_seconds: f64,
    /// The sums of all profiles.
    pub profiles: Vec<Phase>,
    /// A volume that does not answer for this long on a node has failed there.
    pub volume_probe_seconds: u64,
}

/// A part of a fail-over, or a profile, and its seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it takes at worst.
    pub seconds: f64,
}

/// A VM of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmState {
    /// Its name.
    pub name: String,
    /// `started`, `stopped`, `starting`, `stopping`, `migrating`, or `unknown`.
    pub state: String,
    /// Where it is.
    pub nodes: Vec<String>,
    /// Pacemaker starts and stops it.
    pub managed: bool,
    /// Its last operation failed.
    pub failed: bool,
}

/// What this node found out.
#[derive(Debug)]
pub struct Seen {
    /// The marker is there.
    pub enabled: bool,
    /// What the kernel has, and which one is used.
    pub watchdog: Result<Watchdog, String>,
    /// Why sbd, which runs, does not feed that one.
    pub unfed: Option<String>,
    /// pacemaker's answer, or why there is none.
    pub engine: Result<Engine, String>,
    /// corosync's.
    pub quorum: Option<Quorum>,
    /// What is not done yet.
    pub outcome: Outcome,
    /// `pc-vm@` units that are active although pacemaker is the starter.
    pub second_starters: Vec<String>,
}

fn seconds(ms: u64) -> f64 {
    // Far below 2^32.
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}

impl TimingStatus {
    /// Of the file's timing; `profiles` with the worst case of each in milliseconds.
    pub fn new(timing: &Timing, profiles: &[(&str, u64)]) -> TimingStatus {
        let phase = |(name, ms): &(&str, u64)| Phase { name: (*name).into(), seconds: seconds(*ms) };
        TimingStatus {
            token_ms: timing.token_ms,
            consensus_ms: timing.consensus_ms,
            watchdog_seconds: timing.watchdog_ms / 1000,
            fencing_seconds: timing.fencing_ms / 1000,
            fencing_reason: timing.reason(),
            self_reset_seconds: seconds(timing.self_reset_ms()),
            worst_case: timing.worst_case().iter().map(phase).collect(),
            worst_case_seconds: seconds(timing.worst_case_ms()),
            profiles: profiles.iter().map(phase).collect(),
            volume_probe_seconds: Timing::probe_ms() / 1000,
        }
    }
}

impl Status {
    /// Puts together what was found out.
    pub fn new(want: &Want, seen: Seen, profiles: &[(&str, u64)], measured_at: String) -> Status {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let engine = seen.engine.as_ref().cloned().unwrap_or_default();
        if seen.enabled {
            problems.extend(seen.engine.as_ref().err().cloned());
            if seen.quorum.is_none_or(|quorum| !quorum.quorate) {
                problems.push("the cluster has no quorum on this side".into());
            }
            let steps = seen.outcome.plan.steps.iter();
            problems.extend(steps.map(|step| format!("not done yet: {}", step.action)));
            problems.extend(nodes(want, &engine));
        } else {
            warnings.push("not enabled: VMs start on their home node only\n  pc-ha enable".into());
        }
        problems.extend(seen.outcome.faults.iter().cloned());
        warnings.extend(seen.outcome.notes.iter().cloned());
        problems.extend(seen.second_starters.iter().map(|unit| {
            format!("{unit} is active beside pacemaker: a second starter\n  systemctl disable {unit}; pc-ha enable")
        }));
        if seen.watchdog.as_ref().is_ok_and(|watchdog| !watchdog.hardware) {
            warnings.push(
                "the watchdog is softdog: a kernel that hangs does not reset itself, and is taken for dead\n  \
                 enable the mainboard's watchdog (iTCO_wdt, sp5100_tco)"
                    .into(),
            );
        }
        let asked = want.timing.watchdog_ms / 1000;
        if let Some(runs) =
            seen.watchdog.as_ref().ok().and_then(Watchdog::runs_with).filter(|runs| *runs != asked)
        {
            problems.push(format!(
                "the watchdog waits {runs} s, the file asks for {asked} s: sbd reads it when it starts\n  \
                 pc-ha drain {0} && ssh {0} systemctl reboot",
                want.node
            ));
        }
        problems.extend(
            seen.unfed
                .as_ref()
                .filter(|_| seen.enabled)
                .map(|reason| format!("{reason}\n  pc-ha drain {0} && ssh {0} systemctl reboot", want.node)),
        );
        if want.one_switch {
            warnings.push(
                "all nodes hang on one switch (or node.switch does not say otherwise): its reboot resets every node\n  \
                 before planned work on it: pc-ha maintenance on"
                    .into(),
            );
        }
        warnings.extend(said(&engine));
        problems.extend(engine.probes.iter().filter(|probe| probe.failed).map(|probe| {
            let volume = probe.id.strip_prefix("pc-volume-").unwrap_or(&probe.id);
            format!("volume {volume} does not work on {}\n  pc-gluster status", probe.nodes.join(", "))
        }));
        let vms: Vec<VmState> = want.vms.iter().map(|vm| vm_state(&vm.name, &engine)).collect();
        if seen.enabled && seen.engine.is_ok() && !engine.maintenance {
            problems.extend(vms.iter().filter_map(VmState::problem));
        }
        Status {
            schema: "pc.ha.status/1",
            node: want.node.clone(),
            measured_at,
            enabled: seen.enabled,
            healthy: problems.is_empty(),
            problems,
            warnings,
            timing: TimingStatus::new(&want.timing, profiles),
            watchdog: seen.watchdog.ok(),
            quorum: seen.quorum,
            dc: engine.dc,
            maintenance: engine.maintenance,
            nodes: engine.nodes,
            vms,
        }
    }
}

/// What somebody has told pacemaker, and what it could not do.
fn said(engine: &Engine) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if engine.stops_all {
        warnings.push(
            "all guests are told to stop (pc-ha shutdown)\n  to have them run again: pc-ha apply".into(),
        );
    }
    if engine.failed_fencing > 0 {
        // Of several to the same end crm_mon tells the newest.
        warnings.push(format!(
            "fencing has failed, at least {} times in pacemaker's history\n  \
             stonith_admin --history '*' --verbose    (to forget it: --cleanup --history '*')",
            engine.failed_fencing
        ));
    }
    if engine.maintenance {
        warnings.push("maintenance mode is on: nothing is restarted\n  pc-ha maintenance off".into());
    }
    warnings
}

fn nodes(want: &Want, engine: &Engine) -> Vec<String> {
    let lost = |member: &&crate::want::Member| !engine.node(&member.name).is_some_and(|node| node.online);
    let mut problems: Vec<String> =
        want.members.iter().filter(lost).map(|member| format!("node {} is away", member.name)).collect();
    let drained = engine.nodes.iter().filter(|node| node.drained);
    problems.extend(drained.map(|node| format!("node {0} is drained\n  pc-ha undrain {0}", node.name)));
    problems
}

fn vm_state(name: &str, engine: &Engine) -> VmState {
    let resource = engine.vm(&vm_resource(name));
    VmState {
        name: name.into(),
        state: resource.map_or_else(|| "unknown".into(), |resource| resource.role.to_lowercase()),
        nodes: resource.map(|resource| resource.nodes.clone()).unwrap_or_default(),
        managed: resource.is_some_and(|resource| resource.managed),
        failed: resource.is_some_and(|resource| resource.failed),
    }
}

impl VmState {
    fn problem(&self) -> Option<String> {
        let name = &self.name;
        if self.state == "unknown" {
            return None;
        }
        if self.nodes.len() > 1 && self.state != "migrating" {
            return Some(format!(
                "vm {name}: is on {}, as far as pacemaker knows, and is left alone until that is known\n  \
                 pc-vm list    (when it runs once: crm_resource --refresh --resource pc-vm-{name})",
                self.nodes.join(" or ")
            ));
        }
        if self.failed {
            return Some(format!(
                "vm {name}: its last operation failed\n  crm_resource --resource pc-vm-{name} --why"
            ));
        }
        if !self.managed {
            return Some(format!(
                "vm {name} is not managed: nobody restarts it\n  crm_resource --resource pc-vm-{name} --meta --delete-parameter is-managed"
            ));
        }
        (self.state == "stopped").then(|| format!("vm {name} does not run\n  pc-ha start {name}"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enabled = if self.enabled { "enabled" } else { "not enabled" };
        let quorum = match &self.quorum {
            Some(quorum) if quorum.quorate => format!("quorum {} of {}", quorum.votes, quorum.expected),
            Some(quorum) => {
                format!("no quorum: {} of {} votes, {} needed", quorum.votes, quorum.expected, quorum.needed)
            }
            None => "corosync does not run".into(),
        };
        writeln!(
            f,
            "{}: {enabled}, {quorum}, decides: {}",
            self.node,
            self.dc.as_deref().unwrap_or("nobody")
        )?;
        let timing = &self.timing;
        let phases: Vec<String> =
            timing.worst_case.iter().map(|phase| format!("{} {:.1}", phase.name, phase.seconds)).collect();
        writeln!(f, "fail-over at worst {:.1} s: {}", timing.worst_case_seconds, phases.join(", "))?;
        writeln!(f, "fencing {} s: {}", timing.fencing_seconds, timing.fencing_reason)?;
        let profiles: Vec<String> =
            timing.profiles.iter().map(|phase| format!("{} {:.1} s", phase.name, phase.seconds)).collect();
        writeln!(f, "profiles at worst: {}", profiles.join(", "))?;
        match &self.watchdog {
            Some(watchdog) => writeln!(
                f,
                "watchdog {} ({}), {} s; cut off, this node resets itself within {:.1} s",
                watchdog.device, watchdog.identity, timing.watchdog_seconds, timing.self_reset_seconds
            )?,
            None => writeln!(f, "watchdog none")?,
        }
        for node in &self.nodes {
            let state = match node {
                NodeState { unclean: true, .. } => "lost, not yet known to be dead",
                NodeState { online: false, .. } => "away",
                NodeState { drained: true, .. } => "drained",
                _ => "online",
            };
            writeln!(f, "node {:<12} {state}", node.name)?;
        }
        for vm in &self.vms {
            writeln!(f, "vm   {:<12} {} {}", vm.name, vm.state, vm.nodes.join(" "))?;
        }
        self.warnings.iter().try_for_each(|line| writeln!(f, "warning: {line}"))?;
        self.problems.iter().try_for_each(|line| writeln!(f, "problem: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fencing_that_failed_is_told_until_it_is_forgotten() {
        assert!(said(&Engine::default()).is_empty());
        let told = said(&Engine { failed_fencing: 2, ..Engine::default() });
        let [told] = told.as_slice() else { panic!("{told:?}") };
        assert!(
            told.starts_with("fencing has failed, at least 2 times in pacemaker's history\n  stonith_admin "),
            "{told}"
        );
    }
}
