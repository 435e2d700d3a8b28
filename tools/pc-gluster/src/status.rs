//! What is there, judged: the answer of `status`, and the file the rest of the machine reads.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::foreign::foreign;
use crate::have::{Have, Mount, set_has_quorum};
use crate::plan::{self, sets_of};
use crate::pool;
use crate::want::{Want, node_of};
use crate::xml::{BrickHeal, Peer};

/// `pc.gluster.status/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `pc.gluster.status/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// Every peer, brick and mount is there, with quorum, and nothing waits for healing.
    pub healthy: bool,
    /// glusterd answers on this node.
    pub glusterd: bool,
    /// Which node makes pools and volumes now.
    pub leader: Option<String>,
    /// More than half of the pool is connected.
    pub server_quorum: bool,
    /// The nodes of the file.
    pub peers: Vec<PeerStatus>,
    /// Members of the pool that the file does not name: server quorum counts them.
    pub strangers: Vec<PeerStatus>,
    /// The replicated volumes of the file.
    pub volumes: Vec<VolumeStatus>,
    /// Volumes, bricks and peers that the file does not name.
    pub foreign: BTreeMap<&'static str, Vec<String>>,
    /// What this node waits for.
    pub waiting: Vec<String>,
    /// What needs a person.
    pub faults: Vec<String>,
}

/// One node of the file or of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Its name.
    pub node: String,
    /// It belongs to the pool.
    pub member: bool,
    /// It is one, and its glusterd answers.
    pub connected: bool,
    /// The pool turns it away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rejected: bool,
}

/// One volume.
#[allow(
    clippy::struct_excessive_bools,
    reason = "an answer: each is a fact of its own, none excludes another"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// It exists in the pool.
    pub exists: bool,
    /// It is started.
    pub started: bool,
    /// It is mounted on this node and answers.
    pub mounted: bool,
    /// Every replica set has client quorum, and the pool has server quorum.
    pub quorum: bool,
    /// Its traffic is encrypted.
    pub tls: bool,
    /// Entries that wait for healing, at least so many while a brick could not be asked; absent when unknown.
    pub heal_pending: Option<u64>,
    /// `own`: counted on this node's bricks; `all`: every brick was asked.
    pub heal_scope: &'static str,
    /// Entries in split-brain, counted like those; absent unless every brick was asked.
    pub split_brain: Option<u64>,
    /// Bricks that were asked what they hold back and did not answer.
    pub heal_unknown: Vec<String>,
    /// Replica sets of bricks.
    pub sets: Vec<Vec<BrickStatus>>,
}

/// One brick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrickStatus {
    /// `node:/path`.
    pub brick: String,
    /// Its process runs and can be reached.
    pub online: bool,
    /// Its file system is mounted; absent for bricks of other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounted: Option<bool>,
}

/// Heal backlogs, by volume: counted on the own bricks, or answered by all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Entries in the index of each own brick; absent when it cannot be read.
    pub own: BTreeMap<String, Option<u64>>,
    /// Answers of all bricks, for the volumes that were asked; absent when the question itself failed.
    pub all: BTreeMap<String, Option<Vec<BrickHeal>>>,
}

impl Status {
    /// Judges what was seen; `glusterd` tells whether the daemon answered.
    pub fn new(want: &Want, have: &Have, glusterd: bool, backlog: &Backlog) -> Status {
        let outcome = plan::plan(want, have);
        let (waiting, mut faults) =
            if glusterd { (outcome.waiting, outcome.faults) } else { (Vec::new(), Vec::new()) };
        for brick in have.bricks.iter().filter(|brick| !brick.mounted) {
            faults.push(format!(
                "brick {}: is not mounted (disk {})",
                brick.address,
                disk_of(&brick.address)
            ));
        }
        if !glusterd {
            faults.push("glusterd does not answer on this node".into());
        }
        let peers: Vec<PeerStatus> = want
            .members
            .iter()
            .map(|member| PeerStatus {
                node: member.name.clone(),
                member: member.name == want.node || have.peer(member).is_some_and(|peer| peer.member),
                connected: glusterd && have.is_connected(member, &want.node),
                rejected: have.peer(member).is_some_and(|peer| peer.rejected),
            })
            .collect();
        let stranger = |peer: &Peer| PeerStatus {
            node: pool::name(peer).to_string(),
            member: peer.member,
            connected: peer.member && peer.connected,
            rejected: peer.rejected,
        };
        let server_quorum = glusterd && have.server_quorum();
        let volumes: Vec<VolumeStatus> = want
            .volumes
            .iter()
            .map(|volume| volume_status(volume, want, have, (glusterd, server_quorum), backlog))
            .collect();
        let healthy = (glusterd || want.volumes.is_empty())
            && faults.is_empty()
            && waiting.is_empty()
            && (want.volumes.is_empty() || peers.iter().all(|peer| peer.member && peer.connected))
            && volumes.iter().all(VolumeStatus::is_healthy);
        Status {
            schema: "pc.gluster.status/1",
            node: want.node.clone(),
            healthy,
            glusterd,
            leader: have.leader(want).filter(|_| glusterd).map(ToString::to_string),
            server_quorum,
            peers,
            strangers: pool::strangers(want, have).map(stranger).collect(),
            volumes,
            foreign: foreign(want, have),
            waiting,
            faults,
        }
    }
}

