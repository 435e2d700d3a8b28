//! All calls of ssh(1): other nodes, with the certificates and the client configuration of pc-trust. There a
//! forced command admits listed verbs only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use pc_cli::{Common, refused, try_again};
use xshell::{Shell, cmd};

/// Connecting, checking signatures and writing a few files; machines under emulation are slow.
const DEADLINE: Duration = Duration::from_secs(180);
/// ssh's own exit code, for everything that is not the remote program's.
const UNREACHABLE: i32 = 255;

/// The way to the other nodes.
pub struct Ssh {
    config: PathBuf,
}

impl Ssh {
    /// Needs what `pc-trust init` or `join` leaves on a member.
    pub fn of(common: &Common) -> Result<Ssh> {
        let config = common.under_root(cluster::paths::TRUST).join("ssh_config");
        if !config.exists() {
            return Err(refused(format!(
                "this machine belongs to no cluster: {} is missing\n  pc-trust init FILE, or pc-trust join ADDRESS TOKEN",
                config.display()
            )));
        }
        // ssh would only say that the others deny permission.
        let key = common.under_root(cluster::paths::SECRETS).join("ssh-user.key");
        if !key.exists() {
            return Err(try_again(format!(
                "this node's secrets are not open yet: {} is missing\n  pc-trust status",
                key.display()
            )));
        }
        Ok(Ssh { config })
    }

    /// Runs one admitted verb on a node.
    pub fn run(&self, node: &str, verb: &str, stdin: Option<&str>) -> Result<String> {
        let sh = Shell::new()?;
        let config: &Path = &self.config;
        let mut run = pc_run::run(cmd!(sh, "ssh -F {config} -- {node} {verb}")).deadline(DEADLINE);
        if let Some(stdin) = stdin {
            run = run.stdin(stdin);
        }
        match run.output() {
            Ok(output) => Ok(output.text()),
            Err(error) => Err(told(node, &error)),
        }
    }
}

/// A refusal stays a refusal; a node that is not there, or not ready, may be later.
fn told(node: &str, error: &pc_run::Error) -> anyhow::Error {
    let said = error.stderr().trim();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    match (error, error.code()) {
        (_, Some(2)) => refused(format!("{node} refuses: {said}")),
        (_, Some(75)) => try_again(format!("{node}: {said}")),
        (_, Some(UNREACHABLE)) => {
            let why = said.lines().last().map_or("no answer", |line| line.trim_end_matches('\r'));
            stranger(node, why).unwrap_or_else(|| try_again(format!("{node} cannot be reached: {why}")))
        }
        (pc_run::Error::TimedOut { .. }, _) => try_again(format!("{node} does not answer: {error}")),
        (_, Some(_)) => anyhow!("{node}: {said}"),
        _ => anyhow!("{node}: {error}"),
    }
}

/// It answers, and one of the two ends has no certificate of this cluster: asking again changes nothing. The
/// texts are OpenSSH's own (sshconnect.c, sshconnect2.c, kex.c).
fn stranger(node: &str, why: &str) -> Option<anyhow::Error> {
    let host = ["Host key verification failed", "no matching host key type found"];
    if host.iter().any(|text| why.contains(text)) {
        return Some(refused(format!(
            "{node} does not prove that it is {node}: {why}\n  if it was installed anew: `pc-trust token {node}` here, then join there"
        )));
    }
    why.contains("Permission denied (").then(|| {
        refused(format!("{node} does not let this node in: {why}\n  compare `pc-trust status` of both"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_from_the_absent() {
        for why in [
            "Host key verification failed.",
            "Unable to negotiate with 10.0.0.3 port 22: no matching host key type found. Their offer: ssh-ed25519",
            "root@10.0.0.3: Permission denied (publickey).",
        ] {
            assert!(stranger("node3", why).is_some(), "{why}");
        }
        for why in ["ssh: connect to host 10.0.0.3 port 22: No route to host", "no answer"] {
            assert!(stranger("node3", why).is_none(), "{why}");
        }
    }
}
