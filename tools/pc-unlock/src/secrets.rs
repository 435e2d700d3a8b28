//! Sealed secrets: Clevis JWEs below `/etc/personal-cluster/sealed`, opened into a tmpfs.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use cluster::view::paths;
use nix::fcntl::Flock;
use pc_cli::{Common, log, refused, try_again};
use sha2::{Digest, Sha256};
use tang_client::{Client, Error, Jwe, Pin, Policy};
use zeroize::Zeroizing;

use crate::settings::{as_lasting_as, classify};
use crate::vouched::Present;
use crate::{lock, places, proof, rotate};

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
        self.policy_of(name, &self.read(name)?)
    }

    fn policy_of(&self, name: &str, sealed: &[u8]) -> Result<Policy> {
        let reading = || format!("reading {}", self.sealed_path(name).display());
        Jwe::parse(sealed).and_then(Policy::read).with_context(reading)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.sealed_path(name);
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
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
        if let Ok(sealed) = self.read(name) {
            let policy = self.policy_of(name, &sealed).ok().filter(|policy| policy.is_of(pin));
            let old = policy.and_then(|policy| pc_run::timed(|| client.decrypt(&policy)).ok());
            if old.is_some_and(|old| old.as_slice() == plaintext) {
                let _alone = self.alone(client)?;
                // What was sealed meanwhile is not this: it is sealed after all.
                if self.read(name).is_ok_and(|now| now == sealed) {
                    return self.reopen(name, &sealed, plaintext).map(|()| false);
                }
            }
        }
        let seal = |pin| proof::seal(client, pin, plaintext, &[]).map_err(|error| classify(&error));
        let jwe = present.whole().and_then(seal).with_context(|| format!("sealing {name}"))?;
        proven(client, name, &jwe, plaintext)?;
        let _alone = self.alone(client)?;
        let sealed = self.store(name, &jwe)?;
        self.reopen(name, &sealed, plaintext).map(|()| true)
    }

    /// To be held from the last look at a sealed file until its open copy is written, and while no server is asked.
    fn alone(&self, client: &Client) -> Result<Flock<File>> {
        lock::secrets(&self.open.with_file_name("secrets.lock"), client.budget.attempt)
    }

    /// Sealed anew while the servers were asked: what they gave is no more what is sealed.
    fn unchanged(&self, name: &str, sealed: &[u8], what: &str) -> Result<()> {
        if self.read(name)? == sealed {
            return Ok(());
        }
        Err(try_again(format!("{name}: was sealed anew while it was {what}")))
    }

    /// One that is open must not go on saying what was sealed before.
    fn reopen(&self, name: &str, sealed: &[u8], plaintext: &[u8]) -> Result<()> {
        if self.is_open(name) { self.put(name, sealed, plaintext).map(drop) } else { Ok(()) }
    }

    /// Without a newline: `clevis decrypt` takes none. Gives what was written.
    fn store(&self, name: &str, jwe: &Jwe) -> Result<Vec<u8>> {
        private_directory(&self.sealed)?;
        // Of what a killed process left it may be a secret.
        places::sweep(&self.sealed, &format!("{name}.jwe"));
        let sealed = jwe.to_compact().into_bytes();
        pc_cli::write_atomic(&self.sealed_path(name), &sealed, 0o600)?;
        log::info(format_args!("sealed {}", self.sealed_path(name).display()));
        Ok(sealed)
    }

    /// Opens one secret into the tmpfs. `false` when the same is there already.
    pub fn unseal(&self, client: &Client, name: &str) -> Result<bool> {
        check_name(name).map_err(refused)?;
        let sealed = self.read(name)?;
        let plaintext = decrypt(client, name, &self.policy_of(name, &sealed)?)?;
        let _alone = self.alone(client)?;
        self.unchanged(name, &sealed, "opened")?;
        self.put(name, &sealed, &plaintext)
    }

    /// Opens several, all at once; the outcomes are in the order of the names.
    pub fn unseal_all(&self, client: &Client, names: &[String]) -> Vec<Result<bool>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                names.iter().map(|name| scope.spawn(move || self.unseal(client, name))).collect();
            let broken = |_| Err(anyhow!("an error in this program"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(broken)).collect()
        })
    }

    /// `false` when the same is there already. Beside it stands of which sealed file it is: killed anywhere, an open copy is
    /// never taken for that of another one.
    fn put(&self, name: &str, sealed: &[u8], plaintext: &[u8]) -> Result<bool> {
        private_directory(&self.open)?;
        places::sweep(&self.open, name);
        let (path, origin) = (self.open.join(name), self.origin_path(name));
        let same = std::fs::read(&path).map(Zeroizing::new).is_ok_and(|old| *old == plaintext);
        if !same {
            match std::fs::remove_file(&origin) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", origin.display()));
                }
                _ => {}
            }
            pc_cli::write_atomic(&path, plaintext, 0o600)?;
            log::info(format_args!("opened {}", path.display()));
        }
        let digest = digest(sealed);
        if std::fs::read_to_string(&origin).is_ok_and(|old| old == digest) {
            return Ok(!same);
        }
        pc_cli::write_atomic(&origin, digest.as_bytes(), 0o600)?;
        Ok(!same)
    }

    fn origin_path(&self, name: &str) -> PathBuf {
        self.open.join(format!(".{name}.of"))
    }

    /// The open copy is of the sealed file as it is now. Whoever opened it otherwise (pc-trust, before it was sealed) left no
    /// note: then it must not be the older one.
    fn is_of_what_is_sealed(&self, name: &str) -> bool {
        if let Ok(origin) = std::fs::read_to_string(self.origin_path(name)) {
            return self.read(name).is_ok_and(|sealed| digest(&sealed) == origin);
        }
        let written = |path: PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let (sealed, open) = (written(self.sealed_path(name)), written(self.open.join(name)));
        sealed.zip(open).is_some_and(|(sealed, open)| open >= sealed)
    }

    /// Seals a secret anew when its servers' keys, or the servers, have changed.
    pub fn rotate(&self, client: &Client, name: &str, wanted: Option<&Pin>) -> Result<bool> {
        let before = self.read(name)?;
        let policy = self.policy_of(name, &before)?;
        let own = policy.pin()?;
        // Sealed to a TPM or a stick as well: somebody chose that, the file knows nothing of it.
        let pin = if policy.is_network_only() { wanted.unwrap_or(&own) } else { &own };
        if rotate::is_up_to_date(client, &policy, pin)? {
            return Ok(false);
        }
        if !policy.is_of(&rotate::without_keys(pin.clone())) {
            log::warning(format_args!(
                "{name}: was sealed to {}, which gives way to the servers that the file names",
                policy.describe()
            ));
        }
        let plaintext = decrypt(client, name, &policy).or_else(|error| self.opened(name, error))?;
        let jwe = pc_run::timed(|| proof::seal(client, pin, &plaintext, &rotate::known(&[&policy])))
            .map_err(|error| classify(&error))
            .with_context(|| format!("sealing {name}"))?;
        proven(client, name, &jwe, &plaintext)?;
        let _alone = self.alone(client)?;
        self.unchanged(name, &before, "rotated")?;
        let sealed = self.store(name, &jwe)?;
        self.reopen(name, &sealed, &plaintext).map(|()| true)
    }
}

