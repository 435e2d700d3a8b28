//! `init`, `key export`, `key acknowledge`: a repository is only worth what the copy of its key is.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use pc_cli::{log, refused};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::archive::Holdings;
use crate::borg::Borg;
use crate::passphrase;
use crate::records::{KeyRecord, Records};
use crate::session::{self, Session};
use crate::site::{Heal, Site, now};
use crate::want::Policy;

/// How `init` is asked.
#[derive(Debug, clap::Args)]
pub struct InitOptions {
    /// The policy
    pub policy: String,
    /// Use this passphrase instead of a new one: that of a repository which exists; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.init/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Initialised {
    /// `pc.borg.init/1`.
    pub schema: &'static str,
    /// The policy.
    pub policy: String,
    /// Its repository.
    pub repository: String,
    /// It was made now; false: it was there.
    pub made: bool,
    /// Somebody has vouched for a copy of its key.
    pub key_acknowledged: bool,
}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.made { "made, encrypted" } else { "was there, and opens" };
        writeln!(f, "{}: {what}", self.repository)?;
        if !self.key_acknowledged {
            writeln!(
                f,
                "no backup runs before a copy of its key is elsewhere:\n  pc-borg key export {}",
                self.policy
            )?;
        }
        Ok(())
    }
}

/// Makes the passphrase and the repository, each unless it is there.
pub fn init(site: &Site, options: &InitOptions) -> Result<Initialised> {
    let policy = site.policy(&options.policy)?;
    site.require_policy(policy, Heal::Ignored)?;
    let session = Session::open_with(site, policy, "init", &options.lock, || {
        if let Some(file) = &options.passphrase_file {
            return passphrase::given(file);
        }
        if let Some(known) = passphrase::find(site, policy)? {
            return Ok(known);
        }
        let new = passphrase::new()?;
        // First kept, then used: a repository whose passphrase nobody knows is no backup.
        passphrase::keep(site, policy, &new)?;
        Ok(new)
    })?;
    let guard = session.guard(site);
    let borg = session.borg(site, policy, &guard);
    let made = borg.init()?;
    if options.passphrase_file.is_some() {
        // It opens the repository, or made it: now it is worth keeping.
        passphrase::keep(site, policy, &session.passphrase)?;
    }
    // A repository that was made anew, or taken over, has a key that nobody has vouched for.
    if let Err(error) = require_same(&borg, &site.records(policy), policy) {
        if !error.is::<pc_cli::Refused>() {
            return Err(error);
        }
        log::warning(format_args!(
            "backup.{}: the copy of a key that lies elsewhere is of another one",
            policy.name
        ));
        site.records(policy).forget_key()?;
    }
    if made {
        log::info(format_args!("backup.{}: {} made", policy.name, policy.repository()));
    }
    Ok(Initialised {
        schema: "pc.borg.init/1",
        policy: policy.name.to_string(),
        repository: policy.repository(),
        made,
        key_acknowledged: site.records(policy).key()?.is_some(),
    })
}

/// How `key` is asked.
#[derive(Debug, clap::Subcommand)]
pub enum KeyVerb {
    /// Print the key and its passphrase, to be kept outside of the cluster
    Export {
        /// The policy
        policy: String,
        /// With QR codes of both
        #[arg(long)]
        qr: bool,
        #[command(flatten)]
        lock: session::LockOptions,
    },
    /// Vouch for a copy of the key: CODE stands on it
    Acknowledge {
        /// The policy
        policy: String,
        /// The code that `key export` printed
        code: String,
        #[command(flatten)]
        lock: session::LockOptions,
    },
}

/// `pc.borg.key.export/1`: a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// `pc.borg.key.export/1`.
    pub schema: &'static str,
    /// The policy.
    pub policy: String,
    /// The repository that it opens.
    pub repository: String,
    /// The passphrase: with the repository at hand, all that is needed.
    pub passphrase: String,
    /// The key, encrypted to the passphrase, as `borg key import` takes it: for a repository whose own copy is damaged.
    pub key: String,
    /// What `key acknowledge` asks for.
    pub code: String,
    /// QR codes as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr: Option<Vec<String>>,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Backup {} of this cluster: {}\n", self.policy, self.repository)?;
        writeln!(f, "Passphrase (opens it):\n{}\n", self.passphrase)?;
        writeln!(
            f,
            "Key (for `borg key import`, when the repository's own copy is damaged):\n{}\n",
            self.key.trim_end()
        )?;
        for code in self.qr.iter().flatten() {
            writeln!(f, "{code}")?;
        }
        writeln!(f, "Code: {}\n", self.code)?;
        writeln!(
            f,
            "Print this, keep it outside of the cluster, and then:\n  pc-borg key acknowledge {} {}",
            self.policy, self.code
        )
    }
}

