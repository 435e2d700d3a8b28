//! From what OVN needs of this node and what the node has to the steps between them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pc_plan::Step;
use serde::{Deserialize, Serialize};

use super::daemon::Daemon;
use super::want::{Tls, Want};

/// Schema of a printed plan.
pub const SCHEMA: &str = "pc.ovs.ovn.plan/1";
/// Key in `external_ids` of the switch that says whose its settings of ovn-controller are: the cluster's name.
pub const OWNER: &str = "personal-cluster-ovn";
/// The name of this node for OVN. Open vSwitch's own start gives it on Debian, and again each time.
const SYSTEM_ID: &str = "system-id";
/// Settings of ovn-controller that are ours to give (ovn-controller(8)).
const KEYS: [&str; 5] =
    ["ovn-bridge-mappings", "ovn-chassis-mac-mappings", "ovn-encap-ip", "ovn-encap-type", "ovn-remote"];

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Settings of ovn-controller.
    Settings {
        /// Keys with their new values.
        set: BTreeMap<String, String>,
        /// Keys that go.
        remove: BTreeSet<String>,
    },
    /// The certificate with which ovn-controller is known to the databases.
    Tls {
        /// Where it is.
        tls: Tls,
    },
    /// The same, taken back.
    RemoveTls,
    /// A daemon that does not run.
    Start {
        /// Its unit.
        unit: String,
    },
}

/// What the switch says of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HaveTls {
    /// Where they are.
    pub tls: Tls,
    /// We said so.
    pub ours: bool,
}

/// What the node has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Have {
    /// Those keys of the switch's `external_ids` that we know.
    pub settings: BTreeMap<String, String>,
    /// Its certificates.
    pub tls: Option<HaveTls>,
    /// Units that are active; `None` where there is no systemd to ask.
    pub active: Option<BTreeSet<String>>,
}

/// Whether a key of `external_ids` is read at all.
pub fn is_known(key: &str) -> bool {
    key == OWNER || key == SYSTEM_ID || KEYS.contains(&key)
}

/// Steps, and what stands in the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// In order.
    pub steps: Vec<Step<Action>>,
    /// What somebody else has set: nothing is done.
    pub refusals: Vec<String>,
}

/// Plans for a node of `cluster`.
pub fn plan(cluster: &str, want: Option<&Want>, have: &Have) -> Planned {
    let mut planned = Planned::default();
    settings(cluster, want, have, &mut planned);
    tls(want, have, &mut planned);
    let daemons = Daemon::ALL.iter().filter(|_| want.is_some_and(|want| want.own().is_some()));
    for unit in daemons.map(|daemon| daemon.unit()) {
        if have.active.as_ref().is_some_and(|active| !active.contains(&unit)) {
            planned.steps.push(step(&unit, Action::Start { unit: unit.clone() }));
        }
    }
    planned
}

fn step(id: &str, action: Action) -> Step<Action> {
    Step { id: id.into(), needs: Vec::new(), action }
}

fn settings(cluster: &str, want: Option<&Want>, have: &Have, planned: &mut Planned) {
    let ours = have.settings.get(OWNER).is_some_and(|owner| owner == cluster);
    let mut wanted = BTreeMap::new();
    if let Some(want) = want {
        wanted.clone_from(&want.settings);
        wanted.insert(OWNER.into(), cluster.into());
        // A name that is there is somebody's; without one ovn-controller does nothing.
        if !have.settings.contains_key(SYSTEM_ID) {
            wanted.insert(SYSTEM_ID.into(), want.node.clone());
        }
    }
    let differs = |key: &str, value: &String| have.settings.get(key) != Some(value);
    for key in KEYS.into_iter().chain([OWNER]) {
        let (Some(found), Some(value)) = (have.settings.get(key), wanted.get(key)) else { continue };
        if ours || found == value {
            continue;
        }
        planned.refusals.push(format!(
            "external_ids:{key} of the switch is {found:?}, and not of this cluster's making\n  \
             ovs-vsctl remove Open_vSwitch . external_ids {key}"
        ));
    }
    let given = have.settings.keys().filter(|key| ours && *key != SYSTEM_ID);
    let remove: BTreeSet<String> = given.filter(|key| !wanted.contains_key(*key)).cloned().collect();
    let set: BTreeMap<String, String> =
        wanted.into_iter().filter(|(key, value)| differs(key, value)).collect();
    if !set.is_empty() || !remove.is_empty() {
        planned.steps.push(step("settings", Action::Settings { set, remove }));
    }
}

