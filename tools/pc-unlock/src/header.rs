//! Backups of LUKS headers, encrypted to the recovery key and kept off the device.
//!
//! A backup is a JWE with `alg` "dir": its key is HKDF-SHA256 (RFC 5869) over the text of the recovery key,
//! salt "personal-cluster", info "luks-header", so that openssl and jose open it without us. It holds cryptsetup's image of
//! the header up to the last keyslot in use: truncate(1) makes it as long as luksHeaderRestore wants it.

use std::io::Cursor;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use base64ct::{Base64UrlUnpadded, Encoding};
use hkdf::Hkdf;
use pc_cli::{Common, Exit, log, refused, try_again};
use recovery_key::Key;
use serde_json::Map;
use sha2::{Digest, Sha256};
use tang_client::Jwe;
use tang_client::jwe::Cek;
use zeroize::Zeroizing;

use crate::cryptsetup;
use crate::device::Device;
use crate::luks2::{self, Header};
use crate::mapper::Mapper;
use crate::scratch::Scratch;
use crate::{image, lock, places, recover, reencrypted, salvage, settings, target, worse};

/// What brings a header back.
const RESTORE: &str = "pc-unlock header restore";
/// More than a header has by default.
const LONGEST: u64 = 17 << 20;

/// The key of all backups.
pub fn derive(recovery_key: &Key) -> Result<Cek> {
    let mut cek = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(b"personal-cluster"), recovery_key.bytes())
        .expand(b"luks-header", cek.as_mut())
        .map_err(|_| anyhow!("deriving the key of the header backup"))?;
    Ok(cek)
}

/// `<disk>.jwe`.
pub fn file_name(device: &Device) -> String {
    format!("{}.jwe", device.id())
}

/// What the names of headers, and of backups, that were replaced begin with, beside the local backups.
fn replaced(device: &Device) -> String {
    format!("{}.replaced-", device.id())
}

/// A name for one of them: none takes the place of another.
pub fn name_of_replaced(device: &Device, content: &[u8]) -> String {
    format!("{}{}.jwe", replaced(device), Base64UrlUnpadded::encode_string(&Sha256::digest(content)[..9]))
}

/// What somebody has said is right, although it does not look so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// The recovery key, which opens nothing that is there.
    pub recovery_key: bool,
    /// The header, whose backup looks better.
    pub header: bool,
}

