//! The pure heart: what is wanted and what is there, in; steps, waits and faults, out.

use std::fmt;

use pc_plan::{Plan, Step};
use serde::Serialize;

use crate::action::Action;
use crate::have::{Have, OwnBrick, by_name};
use crate::options;
use crate::want::{Volume, Want, node_of};
use crate::xml::VolumeInfo;
use crate::{grow, marks, pool, serve};

/// Schema of a printed plan.
pub const SCHEMA: &str = "pc.gluster.plan/1";

/// What there is to do, and what cannot be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What this node can do now, in order.
    #[serde(flatten)]
    pub plan: Plan<Action>,
    /// What has to happen elsewhere first, so that the volumes can be mounted here.
    pub waiting: Vec<String>,
    /// What needs a person, each with what was found; nothing of it is touched.
    pub faults: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        self.waiting.iter().try_for_each(|line| writeln!(f, "waiting: {line}"))?;
        self.faults.iter().try_for_each(|line| writeln!(f, "fault: {line}"))
    }
}

/// Compares and decides. Total: every difference ends up as a step, a wait or a fault.
pub fn plan(want: &Want, have: &Have) -> Outcome {
    let leader = have.leader(want);
    let mut draft = Draft {
        want,
        have,
        leads: leader == Some(want.node.as_str()),
        leader: leader.unwrap_or("a node").to_string(),
        steps: Vec::new(),
        waiting: Vec::new(),
        faults: Vec::new(),
    };
    if !want.volumes.is_empty() {
        draft.peers();
    }
    for volume in &want.volumes {
        draft.volume(volume);
    }
    serve::storage_target(&mut draft);
    // Last: VMs wait for what stands before it.
    for volume in &want.volumes {
        draft.heal(volume);
    }
    let Draft { steps, waiting, faults, .. } = draft;
    Outcome { plan: Plan::new(SCHEMA, &want.node, have, steps), waiting, faults }
}

pub(crate) struct Draft<'a> {
    pub(crate) want: &'a Want,
    pub(crate) have: &'a Have,
    leads: bool,
    leader: String,
    steps: Vec<Step<Action>>,
    pub(crate) waiting: Vec<String>,
    pub(crate) faults: Vec<String>,
}

