//! The recovery key: opening devices without any server.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cluster::view::paths;
use pc_cli::{Common, log, refused};
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

/// Opens all devices that are present and locked. Each failure is told; the first ends nothing.
pub fn open(devices: &[Device], key: &str) -> Result<()> {
    let mut failed = 0;
    for device in devices {
        if device.is_open() {
            continue;
        }
        let opened = if device.is_present() {
            cryptsetup::open(&device.path, &device.mapper, None, key.as_bytes())
        } else {
            Err(anyhow::anyhow!("is not plugged in"))
        };
        match opened {
            Ok(()) => log::info(format_args!("{}: opened as /dev/mapper/{}", device.name, device.mapper)),
            Err(error) => {
                failed += 1;
                log::error(format_args!("{}: {error:#}", device.name));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} devices stay closed", devices.len());
    }
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
