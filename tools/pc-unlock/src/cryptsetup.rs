//! All calls of cryptsetup(8). Passphrases go through its stdin, never through argv or a file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_run::{Error, run};
use xshell::{Shell, cmd};
use zeroize::Zeroizing;

/// Opening and proving: one PBKDF2 with few rounds and the digest of the volume key.
const QUICK: Duration = Duration::from_secs(120);
/// Adding a key: every slot may have to be tried, each argon2id for seconds, much longer when emulated.
const SLOW: Duration = Duration::from_secs(900);

fn shell() -> Result<Shell> {
    Shell::new().context("finding the working directory")
}

/// Without a slot every one is tried, and that takes long.
fn chosen(slot: Option<u32>) -> (Duration, Option<String>) {
    (if slot.is_some() { QUICK } else { SLOW }, slot.map(|slot| format!("--key-slot={slot}")))
}

/// A disk that stopped answering while it was read, or a machine that is busy: another time it may be faster.
pub fn for_later(error: Error) -> anyhow::Error {
    match error {
        Error::TimedOut { .. } => pc_cli::try_again(error),
        other => other.into(),
    }
}

/// Makes `/dev/mapper/<mapper>`; only `slot` is tried when it is known.
pub fn open(device: &Path, mapper: &str, slot: Option<u32>, passphrase: &[u8]) -> Result<()> {
    let sh = shell()?;
    let (deadline, slot) = chosen(slot);
    run(cmd!(sh, "cryptsetup open --batch-mode --type luks {slot...} --key-file - {device} {mapper}"))
        .stdin(passphrase)
        .deadline(deadline)
        .output()
        .map_err(for_later)?;
    Ok(())
}

/// Proves that a passphrase fits without making a device. `false`: it does not. A slot that is named must exist: see
/// [`crate::proof::fits`].
pub fn fits(device: &Path, slot: Option<u32>, passphrase: &[u8]) -> Result<bool> {
    let sh = shell()?;
    let (deadline, slot) = chosen(slot);
    // 2: no permission, which is how a wrong passphrase is called (cryptsetup(8)). 1 may be anything, a disk that does not
    // answer as well.
    let output = run(cmd!(
        sh,
        "cryptsetup open --batch-mode --type luks --test-passphrase {slot...} --key-file - {device}"
    ))
    .stdin(passphrase)
    .deadline(deadline)
    .allow(&[2])
    .output()
    .map_err(for_later)?;
    Ok(output.code == 0)
}

/// Adds a passphrase with 256 bits of entropy to a slot: stretching it would only cost time.
pub fn add_key(device: &Path, slot: u32, existing: &[u8], new: &[u8]) -> Result<()> {
    let sh = shell()?;
    let slot = slot.to_string();
    let (size, new_size) = (existing.len().to_string(), new.len().to_string());
    let both = Zeroizing::new([existing, new].concat());
    run(cmd!(
        sh,
        "cryptsetup luksAddKey --batch-mode --key-slot {slot} --pbkdf pbkdf2 --pbkdf-force-iterations 1000
         --key-file - --keyfile-size {size} --new-keyfile-size {new_size} {device} -"
    ))
    .stdin(both.as_slice())
    .deadline(SLOW)
    .output()
    .map_err(for_later)?;
    Ok(())
}

/// Wipes a slot for good.
pub fn kill_slot(device: &Path, slot: u32) -> Result<()> {
    let sh = shell()?;
    let slot = slot.to_string();
    run(cmd!(sh, "cryptsetup luksKillSlot --batch-mode {device} {slot}"))
        .deadline(QUICK)
        .output()
        .map_err(for_later)?;
    Ok(())
}

/// Writes a token under a number, over an older one when `replace`.
pub fn write_token(device: &Path, number: u32, token: &serde_json::Value, replace: bool) -> Result<()> {
    let sh = shell()?;
    let number = number.to_string();
    let replace = replace.then_some("--token-replace");
    run(cmd!(sh, "cryptsetup token import --token-id {number} {replace...} --json-file - {device}"))
        .stdin(token.to_string())
        .deadline(QUICK)
        .output()
        .map_err(for_later)?;
    Ok(())
}

/// Removes a token; its slots stay.
pub fn remove_token(device: &Path, number: u32) -> Result<()> {
    let sh = shell()?;
    let number = number.to_string();
    run(cmd!(sh, "cryptsetup token remove --token-id {number} {device}"))
        .deadline(QUICK)
        .output()
        .map_err(for_later)?;
    Ok(())
}

/// Writes header and keyslots to a file that must not exist yet.
pub fn backup_header(device: &Path, file: &Path) -> Result<()> {
    let sh = shell()?;
    run(cmd!(sh, "cryptsetup luksHeaderBackup --batch-mode --header-backup-file {file} {device}"))
        .deadline(QUICK)
        .output()
        .map_err(for_later)?;
    Ok(())
}

/// Replaces header and keyslots by those of a file. A disk with bad sectors takes minutes, and must not be left half written.
pub fn restore_header(device: &Path, file: &Path) -> Result<()> {
    let sh = shell()?;
    run(cmd!(sh, "cryptsetup luksHeaderRestore --batch-mode --header-backup-file {file} {device}"))
        .deadline(SLOW)
        .output()
        .map_err(for_later)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Exit;

    #[test]
    fn what_was_too_slow_is_for_later() {
        let late = Error::TimedOut { program: "cryptsetup open".into(), deadline: QUICK };
        assert_eq!(Exit::of(&for_later(late)), Exit::TryAgain);
        let reason = std::io::ErrorKind::NotFound.into();
        let missing = Error::Start { program: "cryptsetup open".into(), reason };
        assert_eq!(Exit::of(&for_later(missing)), Exit::Failed);
    }
}
