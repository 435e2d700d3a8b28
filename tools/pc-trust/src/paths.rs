//! Where everything of ours stands, below the machine's root.

use std::path::{Path, PathBuf};

use cluster::paths;

/// The file written last: a node that has it is a member.
pub const MEMBER: &str = "member.json";
/// Certificate of the cluster's CA.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The CA's private keys, wrapped by the recovery key.
pub const CA_KEYS: &str = "ca.key.jwe";
/// This node's TLS certificate.
pub const NODE_CERTIFICATE: &str = "node.crt";
/// Public key of the SSH CA.
pub const SSH_CA: &str = "ssh-ca.pub";
/// This node's SSH host certificate.
pub const SSH_HOST_CERTIFICATE: &str = "ssh-host-cert.pub";
/// This node's SSH user certificate, for `ssh-user.key`.
pub const SSH_USER_CERTIFICATE: &str = "ssh-user-cert.pub";
/// Public half of `ssh-user.key`.
pub const SSH_USER_PUBLIC: &str = "ssh-user.pub";
/// Client configuration that siblings use: `ssh -F`.
pub const SSH_CONFIG: &str = "ssh_config";
/// Known hosts: the SSH CA.
pub const KNOWN_HOSTS: &str = "known_hosts";
/// Principals that may log in as root, with the forced command.
pub const SSH_PRINCIPALS: &str = "ssh-principals";
/// The SSH CA as a file of keys, for an sshd whose own settings name another CA.
pub const SSH_AUTHORIZED: &str = "ssh-authorized-keys";

/// TLS key.
pub const NODE_KEY: &str = "node.key";
/// SSH user key.
pub const SSH_USER_KEY: &str = "ssh-user.key";
/// Corosync's key.
pub const COROSYNC_KEY: &str = "corosync.authkey";
/// Opens every disk, and wraps the CA's keys.
pub const RECOVERY_KEY: &str = "recovery-key";
/// All secrets of a node.
pub const SECRETS: [&str; 4] = [NODE_KEY, SSH_USER_KEY, COROSYNC_KEY, RECOVERY_KEY];

/// Secrets of a cluster without `[unlock]`: in clear, because nothing could open them.
pub const CLEAR: &str = "/etc/personal-cluster/secrets-clear";
/// The key again for QEMU, which runs as another user and cannot enter the secrets' directory.
pub const QEMU: &str = "/run/personal-cluster/qemu";

/// The machine's root, and what is below it.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Paths below `root`.
    pub fn new(root: &Path) -> Paths {
        Paths { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the running machine, with its own systemd, rather than a directory.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of the machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file of clear certificates.
    pub fn trust(&self, name: &str) -> PathBuf {
        self.at(paths::TRUST).join(name)
    }

    /// An open secret.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.at(paths::SECRETS).join(name)
    }

    /// A sealed secret.
    pub fn sealed(&self, name: &str) -> PathBuf {
        self.at(paths::SEALED).join(format!("{name}.jwe"))
    }

    /// A secret in clear.
    pub fn clear(&self, name: &str) -> PathBuf {
        self.at(CLEAR).join(name)
    }

    /// Our directory on the tmpfs: tokens and short-lived work files.
    pub fn run(&self) -> PathBuf {
        self.at("/run/personal-cluster/trust")
    }
}