/// Writes a backup of the header and all keyslots to each of these directories, where it is not there already. A key that
/// was mistyped would make backups that nobody opens, over those that somebody could: it must open an old one or the
/// device. A header that is worse than any old one replaces none.
pub fn backup(
    common: &Common,
    device: &Device,
    directories: &[PathBuf],
    recovery_key: &Key,
    trust: Trust,
) -> Result<()> {
    device.require_present()?;
    // The backup is of the key that the kernel has.
    if device.mapper_state() == Mapper::Changed {
        device.may_be_opened()?;
    }
    if has_none(device) {
        return Err(gone(device, &everywhere(common, directories)));
    }
    let scratch = Scratch::new()?;
    let saved = scratch.file("header");
    cryptsetup::backup_header(&device.path, &saved).map_err(|error| with_bad_sectors(device, error))?;
    let header = image::cut(Zeroizing::new(std::fs::read(&saved).context("reading the header's image")?));
    let key = derive(recovery_key)?;
    tell_of_older_key(common, device, &key);
    // One directory that cannot be read or written must not keep the backup from the others.
    let mut failed = Vec::new();
    let mut stale = Vec::new();
    let mut shown = trust.recovery_key;
    let mut worse = None;
    let mut others = Vec::new();
    for directory in directories {
        let path = directory.join(file_name(device));
        let text = match places::read(path.clone()) {
            Ok(text) => text,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        let open = |text: &Vec<u8>| Jwe::parse(text).and_then(|old| old.decrypt(&key)).ok();
        let old = text.as_ref().and_then(open);
        let old = old.as_ref().map(|old| old.as_slice());
        shown |= old.is_some();
        // A fresh nonce makes every backup another text: what it says is compared, or a volume would be written every day.
        if old.is_none_or(|old| old != header.as_slice()) {
            stale.push(directory);
            if text.is_some() && worse.is_none() && !trust.header {
                worse = worse_than(common, device, old, &header, recovery_key)?.map(|why| (path, why));
            }
            // Of what does not open nobody knows what it is worth.
            if old.is_none_or(|old| worse::uuid(old) != worse::uuid(&header)) {
                others.extend(text);
            }
        }
    }
    if stale.is_empty() {
        return pc_cli::together(failed);
    }
    if let Some((path, why)) = worse {
        failed.push(anyhow!(
            "{0}: {why}\n  {RESTORE} {0}  # when it is damaged; it looks at the backup before it has anything closed\n  \
             {1} is kept; add --overwrite-good-backup when the header is right all the same",
            device.name,
            path.display()
        ));
        return pc_cli::together(failed);
    }
    if !shown && !recover::opens(device, None, recovery_key)? {
        return Err(refused(format!(
            "the recovery key opens neither {} nor an older backup of its header: was it mistyped?\n  \
             add --new-recovery-key when it is the right one all the same",
            device.name
        )));
    }
    for other in others {
        set_aside(common, device, &other)?;
    }
    let text = sealed(&key, &header)?;
    for directory in stale {
        match places::write(directory.clone(), &file_name(device), text.clone()) {
            Ok(path) => log::info(format_args!("{}: header backed up to {}", device.name, path.display())),
            Err(error) => failed.push(error),
        }
    }
    pc_cli::together(failed)
}

/// There is no header: what there is to be done depends on what is left of it.
fn gone(device: &Device, directories: &[PathBuf]) -> anyhow::Error {
    let name = &device.name;
    match kept(device, directories) {
        Some(path) => anyhow!(
            "{name}: its LUKS header is gone; its backup is kept\n  {RESTORE} {name} --from {}",
            path.display()
        ),
        None => not_brought_back(device, anyhow!("has no LUKS header, and no backup of one is here")),
    }
}

/// Where a backup of the device stands, of those places.
fn kept(device: &Device, directories: &[PathBuf]) -> Option<PathBuf> {
    let mut paths = directories.iter().map(|directory| directory.join(file_name(device)));
    paths.find(|path| places::is_there(path.clone()))
}

/// A header that does not come back. Of a disk that is open the mapper is then the last way to its data, unless its header is there.
pub fn not_brought_back(device: &Device, why: anyhow::Error) -> anyhow::Error {
    let lost = match device.mapper_state() {
        Mapper::Open => !matches!(device.header(), Ok(Header::Luks1(_) | Header::Luks2(_))),
        Mapper::Changed => true,
        Mapper::Closed | Mapper::Stale | Mapper::Foreign | Mapper::Silent => false,
    };
    if !lost {
        return why;
    }
    let text = format!(
        "{}: {why:#}\n  \
         it is open, and the kernel may have the last copy of its key: do not close it, do not switch this machine off before \
         the header can be restored, or what is on /dev/mapper/{} is elsewhere (pc-gluster replace-brick)",
        device.name, device.mapper
    );
    match Exit::of(&why) {
        Exit::TryAgain => try_again(text),
        Exit::Refused => refused(text),
        _ => anyhow!(text),
    }
}

/// cryptsetup says nothing of a sector that it cannot read.
fn with_bad_sectors(device: &Device, error: anyhow::Error) -> anyhow::Error {
    let length = device.metadata().map_or(LONGEST, |metadata| metadata.header_size() as u64);
    let lost =
        device.ask(move |device| luks2::open(&device.path).and_then(|file| salvage::lost(file, length)));
    match lost {
        Ok(Ok(lost)) if lost > 0 => error.context(format!(
            "{}: {} where its header and keyslots stand cannot be read: the disk is failing (smartctl --all {0}), no new \
             backup of its header can be made",
            device.name,
            salvage::blocks(lost)
        )),
        _ => error,
    }
}

/// How a disk is closed for a restore: one that is only closed is open again within seconds.
pub fn closing(device: &Device) -> String {
    format!(
        "systemctl stop pc-unlock  # which would open it again; start it when the header is back\n  \
         cryptsetup close {}",
        device.mapper
    )
}

/// Why the header must not replace this backup. That of another device gives way to the one that pc-brick made on the disk
/// by its own record.
fn worse_than(
    common: &Common,
    device: &Device,
    old: Option<&[u8]>,
    new: &[u8],
    recovery_key: &Key,
) -> Result<Option<String>> {
    let (before, now) = (old.and_then(worse::uuid), worse::uuid(new));
    match (before, now) {
        (Some(before), Some(now)) if before != now => {
            if target::recorded(common, device)?.is_some_and(|uuid| uuid == now) {
                return Ok(worse::than(None, new));
            }
            Ok(Some(format!("carries the header of another LUKS device ({now}, the backup is of {before})")))
        }
        _ => match (worse::than(old, new), old) {
            (None, Some(old)) => opens_less(device, old, new, recovery_key),
            (why, _) => Ok(why),
        },
    }
}

/// Whoever may write to the disk may change a header so that it looks as good, and opens nothing; so does a byte that rotted in
/// one of version 1, which has no checksum. What the recovery key opens is what the backup is for.
fn opens_less(device: &Device, old: &[u8], new: &[u8], recovery_key: &Key) -> Result<Option<String>> {
    // What keeps cryptsetup from finding out says nothing about either.
    let opens = |device: &Device| recover::opens(device, None, recovery_key).unwrap_or(false);
    if opens(device) {
        return Ok(None);
    }
    let scratch = Scratch::new()?;
    let saved = Device { path: scratch.write("saved", &image::whole(old))?, ..device.clone() };
    if opens(&saved) {
        return Ok(Some("the recovery key opens its backup, and not its header".into()));
    }
    let since = reencrypted::since(&mut Cursor::new(new), &mut Cursor::new(old))?;
    Ok(since
        .map(|what| format!("its header holds {what} than the backup, and the recovery key opens neither")))
}

/// A header that was replaced under an older recovery key is still opened by that one.
fn tell_of_older_key(common: &Common, device: &Device, key: &Cek) {
    let (directory, prefix) = (places::local(common), replaced(device));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_older = || Jwe::parse(&std::fs::read(&path).ok()?).ok()?.decrypt(key).err();
        if entry.file_name().to_string_lossy().starts_with(&prefix) && is_older().is_some() {
            log::warning(format_args!(
                "{}: a header that was replaced is kept under an older recovery key\n  rm {}    (when that key may be known to somebody)",
                device.name,
                path.display()
            ));
        }
    }
}

