//! cryptsetup(8). Keys go through stdin only.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::key::Key;

/// Slow machines under emulation, and disks that have to spin up first.
const DEADLINE: Duration = Duration::from_secs(180);

/// Makes the header. The key has 256 random bits, so that stretching it would only cost time at each boot. 16 KiB, what
/// cryptsetup takes for metadata by itself, do not hold the old and the new token of three Tang servers at once, as
/// `pc-unlock rotate` needs it.
pub fn format(sh: &Shell, device: &Path, uuid: &str, label: &str, key: &Key) -> Result<()> {
    let command = cmd!(
        sh,
        "cryptsetup luksFormat --batch-mode --type luks2 --uuid {uuid} --label {label} --subsystem personal-cluster
         --luks2-metadata-size 64k --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - {device}"
    );
    let run = pc_run::run(command).stdin(key.bytes()).deadline(DEADLINE);
    run.output().with_context(|| format!("encrypting {}", device.display()))?;
    Ok(())
}

/// Whether a key opens the device; nothing is opened. Exit code 2: no such key.
pub fn opens(sh: &Shell, device: &Path, key: &[u8]) -> Result<bool> {
    let command = cmd!(sh, "cryptsetup open --test-passphrase --key-file - {device}");
    let run = pc_run::run(command).stdin(key).deadline(DEADLINE).allow(&[2]);
    Ok(run.output().with_context(|| format!("trying the recovery key on {}", device.display()))?.code == 0)
}

/// Opens the device with a key. `discard` lets TRIM through, now and at every later opening.
pub fn open(sh: &Shell, device: &Path, mapper: &str, key: &[u8], discard: bool) -> Result<()> {
    let flags: &[&str] = if discard { &["--allow-discards", "--persistent"] } else { &[] };
    let command = cmd!(sh, "cryptsetup open --type luks2 {flags...} --key-file - {device} {mapper}");
    let run = pc_run::run(command).stdin(key).deadline(DEADLINE);
    run.output().with_context(|| format!("opening {} with the recovery key", device.display()))?;
    Ok(())
}

/// Closes an open device.
pub fn close(sh: &Shell, mapper: &str) -> Result<()> {
    let run = pc_run::run(cmd!(sh, "cryptsetup close {mapper}")).deadline(DEADLINE);
    run.output().with_context(|| format!("closing {mapper}"))?;
    Ok(())
}

/// Copies the header into a new file.
pub fn header_backup(sh: &Shell, device: &Path, file: &Path) -> Result<()> {
    let command = cmd!(sh, "cryptsetup luksHeaderBackup --batch-mode --header-backup-file {file} {device}");
    let run = pc_run::run(command).deadline(DEADLINE);
    run.output().with_context(|| format!("saving the LUKS header of {}", device.display()))?;
    Ok(())
}

/// Destroys every keyslot: what is encrypted stays so for ever. Only `wipe` calls this.
pub fn erase(sh: &Shell, device: &Path) -> Result<()> {
    let run = pc_run::run(cmd!(sh, "cryptsetup erase --batch-mode {device}")).deadline(DEADLINE);
    run.output().with_context(|| format!("erasing the keyslots of {}", device.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_header_has_room_for_many_servers_and_begins_its_data_where_it_always_did() {
        let directory = tempfile::tempdir().unwrap();
        let (key, disk) = (directory.path().join("key"), directory.path().join("disk"));
        std::fs::write(&key, recovery_key::render(&[1; 32]).as_bytes()).unwrap();
        std::fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
        let mut keys = crate::key::Keys::new(Some(key), directory.path().into(), false, false);
        let sh = Shell::new().unwrap();
        let uuid = "6f2f5a5e-3d0d-4c5e-9d6f-0f9f5a0d1c11";
        format(&sh, &disk, uuid, "pc-test", keys.for_new_disk().unwrap()).unwrap();
        let dump = cmd!(sh, "cryptsetup luksDump {disk}").read().unwrap();
        for line in ["Metadata area: \t65536 [bytes]", "offset: 16777216 [bytes]"] {
            assert!(dump.contains(line), "{line} is not in:\n{dump}");
        }
    }
}
