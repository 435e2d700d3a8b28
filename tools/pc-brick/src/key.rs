//! The recovery key: the one passphrase that opens every brick of the cluster without Tang.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zeroize::Zeroizing;

/// A recovery key; wiped from memory when dropped, and never shown by `Debug`.
pub struct Key(Zeroizing<String>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// For a program's stdin.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    /// For the one time it is shown.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Takes a file's content: one line, with or without its end.
    fn of(text: &str, source: &str) -> Result<Key> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.len() > 512 || line.contains(['\n', '\r', '\0']) {
            bail!(pc_cli::refused(format!(
                "{source}: is not a recovery key (one line of at most 512 bytes)"
            )));
        }
        Ok(Key(Zeroizing::new(line.to_string())))
    }

    /// 256 random bits in the form of systemd-cryptenroll(1): 64 letters that sit at the same place on
    /// every keyboard layout (modhex), in groups of eight.
    fn generate() -> Result<Key> {
        const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";
        let mut random = Zeroizing::new([0_u8; 32]);
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random[..]))
            .context("reading random bytes")?;
        let mut text = Zeroizing::new(String::with_capacity(80));
        for (index, byte) in random.iter().enumerate() {
            if index > 0 && index % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(MODHEX[usize::from(byte >> 4)]));
            text.push(char::from(MODHEX[usize::from(byte & 15)]));
        }
        Ok(Key(text))
    }
}

/// Finds the key when a step first needs it.
#[derive(Debug)]
pub struct Keys {
    given: Option<PathBuf>,
    secrets: PathBuf,
    may_generate: bool,
    sealed: bool,
    found: Option<Key>,
    generated: bool,
}

impl Keys {
    /// `given` is what the command line names; `secrets` is the directory of open secrets; `may_generate`
    /// says whether there is somebody to show a new key to; with one that is `sealed` none is ever made.
    pub fn new(given: Option<PathBuf>, secrets: PathBuf, may_generate: bool, sealed: bool) -> Keys {
        Keys { given, secrets, may_generate: may_generate && !sealed, sealed, found: None, generated: false }
    }

    fn kept(&self) -> PathBuf {
        self.secrets.join("recovery-key")
    }

    /// Marks a key that was generated and not shown yet, so that a run that was killed loses no key.
    fn unshown(&self) -> PathBuf {
        self.secrets.join(".recovery-key-not-shown")
    }

    /// The key, if there is one without making it.
    pub fn existing(&mut self) -> Result<Option<&Key>> {
        if self.found.is_none() {
            self.found = self.look()?;
        }
        Ok(self.found.as_ref())
    }

    /// The key, generated when there is none.
    pub fn required(&mut self) -> Result<&Key> {
        if self.existing()?.is_none() {
            if !self.may_generate {
                let remedy = if self.sealed {
                    "pc-unlock status  # it is sealed to the unlock servers"
                } else {
                    "pc-brick apply  # once by hand makes a key and shows it; or put yours into /etc/credstore/recovery-key"
                };
                let kept = self.kept();
                bail!(pc_cli::try_again(format!("{}: no recovery key yet\n  {remedy}", kept.display())));
            }
            let key = Key::generate()?;
            std::fs::create_dir_all(&self.secrets)
                .and_then(|()| {
                    std::fs::set_permissions(
                        &self.secrets,
                        std::os::unix::fs::PermissionsExt::from_mode(0o700),
                    )
                })
                .with_context(|| format!("creating {}", self.secrets.display()))?;
            pc_cli::write_atomic(&self.unshown(), b"", 0o600)?;
            pc_cli::write_atomic(&self.kept(), key.text().as_bytes(), 0o600)?;
            self.found = Some(key);
            self.generated = true;
        }
        self.found.as_ref().context("finding the recovery key")
    }

    /// The key, if it was generated and a person has not seen it yet.
    pub fn take_to_show(&mut self) -> Result<Option<String>> {
        let unseen = self.generated || (self.may_generate && self.unshown().exists());
        if !unseen {
            return Ok(None);
        }
        Ok(self.existing()?.map(|key| key.text().to_string()))
    }

    /// Called once it was printed.
    pub fn shown(&self) -> Result<()> {
        let path = self.unshown();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Credential, open secret, command line. Two that differ are a mistake worth stopping at.
    fn look(&self) -> Result<Option<Key>> {
        let credential =
            std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join("recovery-key"));
        let mut found = match credential.as_deref().map(read).transpose()?.flatten() {
            Some(key) => Some(key),
            None => read(&self.kept())?,
        };
        if let Some(path) = &self.given {
            let given = if path == Path::new("-") {
                let mut text = Zeroizing::new(String::new());
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("reading the recovery key from standard input")?;
                Key::of(&text, "standard input")?
            } else {
                read(path)?.ok_or_else(|| pc_cli::refused(format!("{}: no such file", path.display())))?
            };
            if found.as_ref().is_some_and(|key| key.text() != given.text()) {
                bail!(pc_cli::refused(format!(
                    "--recovery-key-file is another key than the cluster's in {}\n  leave the flag out",
                    self.kept().display()
                )));
            }
            found = Some(given);
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Result<Option<Key>> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => Key::of(&text, &path.display().to_string()).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// A random UUID (RFC 9562, version 4), as the kernel makes them.
pub fn random_uuid() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(text.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_long_and_survive_until_shown() {
        let secrets = tempfile::tempdir().unwrap();
        let directory = secrets.path().join("secrets");
        let mut keys = Keys::new(None, directory.clone(), true, false);
        assert!(keys.existing().unwrap().is_none());
        let first = keys.required().unwrap().text().to_string();
        assert_eq!(first.len(), 71);
        assert!(
            first
                .split('-')
                .all(|group| group.len() == 8 && group.bytes().all(|b| b"cbdefghijklnrtuv".contains(&b)))
        );
        // Killed here: the next run finds it, and still has to show it.
        let mut again = Keys::new(None, directory.clone(), true, false);
        assert_eq!(again.required().unwrap().text(), first);
        assert_eq!(again.take_to_show().unwrap().as_deref(), Some(first.as_str()));
        again.shown().unwrap();
        assert_eq!(Keys::new(None, directory, true, false).take_to_show().unwrap(), None);
    }

    #[test]
    fn a_unit_never_generates_and_a_second_key_is_refused() {
        let secrets = tempfile::tempdir().unwrap();
        for (may_generate, sealed, remedy) in
            [(false, false, "pc-brick apply"), (true, true, "pc-unlock status")]
        {
            let error = Keys::new(None, secrets.path().into(), may_generate, sealed).required().unwrap_err();
            assert!(error.is::<pc_cli::TryAgain>() && error.to_string().contains(remedy), "{error}");
        }
        std::fs::write(secrets.path().join("recovery-key"), "one\n").unwrap();
        std::fs::write(secrets.path().join("other"), "two\n").unwrap();
        let mut keys = Keys::new(Some(secrets.path().join("other")), secrets.path().into(), true, false);
        assert!(keys.existing().unwrap_err().is::<pc_cli::Refused>());
        let mut keys = Keys::new(None, secrets.path().into(), false, false);
        assert_eq!(keys.required().unwrap().bytes(), b"one");
        for bad in ["", "\n", "a\nb", &"x".repeat(600)] {
            assert!(Key::of(bad, "f").is_err(), "{bad:?}");
        }
    }
}
