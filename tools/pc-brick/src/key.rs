//! The recovery key: the one passphrase that opens every brick of the cluster without Tang.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
pub use recovery_key::Key;
use zeroize::Zeroizing;

/// Takes a file's content: one line, with or without its end.
fn key(text: &str, source: &str) -> Result<Key> {
    let key = Key::read(text);
    let line = key.text();
    if line.is_empty() || line.len() > 512 || line.contains(['\n', '\r', '\0']) {
        bail!(pc_cli::refused(format!("{source}: is not a recovery key (one line of at most 512 bytes)")));
    }
    Ok(key)
}

/// 256 random bits.
fn generate() -> Result<Key> {
    let mut random = Zeroizing::new([0_u8; 32]);
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random[..]))
        .context("reading random bytes")?;
    Ok(Key::new(&random))
}

/// A key and the place that it was read from.
#[derive(Debug)]
struct Found {
    key: Key,
    place: String,
    remedy: &'static str,
}

/// Finds the key when a step first needs it.
#[derive(Debug)]
pub struct Keys {
    given: Option<PathBuf>,
    secrets: PathBuf,
    may_generate: bool,
    sealed: bool,
    found: Option<Found>,
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
        Ok(self.found.as_ref().map(|found| &found.key))
    }

    /// The key, generated when there is none.
    pub fn required(&mut self) -> Result<&Key> {
        if self.existing()?.is_none() {
            if !self.may_generate {
                let remedy = if self.sealed {
                    SEALED
                } else {
                    "pc-brick apply  # once by hand makes a key and shows it"
                };
                let kept = self.kept();
                bail!(pc_cli::try_again(format!("{}: no recovery key yet\n  {remedy}", kept.display())));
            }
            let key = generate()?;
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
            self.found = Some(Found { key, place: self.kept().display().to_string(), remedy: KEPT });
            self.generated = true;
        }
        self.found.as_ref().map(|found| &found.key).context("finding the recovery key")
    }

    /// The key, as [`Keys::required`], for a keyslot that is to be made: one that can be guessed is refused, since the slot
    /// is not stretched, and so is one that cannot be compared with the cluster's yet. What has been made with such a one stays as it is.
    pub fn for_new_disk(&mut self) -> Result<&Key> {
        self.required()?;
        let found = self.found.as_ref().context("finding the recovery key")?;
        if self.sealed && !self.kept().exists() {
            bail!(pc_cli::try_again(format!(
                "{}: not open yet, so nobody can say whether {} has the same key\n  {SEALED}",
                self.kept().display(),
                found.place
            )));
        }
        if !found.key.has_form() {
            bail!(pc_cli::refused(format!(
                "{}: the recovery key {}: what a person makes up can be guessed, so no new disk gets it\n  {}",
                found.place,
                recovery_key::FORM,
                found.remedy
            )));
        }
        Ok(&found.key)
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

    /// Credential, open secret, command line. Two that differ are a mistake worth stopping at: the key on the cluster's
    /// sheet of paper would not open what the other one formats.
    fn look(&self) -> Result<Option<Found>> {
        let kept = read(&self.kept(), KEPT)?;
        let credential =
            std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join("recovery-key"));
        let credential = match credential {
            Some(path) => read(&path, CREDENTIAL)?,
            None => None,
        };
        let given = match &self.given {
            Some(path) if path == Path::new("-") => {
                let mut text = Zeroizing::new(String::new());
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("reading the recovery key from standard input")?;
                let place = "standard input".to_string();
                Some(Found { key: key(&text, &place)?, place, remedy: GIVEN })
            }
            Some(path) => {
                let absent = || pc_cli::refused(format!("{}: no such file", path.display()));
                Some(read(path, GIVEN)?.ok_or_else(absent)?)
            }
            None => None,
        };
        let mut found = kept;
        for other in [credential, given].into_iter().flatten() {
            match &found {
                Some(first) if first.key.text() != other.key.text() => bail!(pc_cli::refused(format!(
                    "{}: is another recovery key than that in {}\n  {}",
                    other.place, first.place, other.remedy
                ))),
                Some(_) => {}
                None => found = Some(other),
            }
        }
        Ok(found)
    }
}

