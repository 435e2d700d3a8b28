//! What a member holds on its disk: certificates, and the file that says it is one.

use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::refused;
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authority::{Authority, Issued};
use crate::paths::{
    CA_CERTIFICATE, CA_KEYS, MEMBER, NODE_CERTIFICATE, NODE_KEY, Paths, SSH_CA, SSH_HOST_CERTIFICATE,
    SSH_USER_CERTIFICATE, SSH_USER_KEY, SSH_USER_PUBLIC,
};
use crate::ssh::{self, SshKey};
use crate::token::hex;
use crate::{files, secrets, x509};

/// The file that is written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `pc.trust.member/1`.
    pub schema: String,
    /// This node.
    pub node: String,
    /// Its cluster.
    pub cluster: String,
    /// SHA-256 of the CA's certificate, hex.
    pub ca_sha256: String,
}

impl Member {
    /// Which cluster this node belongs to; `None` before `init` or `join` came to their ends.
    pub fn read(paths: &Paths) -> Result<Option<Member>> {
        let path = paths.trust(MEMBER);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| unreadable(&path, &error))
    }

    /// Refuses on a node that belongs to no cluster.
    pub fn required(paths: &Paths) -> Result<Member> {
        Member::read(paths)?.ok_or_else(|| {
            refused("this node belongs to no cluster\n  `pc-trust init FILE` on the first, `pc-trust join ADDRESS TOKEN` on others")
        })
    }

    /// Makes this node a member: the last write of `init` and `join`.
    pub fn write(paths: &Paths, node: &str, cluster: &str, ca: &str) -> Result<()> {
        let member = Member {
            schema: "pc.trust.member/1".into(),
            node: node.into(),
            cluster: cluster.into(),
            ca_sha256: hex(&x509::pem_fingerprint(ca)?),
        };
        let text = serde_json::to_string_pretty(&member).context("writing the member file")?;
        files::put_public(&paths.trust(MEMBER), &(text + "\n")).map(drop)
    }
}

/// The rest is there, and a join or an `init` uses it again.
fn unreadable(path: &Path, error: &serde_json::Error) -> anyhow::Error {
    let path = path.display();
    refused(format!(
        "reading {path}: {error}\n  rm {path}\n  then `pc-trust token` for this node on another member, and here the \
         `pc-trust join` that it prints; on a node that is alone `pc-trust init FILE`"
    ))
}

/// The keys that a node makes for itself and never sends.
pub struct NodeKeys {
    /// TLS.
    pub tls: KeyPair,
    /// SSH user.
    pub ssh: SshKey,
}

impl NodeKeys {
    /// The open ones, so that a repeated join leaves no moment in which key and certificate differ; else new.
    pub fn load_or_make(paths: &Paths, node: &str) -> Result<NodeKeys> {
        let tls = match secrets::text(paths, NODE_KEY)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| {
                let path = paths.secret(NODE_KEY);
                let path = path.display();
                refused(format!("{path}: {error}\n  `rm {path}`, then run this again: a new key is made"))
            })?,
            None => x509::new_key()?,
        };
        let ssh = match secrets::text(paths, SSH_USER_KEY)? {
            Some(private) => {
                let private = Zeroizing::new(format!("{}\n", private.as_str()));
                SshKey { public: ssh::public_of(paths, &private)?, private }
            }
            None => ssh::new_key(paths, node)?,
        };
        Ok(NodeKeys { tls, ssh })
    }

    /// The TLS key's file.
    pub fn tls_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.tls.serialize_pem())
    }
}

/// Writes what this node was issued. The certificates change one by one, each atomically.
pub fn write_issued(paths: &Paths, issued: &Issued) -> Result<()> {
    files::put_public(&paths.trust(NODE_CERTIFICATE), &issued.node)?;
    files::put_public(&paths.trust(SSH_USER_CERTIFICATE), &line(&issued.ssh_user))?;
    if let Some(certificate) = &issued.ssh_host {
        files::put_public(&paths.trust(SSH_HOST_CERTIFICATE), &line(certificate))?;
    }
    Ok(())
}

/// Writes what is the same on every node.
pub fn write_authority(paths: &Paths, certificate: &str, ssh_ca: &str, wrapped: &str) -> Result<()> {
    files::make_public(&paths.at(cluster::paths::TRUST))?;
    files::put_private(&paths.trust(CA_KEYS), wrapped.as_bytes())?;
    files::put_public(&paths.trust(SSH_CA), &line(ssh_ca))?;
    files::put_public(&paths.trust(CA_CERTIFICATE), certificate).map(drop)
}

/// Writes the public half of the SSH user key, which renewal signs again.
pub fn write_ssh_public(paths: &Paths, public: &str) -> Result<()> {
    files::put_public(&paths.trust(SSH_USER_PUBLIC), &line(public)).map(drop)
}

fn line(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Issues this node's own certificates again, for its present keys and names.
pub fn renew(paths: &Paths, names: &x509::Names) -> Result<()> {
    let authority = Authority::open(paths)?;
    let tls = secrets::node_key(paths)?;
    let private = Zeroizing::new(format!("{}\n", secrets::needed(paths, SSH_USER_KEY)?.as_str()));
    let public = ssh::public_of(paths, &private)?;
    let host = ssh::host_key(paths)?;
    let issued = authority.issue(paths, names, &tls, host.as_deref(), &public)?;
    write_ssh_public(paths, &public)?;
    write_issued(paths, &issued)
}
