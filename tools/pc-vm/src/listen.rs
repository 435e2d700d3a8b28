//! libvirt listening for the other nodes, with TLS: what is wanted, and how it gets there.
//!
//! libvirtd.conf stays as the distribution shipped it. libvirtd takes its listeners from systemd, and its TLS
//! socket cannot be started while libvirtd runs: libvirtd is stopped, the socket started, libvirtd started again.
//! Guests do not notice: their QEMU processes live in scopes of their own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use cluster::{NodeView, paths};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::nodes::{TLS_PORT, address_of};
use crate::systemd;

const SOCKET: &str = "libvirtd-tls.socket";
const SERVICE: &str = "libvirtd.service";
/// Below /run, so that it is there on every distribution and gone after a boot, when the key is not open yet and a
/// libvirtd that found no key would not start at all.
const DROP_IN: &str = "run/systemd/system/libvirtd-tls.socket.d/50-personal-cluster.conf";
/// Where libvirt looks (libvirt, docs/kbase/tlscerts.rst); pc-trust places links there.
const CERTIFICATE: &str = "etc/pki/libvirt/servercert.pem";
const KEY: &str = "etc/pki/libvirt/private/serverkey.pem";
const AUTHORITY: &str = "etc/pki/CA/cacert.pem";

/// The listener this node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// This node's address.
    pub address: IpAddr,
    /// SHA-256 of certificate and CA: a renewed one has to be read again.
    pub certificate: String,
}

impl Want {
    /// Address and port.
    pub fn address(&self) -> String {
        SocketAddr::new(self.address, TLS_PORT).to_string()
    }

    /// The drop-in of the socket unit.
    pub fn drop_in(&self) -> String {
        format!(
            "# Made by pc-vm for the certificate with SHA-256 {}.\n[Socket]\nListenStream=\nListenStream={}\n\
             FreeBind=yes\n",
            self.certificate,
            self.address()
        )
    }
}

/// The listener there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listening {
    /// What our drop-in says.
    pub drop_in: Option<String>,
    /// The socket unit is active.
    pub active: bool,
}

impl Listening {
    /// Whether it is the wanted one.
    pub fn is(&self, want: &Want) -> bool {
        self.active && self.drop_in.as_deref() == Some(want.drop_in().as_str())
    }
}

/// The wanted listener, or why there can be none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// No other node, or no certificate on this machine: nobody to listen to.
    Nothing,
    /// A certificate is there and its key is not: it comes once pc-unlock has opened it.
    Waiting(String),
    /// Listen.
    Listen(Want),
}

/// What this node should listen on.
pub fn wanted(root: &Path, view: &NodeView) -> Result<Wanted> {
    if view.cluster.nodes.len() < 2 {
        return Ok(Wanted::Nothing);
    }
    if root.join(CERTIFICATE).symlink_metadata().is_err() {
        let member = root.join(paths::TRUST.trim_start_matches('/')).join("node.crt").exists();
        return Ok(if member {
            Wanted::Waiting("/etc/pki/libvirt holds no certificate yet\n  pc-trust apply".into())
        } else {
            Wanted::Nothing
        });
    }
    for path in [CERTIFICATE, KEY, AUTHORITY] {
        if !root.join(path).exists() {
            let reason = format!("/{path} cannot be read yet: its target is not open\n  pc-unlock status");
            return Ok(Wanted::Waiting(reason));
        }
    }
    let mut hash = Sha256::new();
    for path in [CERTIFICATE, AUTHORITY] {
        hash.update(fs::read(root.join(path)).with_context(|| format!("reading /{path}"))?);
    }
    Ok(Wanted::Listen(Want {
        address: address_of(view.node)?,
        certificate: format!("{:x}", hash.finalize()),
    }))
}

/// What this node listens on.
pub fn listening(root: &Path) -> Listening {
    let drop_in = fs::read_to_string(root.join(DROP_IN)).ok();
    // Without our drop-in nobody needs to ask: whatever listens is not what we want.
    let active = drop_in.is_some()
        && systemd::is_active(SOCKET).unwrap_or_else(|error| {
            pc_cli::log::debug(format_args!("{error:#}"));
            false
        });
    Listening { drop_in, active }
}

