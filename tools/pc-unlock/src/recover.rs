//! The recovery key: opening devices without any server.

use std::path::Path;

use anyhow::{Context, Result};
use cluster::view::paths;
use pc_cli::{Common, log, refused, try_again};
use zeroize::Zeroizing;

use crate::cryptsetup;
use crate::device::Device;

/// Its text, from the file that is named (`-`: stdin), else the credential `recovery-key`, else the open
/// secret of that name.
pub fn key(common: &Common, file: Option<&Path>) -> Result<Zeroizing<String>> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let bytes = crate::text::stdin("the recovery key")?;
            Zeroizing::new(std::str::from_utf8(&bytes).context("reading the recovery key")?.to_string())
        }
        Some(path) => read(path)?,
        None => {
            return at_hand(common).unwrap_or_else(|| {
                if common.under_root(paths::SEALED).join("recovery-key.jwe").exists() {
                    return Err(try_again(
                        "the secret recovery-key is still sealed\n  --recovery-key-file - reads it from standard input",
                    ));
                }
                Err(refused(
                    "no recovery key at hand\n  pc-unlock recover --recovery-key-file -    (reads it from standard input)",
                ))
            });
        }
    };
    checked(&text)
}

/// The credential or the open secret, when there is one.
pub fn at_hand(common: &Common) -> Option<Result<Zeroizing<String>>> {
    find(common).map(|path| checked(&read(&path)?))
}

fn checked(text: &str) -> Result<Zeroizing<String>> {
    let text = normal(text);
    if text.is_empty() { Err(refused("the recovery key is empty")) } else { Ok(text) }
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    std::fs::read_to_string(path).map(Zeroizing::new).with_context(|| format!("reading {}", path.display()))
}

fn find(common: &Common) -> Option<std::path::PathBuf> {
    let credential =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join("recovery-key"));
    let secret = common.under_root(paths::SECRETS).join("recovery-key");
    credential.into_iter().chain([secret]).find(|path| path.exists())
}

/// Eight groups of eight modhex letters may be typed in capitals; anything else is taken as it is, without
/// the white space around it.
fn normal(text: &str) -> Zeroizing<String> {
    let mut key = Zeroizing::new(text.trim().to_string());
    let group = |group: &str| group.len() == 8 && group.bytes().all(|byte| byte.is_ascii_alphabetic());
    if key.split('-').count() == 8 && key.split('-').all(group) {
        key.make_ascii_lowercase();
    }
    key
}

/// Opens a device that is locked. One that is not plugged in may come later.
pub fn open(device: &Device, key: &str) -> Result<()> {
    if !device.is_present() {
        return Err(try_again("is not plugged in"));
    }
    if device.is_open() {
        return Ok(());
    }
    device.may_be_opened()?;
    cryptsetup::open(&device.path, &device.mapper, None, key.as_bytes())?;
    log::info(format_args!("{}: opened as /dev/mapper/{}", device.name, device.mapper));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_keys_are_forgiven_their_capitals() {
        let key = "BVCCCCCC-CCCCCCCC-CCCCCCCC-CCCCCCCC-CCCCCCCC-CCCCCCCC-CCCCCCCC-CCCCCCUC\n";
        assert_eq!(normal(key).as_str(), key.trim().to_lowercase());
        assert_eq!(normal(" Some Phrase ").as_str(), "Some Phrase");
    }
}