/// A backup of another header, or one that the recovery key does not open, whose place is taken: under a name of its own.
fn set_aside(common: &Common, device: &Device, text: &[u8]) -> Result<()> {
    let path = places::write(places::local(common), &name_of_replaced(device, text), text.to_vec())?;
    log::info(format_args!("{}: the backup that was there is kept in {}", device.name, path.display()));
    Ok(())
}

/// As a backup holds it.
pub fn sealed(key: &Cek, header: &[u8]) -> Result<Vec<u8>> {
    Ok(Jwe::encrypt(Map::from_iter([("alg".into(), "dir".into())]), key, header)?.to_compact().into_bytes())
}

/// It is plugged in and carries no LUKS header, neither sound nor damaged.
fn has_none(device: &Device) -> bool {
    device.is_present() && matches!(device.header(), Ok(Header::None))
}

/// It has never had one, as far as anybody can tell: there is nothing to back up yet.
pub fn is_blank(common: &Common, device: &Device, directories: &[PathBuf]) -> bool {
    has_none(device) && !device.is_open() && kept(device, &everywhere(common, directories)).is_none()
}

/// These, and where backups stand by themselves.
fn everywhere(common: &Common, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut all = directories.to_vec();
    all.extend(self::directories(common).into_iter().filter(|directory| !directories.contains(directory)));
    all
}

/// Changes a header, alone; its backup follows whatever was changed, also by work that failed after that.
pub fn change(common: &Common, device: &Device, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let _alone = lock::alone(common, device)?;
    let content = || device.metadata().ok().map(|metadata| (metadata.keyslots, metadata.tokens));
    let before = content();
    let result = work();
    if content() != before {
        refresh(common, device);
    }
    result
}

/// After a change of the header: an old backup would bring back what was taken away. The change itself is
/// done, so a backup that cannot be made is a warning.
fn refresh(common: &Common, device: &Device) {
    let directories = directories(common);
    let made = match recover::at_hand(common) {
        Some(key) => key.and_then(|key| backup(common, device, &directories, &key, Trust::default())),
        None if directories.iter().any(|directory| places::is_there(directory.join(file_name(device)))) => {
            Err(anyhow!("the recovery key is not at hand"))
        }
        // There was none: whoever formats the disk makes the first one.
        None => {
            log::info(format_args!(
                "{0}: no backup of its header is kept yet\n  pc-unlock header backup {0} --recovery-key-file -",
                device.name
            ));
            Ok(())
        }
    };
    if let Err(error) = made {
        let why = format!("{error:#}");
        let again = format!("\n  pc-unlock header backup {} --recovery-key-file -", device.name);
        // Where it says what to do, doing the same again is not it.
        let remedy = if why.contains("\n  ") { "" } else { &again };
        log::warning(format_args!(
            "{}: the backup of its header is older than the header: {why}{remedy}",
            device.name
        ));
    }
}

/// On this node, and on a replicated volume when one is mounted.
pub fn directories(common: &Common) -> Vec<PathBuf> {
    let replicated = settings::load(common).ok().and_then(|cluster| places::replicated(common, &cluster));
    std::iter::once(places::local(common)).chain(replicated).collect()
}
