//! All calls of pacemaker's and corosync's own programs. They answer in XML, or in lines that are theirs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::{log, refused, try_again};
use pc_run::{Error, run};
use xshell::{Shell, cmd};

use crate::rows::Row;

/// They talk to a daemon of this node, which may be electing.
const QUICK: Duration = Duration::from_secs(60);
/// The one that fences answers out of its memory; pc-verify gives a whole status three seconds.
const FENCER: Duration = Duration::from_secs(2);
/// `EX_NOTFOUND` and neighbours mean what they say; these two mean that somebody was faster (pacemaker's results.h).
const OLDER: i32 = 103;
/// `CRM_EX_NOSUCH`: there is no such row.
const NOTHING: i32 = 105;
/// `CRM_EX_TIMEOUT`.
const TIMEOUT: i32 = 124;

/// Pacemaker writes its own state all the time.
const ATTEMPTS: usize = 10;

fn shell() -> Result<Shell> {
    Shell::new().context("asking for the working directory")
}

/// Pacemaker is not there, is starting, or is electing: all of that passes.
fn away(what: &str, error: &Error) -> anyhow::Error {
    if error.is_missing() {
        return refused(format!(
            "{what}: not installed\n  apt-get install pacemaker pacemaker-cli-utils corosync sbd"
        ));
    }
    try_again(format!("{what}: {error}\n  systemctl status corosync pacemaker"))
}

/// The CIB.
pub fn query() -> Result<String> {
    let sh = shell()?;
    run(cmd!(sh, "cibadmin --query"))
        .deadline(QUICK)
        .read()
        .map_err(|error| away("asking for the CIB", &error))
}

/// `crm_mon`'s answer.
pub fn monitor() -> Result<String> {
    let sh = shell()?;
    let call = run(cmd!(sh, "crm_mon --one-shot --inactive --output-as=xml")).deadline(QUICK);
    call.read().map_err(|error| away("asking pacemaker", &error))
}

/// The same with the fencing that failed, of which another daemon is asked: one that hangs, or has died, takes no more than this
/// time, and nothing else of the answer.
pub fn monitor_and_fencing() -> Result<String> {
    let sh = shell()?;
    let call = cmd!(sh, "crm_mon --one-shot --inactive --output-as=xml --fence-history=1");
    match run(call).deadline(FENCER).read() {
        Ok(answer) => Ok(answer),
        // Nothing says which of the two has failed: what does not need the fencer is asked again.
        Err(error) => {
            log::debug(format_args!("asking for the fencing that failed: {error}"));
            monitor()
        }
    }
}

/// `corosync-quorumtool`'s answer; it ends with 2 when there is no quorum, which is an answer.
pub fn quorum() -> Result<String> {
    quorum_within(QUICK)
}

/// The same, for whoever cannot wait.
pub fn quorum_within(deadline: Duration) -> Result<String> {
    let sh = shell()?;
    let call = run(cmd!(sh, "corosync-quorumtool -s")).deadline(deadline).allow(&[2]);
    call.read().map_err(|error| away("asking corosync", &error))
}

/// Has every node's corosync read its configuration again.
pub fn reload() -> Result<()> {
    let sh = shell()?;
    run(cmd!(sh, "corosync-cfgtool -R")).deadline(QUICK).output().context("reloading corosync")?;
    Ok(())
}

/// How a change of the CIB ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Commit {
    /// It is in force.
    Done,
    /// The CIB changed meanwhile: look again.
    Stale,
}

/// A copy of the CIB that is edited by pacemaker's own tools before the difference is applied in one go.
#[derive(Debug)]
pub struct Draft {
    directory: tempfile::TempDir,
}

