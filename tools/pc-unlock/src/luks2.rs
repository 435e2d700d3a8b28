//! The LUKS2 header (LUKS2 On-Disk Format Specification 1.1.4): just enough to read tokens and keyslots
//! without starting a program. Writing is cryptsetup's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

const BINARY: usize = 4096;
/// Offset and length of the checksum within the binary header.
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// Where the second copy may begin: it follows the first, whose size is one of these.
const SIZES: [usize; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];

/// What the JSON area says, as far as unlocking needs it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Metadata {
    /// Passphrase slots by number.
    #[serde(default)]
    pub keyslots: BTreeMap<String, Value>,
    /// Tokens by number.
    #[serde(default)]
    pub tokens: BTreeMap<String, Token>,
    /// Where the data is.
    #[serde(default)]
    pub segments: BTreeMap<String, Segment>,
    /// Which slots hold which key.
    #[serde(default)]
    pub digests: BTreeMap<String, Assigned>,
    /// How large the rest of the header is.
    #[serde(default)]
    config: Config,
    /// The higher, the later it was written.
    #[serde(skip)]
    seqid: u64,
    /// Bytes of one copy of the metadata; two stand at the beginning of the device.
    #[serde(skip)]
    size: usize,
    /// Bytes that are left for more of both.
    #[serde(skip)]
    pub room: usize,
}

/// Numbers are texts in LUKS2.
#[derive(Debug, Clone, Default, Deserialize)]
struct Config {
    /// Bytes of all keyslot areas together, those not in use with them.
    #[serde(default)]
    keyslots_size: String,
}

/// A key: the slots that give it, and the data that it opens.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Assigned {
    #[serde(default)]
    keyslots: Vec<String>,
    /// None: the key opens nothing here (`luksAddKey --unbound`).
    #[serde(default)]
    pub segments: Vec<String>,
    /// What tells the key from any other: a digest of it, and how that was made.
    #[serde(flatten)]
    pub key: serde_json::Map<String, Value>,
}

/// A piece of the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Segment {
    #[serde(default)]
    offset: String,
    /// `dynamic`: up to the end of the device.
    #[serde(default)]
    size: String,
    /// How it is encrypted.
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// A token: how to get a passphrase. All members but two belong to its type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Token {
    /// `clevis`, `systemd-tpm2`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The slots it opens.
    #[serde(default)]
    pub keyslots: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// What stands at the beginning of a device.
#[derive(Debug, Clone)]
pub enum Header {
    /// LUKS version 2, with its metadata and UUID.
    Luks2(Metadata),
    /// LUKS version 1, with the slots that Clevis bound through luksmeta.
    Luks1(crate::luksmeta::Slots),
    /// Something else, or nothing.
    None,
}

/// `O_NONBLOCK` of open(2), the same on all machines that Debian and NixOS have: a fuzz target that includes this file needs no
/// libc for it.
const NONBLOCK: i32 = 0o4000;

/// Opens a block device or a file for reading; anything else, a FIFO above all, could make its reader wait for ever.
pub fn open(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_block_device() || kind.is_file() {
        return Ok(file);
    }
    Err(Error::new(ErrorKind::InvalidInput, "it is neither a block device nor a file"))
}

/// Reads the header of a device or file.
pub fn read(path: &Path) -> Result<Header> {
    let mut file = open(path).with_context(|| format!("opening {}", path.display()))?;
    parse(&mut file).with_context(|| format!("reading the LUKS header of {}", path.display()))
}

/// A copy of a header, of either version, that can at least be told by its magic.
#[derive(Debug, Clone)]
pub struct Copy {
    /// What it says.
    pub uuid: String,
    /// Its checksum is right. Version 1 has none.
    pub sound: bool,
}

/// All copies of a header, also those that are damaged.
pub fn copies(file: &mut (impl Read + Seek)) -> std::io::Result<Vec<Copy>> {
    let mut found = Vec::new();
    for offset in std::iter::once(0).chain(SIZES) {
        let mut binary = [0; BINARY];
        match at(file, offset, &mut binary) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        let magic: &[u8] = if offset == 0 { b"LUKS\xba\xbe" } else { b"SKUL\xba\xbe" };
        if binary.starts_with(magic) {
            let text: Vec<u8> = binary[168..208].iter().copied().take_while(|byte| *byte != 0).collect();
            let uuid = String::from_utf8_lossy(&text).into_owned();
            let sound = binary[6..8] == [0, 1] || copy(file, offset, &binary).is_ok();
            found.push(Copy { uuid, sound });
        }
    }
    Ok(found)
}

