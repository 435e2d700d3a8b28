//! Where other programs look for keys and certificates, and what our files for them say. Pure.

use std::fmt::Write;

use cluster::{Cluster, paths::SECRETS, paths::TRUST};

use crate::paths::{
    CA_CERTIFICATE, KNOWN_HOSTS, NODE_CERTIFICATE, NODE_KEY, QEMU, SSH_AUTHORIZED, SSH_CONFIG,
    SSH_HOST_CERTIFICATE, SSH_PRINCIPALS, SSH_USER_CERTIFICATE, SSH_USER_KEY,
};
use crate::plan::HEADER;
use crate::ssh::{FORCED_COMMAND, PRINCIPAL};
use crate::sshd::{Form, WITHOUT};

/// A link: where it stands, what it points to.
pub type Link = (String, String);

/// Our drop-in for sshd.
pub const SSHD: &str = "/etc/ssh/sshd_config.d/50-personal-cluster.conf";
/// Our addition to what `AppArmor` lets QEMU read.
pub const APPARMOR: &str = "/etc/apparmor.d/abstractions/libvirt-qemu.d/personal-cluster";

fn certificate(path: &str) -> Link {
    (path.into(), format!("{TRUST}/{NODE_CERTIFICATE}"))
}

fn authority(path: &str) -> Link {
    (path.into(), format!("{TRUST}/{CA_CERTIFICATE}"))
}

fn key(path: &str) -> Link {
    (path.into(), format!("{SECRETS}/{NODE_KEY}"))
}

/// Gluster's three files in OPENSSLDIR (glusterfs, rpc/rpc-transport/socket/src/socket.c).
pub fn gluster_links(directory: &str) -> Vec<Link> {
    vec![
        certificate(&format!("{directory}/glusterfs.pem")),
        key(&format!("{directory}/glusterfs.key")),
        authority(&format!("{directory}/glusterfs.ca")),
    ]
}

/// libvirt's own transport (libvirt, docs/kbase/tlscerts.rst).
pub fn libvirt_links() -> Vec<Link> {
    vec![
        authority("/etc/pki/CA/cacert.pem"),
        certificate("/etc/pki/libvirt/servercert.pem"),
        key("/etc/pki/libvirt/private/serverkey.pem"),
        certificate("/etc/pki/libvirt/clientcert.pem"),
        key("/etc/pki/libvirt/private/clientkey.pem"),
    ]
}

/// QEMU's migration and NBD streams (libvirt's qemu.conf, `default_tls_x509_cert_dir`).
pub fn qemu_links() -> Vec<Link> {
    let key = |path: &str| (path.into(), format!("{QEMU}/{NODE_KEY}"));
    vec![
        authority("/etc/pki/qemu/ca-cert.pem"),
        certificate("/etc/pki/qemu/server-cert.pem"),
        key("/etc/pki/qemu/server-key.pem"),
        certificate("/etc/pki/qemu/client-cert.pem"),
        key("/etc/pki/qemu/client-key.pem"),
    ]
}

/// libvirt's profile allows /etc/pki/qemu, but `AppArmor` judges what a link points to.
pub fn apparmor() -> (String, String) {
    let content = format!(
        "{HEADER}\n  # /etc/pki/qemu holds links to these.\n  {TRUST}/*.crt r,\n  @{{run}}/personal-cluster/qemu/ r,\n  \
         @{{run}}/personal-cluster/qemu/* r,\n"
    );
    (APPARMOR.into(), content)
}

/// sshd's drop-in. Only root may log in with a certificate of ours, and only to the forced command; the
/// server says so itself and does not rely on what the certificate says. What a Match sets replaces what is set for all:
/// hence the two forms, and a host for which it sets nothing.
pub fn sshd(has_host_key: bool, form: &Form) -> (String, String) {
    let mut content = format!("{HEADER}\n");
    if has_host_key {
        let _ = writeln!(content, "HostCertificate {TRUST}/{SSH_HOST_CERTIFICATE}");
    }
    let _ = writeln!(content, "Match User root Host *,!{WITHOUT}");
    let _ = match form {
        Form::Authority => writeln!(
            content,
            "\tTrustedUserCAKeys {TRUST}/{}\n\tAuthorizedPrincipalsFile {TRUST}/{SSH_PRINCIPALS}",
            crate::paths::SSH_CA
        ),
        Form::Keys(own) => {
            let own: String = own.iter().flat_map(|file| [file.as_str(), " "]).collect();
            writeln!(content, "\tAuthorizedKeysFile {own}{TRUST}/{SSH_AUTHORIZED}")
        }
    };
    (SSHD.into(), content)
}

/// Our own files beside the certificates: principals for the server side; known hosts and a client
/// configuration for siblings, who connect with `ssh -F`.
pub fn ssh_files(cluster: &Cluster, ssh_ca: Option<&str>) -> Vec<(String, String)> {
    let at = |name: &str| format!("{TRUST}/{name}");
    let mut all = vec![
        (at(SSH_PRINCIPALS), format!("{HEADER}\nrestrict,command=\"{FORCED_COMMAND}\" {PRINCIPAL}\n")),
        (at(SSH_CONFIG), ssh_config(cluster)),
    ];
    if let Some(ca) = ssh_ca {
        let ca = ca.trim();
        all.push((at(KNOWN_HOSTS), format!("{HEADER}\n@cert-authority * {ca}\n")));
        let options =
            format!("cert-authority,principals=\"{PRINCIPAL}\",restrict,command=\"{FORCED_COMMAND}\"");
        all.push((at(SSH_AUTHORIZED), format!("{HEADER}\n{options} {ca}\n")));
    }
    all
}

fn ssh_config(cluster: &Cluster) -> String {
    let mut text = format!("{HEADER}\n# ssh -F {TRUST}/{SSH_CONFIG} node2 pc-trust status --json\n");
    for node in &cluster.nodes {
        let address = node.address.split('/').next().unwrap_or_default();
        // The address itself, so that no name service is needed; the certificate is checked for the name.
        let _ = writeln!(text, "Host {name}\n\tHostName {address}\n\tHostKeyAlias {name}", name = node.name);
    }
    let _ = write!(
        text,
        "Host *\n\tUser root\n\tIdentityFile {SECRETS}/{SSH_USER_KEY}\n\tIdentitiesOnly yes\n\
         \tCertificateFile {TRUST}/{SSH_USER_CERTIFICATE}\n\tUserKnownHostsFile {TRUST}/{KNOWN_HOSTS}\n\
         \tGlobalKnownHostsFile /dev/null\n\tStrictHostKeyChecking yes\n\tHostKeyAlgorithms \
         ssh-ed25519-cert-v01@openssh.com\n\tPreferredAuthentications publickey\n\tBatchMode yes\n\
         \tConnectTimeout 30\n\tServerAliveInterval 15\n\tForwardAgent no\n\tClearAllForwardings yes\n"
    );
    text
}
