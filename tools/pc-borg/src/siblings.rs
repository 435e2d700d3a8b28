//! All calls of pc-vm, pc-unlock and pc-dirty: found on PATH, fed through stdin, read as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use pc_cli::{Common, Exit, refused, try_again};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::child::{attend, bound_to_us, how};
use crate::duty::{self, Guest};

/// QEMU opens images on a volume that may be busy healing; a guest that does not stop has its plug pulled.
const START: Duration = Duration::from_secs(900);
/// Sealing and opening ask every Tang server; a server that hangs costs its own deadline.
const UNLOCK: Duration = Duration::from_secs(120);
/// pc-vm gives each node 20 s, all at once.
const LIST: Duration = Duration::from_secs(120);

/// Where every VM runs, asked of all nodes.
pub fn guests(common: &Common) -> Result<BTreeMap<String, Guest>> {
    let mut command = Command::new("pc-vm");
    command.args(flags(common)).args(["list", "--json"]);
    let answer = pc_run::run(command).deadline(LIST).output().map_err(|error| ours(&error))?;
    duty::parse_list(&answer.stdout)
}

/// The definition of a copy of a VM, whose files are in `directory`, and whose console is written to a file of its own: the
/// same machine, without network card or anything by which it could be taken for the VM.
pub fn definition(common: &Common, vm: &str, copy: &str, directory: &Path, console: &Path) -> Result<String> {
    let mut command = Command::new("pc-vm");
    command.args(flags(common)).args(["xml", vm, "--as", copy, "--copy"]).arg(directory);
    command.arg("--console").arg(console);
    let answer = pc_run::run(command).deadline(LIST).output().map_err(|error| ours(&error))?;
    Ok(answer.text())
}

/// Has a VM started on this node whose disk is an overlay over `archive`: under all the rules of a start.
pub fn start_over(common: &Common, vm: &str, archive: &Path, dead: &[String]) -> Result<()> {
    let mut command = Command::new("pc-vm");
    command.args(flags(common)).args(["start", vm, "--here", "--over"]).arg(archive);
    for node in dead {
        command.args(["--owner-is-dead", node]);
    }
    pc_run::run(command).deadline(START).output().map(drop).map_err(|error| ours(&error))
}

/// Has a VM stopped that runs on this node: its power button, and after so many seconds its plug.
pub fn stop(common: &Common, vm: &str, seconds: u64) -> Result<()> {
    let mut command = Command::new("pc-vm");
    command.args(flags(common)).args(["stop", vm, "--here", "--timeout", &seconds.to_string()]);
    pc_run::run(command).deadline(START).output().map(drop).map_err(|error| ours(&error))
}

/// An error unless a VM runs nowhere, by pc-vm's own verdict: whom its record names, and not every node, has to answer, but for
/// those that are `dead`. That it runs nowhere is noted.
pub fn require_idle(common: &Common, vm: &str, dead: &[String]) -> Result<()> {
    let mut command = Command::new("pc-vm");
    command.args(flags(common)).args(["disown", vm]);
    for node in dead {
        command.args(["--owner-is-dead", node]);
    }
    let error = match pc_run::run(command).deadline(LIST).output() {
        Ok(_) => return Ok(()),
        Err(error) => ours(&error),
    };
    // What it would have somebody do next is for whom it is made for, pacemaker.
    let said = error.to_string();
    let said = said.lines().next().unwrap_or_default();
    match Exit::of(&error) {
        Exit::TryAgain => Err(try_again(format!(
            "{said}\n  when that node is switched off for certain: pc-borg instant {vm} --owner-is-dead NODE"
        ))),
        Exit::Refused => Err(refused(format!("{said}\n  pc-vm list"))),
        _ => Err(error),
    }
}

/// What `pc-dirty --json` (pc.dirty.extents/1) says; the extents themselves go to pc-segments unread.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Dirty {
    schema: String,
    /// The dearest way that any disk needed: `bitmap`, `digest`, `full`.
    pub method: String,
    /// Why that one.
    pub reason: String,
    /// Its disks.
    pub disks: Vec<DirtyDisk>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DirtyDisk {
    /// What was read to find out.
    #[serde(default)]
    pub read_bytes: u64,
}

/// Reads pc.dirty.extents/1.
pub fn parse_dirty(json: &[u8]) -> Result<Dirty> {
    let dirty: Dirty = serde_json::from_slice(json).context("reading what pc-dirty said")?;
    if dirty.schema != "pc.dirty.extents/1" {
        anyhow::bail!(
            "pc-dirty answers {:?}, not pc.dirty.extents/1: install the same version",
            dirty.schema
        );
    }
    Ok(dirty)
}

