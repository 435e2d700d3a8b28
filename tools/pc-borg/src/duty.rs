//! Which VMs this node backs up. Pure: pc-vm is asked elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What `pc-vm list --json` (pc.vm.list/1) says of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// virsh's word, `undefined`, or `unknown` while a node that may run it is silent.
    pub state: String,
    /// Why it is unknown.
    pub reason: Option<String>,
    /// Where it runs.
    pub node: Option<String>,
    /// The node it prefers.
    pub home: String,
}

#[derive(Deserialize)]
struct List {
    schema: String,
    vms: Vec<Guest>,
}

/// Reads pc.vm.list/1.
pub fn parse_list(json: &[u8]) -> anyhow::Result<BTreeMap<String, Guest>> {
    let list: List = serde_json::from_slice(json)
        .map_err(|error| anyhow::anyhow!("reading what pc-vm list said: {error}"))?;
    if list.schema != "pc.vm.list/1" {
        anyhow::bail!("pc-vm list answers {:?}, not pc.vm.list/1: install the same version", list.schema);
    }
    Ok(list.vms.into_iter().map(|guest| (guest.name.clone(), guest)).collect())
}

/// Who is to back a VM up now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// It runs here: we do, from a frozen moment.
    Running,
    /// It runs nowhere: we do, from its files.
    Stopped,
    /// The node where it runs does.
    Elsewhere(String),
    /// It runs nowhere, and its home does.
    Home(String),
    /// Nobody knows where it runs; why.
    Unknown(String),
}

/// What `me` has to do with a VM. `named`: somebody asked for exactly this VM, so that its home does not matter.
pub fn duty(me: &str, guest: Option<&Guest>, named: bool) -> Duty {
    let Some(guest) = guest else { return Duty::Unknown("pc-vm does not list it".into()) };
    if guest.state == "unknown" {
        return Duty::Unknown(guest.reason.clone().unwrap_or_else(|| "its state is unknown".into()));
    }
    match &guest.node {
        Some(node) if node == me => Duty::Running,
        Some(node) => Duty::Elsewhere(node.clone()),
        None if named || guest.home == me => Duty::Stopped,
        None => Duty::Home(guest.home.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(state: &str, node: Option<&str>) -> Guest {
        Guest {
            name: "mail".into(),
            state: state.into(),
            reason: None,
            node: node.map(Into::into),
            home: "node1".into(),
        }
    }

    #[test]
    fn the_node_that_runs_it_backs_it_up_and_its_home_when_none_does() {
        let of =
            |state: &str, node: Option<&str>, me: &str, named| duty(me, Some(&guest(state, node)), named);
        assert_eq!(of("running", Some("node1"), "node1", false), Duty::Running);
        assert_eq!(of("paused", Some("node2"), "node2", false), Duty::Running);
        assert_eq!(of("running", Some("node2"), "node1", true), Duty::Elsewhere("node2".into()));
        assert_eq!(of("shut off", None, "node1", false), Duty::Stopped);
        assert_eq!(of("shut off", None, "node2", false), Duty::Home("node1".into()));
        assert_eq!(of("undefined", None, "node2", true), Duty::Stopped);
        assert_eq!(of("unknown", None, "node1", true), Duty::Unknown("its state is unknown".into()));
        assert!(matches!(duty("node1", None, true), Duty::Unknown(_)));
    }

    /// The sibling's own recorded answer.
    #[test]
    fn pc_vms_answer_is_understood() {
        let list = parse_list(include_bytes!("../../pc-vm/tests/golden/list.json")).unwrap();
        assert_eq!(duty("node1", list.get("mail"), false), Duty::Running);
        assert_eq!(duty("node1", list.get("db"), true), Duty::Unknown("no answer from node3".into()));
        let other = r#"{"schema": "pc.vm.list/2", "vms": []}"#;
        assert!(parse_list(other.as_bytes()).unwrap_err().to_string().contains("install the same version"));
    }
}
