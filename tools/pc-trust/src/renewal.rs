//! When this node's certificates are issued again.

use anyhow::Result;
use time::OffsetDateTime;

use crate::member::Member;
use crate::paths::{MEMBER, NODE_CERTIFICATE, NODE_KEY, Paths, SSH_HOST_CERTIFICATE, SSH_USER_CERTIFICATE};
use crate::x509::{Names, RENEW_BEFORE};
use crate::{files, lost, secrets, ssh, x509};

/// Why this node's certificates should be issued again; `None` when they are fine, or this is no member yet.
pub fn due(paths: &Paths, names: &Names) -> Result<Option<String>> {
    let member = paths.trust(MEMBER).exists();
    let facts = match files::read(&paths.trust(NODE_CERTIFICATE)) {
        Ok(None) if member => return Ok(Some("there are none".into())),
        Ok(None) => return Ok(None),
        Ok(Some(pem)) => x509::facts(&pem),
        Err(error) => Err(error),
    };
    let Ok(facts) = facts else { return Ok(Some(format!("{NODE_CERTIFICATE} cannot be read"))) };
    if facts.not_after - RENEW_BEFORE < OffsetDateTime::now_utc() {
        return Ok(Some("half of its life is over".into()));
    }
    if facts.common_name != names.node || facts.names != names.all() {
        return Ok(Some("its names are not those of the file".into()));
    }
    // A copy that is no key is opened again first.
    let key = secrets::text(paths, NODE_KEY).ok().flatten();
    if let Some(key) = key.and_then(|key| rcgen::KeyPair::from_pem(&key).ok()) {
        if key.public_key_raw() != facts.public_key {
            return Ok(Some("it is for another key".into()));
        }
    }
    if let Some(host_key) = ssh::host_key(paths)? {
        let certified = files::read(&paths.trust(SSH_HOST_CERTIFICATE))?;
        let certified = certified.and_then(|text| ssh::ed25519(text.trim()).ok());
        if certified != Some(ssh::ed25519(&host_key)?) {
            return Ok(Some("the SSH host key has no certificate".into()));
        }
    }
    let user = files::read(&paths.trust(SSH_USER_CERTIFICATE)).ok().flatten();
    if user.is_none_or(|text| ssh::ed25519(text.trim()).is_err()) {
        return Ok(Some("the SSH user key has no certificate".into()));
    }
    Ok(None)
}

/// A renewal without the CA would only fail, boot after boot.
pub fn can_sign(paths: &Paths) -> bool {
    let own = Member::read(paths).ok().flatten().map(|member| member.ca_sha256);
    lost::authority(paths, own.as_deref()).is_empty()
}
