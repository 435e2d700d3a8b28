//! Rules over the machine, each about one thing that no tool's status tells. Pure.

mod by_hand;
mod hardware;
mod scripts;

use self::by_hand::{confinement, crypttab, fstab, insecure, profile, readable, snapshots};
use self::hardware::{disks, servers, supplies};
use self::scripts::jobs;
use crate::machine::{Machine, Unit};
use crate::told::Told;

/// What of the cluster file the rules need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// This node's disks, by path.
    pub disks: Vec<String>,
    /// Names of the volumes.
    pub volumes: Vec<String>,
    /// Those that Gluster has for disks of VMs.
    pub replicated_for_vms: Vec<String>,
    /// How many unlock servers open a disk.
    pub threshold: usize,
    /// Pacemaker has taken over on this node.
    pub ha: bool,
    /// VMs that can run on one node only.
    pub immovable: Vec<String>,
}

/// One rule.
pub type Rule = fn(&Machine, &Ours) -> Vec<Told>;

/// All rules.
pub static RULES: &[Rule] = &[
    masked,
    failed,
    target,
    stopped,
    clock,
    servers,
    swap,
    crypttab,
    fstab,
    disks,
    supplies,
    insecure,
    profile,
    snapshots,
    confinement,
    readable,
    jobs,
];

const TARGET: &str = "personal-cluster.target";
/// Services of the target that stay active once they have started, whatever the file has.
const LASTING: [&str; 3] = ["pc-ovs.service", "pc-vm.service", "pc-exporter.service"];

fn units(machine: &Machine) -> &[Unit] {
    match &machine.units {
        Some(Ok(units)) => units,
        _ => &[],
    }
}

fn masked(machine: &Machine, _: &Ours) -> Vec<Told> {
    let masked = units(machine).iter().filter(|unit| unit.file.starts_with("masked"));
    let problem = |unit: &Unit| {
        Told::problem(
            format!("{} is masked: it never starts", unit.name),
            format!("systemctl unmask {}", unit.name),
        )
    };
    masked.map(problem).collect()
}

fn failed(machine: &Machine, _: &Ours) -> Vec<Told> {
    let failed = units(machine).iter().filter(|unit| unit.active == "failed");
    failed
        .map(|unit| {
            Told::problem(format!("{} has failed", unit.name), format!("journalctl -b -u {}", unit.name))
        })
        .collect()
}

fn target(machine: &Machine, _: &Ours) -> Vec<Told> {
    let Some(target) = units(machine).iter().find(|unit| unit.name == TARGET) else { return Vec::new() };
    match (target.file.as_str(), target.active.as_str()) {
        ("disabled", _) => vec![Told::problem(
            format!("{TARGET} is disabled: nothing of this node starts at the next boot"),
            format!("systemctl enable --now {TARGET}"),
        )],
        (file, active) if active != "active" && !file.starts_with("masked") => {
            vec![Told::problem(format!("{TARGET} is not active"), format!("systemctl start {TARGET}"))]
        }
        _ => Vec::new(),
    }
}

/// While the target is active, its timers and what stays active run, unless somebody has stopped them.
fn stopped(machine: &Machine, _: &Ours) -> Vec<Told> {
    let all = units(machine);
    let runs = all.iter().any(|unit| unit.name == TARGET && unit.active == "active");
    if !runs || !machine.applied {
        return Vec::new();
    }
    let timer = |unit: &Unit| unit.name.rsplit('.').next() == Some("timer");
    all.iter()
        .filter(|unit| unit.active == "inactive" && !unit.file.starts_with("masked"))
        .filter(|unit| timer(unit) || LASTING.contains(&unit.name.as_str()))
        .map(|unit| {
            Told::problem(format!("{} was stopped", unit.name), format!("systemctl start {}", unit.name))
        })
        .collect()
}

fn clock(machine: &Machine, _: &Ours) -> Vec<Told> {
    match machine.clock {
        Some(Ok(clock)) if !clock.enabled => {
            vec![Told::warning("no service sets the clock", "timedatectl set-ntp true")]
        }
        Some(Ok(clock)) if !clock.synchronised => {
            vec![Told::warning("the clock is not in step with a time server", "timedatectl timesync-status")]
        }
        _ => Vec::new(),
    }
}

fn swap(machine: &Machine, _: &Ours) -> Vec<Told> {
    let one = |swap: &crate::machine::Swap| {
        let (path, remedy) = (&swap.path, swap.remedy());
        match swap.encrypted {
            Some(true) => None,
            Some(false) => Some(Told::problem(
                format!("swap {path} is not encrypted: memory of guests ends up on it"),
                remedy,
            )),
            None => Some(Told::warning(format!("whether swap {path} is encrypted cannot be told"), remedy)),
        }
    };
    machine.swaps.iter().filter_map(one).collect()
}

#[cfg(test)]
#[path = "lints_tests.rs"]
mod tests;
