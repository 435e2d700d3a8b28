//! Sealed secrets: Clevis JWEs below `/etc/personal-cluster/sealed`, opened into a tmpfs.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cluster::view::paths;
use pc_cli::{Common, log, refused};
use tang_client::{Client, Error, Jwe, Pin, Policy};
use zeroize::Zeroizing;

use crate::rotate;
use crate::settings::classify;
use crate::vouched::Present;

/// Where a node keeps its secrets.
#[derive(Debug, Clone)]
pub struct Secrets {
    sealed: PathBuf,
    open: PathBuf,
}

impl Secrets {
    /// The directories of this machine.
    pub fn new(common: &Common) -> Secrets {
        Secrets { sealed: common.under_root(paths::SEALED), open: common.under_root(paths::SECRETS) }
    }

    /// Names of all sealed secrets, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.sealed) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.sealed.display())),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("reading {}", self.sealed.display()))?.file_name();
            // Hidden files are half-written ones of an interrupted run.
            match name.to_str().and_then(|name| name.strip_suffix(".jwe")) {
                Some(name) if check_name(name).is_ok() => names.push(name.to_string()),
                _ => {}
            }
        }
        names.sort();
        Ok(names)
    }

    fn sealed_path(&self, name: &str) -> PathBuf {
        self.sealed.join(format!("{name}.jwe"))
    }

    /// It has been opened.
    pub fn is_open(&self, name: &str) -> bool {
        self.open.join(name).exists()
    }

    /// What a sealed secret needs.
    pub fn policy(&self, name: &str) -> Result<Policy> {
        let path = self.sealed_path(name);
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Jwe::parse(&text).and_then(Policy::read).with_context(|| format!("reading {}", path.display()))
    }

    /// Refuses what could not be sealed, before anybody is asked: a name that is none, or nothing at all, which a program
    /// that failed has written, and which must not take the place of a secret.
    pub fn may_be_sealed(name: &str, plaintext: &[u8]) -> Result<()> {
        check_name(name).map_err(refused)?;
        if plaintext.is_empty() {
            return Err(refused(format!("standard input holds nothing to seal as {name}")));
        }
        Ok(())
    }

    /// Seals `plaintext` under a name. `false` when the same is already sealed to the same servers.
    pub fn seal(&self, client: &Client, name: &str, present: &Present, plaintext: &[u8]) -> Result<bool> {
        let pin = &present.pin;
        if let Ok(policy) = self.policy(name) {
            let same = policy.is_of(pin)
                && pc_run::timed(|| client.decrypt(&policy)).is_ok_and(|old| old.as_slice() == plaintext);
            if same {
                return self.reopen(name, plaintext).map(|()| false);
            }
        }
        let seal = |pin| client.encrypt(pin, plaintext, false, &[]).map_err(|error| classify(&error));
        let jwe = present.whole().and_then(seal).with_context(|| format!("sealing {name}"))?;
        self.store(name, &jwe)?;
        self.reopen(name, plaintext).map(|()| true)
    }

    /// One that is open must not go on saying what was sealed before.
    fn reopen(&self, name: &str, plaintext: &[u8]) -> Result<()> {
        if self.is_open(name) { self.put(name, plaintext).map(drop) } else { Ok(()) }
    }

    /// Without a newline: `clevis decrypt` takes none.
    fn store(&self, name: &str, jwe: &Jwe) -> Result<()> {
        private_directory(&self.sealed)?;
        pc_cli::write_atomic(&self.sealed_path(name), jwe.to_compact().as_bytes(), 0o600)?;
        log::info(format_args!("sealed {}", self.sealed_path(name).display()));
        Ok(())
    }

    /// Opens one secret into the tmpfs. `false` when the same is there already.
    pub fn unseal(&self, client: &Client, name: &str) -> Result<bool> {
        check_name(name).map_err(refused)?;
        self.put(name, &self.decrypt(client, name)?)
    }

    /// `false` when the same is there already.
    fn put(&self, name: &str, plaintext: &[u8]) -> Result<bool> {
        private_directory(&self.open)?;
        let path = self.open.join(name);
        if std::fs::read(&path).map(Zeroizing::new).is_ok_and(|old| *old == plaintext) {
            return Ok(false);
        }
        pc_cli::write_atomic(&path, plaintext, 0o600)?;
        log::info(format_args!("opened {}", path.display()));
        Ok(true)
    }

    fn decrypt(&self, client: &Client, name: &str) -> Result<tang_client::Plaintext> {
        let policy = self.policy(name)?;
        pc_run::timed(|| client.decrypt(&policy))
            .map_err(|error| classify(&error))
            .with_context(|| format!("opening {name}"))
    }

    /// Seals a secret anew when its servers' keys, or the servers, have changed.
    pub fn rotate(&self, client: &Client, name: &str, wanted: Option<&Pin>) -> Result<bool> {
        let policy = self.policy(name)?;
        let own = policy.pin()?;
        // Sealed to a TPM or a stick as well: somebody chose that, the file knows nothing of it.
        let pin = if policy.is_network_only() { wanted.unwrap_or(&own) } else { &own };
        if rotate::is_up_to_date(client, &policy, pin)? {
            return Ok(false);
        }
        let plaintext = self.decrypt(client, name).or_else(|error| self.opened(name, error))?;
        let jwe = pc_run::timed(|| client.encrypt(pin, &plaintext, false, &rotate::known(&[&policy])))
            .map_err(|error| classify(&error))
            .with_context(|| format!("sealing {name}"))?;
        let proven = Policy::read(jwe.clone()).and_then(|policy| pc_run::timed(|| client.decrypt(&policy)));
        if proven.map_err(|error: Error| classify(&error))?.as_slice() != plaintext.as_slice() {
            bail!("proving the new {name}: it holds something else");
        }
        self.store(name, &jwe)?;
        Ok(true)
    }
}

impl Secrets {
    /// What lies open, when the servers that it was sealed to are gone.
    fn opened(&self, name: &str, error: anyhow::Error) -> Result<Zeroizing<Vec<u8>>> {
        match std::fs::read(self.open.join(name)) {
            Ok(text) => {
                log::warning(format_args!("{name}: taken from its open copy: {error:#}"));
                Ok(Zeroizing::new(text))
            }
            Err(_) => Err(error),
        }
    }
}

/// The name becomes a file name.
fn check_name(name: &str) -> Result<(), String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 100 || !name.bytes().all(safe) || name.starts_with(['.', '-']) {
        return Err(format!("{name:?} is not a usable name: letters, digits, and any of - _ ."));
    }
    Ok(())
}

/// A directory that only root may enter.
fn private_directory(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        }
        Err(error) => Err(error),
    }
    .with_context(|| format!("creating {}", path.display()))
}