/// What changed on `image` (`vda=SOURCE`) since the state; the answer is written to `extents` for pc-segments.
pub fn dirty(
    image: &str,
    state: &Path,
    segment_bytes: u64,
    extents: &Path,
    may_go_on: &dyn Fn() -> Result<()>,
) -> Result<Dirty> {
    let mut command = bound_to_us("pc-dirty", "TERM");
    command.args(["--image", image, "--segment", &segment_bytes.to_string(), "--json", "--state"]).arg(state);
    let mut text = Vec::new();
    let mut keep = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        Ok(())
    };
    let ended = attend(command, None, &mut keep, &mut |_| (), may_go_on)?;
    answered("pc-dirty", ended.status.code(), &how(ended.status), &ended.stderr.join("\n"))?;
    let dirty = parse_dirty(&text)?;
    std::fs::write(extents, &text).with_context(|| format!("writing {}", extents.display()))?;
    Ok(dirty)
}

/// Seals a secret to the file's unlock servers: afterwards it lies in `/etc/personal-cluster/sealed`.
pub fn seal(common: &Common, name: &str, secret: &Zeroizing<Vec<u8>>) -> Result<()> {
    let mut command = Command::new("pc-unlock");
    command.args(flags(common)).args(["seal", name]);
    let run = pc_run::run(command).stdin(secret.to_vec()).deadline(UNLOCK);
    run.output().map(drop).map_err(|error| ours(&error)).with_context(|| format!("sealing {name}"))
}

/// Opens what was sealed.
pub fn unseal(sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let mut command = Command::new("pc-unlock");
    command.arg("decrypt");
    let answer =
        pc_run::run(command).stdin(sealed).deadline(UNLOCK).output().map_err(|error| ours(&error))?;
    Ok(answer.stdout)
}

/// The same file, node and root for a sibling.
fn flags(common: &Common) -> Vec<String> {
    let mut flags = Vec::new();
    if common.root != Path::new("/") {
        flags.extend(["--root".into(), common.root.display().to_string()]);
    }
    if common.applied {
        flags.push("--applied".into());
    } else if let Some(file) = &common.file {
        flags.extend(["--file".into(), file.display().to_string()]);
    }
    if let Some(node) = &common.node {
        flags.extend(["--node".into(), node.clone()]);
    }
    flags
}

/// A sibling's refusal is ours, and so is its "try again".
fn ours(error: &pc_run::Error) -> anyhow::Error {
    let pc_run::Error::Failed { program, stderr, .. } = error else { return anyhow!("{error}") };
    let program = program.split(' ').next().unwrap_or(program);
    match answered(program, error.code(), "", stderr) {
        Ok(()) => anyhow!("{error}"),
        Err(ours) => ours,
    }
}

/// Turns a sibling's exit code into the error that we end with.
pub fn answered(program: &str, code: Option<i32>, how: &str, stderr: &str) -> Result<()> {
    if stderr.contains(&format!("failed to execute {program}")) {
        return Err(anyhow!("{program} is not installed\n  apt-get install {program}"));
    }
    let mut lines = stderr.lines().filter(|line| !line.starts_with("warning: "));
    let said: Vec<&str> = lines.by_ref().map(|line| line.trim_start_matches("error: ")).collect();
    let said = said.join("\n");
    let said = format!("{program}: {}", if said.is_empty() { how } else { said.as_str() });
    match code {
        Some(0) => Ok(()),
        Some(2) => Err(refused(said)),
        Some(75) => Err(try_again(said)),
        _ => Err(anyhow!(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_siblings_code_is_ours() {
        let of = |code, stderr: &str| {
            let error = answered("pc-dirty", code, "killed by signal 9", stderr).unwrap_err();
            (Exit::of(&error), error.to_string())
        };
        assert_eq!(
            of(Some(75), "warning: slow\nerror: another run holds it\n  wait\n"),
            (Exit::TryAgain, "pc-dirty: another run holds it\n  wait".into())
        );
        assert_eq!(
            of(Some(127), "setsid: failed to execute pc-dirty: No such file or directory\n"),
            (Exit::Failed, "pc-dirty is not installed\n  apt-get install pc-dirty".into())
        );
        assert_eq!(of(Some(2), "error: bad\n"), (Exit::Refused, "pc-dirty: bad".into()));
        assert_eq!(of(None, ""), (Exit::Failed, "pc-dirty: killed by signal 9".into()));
        answered("pc-dirty", Some(0), "", "warning: x").unwrap();
    }

    #[test]
    fn another_version_is_told() {
        let error =
            parse_dirty(br#"{"schema": "pc.dirty.extents/2", "method": "x", "reason": "", "disks": []}"#);
        assert!(error.unwrap_err().to_string().contains("install the same version"));
    }
}