impl Draft<'_> {
    pub(crate) fn is_leader(&self) -> bool {
        self.leads
    }

    pub(crate) fn step(&mut self, id: String, needs: Vec<String>, action: Action) {
        self.steps.push(Step { id, needs, action });
    }

    pub(crate) fn planned(&self, id: &str) -> bool {
        self.steps.iter().any(|step| step.id == id)
    }

    fn peers(&mut self) {
        if self.leads {
            self.faults.extend(pool::faults(self.want, self.have));
        }
        for member in self.want.members.iter().filter(|member| member.name != self.want.node) {
            match self.have.peer(member) {
                None if self.leads => {
                    let action = Action::PeerProbe { node: member.name.clone() };
                    self.step(probe_id(&member.name), Vec::new(), action);
                }
                // glusterd learns the name of whoever probed it first as a bare address; probing that
                // node back by name, from any other one, completes the entry everywhere.
                Some(peer) if peer.connected && !peer.names.iter().any(|name| by_name(name, member)) => {
                    let action = Action::PeerRename { node: member.name.clone() };
                    self.step(format!("peer-rename/{}", member.name), Vec::new(), action);
                }
                _ => {}
            }
        }
    }

    /// The probes that must come first so that these bricks' nodes are members; `None` (and a wait) when
    /// one of them is neither connected nor about to be probed.
    pub(crate) fn members_for(&mut self, volume: &str, bricks: &[String]) -> Option<Vec<String>> {
        let mut needs = Vec::new();
        let mut absent = Vec::new();
        for member in &self.want.members {
            let holds = bricks.iter().any(|brick| node_of(brick) == member.name);
            if !holds || self.have.is_connected(member, &self.want.node) {
                continue;
            }
            let id = probe_id(&member.name);
            if self.planned(&id) { needs.push(id) } else { absent.push(member.name.as_str()) }
        }
        if absent.is_empty() {
            return Some(needs);
        }
        self.waiting
            .push(format!("volume {volume}: waiting for {}, which the pool cannot reach", absent.join(", ")));
        None
    }

    fn volume(&mut self, volume: &Volume) {
        let known = self.have.volumes.get(&volume.name);
        marks::look(self, volume, known);
        let started = match known {
            None => self.create(volume),
            Some(info)
                if !info.bricks.iter().any(|brick| volume.sets.iter().flatten().any(|b| b == brick)) =>
            {
                self.faults.push(format!(
                    "volume {}: exists with other bricks than the file names ({}): not touched",
                    volume.name,
                    info.bricks.join(" ")
                ));
                return;
            }
            Some(info) => {
                if self.leads {
                    self.set_options(volume, info, Vec::new());
                }
                grow::grow(self, volume, info);
                self.start(volume, info)
            }
        };
        if let Some(needs) = started {
            serve::mount(self, volume, needs);
        }
    }

    /// Steps that must come before a mount; `None` when the volume cannot be created now.
    fn create(&mut self, volume: &Volume) -> Option<Vec<String>> {
        let name = &volume.name;
        if !self.leads {
            self.waiting.push(format!("volume {name}: waiting for {} to create it", self.leader));
            return None;
        }
        let bricks: Vec<String> = volume.sets.iter().flatten().cloned().collect();
        let mut needs = self.members_for(name, &bricks)?;
        needs.extend(marks::clean(self, name, &bricks)?);
        let create = format!("volume-create/{name}");
        let action = Action::VolumeCreate {
            volume: name.clone(),
            set_size: volume.set_size,
            arbiter: volume.arbiter,
            bricks,
        };
        self.step(create.clone(), needs, action);
        let set = format!("volume-set/{name}");
        let options = volume.options.clone();
        self.step(set.clone(), vec![create], Action::VolumeSet { volume: name.clone(), options });
        let start = format!("volume-start/{name}");
        self.step(start.clone(), vec![set], Action::VolumeStart { volume: name.clone() });
        Some(vec![start])
    }

    fn set_options(&mut self, volume: &Volume, info: &VolumeInfo, needs: Vec<String>) {
        let mut options = options::differing(&volume.options, &info.options);
        if info.started {
            let held: Vec<String> =
                options.keys().filter(|key| options::needs_stopped_volume(key)).cloned().collect();
            if !held.is_empty() {
                self.faults.push(format!(
                    "volume {}: runs without {}\n  stop its guests, then: gluster volume stop {} && pc-gluster apply",
                    volume.name,
                    held.join(", "),
                    volume.name
                ));
            }
            options.retain(|key, _| !options::needs_stopped_volume(key) && !options::only_at_birth(key));
        }
        if info.replica == 1 {
            // A volume that is about to grow gets them in the next round.
            options.retain(|key, _| !options::only_replicated(key));
        }
        if !options.is_empty() {
            let action = Action::VolumeSet { volume: volume.name.clone(), options };
            self.step(format!("volume-set/{}", volume.name), needs, action);
        }
    }

    /// Starts the volume, or this node's bricks of it.
    fn start(&mut self, volume: &Volume, info: &VolumeInfo) -> Option<Vec<String>> {
        let name = &volume.name;
        if !info.started {
            if !self.leads {
                self.waiting.push(format!("volume {name}: waiting for {} to start it", self.leader));
                return None;
            }
            let set = format!("volume-set/{name}");
            let needs = if self.planned(&set) { vec![set] } else { Vec::new() };
            let id = format!("volume-start/{name}");
            self.step(id.clone(), needs, Action::VolumeStart { volume: name.clone() });
            return Some(vec![id]);
        }
        if !self.have.server_quorum() {
            // glusterd itself holds them down; it starts them when quorum is back.
            return Some(Vec::new());
        }
        let own = |is_ill: fn(&OwnBrick) -> bool| -> Vec<String> {
            let bricks = self.have.bricks.iter().filter(|own| info.bricks.contains(&own.address));
            bricks.filter(|own| own.mounted && is_ill(own)).map(|own| own.address.clone()).collect()
        };
        let (offline, lost) = (own(|own| !own.running), own(|own| own.lost));
        let mut begun = Vec::new();
        if !lost.is_empty() {
            let id = format!("brick-restart/{name}");
            begun.push(id.clone());
            self.step(id, Vec::new(), Action::BrickRestart { volume: name.clone(), bricks: lost });
        }
        if !offline.is_empty() {
            let id = format!("brick-start/{name}");
            begun.push(id.clone());
            let marks = offline.iter().map(|brick| format!("brick-mark/{brick}"));
            let needs = marks.filter(|id| self.planned(id)).collect();
            self.step(id, needs, Action::BrickStart { volume: name.clone(), bricks: offline });
        }
        Some(begun)
    }

    /// One that has crashed heals nothing from this node's bricks, and glusterd does not start it again. Each volume asks for
    /// itself: the process that is started heals no other one.
    fn heal(&mut self, volume: &Volume) {
        let name = &volume.name;
        let Some(info) = self.have.volumes.get(name).filter(|info| info.started && info.replica > 1) else {
            return;
        };
        let serves = self.have.bricks.iter().any(|own| own.running && info.bricks.contains(&own.address));
        let is_off = |value: &String| {
            ["off", "no", "false", "disable", "0"].iter().any(|off| value.eq_ignore_ascii_case(off))
        };
        let is_off = info.options.get("cluster.self-heal-daemon").is_some_and(is_off);
        // Starting a brick starts it, too; without server quorum glusterd refuses.
        let comes = self.planned(&format!("brick-start/{name}")) || !self.have.server_quorum();
        if serves && !comes && !is_off && !self.have.healed.contains(name) {
            let action = Action::HealerStart { volume: name.clone() };
            self.step(format!("healer-start/{name}"), Vec::new(), action);
        }
    }
}

/// The replica sets of a volume as it is: `replica` consecutive bricks each.
pub fn sets_of(info: &VolumeInfo) -> Vec<Vec<String>> {
    info.bricks.chunks(info.replica.max(1)).map(<[String]>::to_vec).collect()
}

fn probe_id(node: &str) -> String {
    format!("peer-probe/{node}")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;

#[cfg(test)]
#[path = "grow_tests.rs"]
mod grow_tests;

#[cfg(test)]
#[path = "brick_tests.rs"]
mod brick_tests;

#[cfg(test)]
#[path = "healer_tests.rs"]
mod healer_tests;