/// Makes libvirt listen. If libvirtd does not start with the certificate it is started without: a node that
/// cannot be asked is better than a node without libvirt.
pub fn listen(root: &Path, want: &Want) -> Result<()> {
    let path = root.join(DROP_IN);
    let directory = path.parent().context("the drop-in has a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    pc_cli::write_atomic(&path, want.drop_in().as_bytes(), 0o644)?;
    let switched = switch_on();
    let Err(error) = switched else { return Ok(()) };
    let undone = fs::remove_file(&path)
        .map_err(anyhow::Error::from)
        .and_then(|()| systemd::stop(SOCKET))
        .and_then(|()| systemd::reload())
        .and_then(|()| systemd::start(SERVICE));
    if let Err(second) = undone {
        pc_cli::log::error(format_args!("starting libvirtd without TLS: {second:#}"));
    }
    Err(error.context("having libvirt listen with TLS"))
}

fn switch_on() -> Result<()> {
    systemd::reload()?;
    systemd::stop(SOCKET)?;
    // Between the two jobs a client may have woken libvirtd through its other socket: then once more.
    let mut socket = Ok(());
    for _ in 0..5 {
        systemd::stop(SERVICE)?;
        socket = systemd::start(SOCKET);
        if socket.is_ok() {
            break;
        }
    }
    socket?;
    systemd::start(SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(text: &str) -> cluster::Cluster {
        cluster::parse("test", &format!("schema = \"personal-cluster/1\"\nname = \"home\"\n{text}")).unwrap()
    }

    const TWO: &str = "[[node]]\nname = \"n1\"\naddress = \"192.168.0.50/24\"\n\
                       [[node]]\nname = \"n2\"\naddress = \"192.168.0.51/24\"\n";

    fn touch(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn listens_once_the_key_is_open() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let cluster = view(TWO);
        let view = cluster.view("n1").unwrap();
        assert_eq!(wanted(root, &view).unwrap(), Wanted::Nothing);
        touch(root, "etc/personal-cluster/trust/node.crt", "certificate");
        assert!(
            matches!(wanted(root, &view).unwrap(), Wanted::Waiting(reason) if reason.contains("pc-trust apply"))
        );
        touch(root, CERTIFICATE, "certificate");
        touch(root, AUTHORITY, "authority");
        fs::create_dir_all(root.join("etc/pki/libvirt/private")).unwrap();
        std::os::unix::fs::symlink(root.join("run/key"), root.join(KEY)).unwrap();
        assert!(
            matches!(wanted(root, &view).unwrap(), Wanted::Waiting(reason) if reason.contains("serverkey.pem"))
        );
        touch(root, "run/key", "key");
        let Wanted::Listen(want) = wanted(root, &view).unwrap() else { panic!("still waiting") };
        assert_eq!(want.address(), "192.168.0.50:16514");
        assert!(want.drop_in().contains("\nListenStream=\nListenStream=192.168.0.50:16514\nFreeBind=yes\n"));
        touch(root, CERTIFICATE, "renewed certificate");
        let Wanted::Listen(renewed) = wanted(root, &view).unwrap() else { panic!("waiting") };
        assert!(!Listening { drop_in: Some(want.drop_in()), active: true }.is(&renewed));
        assert!(Listening { drop_in: Some(want.drop_in()), active: true }.is(&want));
        assert!(!Listening { drop_in: Some(want.drop_in()), active: false }.is(&want));
    }

    #[test]
    fn a_single_node_listens_to_nobody() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), CERTIFICATE, "certificate");
        let cluster = view("[[node]]\nname = \"n1\"\naddress = \"192.168.0.50/24\"\n");
        assert_eq!(wanted(root.path(), &cluster.view("n1").unwrap()).unwrap(), Wanted::Nothing);
    }

    #[test]
    fn ipv6_is_bracketed() {
        let want = Want { address: "fd00::5".parse().unwrap(), certificate: "x".into() };
        assert!(want.drop_in().contains("ListenStream=[fd00::5]:16514\n"));
    }
}
