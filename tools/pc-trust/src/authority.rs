//! The CA at work: unwrapped with the recovery key for as long as it signs.

use anyhow::{Context, Result, bail};
use rcgen::{KeyPair, PublicKeyData};

use crate::paths::{CA_CERTIFICATE, CA_KEYS, Paths, RECOVERY_KEY, SSH_CA};
use crate::wrap::{self, CaKeys};
use crate::x509::Names;
use crate::{files, secrets, ssh, x509};

/// The CA's keys and certificates.
pub struct Authority {
    /// Certificate, PEM.
    pub certificate: String,
    /// `ssh-ed25519 AAAA...`.
    pub ssh_public: String,
    /// [`crate::wrap`]'s form of the keys.
    pub wrapped: String,
    keys: CaKeys,
}

/// Certificates of one node.
pub struct Issued {
    /// TLS certificate, PEM.
    pub node: String,
    /// SSH host certificate, when there was a host key.
    pub ssh_host: Option<String>,
    /// SSH user certificate.
    pub ssh_user: String,
}

impl Authority {
    /// Makes a new one for a cluster.
    pub fn create(paths: &Paths, cluster: &str, recovery_key: &str) -> Result<Authority> {
        let key = x509::new_key()?;
        let certificate = x509::new_ca(cluster, &key)?;
        let ssh = ssh::new_key(paths, &format!("{cluster} personal-cluster CA"))?;
        let keys = CaKeys { ca_key: key.serialize_pem(), ssh_ca_key: ssh.private.to_string() };
        let wrapped = wrap::wrap(&keys, recovery_key)?;
        Ok(Authority { certificate, ssh_public: ssh.public, wrapped, keys })
    }

    /// Unwraps what this node holds; `None` when it holds none.
    pub fn load(paths: &Paths, recovery_key: &str) -> Result<Option<Authority>> {
        let of = |name| files::read(&paths.trust(name));
        let (Some(certificate), Some(ssh_public), Some(wrapped)) =
            (of(CA_CERTIFICATE)?, of(SSH_CA)?, of(CA_KEYS)?)
        else {
            return Ok(None);
        };
        let keys = wrap::unwrap(&wrapped, recovery_key)
            .with_context(|| format!("unwrapping {}", paths.trust(CA_KEYS).display()))?;
        Ok(Some(Authority { certificate, ssh_public: ssh_public.trim().into(), wrapped, keys }))
    }

    /// Unwraps what a member holds with the open recovery key.
    pub fn open(paths: &Paths) -> Result<Authority> {
        let recovery_key = secrets::needed(paths, RECOVERY_KEY)?;
        let gone = |name: &&&str| !paths.trust(name).exists();
        if let Some(name) = [CA_CERTIFICATE, CA_KEYS, SSH_CA].iter().find(gone) {
            let path = paths.trust(name);
            bail!("{} is missing\n  `pc-trust status` says how it comes back", path.display());
        }
        Authority::load(paths, &recovery_key)?.context("the CA's keys are missing")
    }

    /// Signs everything of one node.
    pub fn issue(
        &self,
        paths: &Paths,
        names: &Names,
        key: &impl PublicKeyData,
        ssh_host_key: Option<&str>,
        ssh_user_key: &str,
    ) -> Result<Issued> {
        let ca_key = KeyPair::from_pem(&self.keys.ca_key).context("reading the CA's key")?;
        let ssh_ca = &self.keys.ssh_ca_key;
        Ok(Issued {
            ssh_host: ssh_host_key.map(|key| ssh::sign_host(paths, ssh_ca, names, key)).transpose()?,
            ssh_user: ssh::sign_user(paths, ssh_ca, names, ssh_user_key)?,
            node: x509::sign_node(&self.certificate, &ca_key, names, key)?,
        })
    }
}
