//! What a member can lose, file by file, and how each comes back.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use cluster::Cluster;
use pc_cli::Common;
use rcgen::{KeyPair, PublicKeyData};

use crate::member::Member;
use crate::paths::{CA_CERTIFICATE, CA_KEYS, MEMBER, NODE_CERTIFICATE, Paths, RECOVERY_KEY, SECRETS, SSH_CA};
use crate::token::hex;
use crate::{files, secrets, ssh, wrap, x509};

/// Says how a member gets back what it cannot make itself.
pub struct Way {
    node: String,
    /// The other nodes of the file; `None` when it cannot be read.
    others: Option<Vec<String>>,
    file: PathBuf,
    member: PathBuf,
}

impl Way {
    /// For this member; without a cluster file it names no other nodes.
    pub fn new(common: &Common, node: &str, cluster: Option<&Cluster>) -> Way {
        let name = |node: &cluster::Node| node.name.to_string();
        let others =
            cluster.map(|cluster| cluster.nodes.iter().map(name).filter(|other| other != node).collect());
        let member = Paths::new(&common.root).trust(MEMBER);
        Way { node: node.into(), others, file: common.cluster_file(), member }
    }

    /// The commands. A node that is alone may have a new CA, as nobody trusts the old one.
    fn back(&self, key_is_lost: bool) -> String {
        let others = match &self.others {
            None => "another member".into(),
            Some(others) if others.is_empty() => return self.alone(key_is_lost),
            Some(others) => others.join(" or "),
        };
        format!("`pc-trust token {}` on {others}, then here the `pc-trust join` that it prints", self.node)
    }

    fn alone(&self, key_is_lost: bool) -> String {
        let given = if key_is_lost { " --recovery-key-file -` with the key from paper" } else { "`" };
        let (member, file) = (self.member.display(), self.file.display());
        format!("from a backup, or `rm {member}` and `pc-trust init {file}{given}")
    }
}

/// What is wrong with the files of this member, a line each with the way back.
pub fn problems(paths: &Paths, member: &Member, way: &Way) -> Vec<String> {
    let authority = authority(paths, Some(&member.ca_sha256));
    let whole = authority.is_empty();
    let mut problems: Vec<String> =
        authority.into_iter().map(|fault| format!("{fault}: {}", way.back(false))).collect();
    let certificate = |text: &str| x509::facts(text).map(drop);
    if let Some(fault) = fault(&paths.trust(NODE_CERTIFICATE), certificate) {
        let back = if whole { "`pc-trust apply` issues it again".into() } else { way.back(false) };
        problems.push(format!("{fault}: {back}"));
    }
    problems.extend(SECRETS.iter().filter_map(|name| secret(paths, name, way)));
    problems
}

/// Without these nobody is let in and no certificate is renewed: what of them is missing or of no use.
pub fn authority(paths: &Paths, ca_sha256: Option<&str>) -> Vec<String> {
    let at = |name| paths.trust(name);
    let certificate = |text: &str| {
        let found = hex(&x509::pem_fingerprint(text)?);
        ensure!(ca_sha256.is_none_or(|own| own == found), "it is the CA of another cluster");
        Ok(())
    };
    let ca_is_bad = fault(&at(CA_CERTIFICATE), certificate);
    let ca = if ca_is_bad.is_none() { files::read(&at(CA_CERTIFICATE)).ok().flatten() } else { None };
    let keys = fault(&at(CA_KEYS), |text| opens(paths, text, ca.as_deref()));
    let ssh_ca = fault(&at(SSH_CA), |text| ssh::ed25519(text.trim()).map(drop));
    [ca_is_bad, keys, ssh_ca].into_iter().flatten().collect()
}

/// The wrapped keys are those of the CA. A recovery key that is closed, or is no key, says nothing about them.
fn opens(paths: &Paths, wrapped: &str, ca: Option<&str>) -> Result<()> {
    ensure!(!wrapped.trim().is_empty(), "it is empty");
    let recovery_key = secrets::text(paths, RECOVERY_KEY).ok().flatten();
    let Some(recovery_key) = recovery_key.filter(|key| secrets::sound(RECOVERY_KEY, key.as_bytes())) else {
        return Ok(());
    };
    let keys = wrap::unwrap(wrapped, &recovery_key)?;
    let Some(ca) = ca else { return Ok(()) };
    let key = KeyPair::from_pem(&keys.ca_key)?;
    ensure!(key.der_bytes() == x509::facts(ca)?.public_key, "its key is not that of {CA_CERTIFICATE}");
    Ok(())
}

/// Why a file is of no use; `None` when it is good.
fn fault(path: &Path, check: impl FnOnce(&str) -> Result<()>) -> Option<String> {
    match files::read(path) {
        Ok(None) => Some(format!("{} is missing", path.display())),
        Ok(Some(text)) => {
            check(&text).err().map(|error| format!("{} is of no use: {error:#}", path.display()))
        }
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Copies of one secret that are there and are not what they should be.
fn secret(paths: &Paths, name: &str, way: &Way) -> Option<String> {
    let (open, clear) = (paths.secret(name), paths.clear(name));
    let bad: Vec<String> = [&open, &clear]
        .into_iter()
        .filter(|path| secrets::state(path, name) == Some(false))
        .map(|path| path.display().to_string())
        .collect();
    if bad.is_empty() {
        return None;
    }
    let back = if secrets::state(&open, name) == Some(true) {
        format!("`install -m 600 {} {}`", open.display(), clear.display())
    } else if secrets::state(&clear, name) == Some(true) || paths.sealed(name).exists() {
        "`pc-trust apply` opens it again".into()
    } else {
        format!("`rm {}`; {}", bad.join(" "), way.back(name == RECOVERY_KEY))
    };
    Some(format!("{} is not what it should be, cut short or empty: {back}", bad.join(" and ")))
}