/// Where the data of a header begins, or ends when its size is fixed.
pub fn extent(path: &Path) -> Result<u64> {
    let mut file = open(path).with_context(|| format!("opening {}", path.display()))?;
    extent_in(&mut file).with_context(|| format!("reading the LUKS header of {}", path.display()))
}

/// The same of whatever can be read.
pub fn extent_in(file: &mut (impl Read + Seek)) -> Result<u64> {
    Ok(match parse(file)? {
        Header::Luks2(metadata) => {
            let ends = metadata.segments.values();
            ends.map(|piece| number(&piece.offset).saturating_add(number(&piece.size))).max().unwrap_or(0)
        }
        Header::Luks1(_) => {
            let mut sectors = [0; 4];
            at(file, 104, &mut sectors)?;
            u64::from(u32::from_be_bytes(sectors)) * 512
        }
        Header::None => 0,
    })
}

/// Reads the copy that is valid; of two, the one that was written last.
pub fn parse(file: &mut (impl Read + Seek)) -> Result<Header> {
    let mut binary = [0; BINARY];
    match at(file, 0, &mut binary) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Header::None),
        other => other?,
    }
    if binary.starts_with(b"LUKS\xba\xbe\x00\x01") {
        return crate::luksmeta::read(file).map(Header::Luks1);
    }
    match both(file, &binary) {
        (Some(Ok(first)), Some(Ok(second))) if second.seqid > first.seqid => Ok(Header::Luks2(second)),
        (Some(Ok(one)), _) | (_, Some(Ok(one))) => Ok(Header::Luks2(one)),
        (_, Some(fault)) => fault.map(Header::Luks2).context("both copies are damaged"),
        (Some(fault), None) => fault.map(Header::Luks2),
        (None, None) => Ok(Header::None),
    }
}

/// Of the two copies of a LUKS2 header, the one that is damaged, or older, while the other is sound: cryptsetup replaces it.
pub fn damaged_copy(file: &mut (impl Read + Seek)) -> Option<&'static str> {
    let mut binary = [0; BINARY];
    at(file, 0, &mut binary).ok()?;
    if binary.starts_with(b"LUKS\xba\xbe\x00\x01") {
        return None;
    }
    match both(file, &binary) {
        (Some(Ok(first)), Some(Ok(second))) if first.seqid == second.seqid => None,
        (Some(Ok(first)), Some(Ok(second))) if first.seqid < second.seqid => Some("first"),
        (Some(Ok(_)), _) => Some("second"),
        (_, Some(Ok(_))) => Some("first"),
        _ => None,
    }
}

/// The two copies, where they are: the second follows a sound first one, otherwise it is the first that is found. `binary` is
/// what stands at the beginning.
fn both(
    file: &mut (impl Read + Seek),
    binary: &[u8; BINARY],
) -> (Option<Result<Metadata>>, Option<Result<Metadata>>) {
    let first = binary.starts_with(b"LUKS\xba\xbe\x00\x02").then(|| copy(file, 0, binary));
    let places = match &first {
        Some(Ok(metadata)) => vec![metadata.size],
        _ => SIZES.to_vec(),
    };
    let second = places.into_iter().find_map(|offset| {
        let mut binary = [0; BINARY];
        at(file, offset, &mut binary).ok()?;
        binary.starts_with(b"SKUL\xba\xbe\x00\x02").then(|| copy(file, offset, &binary))
    });
    (first, second)
}

fn cut_short(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::UnexpectedEof, "the device ends before its header does")
        }
        _ => error,
    }
}

fn at(file: &mut (impl Read + Seek), offset: usize, bytes: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset as u64))?;
    file.read_exact(bytes)
}

/// What the copies of a version 2 header say whose checksums, or first bytes, are wrong, of each that is there: `None` of one
/// that cannot be read at all.
pub fn unsound(file: &mut (impl Read + Seek)) -> std::io::Result<Vec<Option<Metadata>>> {
    let mut found = Vec::new();
    for offset in std::iter::once(0).chain(SIZES) {
        let mut binary = [0; BINARY];
        match at(file, offset, &mut binary) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        let magic: &[u8] = if offset == 0 { b"LUKS\xba\xbe\x00\x02" } else { b"SKUL\xba\xbe\x00\x02" };
        // Its size may be wrong as well: the text ends where a zero follows it.
        let mut json = Vec::new();
        file.seek(SeekFrom::Start((offset + BINARY) as u64))?;
        file.take(1).read_to_end(&mut json)?;
        if json == b"{" {
            file.take((SIZES[8] - BINARY - 1) as u64).read_to_end(&mut json)?;
        }
        let metadata = metadata(&json).ok().filter(|metadata| !metadata.digests.is_empty());
        if metadata.is_some() || binary.starts_with(magic) {
            found.push(metadata);
        }
    }
    Ok(found)
}

