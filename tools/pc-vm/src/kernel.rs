//! Whether another node's kernel shows a VM's QEMU: `pc-vm probe --all` there, through pc-trust's gate. A libvirt that was
//! restarted may have lost a guest that runs on, and says in good faith that it does not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::Node;
use pc_cli::Common;
use pc_ssh::Ssh;

use crate::owner::Answer;
use crate::probe::{self, PROCESSES, Shown};
use crate::site::Site;

/// Word by word as the gate lists it.
const VERB: &str = "pc-vm probe --all --json";
/// Its libvirt has answered just before.
const CONNECT: Duration = Duration::from_secs(10);
/// It waits for a QEMU that ends; a slow machine needs seconds to check certificates.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a node says of a VM: of one that its libvirt does not run, its kernel as well.
pub fn sure(site: &Site, node: &Node, uuid: &str) -> Answer {
    match site.nodes.ask(node, uuid) {
        Answer::Idle => shows(site, node, uuid),
        told => told,
    }
}

/// What a node's kernel says of a VM that its libvirt does not run.
pub fn shows(site: &Site, node: &Node, uuid: &str) -> Answer {
    if node.name.as_str() != site.nodes.me() {
        return judge(uuid, ask(site.common, node.name.as_str()));
    }
    match probe::process(site, uuid) {
        Ok(Some(_)) => Answer::Runs,
        Ok(None) => Answer::Idle,
        Err(reason) => Answer::Silent(reason),
    }
}

fn ask(common: &Common, node: &str) -> Result<Shown> {
    let call = Ssh::of(common)?;
    let text = call.verb(node, VERB).connect_within(CONNECT).deadline(DEADLINE).text()?;
    let told: Shown = serde_json::from_str(&text).with_context(|| format!("reading what {node} says"))?;
    ensure!(told.schema == PROCESSES, "reading what {node} says: {:?} is not {PROCESSES}", told.schema);
    Ok(told)
}

fn judge(uuid: &str, told: Result<Shown>) -> Answer {
    let silent = |why: String| {
        Answer::Silent(format!("its libvirt does not know the VM, its kernel was not to be asked: {why}"))
    };
    match told {
        Err(error) => silent(format!("{error:#}")),
        Ok(told) if told.processes.iter().any(|found| found.uuid.eq_ignore_ascii_case(uuid)) => Answer::Runs,
        Ok(Shown { reason: Some(reason), .. }) => silent(reason),
        Ok(_) => Answer::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_says_that_it_does_not_run() {
        let one = "32bb3f29-f1f3-8955-8093-5b31b9c88b6c";
        let told = |reason: Option<&str>| {
            let recorded = include_str!("../tests/golden/processes.json");
            let told: Shown = serde_json::from_str(recorded).unwrap();
            Ok(Shown { reason: reason.map(String::from), ..told })
        };
        let other = "00000000-f1f3-8955-8093-5b31b9c88b6c";
        assert_eq!(judge(one, told(None)), Answer::Runs);
        assert_eq!(judge(one, told(Some("a QEMU lingers"))), Answer::Runs);
        assert_eq!(judge(other, told(None)), Answer::Idle);
        for told in [told(Some("a QEMU lingers")), Err(anyhow::anyhow!("n2 cannot be reached"))] {
            assert!(matches!(judge(other, told), Answer::Silent(reason) if reason.contains("does not know")));
        }
    }
}
