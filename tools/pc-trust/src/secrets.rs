//! This node's secrets: kept sealed (or, without `[unlock]`, in clear), open on the tmpfs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cluster::Cluster;
use pc_cli::{log, refused, try_again};
use rcgen::KeyPair;
use zeroize::Zeroizing;

use crate::paths::{CLEAR, NODE_KEY, Paths, RECOVERY_KEY, SECRETS, SSH_USER_KEY};
use crate::{files, recovery, siblings};

/// What a secret is.
pub type Secret = Zeroizing<Vec<u8>>;

/// How this cluster keeps secrets, and with which file.
pub struct Keeper<'a> {
    paths: &'a Paths,
    /// A copy of the cluster file for pc-unlock; `None` without `[unlock]`.
    file: Option<tempfile::NamedTempFile>,
}

impl<'a> Keeper<'a> {
    /// A keeper for the cluster of this file. The file need not be installed yet.
    pub fn new(paths: &'a Paths, cluster: &Cluster, content: &str) -> Result<Keeper<'a>> {
        if cluster.unlock.is_none() {
            log::warning(format_args!(
                "the file has no [unlock]: secrets are kept in clear below {CLEAR}, a thief of this machine's OS \
                 disk has them"
            ));
            return Ok(Keeper { paths, file: None });
        }
        let directory = std::env::temp_dir();
        let mut file = tempfile::Builder::new()
            .prefix("cluster-")
            .suffix(if content.trim_start().starts_with('{') { ".json" } else { ".toml" })
            .tempfile_in(directory)
            .context("making a copy of the cluster file")?;
        std::io::Write::write_all(&mut file, content.as_bytes())
            .context("making a copy of the cluster file")?;
        Ok(Keeper { paths, file: Some(file) })
    }

    /// Keeps a secret across reboots. Fails with 75, and leaves nothing, when no unlocker answers.
    pub fn keep(&self, name: &str, secret: &[u8]) -> Result<()> {
        if let Some(file) = &self.file {
            return seal(self.paths, file.path(), name, secret);
        }
        files::make_private(&self.paths.at(CLEAR))?;
        files::put_private(&self.paths.clear(name), secret).map(drop)
    }

    /// Opens one that is sealed.
    pub fn open_again(&self, name: &str) -> Result<()> {
        let sealed = self.paths.sealed(name);
        let file = self.file.as_ref().ok_or_else(|| {
            refused(format!("{}: the file has no [unlock] to open it with", sealed.display()))
        })?;
        siblings::unseal(self.paths, file.path(), &[name])
            .with_context(|| format!("opening {}, which this node keeps", sealed.display()))
    }

    /// Opens every sealed secret again, now rather than at the next boot.
    pub fn prove(&self) -> Result<()> {
        match &self.file {
            Some(file) => siblings::unseal(self.paths, file.path(), &SECRETS),
            None => Ok(()),
        }
    }
}

/// Seals a secret and then removes what an earlier file without `[unlock]` left in clear.
pub fn seal(paths: &Paths, file: &Path, name: &str, secret: &[u8]) -> Result<()> {
    siblings::seal(paths, file, name, secret)?;
    match fs::remove_file(paths.clear(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the clear copy of {name}"))
        }
        _ => Ok(()),
    }
}

/// Puts a secret where its users read it.
pub fn open(paths: &Paths, name: &str, secret: &[u8]) -> Result<bool> {
    files::make_private(&paths.at(cluster::paths::SECRETS))?;
    files::put_private(&paths.secret(name), secret)
}

/// Refuses open secrets that are kept nowhere: they are those of a cluster that this machine left, and whoever left it because
/// they were stolen must not be given them again. What an interrupted `init` or `join` has opened it keeps as well.
pub fn refuse_left_over(paths: &Paths) -> Result<()> {
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let left = |name: &&&str| {
        there(&paths.secret(name)) && !there(&paths.sealed(name)) && !there(&paths.clear(name))
    };
    let Some(name) = SECRETS.iter().find(left) else { return Ok(()) };
    let directory = paths.at(cluster::paths::SECRETS);
    let directory = directory.display();
    Err(refused(format!(
        "{directory}/{name} is open and kept nowhere: it is of a cluster that this machine left\n  mv {directory} {directory}.before"
    )))
}

/// Secrets lie on a tmpfs, whose pages go to swap, and so does what other programs have in memory: names each swap device from
/// which a thief could read it. Only a warning: the machine works, and the device can be closed later.
pub fn warn_of_swap(paths: &Paths) -> Result<()> {
    let table = files::read(&paths.at("/proc/swaps"))?.unwrap_or_default();
    for swap in swap_devices::swaps(paths.root(), &table) {
        let what = match swap.encrypted {
            Some(true) => continue,
            Some(false) => format!("swap {} is not encrypted", swap.path),
            None => format!("whether swap {} is encrypted cannot be told", swap.path),
        };
        log::warning(format_args!(
            "{what}: keys and the memory of guests end up there, where a thief reads them\n  {}",
            swap.remedy()
        ));
    }
    Ok(())
}

/// An open secret; `None` when it is not there.
pub fn read(paths: &Paths, name: &str) -> Result<Option<Secret>> {
    match fs::read(paths.secret(name)) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", paths.secret(name).display())),
    }
}

/// An open secret that must be a text.
pub fn text(paths: &Paths, name: &str) -> Result<Option<Zeroizing<String>>> {
    let Some(bytes) = read(paths, name)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).with_context(|| format!("the secret {name} is not text"))?;
    Ok(Some(Zeroizing::new(text.trim_end().to_string())))
}

/// Whether a secret is what its name says. A file that a crash cut short is not.
pub fn sound(name: &str, secret: &[u8]) -> bool {
    let text = std::str::from_utf8(secret).unwrap_or_default().trim();
    match name {
        NODE_KEY => KeyPair::from_pem(text).is_ok(),
        SSH_USER_KEY => text.starts_with("-----BEGIN") && text.ends_with("PRIVATE KEY-----"),
        RECOVERY_KEY => recovery::parse(text).is_ok(),
        _ => !secret.is_empty(),
    }
}

/// Whether a copy of a secret is sound; `None` when there is none.
pub fn state(path: &Path, name: &str) -> Option<bool> {
    match fs::read(path) {
        Ok(secret) => Some(sound(name, &Zeroizing::new(secret))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => Some(false),
    }
}

/// This node's open TLS key.
pub fn node_key(paths: &Paths) -> Result<KeyPair> {
    KeyPair::from_pem(&needed(paths, NODE_KEY)?).map_err(|error| {
        let path = paths.secret(NODE_KEY);
        refused(format!("{}: {error}\n  `pc-trust status` says how it comes back", path.display()))
    })
}

/// An open secret without which the work cannot go on.
pub fn needed(paths: &Paths, name: &str) -> Result<Zeroizing<String>> {
    text(paths, name)?.ok_or_else(|| closed(paths, name))
}

/// What to say of a secret that is not open.
pub fn closed(paths: &Paths, name: &str) -> anyhow::Error {
    try_again(format!("{} is not open yet\n  `pc-unlock open` opens it", paths.secret(name).display()))
}