/// What to do about a key that is not open.
const SEALED: &str = "pc-unlock status  # it is sealed to the unlock servers";
/// What to do about a key that is not to be used, by where it stands.
const KEPT: &str =
    "keep it elsewhere for older disks, then: pc-brick apply  # by hand makes a key and shows it";
const CREDENTIAL: &str = "take it out of /etc/credstore.encrypted, or wherever the credential comes from, then: systemctl restart pc-brick";
const GIVEN: &str = "leave --recovery-key-file out";

fn read(path: &Path, remedy: &'static str) -> Result<Option<Found>> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => {
            let place = path.display().to_string();
            Ok(Some(Found { key: key(&text, &place)?, place, remedy }))
        }
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
        let error = keys.existing().unwrap_err();
        assert!(error.is::<pc_cli::Refused>());
        for told in
            ["/other: is another recovery key than that in ", "/recovery-key\n  leave --recovery-key-file"]
        {
            assert!(error.to_string().contains(told), "{error}");
        }
        let mut keys = Keys::new(None, secrets.path().into(), false, false);
        assert_eq!(keys.required().unwrap().bytes(), b"one");
        for bad in ["", "\n", "a\nb", &"x".repeat(600)] {
            assert!(key(bad, "f").is_err(), "{bad:?}");
        }
    }

    /// pc-brick.service may be started while Tang is down, and has a credential that somebody forgot there.
    #[test]
    fn a_key_that_cannot_be_compared_with_the_sealed_one_gets_no_new_disk() {
        let secrets = tempfile::tempdir().unwrap();
        let (one, other) = (recovery_key::render(&[1; 32]), recovery_key::render(&[2; 32]));
        let given = secrets.path().join("given");
        std::fs::write(&given, one.as_bytes()).unwrap();
        let keys = || Keys::new(Some(given.clone()), secrets.path().into(), false, true);
        let error = keys().for_new_disk().unwrap_err();
        assert!(error.is::<pc_cli::TryAgain>(), "{error:#}");
        assert!(
            error.to_string().contains("/recovery-key: not open yet, so nobody can say whether "),
            "{error}"
        );
        assert!(keys().existing().unwrap().is_some(), "it may open an old one");
        std::fs::write(secrets.path().join("recovery-key"), other.as_bytes()).unwrap();
        assert!(keys().for_new_disk().unwrap_err().is::<pc_cli::Refused>());
        std::fs::write(secrets.path().join("recovery-key"), one.as_bytes()).unwrap();
        assert_eq!(keys().for_new_disk().unwrap().text(), one.as_str());
    }

    #[test]
    fn what_can_be_guessed_gets_no_new_disk_and_still_opens_old_ones() {
        let secrets = tempfile::tempdir().unwrap();
        let mut keys = Keys::new(None, secrets.path().into(), true, false);
        assert!(keys.for_new_disk().unwrap().has_form(), "one that is made here");
        for phrase in ["hunter2", "a long phrase that somebody has made up, and still", "cbdefghi-cbdefghi"] {
            std::fs::write(secrets.path().join("recovery-key"), phrase).unwrap();
            let mut keys = Keys::new(None, secrets.path().into(), true, false);
            let error = keys.for_new_disk().unwrap_err();
            assert!(error.is::<pc_cli::Refused>(), "{error:#}");
            let told = "/recovery-key: the recovery key is not 8 groups of 8 letters";
            assert!(error.to_string().contains(told) && !error.to_string().contains(phrase), "{error}");
            assert_eq!(keys.existing().unwrap().unwrap().text(), phrase);
        }
    }
}