impl Secrets {
    /// What lies open, when the servers that it was sealed to are gone.
    fn opened(&self, name: &str, error: anyhow::Error) -> Result<Zeroizing<Vec<u8>>> {
        match std::fs::read(self.open.join(name)) {
            // Sealing it would lose what is sealed.
            Ok(_) if !self.is_of_what_is_sealed(name) => {
                let text = format!(
                    "{error:#}; its open copy is of something that was sealed before, and is not taken\n  \
                     pc-unlock unseal {name}    (while its servers answer)"
                );
                Err(as_lasting_as(&error, text))
            }
            Ok(text) => {
                log::warning(format_args!("{name}: taken from its open copy: {error:#}"));
                Ok(Zeroizing::new(text))
            }
            Err(_) => Err(error),
        }
    }
}

fn decrypt(client: &Client, name: &str, policy: &Policy) -> Result<tang_client::Plaintext> {
    pc_run::timed(|| client.decrypt(policy))
        .map_err(|error| classify(&error))
        .with_context(|| format!("opening {name}"))
}

fn digest(sealed: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(&Sha256::digest(sealed))
}

/// What nobody could open again must not take the place of a secret: a server may show keys that it has no more.
fn proven(client: &Client, name: &str, jwe: &Jwe, plaintext: &[u8]) -> Result<()> {
    let opened = Policy::read(jwe.clone()).and_then(|policy| pc_run::timed(|| client.decrypt(&policy)));
    let opened = opened.map_err(|error: Error| classify(&error));
    if opened.with_context(|| format!("proving the new {name}"))?.as_slice() != plaintext {
        bail!("proving the new {name}: it holds something else");
    }
    Ok(())
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
