//! Writing a backup of a header back: not over what it does not belong to, not when nobody opens it, and never without a copy
//! of what was there.

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use pc_cli::{Common, Exit, log, refused, try_again};
use recovery_key::Key;
use tang_client::jwe::Cek;
use tang_client::{Client, Jwe};
use zeroize::Zeroizing;

use crate::device::Device;
use crate::luks2::{self, Header};
use crate::mapper::{self, Mapper};
use crate::proof::{self, Proof};
use crate::salvage::{self, Salvage};
use crate::scratch::Scratch;
use crate::target::{self, Leave};
use crate::{cryptsetup, given, header, image, lock, places, recover, reencrypted, worse};

/// A backup of a whole LUKS2 header (16 MiB) fits, in base64.
const LARGEST: u64 = 24 << 20;
/// And this much of what is there, which is more than cryptsetup makes by itself.
const LONGEST: u64 = 17 << 20;

/// Writes a backup back. Refused while the device is open or held, and when it holds anything else that `leave` does not
/// name.
pub fn restore(
    common: &Common,
    client: &Client,
    device: &Device,
    path: &Path,
    recovery_key: &Key,
    leave: Leave,
) -> Result<()> {
    device.require_present()?;
    device.require_answer()?;
    let key = header::derive(recovery_key)?;
    let backup = read(path, &key).and_then(|saved| Backup::new(client, device, saved, recovery_key, leave));
    let backup = backup.map_err(|error| header::not_brought_back(device, error))?;
    closed(common, device, &backup, leave)?;
    // Nobody opens it meanwhile either: pc-unlock.service would, within seconds.
    let _alone = lock::alone(common, device)?;
    closed(common, device, &backup, leave)?;
    // Kept to the end: as long as it is ours, the kernel gives the device to no mapper and no mount, whoever asks for one.
    // luksHeaderRestore does not want it for itself.
    let mut file = Salvage::new(target::free(device).map_err(|error| backup.not_worth(error))?);
    target::large_enough(device, &mut file, &backup.image)?;
    target::may_be_lost(common, device, &mut file, &backup.saved, leave)?;
    let mut present = present(device, &mut file, &image::whole(&backup.saved))?;
    // Where all may be ours only what keyslots need is kept of it.
    if file.lost() == 0 && !leave.everything {
        present = image::cut(present);
    }
    if file.lost() == 0 && image::cut(present.clone()).as_slice() == backup.saved.as_slice() {
        log::info(format_args!("{}: has this header already", device.name));
        return Ok(());
    }
    if let Some(error) = backup.unproven() {
        return Err(error);
    }
    tell_of_bad_sectors(device, &file, leave)?;
    keep(common, device, &key, &present, &backup.saved, file.lost())?;
    // All of that took its time, and cryptsetup does not look.
    closed(common, device, &backup, leave)?;
    cryptsetup::restore_header(&device.path, &backup.image).with_context(|| {
        format!("{}: may be half written: the same once more, before anybody opens it", device.name)
    })?;
    drop(file);
    log::info(format_args!("{}: header restored from {}", device.name, path.display()));
    Ok(())
}

/// Refuses a device that is open. It is to be closed only for a backup that is of it, that somebody can open and that would then be
/// written: the kernel may have the last copy of its key.
fn closed(common: &Common, device: &Device, backup: &Backup, leave: Leave) -> Result<()> {
    match device.mapper_state() {
        Mapper::Closed | Mapper::Stale | Mapper::Foreign => return Ok(()),
        Mapper::Silent => return device.may_be_opened(),
        Mapper::Open | Mapper::Changed => {}
    }
    if let Some(error) = backup.unproven() {
        return Err(header::not_brought_back(device, error));
    }
    let (mapped, of) = (device.mapped_uuid(), worse::uuid(&backup.saved).unwrap_or_default());
    if mapped.is_some_and(|mapped| mapped != mapper::plain(&of)) {
        let why = refused(format!("the backup is of another LUKS device ({of})"));
        return Err(header::not_brought_back(device, why));
    }
    let written = || {
        let mut file = Salvage::new(luks2::open(&device.path)?);
        target::large_enough(device, &mut file, &backup.image)?;
        target::may_be_lost(common, device, &mut file, &backup.saved, leave)
    };
    written().map_err(|error| header::not_brought_back(device, error))?;
    let unproven = if leave.unproven { ", and nothing was proven of the backup" } else { "" };
    Err(refused(format!("{} is open{unproven}\n  {}", device.name, header::closing(device))))
}

/// What bad sectors hold is lost with the first write; those that nobody had the time to try may be good.
fn tell_of_bad_sectors<F: Read + Seek>(device: &Device, file: &Salvage<F>, leave: Leave) -> Result<()> {
    if file.lost() == 0 {
        return Ok(());
    }
    let name = &device.name;
    if file.given_up() && !leave.everything {
        return Err(refused(format!(
            "{name}: {} where the header stands cannot be read, and there may be more: what is good among them would not be kept\n  \
             smartctl --all {name}    (tells how the disk is)\n  \
             add --yes-destroy-all-data-on-it when no keyslot of what is there is needed",
            salvage::blocks(file.lost())
        )));
    }
    log::warning(format_args!(
        "{name}: {} where the header stands cannot be read; most disks replace them when they are written to\n  \
         smartctl --all {name}    (tells how the disk is)",
        salvage::blocks(file.lost())
    ));
    Ok(())
}