impl Draft {
    /// Of what `query` said.
    pub fn new(cib: &str) -> Result<Draft> {
        let directory = tempfile::tempdir().context("making a directory for the CIB's copy")?;
        for name in ["have.xml", "want.xml"] {
            std::fs::write(directory.path().join(name), cib).context("copying the CIB")?;
        }
        Ok(Draft { directory })
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Makes or changes an object: what stands in it beyond `xml` stays.
    pub fn put(&self, scope: &str, xml: &str) -> Result<()> {
        let sh = shell()?;
        let command = cmd!(sh, "cibadmin --modify --allow-create --scope {scope} --xml-pipe");
        let command = command.env("CIB_file", self.at("want.xml"));
        run(command).stdin(xml).deadline(QUICK).output().context("editing the CIB's copy")?;
        Ok(())
    }

    /// Takes an object out.
    pub fn remove(&self, id: &str) -> Result<()> {
        let sh = shell()?;
        let path = format!("//*[@id='{id}']");
        let command =
            cmd!(sh, "cibadmin --delete --force --xpath {path}").env("CIB_file", self.at("want.xml"));
        run(command).deadline(QUICK).output().context("editing the CIB's copy")?;
        Ok(())
    }

    /// Marks a node of the copy as drained.
    pub fn standby(&self, node: &str) -> Result<()> {
        let sh = shell()?;
        let command = cmd!(sh, "crm_attribute --node {node} --name standby --update on");
        let command = command.env("CIB_file", self.at("want.xml"));
        run(command).deadline(QUICK).output().context("editing the CIB's copy")?;
        Ok(())
    }

    /// What `crm_mon` says of the copy.
    pub fn monitor(&self) -> Result<String> {
        let sh = shell()?;
        let command = cmd!(sh, "crm_mon --one-shot --inactive --output-as=xml");
        let call = run(command.env("CIB_file", self.at("want.xml"))).deadline(QUICK);
        call.read().map_err(|error| away("asking pacemaker", &error))
    }

    /// What pacemaker would make of the copy, and where that ends.
    pub fn simulate(&self) -> Result<String> {
        let sh = shell()?;
        let want = self.at("want.xml");
        // Whoever asks has looked at the quorum.
        let command = cmd!(sh, "crm_simulate --xml-file {want} --simulate --quorum 1 --output-as=xml");
        let call = run(command.env_remove("CIB_file")).deadline(QUICK);
        call.read().map_err(|error| away("asking what pacemaker would do", &error))
    }

    /// Checks the copy, and applies the difference, and only that, if the CIB is still what it was.
    pub fn commit(&self) -> Result<Commit> {
        let sh = shell()?;
        let (have, want) = (self.at("have.xml"), self.at("want.xml"));
        verify(&sh, &want)?;
        // 1: they differ, as diff(1).
        let diff = run(cmd!(sh, "crm_diff --original {have} --new {want}")).deadline(QUICK).allow(&[1]);
        let patch = diff.output().context("comparing the CIB with its copy")?;
        if patch.code == 0 {
            return Ok(Commit::Done);
        }
        match run(cmd!(sh, "cibadmin --patch --xml-pipe"))
            .stdin(patch.stdout.to_vec())
            .deadline(QUICK)
            .output()
        {
            Ok(_) => Ok(Commit::Done),
            Err(error) if error.code() == Some(OLDER) => Ok(Commit::Stale),
            Err(error) => Err(away("changing the CIB", &error)),
        }
    }
}

/// Changes the CIB as `edit` changes its copy, again when somebody was faster; without a change when `edit` says so.
pub fn change(mut edit: impl FnMut(&str, &Draft) -> Result<bool>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let cib = query()?;
        let draft = Draft::new(&cib)?;
        if !edit(&cib, &draft)? || draft.commit()? == Commit::Done {
            return Ok(());
        }
    }
    Err(try_again(format!("pacemaker's configuration changed {ATTEMPTS} times while it was to be changed")))
}

/// `crm_verify` ends with 78 for warnings as well: a node that is away is one.
fn verify(sh: &Shell, cib: &Path) -> Result<()> {
    let output = run(cmd!(sh, "crm_verify --xml-file {cib}")).deadline(QUICK).allow(&[78]).output();
    let output = output.context("checking the CIB's copy")?;
    if output.stderr.contains("Errors found") {
        bail!("checking the CIB's copy: {}", output.stderr.trim());
    }
    Ok(())
}

/// Sets an option of the whole cluster under an id of our choice, or takes it away.
pub fn option(id: &str, name: &str, value: Option<&str>) -> Result<()> {
    let sh = shell()?;
    let set = crate::rows::OPTIONS;
    let what = format!("setting {name}");
    let call = match value {
        None => {
            let path = format!("//nvpair[@id='{id}']");
            run(cmd!(sh, "cibadmin --delete --force --xpath {path}"))
        }
        Some(value) => {
            let xml = format!(
                r#"<cluster_property_set id="{set}"><nvpair id="{id}" name="{name}" value="{value}"/></cluster_property_set>"#
            );
            run(cmd!(sh, "cibadmin --modify --allow-create --scope crm_config --xml-pipe")).stdin(xml)
        }
    };
    call.deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}

