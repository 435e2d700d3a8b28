//! Secrets that others than root may read: found, and closed again.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::paths::{CA_KEYS, CLEAR, Paths};

/// A file or directory of secrets that is not root's alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposed {
    /// Where, on the machine.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// It is a key, and others could really read it.
    pub readable: bool,
}

impl Exposed {
    /// What closing it does not undo.
    pub fn problem(&self) -> String {
        format!(
            "{} (mode {:04o}): others than root could read this key; if one may have, it is replaced as in \
             docs/runbooks/nodes.md, \"A node was broken into\"",
            self.path, self.mode
        )
    }
}

/// All that is open to others, directories before what is in them.
pub fn exposed(paths: &Paths) -> Result<Vec<Exposed>> {
    let mut all = Vec::new();
    for directory in [CLEAR, cluster::paths::SECRETS] {
        let Some(of_directory) = look(paths, directory)? else { continue };
        let entered = of_directory.mode & 0o011 != 0 || of_directory.stranger;
        let mut names: Vec<String> = fs::read_dir(paths.at(directory))
            .with_context(|| format!("reading {directory}"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            // Notes of pc-unlock, and files that are being written.
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        all.extend(of_directory.told(directory, false));
        for name in names {
            let path = format!("{directory}/{name}");
            all.extend(look(paths, &path)?.and_then(|seen| seen.told(&path, entered)));
        }
    }
    // Of no use without the recovery key.
    let keys = format!("{}/{CA_KEYS}", cluster::paths::TRUST);
    all.extend(look(paths, &keys)?.and_then(|seen| seen.told(&keys, false)));
    Ok(all)
}

struct Seen {
    mode: u32,
    /// Not ours.
    stranger: bool,
}

impl Seen {
    fn told(&self, path: &str, entered: bool) -> Option<Exposed> {
        let open = self.mode & 0o077 != 0 || self.stranger;
        let readable = entered && (self.mode & 0o044 != 0 || self.stranger);
        open.then(|| Exposed { path: path.into(), mode: self.mode, readable })
    }
}

/// `None` for what is not there, and for links: they are not ours.
fn look(paths: &Paths, path: &str) -> Result<Option<Seen>> {
    let data = match fs::symlink_metadata(paths.at(path)) {
        Ok(data) => data,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("looking at {path}")),
    };
    let stranger = data.uid() != nix::unistd::geteuid().as_raw();
    let ours = data.is_file() || data.is_dir();
    Ok(ours.then(|| Seen { mode: data.permissions().mode() & 0o7777, stranger }))
}

/// 0600, or 0700 for a directory, and ours. The owner first: the service has no right to another's mode.
pub fn close(path: &Path) -> Result<()> {
    let doing = || format!("closing {}", path.display());
    let data = fs::symlink_metadata(path).with_context(doing)?;
    ensure!(data.is_file() || data.is_dir(), "{} is neither a file nor a directory", path.display());
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if data.uid() != uid {
        lchown(path, Some(uid), Some(gid)).with_context(doing)?;
    }
    let mode = if data.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(doing)
}