fn volume_status(
    volume: &crate::want::Volume,
    want: &Want,
    have: &Have,
    (glusterd, server_quorum): (bool, bool),
    backlog: &Backlog,
) -> VolumeStatus {
    let info = have.volumes.get(&volume.name);
    let sets = info.map_or_else(|| volume.sets.clone(), sets_of);
    let online = |brick: &str| have.online.contains(brick);
    let brick = |brick: &String| BrickStatus {
        online: online(brick),
        mounted: want.is_own(brick).then(|| have.own_brick(brick).is_some_and(|own| own.mounted)),
        brick: brick.clone(),
    };
    let question = backlog.all.get(&volume.name);
    let answers = question.and_then(Option::as_ref);
    let bricks = || sets.iter().flatten();
    let answer = |brick: &String, of: fn(&BrickHeal) -> Option<u64>| {
        answers.and_then(|all| all.iter().find(|one| one.brick == *brick)).and_then(of)
    };
    let pending = |brick: &String| answer(brick, |one| one.pending);
    let own =
        bricks().filter(|brick| want.is_own(brick)).map(|brick| backlog.own.get(brick).copied().flatten());
    // Nothing on the own bricks says nothing of the others when those should have been asked and could not be.
    let trusted =
        |count: &u64| *count > 0 || sets.iter().all(|set| set.len() == 1) || (glusterd && question.is_none());
    let heal_pending =
        if answers.is_some() { at_least(bricks().map(pending)) } else { at_least(own).filter(trusted) };
    let asked = bricks().filter(|_| answers.is_some());
    let heal_unknown = asked.filter(|brick| pending(brick).is_none()).cloned().collect();
    VolumeStatus {
        name: volume.name.clone(),
        exists: info.is_some(),
        started: info.is_some_and(|info| info.started),
        mounted: have.mounts.get(&volume.name) == Some(&Mount::Mounted),
        quorum: server_quorum && info.is_some() && sets.iter().all(|set| set_has_quorum(set, &online)),
        tls: info.is_some_and(|info| {
            ["client.ssl", "server.ssl"]
                .iter()
                .all(|key| info.options.get(*key).is_some_and(|value| value == "on"))
        }),
        heal_pending,
        heal_scope: if answers.is_some() { "all" } else { "own" },
        split_brain: answers
            .and_then(|_| at_least(bricks().map(|brick| answer(brick, |one| one.split_brain)))),
        heal_unknown,
        sets: sets.iter().map(|set| set.iter().map(brick).collect()).collect(),
    }
}

/// What is known to wait at least; that nothing does is known only when every count is.
fn at_least(counts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let counts: Vec<Option<u64>> = counts.collect();
    let known: u64 = counts.iter().flatten().sum();
    (known > 0 || counts.iter().all(Option::is_some)).then_some(known)
}

impl VolumeStatus {
    fn is_healthy(&self) -> bool {
        self.started
            && self.mounted
            && self.quorum
            && self.heal_pending == Some(0)
            && self.sets.iter().flatten().all(|brick| brick.online)
    }
}

/// The disk behind a brick `node:/srv/bricks/<volume>/<disk>/brick`.
fn disk_of(brick: &str) -> &str {
    brick.rsplit('/').nth(1).unwrap_or(brick)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.node, if self.healthy { "healthy" } else { "not healthy" })?;
        let pool = || self.peers.iter().chain(&self.strangers);
        let away: Vec<&str> = pool().filter(|peer| !peer.connected).map(|peer| peer.node.as_str()).collect();
        let all = pool().count();
        write!(f, "peers: {} of {all} connected", all - away.len())?;
        if !away.is_empty() {
            write!(f, ", not {}", away.join(", "))?;
        }
        writeln!(f, "{}", if self.server_quorum { "" } else { ", no server quorum" })?;
        for volume in &self.volumes {
            writeln!(f, "{volume}")?;
        }
        for (kind, names) in self.foreign.iter().filter(|(_, names)| !names.is_empty()) {
            writeln!(f, "not in the file: {kind} {}", names.join(" "))?;
        }
        self.waiting.iter().try_for_each(|line| writeln!(f, "waiting: {line}"))?;
        self.faults.iter().try_for_each(|line| writeln!(f, "fault: {line}"))
    }
}

impl fmt::Display for VolumeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.exists {
            return write!(f, "volume {}: does not exist", self.name);
        }
        let bricks: Vec<&BrickStatus> = self.sets.iter().flatten().collect();
        let online = bricks.iter().filter(|brick| brick.online).count();
        write!(f, "volume {}: {}", self.name, if self.started { "started" } else { "stopped" })?;
        write!(f, ", {}mounted", if self.mounted { "" } else { "not " })?;
        write!(f, ", {online} of {} bricks online", bricks.len())?;
        write!(f, ", {}quorum", if self.quorum { "" } else { "no " })?;
        write!(f, ", {}TLS", if self.tls { "" } else { "no " })?;
        match self.heal_pending {
            Some(0) => write!(f, ", nothing to heal")?,
            Some(count) => write!(f, ", {count} entries to heal")?,
            None => write!(f, ", heal backlog unknown")?,
        }
        for brick in bricks.iter().filter(|brick| !brick.online) {
            write!(f, "\n  offline: {} on {}", disk_of(&brick.brick), node_of(&brick.brick))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