fn copy(file: &mut (impl Read + Seek), offset: usize, binary: &[u8; BINARY]) -> Result<Metadata> {
    let field = |at: usize| -> Option<usize> {
        let bytes: [u8; 8] = binary.get(at..at + 8)?.try_into().ok()?;
        usize::try_from(u64::from_be_bytes(bytes)).ok()
    };
    let size = field(8).filter(|size| SIZES.contains(size));
    let Some(size) = size else { bail!("its size is none of those that LUKS2 knows") };
    if field(256) != Some(offset) {
        bail!("it says that it stands elsewhere");
    }
    let mut whole = vec![0; size];
    at(file, offset, &mut whole).map_err(cut_short)?;
    let stored: Vec<u8> = whole[CHECKSUM].to_vec();
    whole[CHECKSUM].fill(0);
    let name: Vec<u8> = binary[72..104].iter().copied().take_while(|byte| *byte != 0).collect();
    let computed = match name.as_slice() {
        b"sha256" => Sha256::digest(&whole).to_vec(),
        b"sha512" => Sha512::digest(&whole).to_vec(),
        other => bail!("its checksum {:?} is not known here", String::from_utf8_lossy(other)),
    };
    if !stored.starts_with(&computed) {
        bail!("its checksum is wrong");
    }
    let seqid = field(16).unwrap_or_default() as u64;
    Ok(Metadata { seqid, ..metadata(&whole[BINARY..])? })
}

/// What the JSON area of a copy says.
fn metadata(json: &[u8]) -> Result<Metadata> {
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    // Strictly: of a member that is named twice, cryptsetup and we could each believe another one.
    let metadata = tang_client::json::parse("its metadata", &json[..end])?;
    if !metadata.is_object() {
        bail!("its metadata is not what LUKS2 prescribes: not an object");
    }
    let metadata: Metadata =
        serde_json::from_value(metadata).context("its metadata is not what LUKS2 prescribes")?;
    // It ends with a zero.
    Ok(Metadata { room: json.len().saturating_sub(end + 1), size: json.len() + BINARY, ..metadata })
}

/// A number that is no number takes no part in anything.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

impl Metadata {
    /// The lowest number of a keyslot that is free (LUKS2 has 32).
    pub fn free_keyslot(&self) -> Option<u32> {
        (0..32).find(|slot| !self.keyslots.contains_key(&slot.to_string()))
    }

    /// The lowest number of a token that is free (LUKS2 has 32).
    pub fn free_token(&self) -> Option<u32> {
        (0..32).find(|token| !self.tokens.contains_key(&token.to_string()))
    }

    /// Bytes of both copies of the metadata.
    pub fn copies_size(&self) -> usize {
        2 * self.size
    }

    /// Bytes of the whole header, which is what cryptsetup saves and restores.
    pub fn header_size(&self) -> usize {
        // cryptsetup knows no larger area (LUKS2_MAX_KEYSLOTS_SIZE).
        let keyslots = number(&self.config.keyslots_size).min(128 << 20);
        self.copies_size() + usize::try_from(keyslots).unwrap_or(0)
    }

    /// The slots whose passphrase opens the data.
    pub fn opening_slots(&self) -> BTreeSet<&str> {
        let digests = || self.digests.values().filter(|digest| !digest.segments.is_empty());
        // Two keys for one piece: nobody can say which of them opens it, and cryptsetup makes no such header.
        let segments: Vec<&String> = digests().flat_map(|digest| &digest.segments).collect();
        if segments.iter().collect::<BTreeSet<_>>().len() != segments.len() {
            return BTreeSet::new();
        }
        let slots = digests().flat_map(|digest| digest.keyslots.iter().map(String::as_str));
        slots.filter(|slot| self.keyslots.contains_key(*slot)).collect()
    }

    /// The tokens of a type, with their numbers.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (u32, &'a Token)> {
        self.tokens
            .iter()
            .filter(move |(_, token)| token.kind == kind)
            .filter_map(|(number, token)| Some((number.parse().ok()?, token)))
    }
}

#[cfg(test)]
#[path = "luks2_tests.rs"]
pub mod tests;