/// The key and its passphrase.
pub fn export(site: &Site, policy: &str, qr: bool, lock: &session::LockOptions) -> Result<Exported> {
    let policy = site.policy(policy)?;
    let session = Session::open(site, policy, "key export", lock)?;
    let guard = session.guard(site);
    let borg = session.borg(site, policy, &guard);
    // A passphrase that does not open it must not be put into a safe.
    borg.list()?;
    let key = String::from_utf8(borg.key()?.to_vec()).context("the key is text")?;
    let passphrase = String::from_utf8(session.passphrase.to_vec())
        .map_err(|_| refused("the passphrase is not UTF-8: it cannot be printed"))?;
    let codes =
        qr.then(|| [&passphrase, &key].map(|text| qr_code(text)).into_iter().collect::<Result<Vec<_>>>());
    Ok(Exported {
        schema: "pc.borg.key.export/1",
        policy: policy.name.to_string(),
        repository: policy.repository(),
        code: code(&key),
        passphrase,
        key,
        qr: codes.transpose()?,
    })
}

/// `pc.borg.key.acknowledge/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vouched {
    /// `pc.borg.key.acknowledge/1`.
    pub schema: &'static str,
    /// The policy.
    pub policy: String,
    /// When, RFC 3339 UTC.
    pub acknowledged_at: String,
}

impl fmt::Display for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "backup.{}: a copy of the key is elsewhere, backups may run", self.policy)
    }
}

/// Notes that a copy exists; the code proves that somebody looked at it.
pub fn acknowledge(site: &Site, policy: &str, given: &str, lock: &session::LockOptions) -> Result<Vouched> {
    let policy = site.policy(policy)?;
    let session = Session::open(site, policy, "key acknowledge", lock)?;
    let guard = session.guard(site);
    let borg = session.borg(site, policy, &guard);
    let key = String::from_utf8(borg.key()?.to_vec()).context("the key is text")?;
    let id = borg.holdings()?.id;
    if code(&key) != given.trim().to_ascii_lowercase() {
        return Err(refused(format!(
            "backup.{0}: {given:?} is not the code of its present key\n  pc-borg key export {0}",
            policy.name
        )));
    }
    let record = site.records(policy).acknowledge(&code(&key), site.node(), now(), &id)?;
    Ok(Vouched {
        schema: "pc.borg.key.acknowledge/1",
        policy: policy.name.to_string(),
        acknowledged_at: record.acknowledged_at,
    })
}

/// Refuses when the copy that somebody vouched for is of another repository's key; how the repository was found.
pub fn require_same(borg: &Borg, records: &Records, policy: &Policy) -> Result<Holdings> {
    let held = borg.holdings()?;
    let Some(record) = records.key()? else { return Ok(held) };
    if record.repository_id.as_deref() == Some(&held.id) {
        return Ok(held);
    }
    let key = String::from_utf8(borg.key()?.to_vec()).context("the key is text")?;
    if code(&key) != record.code {
        return Err(refused(format!(
            "backup.{0}: the repository is not the one whose key has a copy outside of this cluster\n  pc-borg key export {0}",
            policy.name
        )));
    }
    records.set_key(&KeyRecord { repository_id: Some(held.id.clone()), ..record })?;
    Ok(held)
}

/// Eight digits of the key's digest: they tell nothing about the key, and another key has others.
fn code(key: &str) -> String {
    let digest = format!("{:x}", Sha256::digest(key.trim()));
    format!("{}-{}", &digest[..4], &digest[4..8])
}

/// The text goes through stdin.
fn qr_code(text: &str) -> Result<String> {
    let mut command = Command::new("qrencode");
    command.args(["-t", "UTF8", "-o", "-"]);
    let answer = pc_run::run(command).stdin(text.trim().as_bytes()).output();
    let answer = answer.context("drawing a QR code\n  apt-get install qrencode")?;
    Ok(answer.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'BORG_KEY x' | sha256sum`
    #[test]
    fn the_code_is_the_beginning_of_the_digest() {
        let sum = std::process::Command::new("sh")
            .args(["-c", "printf 'BORG_KEY x' | sha256sum"])
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(code("BORG_KEY x\n"), format!("{}-{}", &sum[..4], &sum[4..8]));
    }
}
