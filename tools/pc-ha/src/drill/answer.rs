//! What `pc-ha drill` answers: what would happen, or what has. Pure.

use std::fmt;

use serde::Serialize;

use super::course::Course;

/// `pc.ha.drill/1`. All seconds count from when the node was told to reset itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.ha.drill/1`.
    pub schema: &'static str,
    /// Nothing was done: `--plan`.
    pub planned: bool,
    /// The node.
    pub node: String,
    /// When it was told, RFC 3339 UTC; null when it was not.
    pub at: Option<String>,
    /// VMs of it that start elsewhere.
    pub restarts: Vec<String>,
    /// VMs of it that wait for it: their disk, or a device of them, is there only.
    pub waits: Vec<String>,
    /// Why it cannot be done now.
    pub in_the_way: Vec<String>,
    /// The most that a fail-over may take, as `status` computes it.
    pub worst_case_seconds: f64,
    /// Until pacemaker missed it.
    pub lost_seconds: Option<f64>,
    /// Until pacemaker held it for dead.
    pub fenced_seconds: Option<f64>,
    /// Where the VMs run now.
    pub vms: Vec<Restarted>,
    /// No VM took longer than computed; null until all run.
    pub within: Option<bool>,
    /// Until the node was a member again.
    pub back_seconds: Option<f64>,
    /// Until nothing was left to heal.
    pub whole_seconds: Option<f64>,
}

/// A VM that was started again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restarted {
    /// Its name.
    pub vm: String,
    /// Where it runs now.
    pub node: String,
    /// Until its QEMU ran there, and pacemaker knew.
    pub seconds: f64,
}

/// To a tenth.
fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

impl Answer {
    /// What would happen.
    pub fn plan(node: &str, restarts: Vec<String>, waits: Vec<String>, worst_case_seconds: f64) -> Answer {
        Answer {
            schema: "pc.ha.drill/1",
            planned: true,
            node: node.into(),
            at: None,
            restarts,
            waits,
            in_the_way: Vec::new(),
            worst_case_seconds,
            lost_seconds: None,
            fenced_seconds: None,
            vms: Vec::new(),
            within: None,
            back_seconds: None,
            whole_seconds: None,
        }
    }

    /// What has happened so far.
    pub fn note(&mut self, course: &Course) {
        self.lost_seconds = course.lost.map(tenths);
        self.fenced_seconds = course.fenced.map(tenths);
        self.back_seconds = course.back.map(tenths);
        let runs = course.vms.iter().filter_map(|(vm, runs)| runs.as_ref().map(|runs| (vm, runs)));
        self.vms = runs
            .map(|(vm, (node, at))| Restarted { vm: vm.clone(), node: node.clone(), seconds: tenths(*at) })
            .collect();
        self.within = if course.vms.is_empty() {
            None
        } else {
            course.slowest().map(|(_, at)| at <= self.worst_case_seconds)
        };
    }

    /// Until nothing was left to heal.
    pub fn whole(&mut self, seconds: f64) {
        self.whole_seconds = Some(tenths(seconds));
    }

    /// What was computed and did not hold.
    pub fn too_slow(&self) -> Option<String> {
        let slow = self.vms.iter().filter(|vm| vm.seconds > self.worst_case_seconds);
        let slow: Vec<String> = slow.map(|vm| format!("vm {} took {:.1} s", vm.vm, vm.seconds)).collect();
        (!slow.is_empty())
            .then(|| format!("{}, computed is {:.1} s at worst", slow.join(", "), self.worst_case_seconds))
    }
}

fn listed(vms: &[String]) -> String {
    if vms.is_empty() { "no vm".into() } else { vms.join(", ") }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node;
        if self.planned {
            writeln!(
                f,
                "{node} resets itself, as if its power was cut: {} restarts on another node, within {:.1} s as computed",
                listed(&self.restarts),
                self.worst_case_seconds
            )?;
            if !self.waits.is_empty() {
                writeln!(f, "{}: down until {node} is back", self.waits.join(", "))?;
            }
            return self.in_the_way.iter().try_for_each(|reason| writeln!(f, "in the way: {reason}"));
        }
        let phases = [
            ("missed", self.lost_seconds),
            ("held for dead", self.fenced_seconds),
            ("back", self.back_seconds),
            ("whole", self.whole_seconds),
        ];
        let phases: Vec<String> = phases
            .into_iter()
            .filter_map(|(name, seconds)| Some(format!("{name} after {:.1} s", seconds?)))
            .collect();
        writeln!(f, "{node}: {}", phases.join(", "))?;
        for Restarted { vm, node, seconds } in &self.vms {
            writeln!(
                f,
                "vm {vm} runs on {node} after {seconds:.1} s (computed: {:.1} s at worst)",
                self.worst_case_seconds
            )?;
        }
        Ok(())
    }
}
