//! Outstanding tokens: one per node, on the tmpfs, as hashes.
//!
//! Time is counted on the boot clock, so that a clock being set neither kills nor prolongs a token; a
//! reboot ends them all.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::files;
use crate::paths::Paths;
use crate::token::{Token, Verifier};

/// How long a token can be used.
pub const LIFE: Duration = Duration::from_secs(15 * 60);
/// This many wrong proofs burn a token.
const ATTEMPTS: u32 = 5;

/// Said for every way in which a token does not fit, so that a stranger learns nothing from it.
pub const NO: &str = "the token is wrong, used, or expired";

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Stored {
    verifier: String,
    expires_milliseconds: u64,
    wrong: u32,
}

/// What can be shown of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outstanding {
    /// The node it is for.
    pub node: String,
    /// How long it can still be used.
    pub expires_in_seconds: u64,
}

/// The directory of tokens, locked for as long as this value lives.
pub struct Tokens {
    directory: PathBuf,
    _lock: Flock<File>,
}

fn boot_clock() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("reading the boot clock")?;
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    Ok(seconds * 1000 + u64::try_from(now.tv_nsec()).unwrap_or_default() / 1_000_000)
}

impl Tokens {
    /// Locks the directory; others hold it for milliseconds.
    pub fn lock(paths: &Paths) -> Result<Tokens> {
        let directory = paths.run().join("tokens");
        files::make_private(&paths.run())?;
        files::make_private(&directory)?;
        let file = File::create(paths.run().join("tokens.lock")).context("opening the tokens' lock")?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!(error).context("locking the tokens"))?;
        Ok(Tokens { directory, _lock: lock })
    }

    fn file(&self, node: &str) -> PathBuf {
        self.directory.join(format!("{node}.json"))
    }

    /// Stores a token for `node`; an older one for the same node ends.
    pub fn store(&self, node: &str, token: &Token) -> Result<()> {
        self.store_for(node, token, LIFE)
    }

    fn store_for(&self, node: &str, token: &Token, life: Duration) -> Result<()> {
        let life = u64::try_from(life.as_millis()).unwrap_or_default();
        let verifier = token.verifier().hex().to_string();
        self.write(node, &Stored { verifier, expires_milliseconds: boot_clock()? + life, wrong: 0 })
    }

    fn write(&self, node: &str, stored: &Stored) -> Result<()> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(stored).context("storing the token")?);
        pc_cli::write_atomic(&self.file(node), &text, 0o600)
    }

    /// The token of `node`, when it has one that can still be used. A name that is none has none.
    fn read(&self, node: &str) -> Result<Option<Stored>> {
        if cluster::Name::try_from(node.to_string()).is_err() {
            return Ok(None);
        }
        let Some(mut text) = files::read(&self.file(node))? else { return Ok(None) };
        let stored: Option<Stored> = serde_json::from_str(&text).ok();
        text.zeroize();
        match stored {
            Some(stored) if stored.expires_milliseconds > boot_clock()? => Ok(Some(stored)),
            _ => {
                self.burn(node)?;
                Ok(None)
            }
        }
    }

    /// Ends the token of `node`.
    fn burn(&self, node: &str) -> Result<()> {
        match fs::remove_file(self.file(node)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("removing a token")
            }
            _ => Ok(()),
        }
    }

    /// Ends this token of `node`, and no other that it may have by now.
    pub fn revoke(&self, node: &str, token: &Token) -> Result<()> {
        match self.read(node)? {
            Some(stored) if *stored.verifier == **token.verifier().hex() => self.burn(node),
            _ => Ok(()),
        }
    }

    /// Tries a proof against the token of `node`: the verifier when it fits. A wrong proof is counted before
    /// it is answered, the fifth burns the token.
    pub fn try_proof(&self, node: &str, fits: impl Fn(&Verifier) -> bool) -> Result<Option<Verifier>> {
        let Some(mut stored) = self.read(node)? else { return Ok(None) };
        let verifier =
            Verifier::from_hex(&stored.verifier).ok_or_else(|| anyhow!("a stored token is damaged"))?;
        if fits(&verifier) {
            return Ok(Some(verifier));
        }
        stored.wrong += 1;
        if stored.wrong >= ATTEMPTS {
            pc_cli::log::warning(format_args!("{node}: {ATTEMPTS} wrong tokens, the right one is burnt"));
            self.burn(node)?;
        } else {
            self.write(node, &stored)?;
        }
        Ok(None)
    }

    /// Uses the token of `node` up; false when it went in the meantime.
    pub fn take(&self, node: &str) -> Result<bool> {
        let there = self.read(node)?.is_some();
        self.burn(node)?;
        Ok(there)
    }

    /// All that can still be used, by name; the others are removed.
    pub fn outstanding(&self) -> Result<Vec<Outstanding>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory).context("listing the tokens")? {
            let name = entry.context("listing the tokens")?.file_name();
            let Some(node) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            if let Some(stored) = self.read(node)? {
                let left = stored.expires_milliseconds.saturating_sub(boot_clock()?);
                all.push(Outstanding { node: node.into(), expires_in_seconds: left.div_ceil(1000) });
            }
        }
        all.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::fingerprint;

    fn fixture() -> (tempfile::TempDir, Paths, Token) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        (root, paths, Token::generate(&fingerprint(b"ca")).unwrap())
    }

    #[test]
    fn one_use() {
        let (_root, paths, token) = fixture();
        let tokens = Tokens::lock(&paths).unwrap();
        tokens.store("node2", &token).unwrap();
        assert_eq!(tokens.outstanding().unwrap()[0].expires_in_seconds, 900);
        assert!(tokens.try_proof("node2", |_| true).unwrap().is_some());
        assert!(tokens.try_proof("node3", |_| true).unwrap().is_none(), "bound to one name");
        assert!(tokens.take("node2").unwrap());
        assert!(!tokens.take("node2").unwrap());
        assert!(tokens.try_proof("node2", |_| true).unwrap().is_none());
    }

    #[test]
    fn five_wrong_ones_burn_it() {
        let (_root, paths, token) = fixture();
        let tokens = Tokens::lock(&paths).unwrap();
        tokens.store("node2", &token).unwrap();
        for _ in 0..4 {
            assert!(tokens.try_proof("node2", |_| false).unwrap().is_none());
        }
        assert!(tokens.try_proof("node2", |_| true).unwrap().is_some());
        assert!(tokens.try_proof("node2", |_| false).unwrap().is_none());
        assert!(tokens.try_proof("node2", |_| true).unwrap().is_none());
    }

    #[test]
    fn it_expires_and_nothing_of_it_is_readable() {
        let (root, paths, token) = fixture();
        let tokens = Tokens::lock(&paths).unwrap();
        tokens.store_for("node2", &token, Duration::from_millis(150)).unwrap();
        let stored = fs::read_to_string(tokens.file("node2")).unwrap();
        assert!(!stored.contains(&*token.text().replace('-', "")));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(tokens.file("node2")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        std::thread::sleep(Duration::from_millis(200));
        assert!(tokens.try_proof("node2", |_| true).unwrap().is_none());
        assert!(tokens.outstanding().unwrap().is_empty());
        drop(root);
    }

    #[test]
    fn names_that_are_paths_have_no_token() {
        let (root, paths, token) = fixture();
        let tokens = Tokens::lock(&paths).unwrap();
        tokens.store("node2", &token).unwrap();
        fs::write(root.path().join("x.json"), "{}").unwrap();
        for name in ["../../../../x", "", "node2/../node2", "NODE2", "node2\0"] {
            assert!(tokens.try_proof(name, |_| true).unwrap().is_none(), "{name:?}");
        }
        assert!(root.path().join("x.json").exists());
    }
}
