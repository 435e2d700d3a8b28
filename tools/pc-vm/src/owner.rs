//! Who may start a VM: `owner.json` beside its disk names the node that did last. Whoever wants to start it asks the
//! libvirt of all nodes, and does not start while that one does not answer. Without a record nobody knows who did last,
//! and every node has to answer. Pure.

use serde::{Deserialize, Serialize};

/// Schema of the record.
pub const SCHEMA: &str = "pc.vm.owner/1";

/// `pc.vm.owner/1`, on the VM's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `pc.vm.owner/1`.
    pub schema: String,
    /// The VM.
    pub vm: String,
    /// The node that started it last, or that it was moved to.
    pub node: String,
    /// The boot of that node (`/proc/sys/kernel/random/boot_id`), when that node wrote this itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Where it is being moved to: it may run on either node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<String>,
    /// The owner saw it stop: it runs nowhere unless somebody started it by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Pacemaker started it there, or took it over: a node that it has fenced need not answer for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pacemaker: bool,
    /// When this was written, RFC 3339 UTC.
    pub since: String,
}

impl Owner {
    /// `node` owns `vm` from now on.
    pub fn new(vm: &str, node: &str, boot_id: Option<String>, since: String) -> Owner {
        Owner {
            schema: SCHEMA.into(),
            vm: vm.into(),
            node: node.into(),
            boot_id,
            moving_to: None,
            stopped: false,
            pacemaker: false,
            since,
        }
    }

    /// The nodes whose silence is no reason to wait, when it is pacemaker that asks: it starts nothing before the nodes on
    /// which something may run are known to be dead. That holds for nodes whose watchdog pacemaker relies on. A record
    /// that pacemaker did not leave may be of a node that was never armed.
    pub fn fenced(&self, by_pacemaker: bool) -> Vec<String> {
        if by_pacemaker && self.pacemaker { self.nodes().map(String::from).collect() } else { Vec::new() }
    }

    /// Nodes it may run on.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.node.as_str()).chain(self.moving_to.as_deref())
    }
}

/// What a node said about a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It runs there (paused counts).
    Runs,
    /// It does not: its libvirt's word, and that of its kernel where the VM may be.
    Idle,
    /// No answer, and why.
    Silent(String),
}

impl Answer {
    /// Of a node that has no address here.
    pub fn not_in_the_file() -> Answer {
        Answer::Silent("it is not in the file any more".into())
    }
}

/// Whether this node may start a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It runs nowhere: take it.
    Start,
    /// It runs on another node.
    RunsOn(String),
    /// It may run on nodes that do not answer: their names, and why they do not.
    Unknown(Vec<(String, String)>),
}

