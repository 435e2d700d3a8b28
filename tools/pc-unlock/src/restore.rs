//! Writing a backup of a header back: not over what it does not belong to, not over what it is worse than, and never
//! without a copy of a header that was sound.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use base64ct::{Base64UrlUnpadded, Encoding};
use pc_cli::{Common, log, refused};
use sha2::{Digest, Sha256};
use tang_client::jwe::Cek;
use tang_client::{Client, Jwe};
use zeroize::Zeroizing;

use crate::device::Device;
use crate::luks2::{self, Header};
use crate::proof::{self, Proof};
use crate::scratch::Scratch;
use crate::target::{self, Leave};
use crate::{cryptsetup, given, header, image, lock, places};

/// A backup of a whole LUKS2 header (16 MiB) fits, in base64.
const LARGEST: u64 = 24 << 20;

/// Writes a backup back. Refused while the device is open or held, and when it holds anything else that `leave` does not
/// name.
pub fn restore(
    common: &Common,
    client: &Client,
    device: &Device,
    path: &Path,
    recovery_key: &str,
    leave: Leave,
) -> Result<()> {
    if device.is_open() {
        return Err(refused(format!("{} is open\n  cryptsetup close {}", device.name, device.mapper)));
    }
    let _alone = lock::alone(common, device)?;
    let text = given::read(path, LARGEST)?;
    let jwe = Jwe::parse(&text).with_context(|| format!("reading {}", path.display()))?;
    let key = header::derive(recovery_key)?;
    let saved = jwe.decrypt(&key).map_err(|_| refused("the recovery key does not open this backup"))?;
    if luks2::copies(&mut Cursor::new(saved.as_slice()))?.is_empty() {
        return Err(anyhow!("{}: holds no LUKS header", path.display()));
    }
    let scratch = Scratch::new()?;
    let image = scratch.write("header", &image::whole(&saved))?;
    let mut file = target::free(device)?;
    target::large_enough(device, &mut file, &image)?;
    target::may_be_lost(common, device, &mut file, &saved, leave)?;
    let present = usable(device, &mut file)?;
    // cryptsetup may want it for itself.
    drop(file);
    if let Some(present) = present {
        if present.as_slice() == saved.as_slice() {
            log::info(format_args!("{}: has this header already", device.name));
            return Ok(());
        }
        if !leave.good_header {
            opens(client, device, &image, recovery_key)?;
        }
        keep(common, device, &key, &present)?;
    }
    cryptsetup::restore_header(&device.path, &image)?;
    log::info(format_args!("{}: header restored from {}", device.name, path.display()));
    Ok(())
}

/// The header that is there and all its keyslots, byte for byte, when somebody may open the data with it; one sound copy is
/// enough for that.
fn usable(device: &Device, file: &mut File) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let length = match luks2::parse(file) {
        Ok(Header::Luks2(metadata)) if !metadata.opening_slots().is_empty() => metadata.header_size() as u64,
        Ok(Header::Luks1(_)) => luks2::extent_in(file)?.min(LARGEST),
        Ok(_) | Err(_) => return Ok(None),
    };
    let mut image = Zeroizing::new(Vec::new());
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(length).read_to_end(&mut image))
        .with_context(|| format!("reading {}", device.name))?;
    Ok(Some(image::cut(image)))
}

/// Refuses a backup that nobody here can open in the place of a header that somebody may: an older one, of before a
/// rotation or without the recovery key, would lock the disk for good.
fn opens(client: &Client, device: &Device, image: &Path, recovery_key: &str) -> Result<()> {
    let saved = Device { path: image.into(), ..device.clone() };
    if proof::fits(&saved, None, recovery_key.as_bytes())? {
        return Ok(());
    }
    let mut reasons = vec!["the recovery key opens no keyslot of it".to_string()];
    for binding in saved.bindings()? {
        let why = match proof::of(client, &saved, &binding) {
            Proof::Fits(..) => return Ok(()),
            Proof::Other => proof::OTHER.to_string(),
            Proof::Unknown(error) => format!("{error:#}"),
        };
        reasons.push(format!("token {}: {why}", binding.token));
    }
    Err(refused(format!(
        "{}: it has a header that somebody may open, and nothing here opens the backup: {}\n  \
         add --overwrite-good-header when you have a passphrase of the backup",
        device.name,
        reasons.join("; ")
    )))
}

/// Beside the local backup, which the next run of the timer makes of what is restored now; under a name of its own, so that
/// none takes the place of another one.
fn keep(common: &Common, device: &Device, key: &Cek, present: &[u8]) -> Result<()> {
    let digest = Base64UrlUnpadded::encode_string(&Sha256::digest(present)[..9]);
    let name = format!("{}.replaced-{digest}.jwe", device.id());
    let path = places::write(places::local(common), &name, header::sealed(key, present)?)?;
    log::info(format_args!(
        "{0}: the header that it had is kept\n  pc-unlock header restore {0} --from {1}    (brings it back)",
        device.name,
        path.display()
    ));
    Ok(())
}
