//! All calls of `pc-trust`: signing a generation, and checking what another node signed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use pc_cli::{Common, Exit, log, refused, try_again};
use serde::Deserialize;
use xshell::{Shell, cmd};

const DEADLINE: Duration = Duration::from_secs(60);

/// What a node of this cluster signed: `pc.trust.verified/1`.
#[derive(Debug, Deserialize)]
pub struct Verified {
    /// The node.
    pub signer: String,
    /// The text.
    pub content: String,
}

/// The cluster's CA as this node knows it.
pub struct Trust {
    root: PathBuf,
    member: bool,
}

impl Trust {
    /// Looks whether this machine belongs to a cluster.
    pub fn of(common: &Common) -> Trust {
        let ca = common.under_root(cluster::paths::TRUST).join("ca.crt");
        Trust { root: common.root.clone(), member: ca.exists() }
    }

    /// Whether this machine has the CA's certificate.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// Signs a text with this node's key.
    pub fn sign(&self, text: &str) -> Result<String> {
        let sh = Shell::new()?;
        let root = self.root();
        answer(pc_run::run(cmd!(sh, "pc-trust {root...} sign")).stdin(text).deadline(DEADLINE), "signing")
    }

    /// What the holder of a certificate of this cluster signed; anything else is refused.
    pub fn verify(&self, signed: &str) -> Result<Verified> {
        if !self.member {
            return Err(refused(
                "this machine belongs to no cluster and cannot tell who signed\n  join first: pc-trust join ADDRESS TOKEN",
            ));
        }
        let sh = Shell::new()?;
        let root = self.root();
        let run = pc_run::run(cmd!(sh, "pc-trust {root...} --json verify")).stdin(signed).deadline(DEADLINE);
        let doing = "checking the signature";
        serde_json::from_str(&answer(run, doing)?).context(doing)
    }

    /// Whether others take this record: one that was signed under a CA that was given up says nothing to them. One that cannot be
    /// checked now is not given up for that.
    pub fn holds(&self, record: &str) -> bool {
        match self.verify(record) {
            Err(error) if Exit::of(&error) == Exit::Refused => {
                log::debug(format_args!("the record of this file is no longer good: {error:#}"));
                false
            }
            Err(error) => {
                log::warning(format_args!("{error:#}"));
                true
            }
            Ok(_) => true,
        }
    }

    fn root(&self) -> Vec<String> {
        if self.root == std::path::Path::new("/") {
            return Vec::new();
        }
        vec!["--root".into(), self.root.display().to_string()]
    }
}

/// A sibling's refusal is ours, and so is its "try again".
fn answer(run: pc_run::Run, doing: &str) -> Result<String> {
    match run.output() {
        Ok(output) => Ok(output.text()),
        Err(error) => Err(passed_on(&error, doing)),
    }
}

/// The error of a sibling with its own exit code.
pub fn passed_on(error: &pc_run::Error, doing: &str) -> anyhow::Error {
    let said = error.stderr().trim();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    match error.code() {
        Some(2) => refused(format!("{doing}: {said}")),
        Some(75) => try_again(format!("{doing}: {said}")),
        _ => anyhow!("{doing}: {error}"),
    }
}
