//! All calls of ssh(1): a verb on another node, with the certificates and the client configuration of pc-trust. There
//! a forced command (`pc-trust gate`) admits listed verbs only.
//!
//! Never a shell, never an argument that the gate does not list, never without a deadline.

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
#[derive(Debug)]
pub struct Ssh {
    config: PathBuf,
}

/// One verb on one node, not yet asked for.
#[derive(Debug)]
pub struct Call<'a> {
    config: &'a Path,
    node: &'a str,
    verb: &'a str,
    stdin: Option<&'a str>,
    deadline: Duration,
    connect: Option<Duration>,
    answers: &'a [i32],
}

impl Ssh {
    /// Needs what `pc-trust init` or `join` leaves on a member.
    ///
    /// # Errors
    /// Refused on a machine that is no member; 75 while its secrets are not open.
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

    /// Prepares one admitted verb on a node, with a deadline of three minutes.
    pub fn verb<'a>(&'a self, node: &'a str, verb: &'a str) -> Call<'a> {
        Call {
            config: &self.config,
            node,
            verb,
            stdin: None,
            deadline: DEADLINE,
            connect: None,
            answers: &[],
        }
    }
}

impl<'a> Call<'a> {
    /// What the verb reads from its standard input.
    #[must_use]
    pub fn stdin(mut self, text: &'a str) -> Call<'a> {
        self.stdin = Some(text);
        self
    }

    /// How long connecting and answering may take together.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Call<'a> {
        self.deadline = deadline;
        self
    }

    /// How long connecting alone may take, in whole seconds: who is there is found out sooner than what it says.
    #[must_use]
    pub fn connect_within(mut self, limit: Duration) -> Call<'a> {
        self.connect = Some(limit);
        self
    }

    /// Exit codes beside 0 with which the verb has answered.
    #[must_use]
    pub fn allow(mut self, answers: &'a [i32]) -> Call<'a> {
        self.answers = answers;
        self
    }

    /// Runs it; what it wrote to its standard output.
    ///
    /// # Errors
    /// The verb's own refusals and "try again" as such; 75 for a node that is not there, refused for one that does
    /// not prove who it is.
    pub fn text(self) -> Result<String> {
        let sh = Shell::new()?;
        let Call { config, node, verb, .. } = self;
        let limit = self.connect.map(|limit| format!("-oConnectTimeout={}", limit.as_secs().max(1)));
        let mut run = pc_run::run(cmd!(sh, "ssh -F {config} {limit...} -- {node} {verb}"))
            .deadline(self.deadline)
            .allow(self.answers);
        if let Some(stdin) = self.stdin {
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
    use clap::Parser;
    use pc_cli::Exit;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        common: Common,
    }

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

    #[test]
    fn no_member_is_refused_and_closed_secrets_are_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let cli = Cli::parse_from(["x", "--root", &root.path().to_string_lossy()]);
        let error = Ssh::of(&cli.common).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Refused, "{error:#}");
        let trust = cli.common.under_root(cluster::paths::TRUST);
        std::fs::create_dir_all(&trust).unwrap();
        std::fs::write(trust.join("ssh_config"), "").unwrap();
        let error = Ssh::of(&cli.common).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TryAgain, "{error:#}");
        let secrets = cli.common.under_root(cluster::paths::SECRETS);
        std::fs::create_dir_all(&secrets).unwrap();
        std::fs::write(secrets.join("ssh-user.key"), "").unwrap();
        Ssh::of(&cli.common).unwrap();
    }
}