fn tls(want: Option<&Want>, have: &Have, planned: &mut Planned) {
    match (want.map(|want| &want.tls), &have.tls) {
        (Some(wanted), Some(found)) if found.tls == *wanted => {}
        (Some(wanted), Some(found)) if !found.ours => planned.refusals.push(format!(
            "the switch's certificate is {}, not this node's {}, and pc-ovs did not set it\n  ovs-vsctl del-ssl",
            found.tls.certificate, wanted.certificate
        )),
        (Some(wanted), _) => planned.steps.push(step("tls", Action::Tls { tls: wanted.clone() })),
        (None, Some(found)) if found.ours => planned.steps.push(step("tls", Action::RemoveTls)),
        (None, _) => {}
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Settings { set, remove } => {
                let set = set.iter().map(|(key, value)| format!("set {key} to {value}"));
                let remove = remove.iter().map(|key| format!("remove {key}"));
                let list: Vec<String> = set.chain(remove).collect();
                write!(f, "settings of ovn-controller: {}", list.join(", "))
            }
            Action::Tls { tls } => write!(f, "ovn-controller shows the certificate {}", tls.certificate),
            Action::RemoveTls => write!(f, "ovn-controller shows no certificate any more"),
            Action::Start { unit } => write!(f, "start {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::want::tests::{file, wanted};
    use super::*;

    /// What the steps of a plan do.
    fn applied(have: &Have, planned: &Planned) -> Have {
        let mut have = have.clone();
        for step in &planned.steps {
            match &step.action {
                Action::Settings { set, remove } => {
                    have.settings.retain(|key, _| !remove.contains(key));
                    have.settings.extend(set.clone());
                }
                Action::Tls { tls } => have.tls = Some(HaveTls { tls: tls.clone(), ours: true }),
                Action::RemoveTls => have.tls = None,
                Action::Start { unit } => {
                    have.active.as_mut().unwrap().insert(unit.clone());
                }
            }
        }
        have
    }

    fn blank() -> Have {
        Have { active: Some(BTreeSet::new()), ..Have::default() }
    }

    #[test]
    fn a_second_plan_is_empty_on_every_node_and_after_every_change() {
        let files = [file(1), file(2), file(3), file(5), file(3).replace("gateway = \"cluster\"\n", "")];
        for first in &files {
            for second in &files {
                let mut have = blank();
                for file in [first, second] {
                    let want = wanted(file, "node1");
                    let planned = plan("home", want.as_ref(), &have);
                    assert_eq!(planned.refusals, [""; 0]);
                    have = applied(&have, &planned);
                    assert_eq!(plan("home", want.as_ref(), &have), Planned::default());
                }
            }
        }
    }

    #[test]
    fn the_last_zone_takes_the_settings_with_it_but_not_the_name() {
        let want = wanted(&file(3), "node1").unwrap();
        let have = applied(&blank(), &plan("home", Some(&want), &blank()));
        let gone = applied(&have, &plan("home", None, &have));
        assert_eq!(gone.settings, [("system-id".to_string(), "node1".to_string())].into());
        assert_eq!(gone.tls, None);
    }

    #[test]
    fn what_somebody_else_has_set_is_refused_unless_it_is_the_same() {
        let want = wanted(&file(1), "node1").unwrap();
        let mut have = blank();
        have.settings.insert("ovn-encap-type".into(), "geneve".into());
        have.settings.insert("ovn-remote".into(), "tcp:10.0.0.9:6642".into());
        have.tls = Some(HaveTls {
            tls: Tls { certificate: "/etc/other.crt".into(), ..want.tls.clone() },
            ours: false,
        });
        let planned = plan("home", Some(&want), &have);
        assert_eq!(
            planned.refusals,
            [
                "external_ids:ovn-remote of the switch is \"tcp:10.0.0.9:6642\", and not of this cluster's making\n  \
                 ovs-vsctl remove Open_vSwitch . external_ids ovn-remote",
                "the switch's certificate is /etc/other.crt, not this node's \
                 /etc/personal-cluster/trust/node.crt, and pc-ovs did not set it\n  ovs-vsctl del-ssl",
            ]
        );
        // Without zones they are nobody's business of ours.
        assert_eq!(plan("home", None, &have), Planned::default());
    }

    #[test]
    fn the_settings_of_another_cluster_are_refused_and_left_alone() {
        let want = wanted(&file(1), "node1").unwrap();
        let mut have = applied(&blank(), &plan("home", Some(&want), &blank()));
        have.settings.insert(OWNER.into(), "office".into());
        have.tls.as_mut().unwrap().ours = false;
        let planned = plan("home", Some(&want), &have);
        let told = "external_ids:personal-cluster-ovn of the switch is \"office\"";
        assert!(planned.refusals.iter().any(|refusal| refusal.starts_with(told)), "{planned:?}");
        assert_eq!(plan("home", None, &have), Planned::default());
    }

    #[test]
    fn daemons_run_where_the_databases_are() {
        let starts = |node| {
            let planned = plan("home", wanted(&file(5), node).as_ref(), &blank());
            planned.steps.iter().filter(|step| matches!(step.action, Action::Start { .. })).count()
        };
        assert_eq!((starts("node3"), starts("node4")), (3, 0));
    }
}
