//! All calls of the `gluster` program. Each has a deadline: with a peer that has just died, glusterd keeps
//! its caller waiting for up to two minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::try_again;
use xshell::{Shell, cmd};

use crate::action::Action;
use crate::xml::{self, BrickHeal, Fault, Peer, VolumeInfo};

/// For questions that glusterd answers out of its own memory.
const ASK: Duration = Duration::from_secs(60);
/// For questions that make glusterd ask its peers.
const ASK_PEERS: Duration = Duration::from_secs(150);
/// For changes, which take the cluster's lock and run on every node.
const CHANGE: Duration = Duration::from_secs(300);
/// So much later than the program's own limit it is killed: its words are better than our silence.
const LATER: Duration = Duration::from_secs(5);

/// What `heal info` ends with when it reaches no glusterd: -ENOTCONN, as far as eight bits hold it.
const NOT_CONNECTED: i32 = 149;

/// Management TLS is on.
const SECURE_ACCESS: &str = "var/lib/glusterd/secure-access";
/// The key, a link to where pc-unlock opens it: on Debian, on NixOS.
const KEYS: [&str; 2] = ["usr/lib/ssl/glusterfs.key", "etc/ssl/glusterfs.key"];

fn call(arguments: &[&str], deadline: Duration) -> Result<String> {
    let sh = Shell::new().context("finding the working directory")?;
    let verb = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    pc_cli::log::debug(format_args!("gluster {}", arguments.join(" ")));
    // By itself it waits two minutes: on a slow machine many options at once take longer on three nodes.
    let patience = format!("--timeout={}", deadline.as_secs());
    let run = pc_run::run(cmd!(sh, "gluster --mode=script --xml {patience} {arguments...}"));
    // 1 is what the program ends with when it cannot reach glusterd, or waited for its answer as long as it was told; it
    // says which on stdout.
    match run.deadline(deadline + LATER).allow(&[1, NOT_CONNECTED]).output() {
        Ok(output) if output.code == 0 || output.text().contains("<cliOutput>") => Ok(output.text()),
        Ok(output) if output.text().contains("onnection failed") => Err(try_again(silence(Path::new("/")))),
        Ok(output) if output.text().contains("Request timed out") => Err(late(&verb, deadline)),
        Ok(output) if output.code == NOT_CONNECTED => Err(try_again(format!(
            "gluster {verb}: what it has to ask is not connected\n  pc-gluster status"
        ))),
        Ok(output) => {
            let said = [output.text(), output.stderr].concat();
            Err(anyhow::anyhow!("gluster {verb}: {}", said.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
        Err(error) if error.is_missing() => {
            Err(anyhow::anyhow!("{error}\n  apt-get install glusterfs-server"))
        }
        Err(pc_run::Error::TimedOut { .. }) => Err(late(&verb, deadline + LATER)),
        Err(error) => Err(anyhow::Error::new(error).context(format!("gluster {verb}"))),
    }
}

fn late(verb: &str, waited: Duration) -> anyhow::Error {
    try_again(format!(
        "gluster {verb}: no answer from glusterd within {} s\n  systemctl status glusterd",
        waited.as_secs()
    ))
}

/// Why nobody answers: with TLS glusterd is not started before the node's key is open (units/glusterd.service.d).
fn silence(root: &Path) -> &'static str {
    let is_there = |path: &&str| root.join(path).exists();
    if is_there(&SECURE_ACCESS) && !KEYS.iter().any(is_there) {
        return "glusterd waits for this node's key, which is not open yet\n  pc-unlock status";
    }
    "glusterd does not answer on this node\n  systemctl start glusterd"
}

/// What only needs time, or another node, to succeed. Substrings of messages in glusterd's sources; there
/// are no error numbers for them.
const PASSING: [&str; 9] = [
    "Another transaction is in progress",
    "Locking failed",
    "not connected",
    "uorum",
    "timed out",
    "Staging failed",
    "Commit failed",
    "Peer in Cluster",
    "already part of a volume",
];

fn judge<T>(verb: &str, result: Result<T, Fault>) -> Result<T> {
    result.map_err(|fault| {
        let text = format!("{verb}: {fault}");
        let passes = matches!(&fault, Fault::Refused { message, .. } if PASSING.iter().any(|part| message.contains(part)));
        if passes { try_again(text) } else { anyhow::anyhow!(text) }
    })
}

/// The other members of the pool.
pub fn peers() -> Result<Vec<Peer>> {
    judge("gluster peer status", xml::peers(&call(&["peer", "status"], ASK)?))
}

/// Every volume.
pub fn volumes() -> Result<BTreeMap<String, VolumeInfo>> {
    judge("gluster volume info", xml::volumes(&call(&["volume", "info"], ASK)?))
}

/// The bricks of a volume and whether they run, asked of every node that is connected.
pub fn bricks_online(volume: &str, deadline: Option<Duration>) -> Result<BTreeMap<String, bool>> {
    let text = call(&["volume", "status", volume], deadline.unwrap_or(ASK_PEERS))?;
    judge("gluster volume status", xml::bricks_online(&text))
}

/// Bricks of a volume that run without a port that glusterd knows.
pub fn bricks_lost(volume: &str, deadline: Duration) -> Result<BTreeSet<String>> {
    judge("gluster volume status", xml::bricks_lost(&call(&["volume", "status", volume], deadline)?))
}

/// The heal backlog, asked of every brick.
pub fn heal_backlog(volume: &str) -> Result<Vec<BrickHeal>> {
    let text = call(&["volume", "heal", volume, "info", "summary"], ASK_PEERS)?;
    judge("gluster volume heal", xml::heal(&text))
}

/// Tells the self-heal daemons to look at their index now.
pub fn heal_now(volume: &str) -> Result<()> {
    change(&["volume", "heal", volume])
}

/// Gives a brick's place to another one; what must hold first is the caller's to check.
pub fn replace_brick(volume: &str, old: &str, new: &str) -> Result<()> {
    change(&["volume", "replace-brick", volume, old, new, "commit", "force"])
}

fn change(arguments: &[&str]) -> Result<()> {
    let verb = arguments.iter().take(3).copied().collect::<Vec<_>>().join(" ");
    judge(&format!("gluster {verb}"), xml::done(&call(arguments, CHANGE)?))
}

/// Carries out those actions that are one command of Gluster's; the others belong to the host.
pub fn carry_out(action: &Action) -> Result<()> {
    match action {
        Action::PeerProbe { node } | Action::PeerRename { node } => change(&["peer", "probe", node]),
        Action::VolumeCreate { volume, set_size, arbiter, bricks } => {
            let copies = copies(*set_size, *arbiter);
            let mut arguments = vec!["volume", "create", volume.as_str()];
            arguments.extend(copies.iter().map(String::as_str).filter(|_| *set_size > 1));
            arguments.extend(["transport", "tcp"]);
            arguments.extend(bricks.iter().map(String::as_str));
            change(&arguments)
        }
        Action::VolumeSet { volume, options } => {
            let mut arguments = vec!["volume", "set", volume.as_str()];
            arguments.extend(options.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]));
            change(&arguments)
        }
        Action::VolumeStart { volume } => change(&["volume", "start", volume]),
        Action::BrickStart { volume, .. }
        | Action::BrickRestart { volume, .. }
        | Action::HealerStart { volume } => change(&["volume", "start", volume, "force"]),
        Action::BrickAdd { volume, set_size, arbiter, new_sets, bricks } => {
            let copies = copies(*set_size, *arbiter);
            let mut arguments = vec!["volume", "add-brick", volume.as_str()];
            arguments.extend(copies.iter().map(String::as_str).filter(|_| !*new_sets));
            arguments.extend(bricks.iter().map(String::as_str));
            change(&arguments)?;
            if !*new_sets {
                return Ok(());
            }
            // Files stay where they are: only new ones (for images: new shards) go to the new sets as well.
            change(&["volume", "rebalance", volume, "fix-layout", "start"])
        }
        other => anyhow::bail!("{other}: is no command of gluster"),
    }
}

fn copies(set_size: usize, arbiter: bool) -> Vec<String> {
    let mut words = vec!["replica".to_string(), set_size.to_string()];
    if arbiter {
        words.extend(["arbiter".to_string(), "1".to_string()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn who_waits_for_its_key_is_not_to_be_started() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        assert!(silence(root.path()).ends_with("systemctl start glusterd"));
        for directory in ["var/lib/glusterd", "usr/lib/ssl"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        fs::write(path(SECURE_ACCESS), "").unwrap();
        symlink(path("node.key"), path(KEYS[0])).unwrap();
        assert!(silence(root.path()).ends_with("pc-unlock status"));
        fs::write(path("node.key"), "").unwrap();
        assert!(silence(root.path()).ends_with("systemctl start glusterd"));
    }
}