/// Decides for node `me`; `all` are the nodes of the file. `ask` is called once for every other node: a record may be an old
/// one, of a volume that the VM has left and come back to, so a node that says "runs here" is always believed. Silence counts
/// only of nodes that the record names. A node called `dead` by the administrator is asked all the same, and only its silence
/// is overruled.
pub fn decide(
    me: &str,
    all: &[&str],
    owner: Option<&Owner>,
    dead: &[String],
    ask: impl Fn(&str) -> Answer,
) -> Verdict {
    // No record is not "never started": its volume may be another one in the file since.
    let suspects: Vec<&str> = owner.map_or_else(|| all.to_vec(), |owner| owner.nodes().collect());
    let stopped = owner.is_some_and(|owner| owner.stopped);
    // A node that is not in the file any more is asked too.
    let gone = suspects.iter().filter(|node| !all.contains(node));
    let mut silent = Vec::new();
    for node in all.iter().chain(gone).copied().filter(|node| *node != me) {
        match ask(node) {
            Answer::Runs => return Verdict::RunsOn(node.into()),
            Answer::Silent(reason)
                if suspects.contains(&node) && !stopped && !dead.iter().any(|dead| dead == node) =>
            {
                silent.push((node.into(), reason));
            }
            Answer::Idle | Answer::Silent(_) => {}
        }
    }
    if silent.is_empty() { Verdict::Start } else { Verdict::Unknown(silent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(node: &str, moving_to: Option<&str>, stopped: bool) -> Owner {
        let new = Owner::new("mail", node, None, "2026-01-01T00:00:00Z".into());
        Owner { moving_to: moving_to.map(Into::into), stopped, ..new }
    }

    fn silent(reason: &str) -> Answer {
        Answer::Silent(reason.into())
    }

    fn unknown(nodes: &str) -> Verdict {
        Verdict::Unknown(nodes.split(' ').map(|node| (node.into(), "cut off".into())).collect())
    }

    /// (owner, what n2 says, what n3 says, who is called dead) and what n1 may do.
    #[test]
    fn nobody_starts_what_may_run_elsewhere() {
        let on = |node: &str| Verdict::RunsOn(node.into());
        let (runs, idle, cut) = (Answer::Runs, Answer::Idle, silent("cut off"));
        let table = [
            // No record: it may have run from another volume, on any node.
            (None, &idle, &idle, None, Verdict::Start),
            (None, &idle, &runs, None, on("n3")),
            (None, &cut, &runs, Some("n2"), on("n3")),
            (None, &cut, &idle, None, unknown("n2")),
            (None, &cut, &idle, Some("n2"), Verdict::Start),
            (None, &cut, &cut, None, unknown("n2 n3")),
            (None, &cut, &cut, Some("n2"), unknown("n3")),
            (None, &cut, &cut, Some("n2 n3"), Verdict::Start),
            (Some(owner("n1", None, false)), &cut, &cut, None, Verdict::Start),
            // The record is an old one: it has been started from another volume since.
            (Some(owner("n1", None, false)), &cut, &runs, None, on("n3")),
            (Some(owner("n1", None, true)), &runs, &cut, None, on("n2")),
            (Some(owner("n2", None, false)), &runs, &idle, None, on("n2")),
            (Some(owner("n2", None, false)), &idle, &runs, None, on("n3")),
            (Some(owner("n2", None, false)), &idle, &cut, None, Verdict::Start),
            // Taken out of the file while it owned the VM.
            (Some(owner("n4", None, false)), &idle, &idle, None, unknown("n4")),
            (Some(owner("n4", None, false)), &idle, &idle, Some("n4"), Verdict::Start),
            (Some(owner("n2", None, false)), &cut, &idle, None, unknown("n2")),
            (Some(owner("n2", None, false)), &cut, &idle, Some("n2"), Verdict::Start),
            (Some(owner("n2", None, false)), &cut, &idle, Some("n3"), unknown("n2")),
            (Some(owner("n2", None, false)), &runs, &idle, Some("n2"), on("n2")),
            // Stopped by its owner, who may be switched off now; but it counts what a node that answers says.
            (Some(owner("n2", None, true)), &cut, &idle, None, Verdict::Start),
            (Some(owner("n2", None, true)), &runs, &idle, None, on("n2")),
            // A move that was cut short: both ends are asked.
            (Some(owner("n2", Some("n3"), false)), &idle, &runs, None, on("n3")),
            (Some(owner("n2", Some("n3"), false)), &cut, &runs, None, on("n3")),
            (Some(owner("n2", Some("n3"), false)), &idle, &idle, None, Verdict::Start),
            (Some(owner("n2", Some("n3"), false)), &idle, &cut, None, unknown("n3")),
            (Some(owner("n2", Some("n3"), false)), &cut, &cut, Some("n2"), unknown("n3")),
            (Some(owner("n1", Some("n3"), false)), &cut, &cut, None, unknown("n3")),
            (Some(owner("n3", Some("n1"), false)), &cut, &cut, None, unknown("n3")),
        ];
        for (owner, n2, n3, dead, expected) in table {
            let ask = |node: &str| match node {
                "n2" => n2.clone(),
                "n3" => n3.clone(),
                "n4" => silent("cut off"),
                other => panic!("asked {other}"),
            };
            let dead: Vec<String> =
                dead.map(|dead| dead.split(' ').map(String::from).collect()).unwrap_or_default();
            let said = decide("n1", &["n1", "n2", "n3"], owner.as_ref(), &dead, ask);
            assert_eq!(said, expected, "{owner:?} {n2:?} {n3:?} {dead:?}");
        }
    }

    /// Fencing is a proof of death for armed nodes only, and an answer still counts more than the proof.
    #[test]
    fn pacemaker_waits_for_no_node_that_it_was_in_charge_of() {
        let cut = |_: &str| silent("cut off");
        let start = |owner: &Owner, by_pacemaker: bool| {
            decide("n1", &["n1", "n2", "n3"], Some(owner), &owner.fenced(by_pacemaker), cut)
        };
        let by_hand = owner("n2", Some("n3"), false);
        let managed = Owner { pacemaker: true, ..by_hand.clone() };
        assert_eq!(start(&managed, true), Verdict::Start);
        assert_eq!(start(&managed, false), unknown("n2 n3"), "a person has no proof");
        assert_eq!(start(&by_hand, true), unknown("n2 n3"), "nobody knows that n2 was armed");
        let runs = |_: &str| Answer::Runs;
        let fenced = managed.fenced(true);
        assert_eq!(
            decide("n1", &["n1", "n2", "n3"], Some(&managed), &fenced, runs),
            Verdict::RunsOn("n2".into())
        );
    }

    #[test]
    fn a_node_that_is_alone_asks_nobody() {
        let ask = |node: &str| panic!("asked {node}");
        assert_eq!(decide("n1", &["n1"], None, &[], ask), Verdict::Start);
    }

    #[test]
    fn the_record_survives_a_round_through_the_volume() {
        let record = owner("n2", Some("n3"), true);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Owner>(&text).unwrap(), record);
        assert!(text.starts_with(r#"{"schema":"pc.vm.owner/1""#));
    }
}