/// The header that a backup holds.
fn read(path: &Path, key: &Cek) -> Result<Zeroizing<Vec<u8>>> {
    let text = given::read(path, LARGEST)?;
    let jwe = Jwe::parse(&text).with_context(|| format!("reading {}", path.display()))?;
    let saved = jwe.decrypt(key).map_err(|_| refused("the recovery key does not open this backup"))?;
    if luks2::copies(&mut Cursor::new(saved.as_slice()))?.is_empty() {
        return Err(anyhow!("{}: holds no LUKS header", path.display()));
    }
    Ok(saved)
}

/// A backup that has been read.
struct Backup {
    /// The header, cut.
    saved: Zeroizing<Vec<u8>>,
    /// A file with all of it.
    image: PathBuf,
    /// Whether anybody here can open what it would make.
    proven: Result<()>,
    /// Where the file is.
    _scratch: Scratch,
}

impl Backup {
    fn new(
        client: &Client,
        device: &Device,
        saved: Zeroizing<Vec<u8>>,
        recovery_key: &Key,
        leave: Leave,
    ) -> Result<Backup> {
        let scratch = Scratch::new()?;
        let image = scratch.write("header", &image::whole(&saved))?;
        let proven = if leave.unproven { Ok(()) } else { opens(client, device, &image, recovery_key) };
        Ok(Backup { saved, image, proven, _scratch: scratch })
    }

    /// Of a device that somebody holds, by a mapper of another name perhaps: nobody is to end that for a backup which nobody opens.
    fn not_worth(&self, held: anyhow::Error) -> anyhow::Error {
        match self.unproven() {
            Some(why) => refused(format!("{held:#}\n  do not close it for this backup: {why:#}")),
            None => held,
        }
    }

    /// Why nobody here would open what it would make.
    fn unproven(&self) -> Option<anyhow::Error> {
        let error = self.proven.as_ref().err()?;
        let why = format!("{error:#}");
        Some(if Exit::of(error) == Exit::TryAgain { try_again(why) } else { refused(why) })
    }
}

/// What stands where the header goes, byte for byte, and zeros for what cannot be read.
fn present(device: &Device, file: &mut (impl Read + Seek), saved: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let length = match luks2::parse(file) {
        Ok(Header::Luks2(metadata)) => metadata.header_size() as u64,
        _ => saved.len() as u64,
    };
    let mut image = Zeroizing::new(Vec::new());
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(length.min(LONGEST)).read_to_end(&mut image))
        .with_context(|| format!("reading {}", device.name))?;
    Ok(image)
}

/// Refuses a backup that nobody here can open: an older one, of before a rotation or without the recovery key, would lock the
/// disk for good, and what is there may still be mended.
fn opens(client: &Client, device: &Device, image: &Path, recovery_key: &Key) -> Result<()> {
    let saved = Device { path: image.into(), ..device.clone() };
    let mut reasons = Vec::new();
    let mut later = false;
    let mut told = |error: &anyhow::Error| {
        later |= Exit::of(error) == Exit::TryAgain;
        format!("{error:#}")
    };
    reasons.push(match recover::opens(&saved, None, recovery_key) {
        Ok(true) => return Ok(()),
        Ok(false) => "the recovery key opens no keyslot of it".into(),
        Err(error) => told(&error),
    });
    for binding in saved.bindings().unwrap_or_default() {
        let why = match proof::of(client, &saved, &binding) {
            Proof::Fits(..) => return Ok(()),
            Proof::Other => proof::OTHER.to_string(),
            Proof::Unknown(error) => told(&error),
        };
        reasons.push(format!("token {}: {why}", binding.token));
    }
    let text = format!(
        "{}: nothing here opens the backup: {}\n  add --unproven-backup when you have a passphrase of it",
        device.name,
        reasons.join("; ")
    );
    Err(if later { try_again(text) } else { refused(text) })
}

/// Beside the local backup, which the next run of the timer makes of what is restored now; under a name of its own, so that
/// none takes the place of another one. An OS disk that is full or damaged keeps no data disk from being mended.
fn keep(
    common: &Common,
    device: &Device,
    key: &Cek,
    present: &[u8],
    saved: &[u8],
    lost: usize,
) -> Result<()> {
    if present.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let name = header::name_of_replaced(device, present);
    let text = header::sealed(key, present)?;
    let mut failed = Vec::new();
    let memory = common.under_root("/run/personal-cluster");
    let places = header::directories(common).into_iter().chain([memory.clone()]);
    let path = places.into_iter().find_map(|directory| {
        places::write(directory, &name, text.clone()).map_err(|error| failed.push(error)).ok()
    });
    let Some(path) = path else { return pc_cli::together(failed) };
    for error in &failed {
        log::warning(format_args!("{}: {error:#}", device.name));
    }
    let but = if lost > 0 { format!(" but for {}", salvage::blocks(lost)) } else { String::new() };
    let until = format!("{but}{}", if path.starts_with(&memory) { " until the next boot" } else { "" });
    let path = path.display();
    if luks2::parse(&mut Cursor::new(present)).is_err()
        || luks2::copies(&mut Cursor::new(present))?.is_empty()
    {
        log::info(format_args!(
            "{}: what stood there is kept{until} in {path}, to be taken out as docs/unlock.md shows for any backup",
            device.name
        ));
        return Ok(());
    }
    let differs = worse::uuid(present) != worse::uuid(saved)
        || reencrypted::since(&mut Cursor::new(saved), &mut Cursor::new(present))?.is_some();
    let other = if differs { " --overwrite-other-device" } else { "" };
    log::info(format_args!(
        "{0}: the header that it had is kept{until}; to have it again:\n  \
         pc-unlock header restore {0} --from {path} --recovery-key-file -{other}",
        device.name
    ));
    Ok(())
}