/// Marks a node as drained, for good, or takes the mark away.
pub fn standby(node: &str, on: bool) -> Result<()> {
    let sh = shell()?;
    let command = if on {
        cmd!(sh, "crm_attribute --node {node} --name standby --update on")
    } else {
        cmd!(sh, "crm_attribute --node {node} --name standby --delete")
    };
    let what = format!("draining {node}");
    run(command).deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}

/// Tells the other nodes something of this one; forgotten when it leaves.
pub fn tell_others(node: &str, name: &str, value: u64) -> Result<()> {
    let sh = shell()?;
    let value = value.to_string();
    let command = cmd!(sh, "crm_attribute --node {node} --name {name} --lifetime reboot --update {value}");
    let what = format!("telling the other nodes {name}");
    run(command).deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}

/// Takes back what was told.
pub fn forget_telling(node: &str, name: &str) -> Result<()> {
    let sh = shell()?;
    let command = cmd!(sh, "crm_attribute --node {node} --name {name} --lifetime reboot --delete");
    let what = format!("taking back {name}");
    run(command).deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}

/// As `standby`, forgotten when the node leaves.
pub fn standby_until_boot(node: &str, on: bool) -> Result<()> {
    let sh = shell()?;
    let command = if on {
        cmd!(sh, "crm_attribute --node {node} --name standby --lifetime reboot --update on")
    } else {
        cmd!(sh, "crm_attribute --node {node} --name standby --lifetime reboot --delete")
    };
    run(command).deadline(QUICK).output().map(drop).map_err(|error| away("moving all VMs away", &error))
}

/// Waits until pacemaker has nothing left to do.
pub fn settle(patience: Duration) -> Result<()> {
    let sh = shell()?;
    // A file has no pacemaker that would do anything.
    if std::env::var_os("CIB_file").is_some() {
        return Ok(());
    }
    let seconds = patience.as_secs().max(1).to_string();
    let command = cmd!(sh, "crm_resource --wait --timeout={seconds}s");
    match run(command).deadline(patience + QUICK).output() {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(TIMEOUT) => Ok(()),
        Err(error) => Err(away("waiting for pacemaker", &error)),
    }
}

/// Makes a row of ours, or changes it.
pub fn put(row: &Row) -> Result<()> {
    let sh = shell()?;
    let scope = row.scope;
    let call = run(cmd!(sh, "cibadmin --modify --allow-create --scope {scope} --xml-pipe")).stdin(&*row.xml);
    let what = format!("writing {}", row.id);
    call.deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}

/// Takes a row of ours away, when it is there.
pub fn take_away(id: &str) -> Result<()> {
    let sh = shell()?;
    let path = format!("//rsc_location[@id='{id}']");
    let what = format!("taking {id} away");
    match run(cmd!(sh, "cibadmin --delete --force --xpath {path}")).deadline(QUICK).output() {
        Err(error) if error.code() != Some(NOTHING) => Err(away(&what, &error)),
        _ => Ok(()),
    }
}

/// Forgets that a resource failed to start: a node where it did is not tried again for a while.
pub fn forget_failures(resource: &str) -> Result<()> {
    let sh = shell()?;
    // A file has no executor whose history could be cleaned.
    if std::env::var_os("CIB_file").is_some() {
        return Ok(());
    }
    let command = cmd!(sh, "crm_resource --resource {resource} --cleanup");
    let what = format!("forgetting failures of {resource}");
    run(command).deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}

/// Whether a resource shall run.
pub fn target(resource: &str, run_it: bool) -> Result<()> {
    let sh = shell()?;
    let command = if run_it {
        cmd!(sh, "crm_resource --resource {resource} --meta --delete-parameter target-role")
    } else {
        cmd!(
            sh,
            "crm_resource --resource {resource} --meta --set-parameter target-role --parameter-value Stopped"
        )
    };
    let what = format!("changing {resource}");
    run(command).deadline(QUICK).output().map(drop).map_err(|error| away(&what, &error))
}
