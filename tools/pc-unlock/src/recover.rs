//! The recovery key: opening devices without any server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::view::paths;
use pc_cli::{Common, log, refused, try_again};
use recovery_key::Key;
use zeroize::Zeroizing;

use crate::device::Device;
use crate::{cryptsetup, given, lock, proof};

/// The key, from the file that is named (`-`: stdin), else the credential `recovery-key`, else the open
/// secret of that name.
pub fn key(common: &Common, file: Option<&Path>) -> Result<Key> {
    let text = match file {
        Some(path) if path == Path::new("-") => text(&crate::text::stdin("the recovery key")?)?,
        Some(path) => read(path)?,
        None => {
            return at_hand(common).unwrap_or_else(|| {
                if common.under_root(paths::SEALED).join("recovery-key.jwe").exists() {
                    return Err(try_again(
                        "the secret recovery-key is still sealed\n  or add --recovery-key-file FILE (`-`: standard input)",
                    ));
                }
                Err(refused(
                    "no recovery key at hand\n  add --recovery-key-file FILE (`-`: standard input)",
                ))
            });
        }
    };
    checked(&text)
}

/// The credential or the open secret, when there is one.
pub fn at_hand(common: &Common) -> Option<Result<Key>> {
    find(common).map(|path| checked(&read(&path)?))
}

fn checked(text: &str) -> Result<Key> {
    let key = Key::read(text);
    if key.text().is_empty() { Err(refused("the recovery key is empty")) } else { Ok(key) }
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    text(&given::read(path, given::SMALL)?).with_context(|| format!("reading {}", path.display()))
}

fn text(bytes: &[u8]) -> Result<Zeroizing<String>> {
    let text = std::str::from_utf8(bytes).map_err(|_| refused("the recovery key is not UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_string()))
}

fn find(common: &Common) -> Option<std::path::PathBuf> {
    let credential =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join("recovery-key"));
    let secret = common.under_root(paths::SECRETS).join("recovery-key");
    credential.into_iter().chain([secret]).find(|path| path.exists())
}

/// Opens a device that is locked. One that is not plugged in may come later.
pub fn open(common: &Common, device: &Device, key: &Key, patience: Duration) -> Result<()> {
    if !device.is_present() {
        return Err(try_again("is not plugged in"));
    }
    if device.is_open() {
        return Ok(());
    }
    device.require_answer()?;
    device.may_be_opened()?;
    let key = fitting(device, key)?;
    let _opening = lock::opening(common, device, patience)?;
    // Who was waited for may have opened it.
    if device.is_open() {
        return Ok(());
    }
    cryptsetup::open(&device.path, &device.mapper, None, key)?;
    log::info(format_args!("{}: opened as /dev/mapper/{}", device.name, device.mapper));
    Ok(())
}

/// Whether it opens the device, by this slot if one is named; as it was written too, see [`fitting`].
pub fn opens(device: &Device, slot: Option<u32>, key: &Key) -> Result<bool> {
    if proof::fits(device, slot, key.bytes())? {
        return Ok(true);
    }
    key.as_written().map_or(Ok(false), |written| proof::fits(device, slot, written.as_bytes()))
}

/// The key, or the line as it was given when only that opens the device: pc-brick once formatted disks with the very text of
/// a key file, in capitals or with blanks.
fn fitting<'k>(device: &Device, key: &'k Key) -> Result<&'k [u8]> {
    let Some(written) = key.as_written() else { return Ok(key.bytes()) };
    let only_written =
        !proof::fits(device, None, key.bytes())? && proof::fits(device, None, written.as_bytes())?;
    Ok(if only_written { written.as_bytes() } else { key.bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::{disk, format};
    use sha2::{Digest, Sha384};

    #[test]
    fn a_disk_that_was_formatted_with_capitals_opens_with_them() {
        let root = tempfile::tempdir().unwrap();
        let (_, device) = disk(root.path());
        let path = &device.path;
        let lower = recovery_key::render(&[7; 32]);
        let upper = Zeroizing::new(lower.to_uppercase());
        let typed = [format!("{}\n", lower.as_str()), format!("{}\n", upper.as_str())];
        for (formatted, opens) in [(&lower, [&lower, &lower]), (&upper, [&lower, &upper])] {
            disk(root.path());
            format(&device, formatted.as_bytes());
            for (typed, opens) in typed.iter().zip(opens) {
                assert_eq!(fitting(&device, &Key::read(typed)).unwrap(), opens.as_bytes());
            }
            // Nor does a header matter that cryptsetup alone can read: we do not know this checksum.
            let mut bytes = std::fs::read(path).unwrap();
            for copy in bytes.chunks_exact_mut(0x4000).take(2) {
                copy[72..78].copy_from_slice(b"sha384");
                copy[448..512].fill(0);
                let digest = Sha384::digest(&*copy);
                copy[448..496].copy_from_slice(&digest);
            }
            std::fs::write(path, bytes).unwrap();
            assert!(device.header().is_err());
            for (typed, opens) in typed.iter().zip(opens) {
                assert_eq!(fitting(&device, &Key::read(typed)).unwrap(), opens.as_bytes());
            }
        }
    }
}
