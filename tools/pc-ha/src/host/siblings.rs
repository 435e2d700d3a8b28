//! pc-vm, which keeps the record of who may start a VM, and pc-verify, which knows what is wrong anywhere.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use pc_cli::{refused, try_again};
use pc_run::{Error, run};
use xshell::{Shell, cmd};

use crate::upgrade::ground::Verdict;

/// It asks every node's libvirt, each within its own deadline, and a volume that may be busy healing.
const DEADLINE: Duration = Duration::from_secs(300);

/// Notes that a VM runs nowhere; pc-vm asks every node first and believes `dead` of those that are silent.
pub fn disown(vm: &str, dead: &[String]) -> Result<()> {
    let sh = Shell::new()?;
    let claims: Vec<String> =
        dead.iter().flat_map(|node| ["--owner-is-dead".to_string(), node.clone()]).collect();
    let call = run(cmd!(sh, "pc-vm --applied disown {vm} {claims...}")).deadline(DEADLINE);
    call.output().map(drop).map_err(|error| told(&error))
}

/// Notes that the VMs that run on this node are pacemaker's.
pub fn adopt() -> Result<()> {
    let sh = Shell::new()?;
    let call = run(cmd!(sh, "pc-vm --applied adopt")).deadline(DEADLINE);
    call.output().map(drop).map_err(|error| told(&error))
}

/// Notes that no VM is pacemaker's any more.
pub fn release() -> Result<()> {
    let sh = Shell::new()?;
    let call = run(cmd!(sh, "pc-vm --applied release")).deadline(DEADLINE);
    call.output().map(drop).map_err(|error| told(&error))
}

/// What pc-verify finds, on every node; `None` where it is not installed. 3 says that something is wrong.
pub fn verdict() -> Result<Option<Verdict>> {
    let sh = Shell::new()?;
    let call = run(cmd!(sh, "pc-verify --cluster --patient --json")).allow(&[3]).deadline(DEADLINE);
    match call.output() {
        Ok(output) => serde_json::from_slice(&output.stdout).map(Some).context("reading pc-verify's answer"),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(anyhow!("{error}")),
    }
}

/// What it said, with the exit code that it ended with.
fn told(error: &Error) -> anyhow::Error {
    let said = error.stderr().trim().trim_start_matches("error: ").to_string();
    match error.code() {
        Some(2) => refused(said),
        Some(75) => try_again(said),
        Some(_) if !said.is_empty() => anyhow!("pc-vm: {said}"),
        _ => anyhow!("{error}"),
    }
}
