//! Base images: what a source is, whether it is what its digest says, and copying it once to a new disk.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cluster::{Bytes, Image};
use pc_cli::refused;
use sha2::{Digest, Sha256, Sha512};

use crate::curl;
use crate::disk::foreign;
use crate::qemu_img::{self, Format};

/// A digest as the file writes it: `sha256:HEX` or `sha512:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

impl Expected {
    /// Reads the file's form.
    pub fn parse(text: &str) -> Result<Expected> {
        let wrong = || refused(format!("digest {text:?}: is neither sha256:HEX nor sha512:HEX"));
        let (name, hex) = text.split_once(':').ok_or_else(wrong)?;
        let (algorithm, length) = match name {
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return Err(wrong()),
        };
        if hex.len() != length || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        Ok(Expected { algorithm, hex: hex.to_ascii_lowercase() })
    }

    /// The name of the file in the cache.
    fn cache_name(&self) -> String {
        let name = if self.algorithm == Algorithm::Sha256 { "sha256" } else { "sha512" };
        format!("{name}-{}", self.hex)
    }

    /// Refuses a file that is not the one meant.
    pub fn check(&self, path: &Path, called: &str) -> Result<()> {
        let found = match self.algorithm {
            Algorithm::Sha256 => hash_file::<Sha256>(path)?,
            Algorithm::Sha512 => hash_file::<Sha512>(path)?,
        };
        if found == self.hex {
            return Ok(());
        }
        Err(refused(format!("{called}: digest is {found}, the file says {}", self.hex)))
    }
}

fn hash_file<D: Digest>(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hash = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

/// Finds an image on this machine, downloading it into `cache` when it is a URL. The digest is checked before
/// anything reads the image, also when it came out of the cache.
fn obtain(name: &str, image: &Image, cache: &Path) -> Result<PathBuf> {
    let expected = image.digest.as_deref().map(Expected::parse).transpose()?;
    let source = image.source.as_str();
    if !source.starts_with("http://") && !source.starts_with("https://") {
        let path = PathBuf::from(source);
        if !path.is_file() {
            return Err(refused(format!("image.{name}: {source} is not a file on this node")));
        }
        if let Some(expected) = expected {
            expected.check(&path, &format!("image.{name} ({source})"))?;
        }
        return Ok(path);
    }
    let Some(expected) = expected else {
        return Err(refused(format!("image.{name}: {source} is downloaded and has no digest")));
    };
    let cached = cache.join(expected.cache_name());
    if cached.is_file() && expected.check(&cached, "the cached copy").is_ok() {
        return Ok(cached);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let temporary = cache.join(format!(".{}.{}", expected.cache_name(), std::process::id()));
    pc_cli::log::info(format_args!("downloading image.{name} from {source}"));
    let fetched = curl::download(source, &temporary)
        .and_then(|()| expected.check(&temporary, &format!("image.{name} ({source})")))
        .and_then(|()| sync(&temporary))
        .and_then(|()| std::fs::rename(&temporary, &cached).context("keeping the downloaded image"));
    if fetched.is_err() {
        // Best effort: the original error is the one worth telling.
        let _ = std::fs::remove_file(&temporary);
    }
    fetched.map(|()| cached)
}

fn sync(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.with_context(|| format!("writing {} to its disk", path.display()))
}

/// Where a new disk comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The image and its name in the file; an empty disk when absent.
    pub image: Option<(&'a str, &'a Image)>,
    /// Size of the new disk.
    pub size: Bytes,
    /// Where downloads are kept.
    pub cache: &'a Path,
}

/// Makes a VM's disk, unless there is one. `true` when a disk was made.
pub fn create_disk(source: Source, disk: &Path) -> Result<bool> {
    make_disk(disk, source.size, |temporary| fill(source, temporary))
}

/// Makes a disk of this size, which `fill` writes into a file that is there already. An existing disk is never touched:
/// `false`. The copy gets its name only once it is complete and on stable storage.
pub fn make_disk(disk: &Path, size: Bytes, fill: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    if disk.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let directory = disk.parent().with_context(|| format!("{} has no directory", disk.display()))?;
    remove_leftovers(directory)?;
    let temporary = directory.join(format!("{LEFTOVER}{}", std::process::id()));
    let made = whole(&temporary, size, fill).and_then(|()| keep(&temporary, disk, directory));
    // Under its own name by now, or worth nothing.
    let _ = std::fs::remove_file(&temporary);
    made.with_context(|| format!("making {}", disk.display()))?;
    Ok(true)
}

const LEFTOVER: &str = ".disk.img.";

/// Copies that a crash interrupted. The caller holds the VM's lock: nobody is writing them.
fn remove_leftovers(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry.with_context(|| format!("reading {}", directory.display()))?;
        if entry.file_name().to_string_lossy().starts_with(LEFTOVER) {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("removing an interrupted copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A file that is complete and on stable storage.
fn whole(temporary: &Path, size: Bytes, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    // Made here, so that it is never readable by others; qemu-img truncates it and keeps the mode.
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .with_context(|| format!("creating {}", temporary.display()))?;
    fill(temporary)?;
    if made.metadata()?.len() > size.0 {
        // raw images are rounded up to a sector; anything more was checked before.
        bail!("the copy is larger than {size}");
    }
    made.set_len(size.0).with_context(|| format!("growing {} to {size}", temporary.display()))?;
    made.sync_all().with_context(|| format!("writing {} to its disk", temporary.display()))
}

fn fill(source: Source, temporary: &Path) -> Result<()> {
    let Source { image, size, cache } = source;
    let Some((name, image)) = image else { return Ok(()) };
    let path = obtain(name, image, cache)?;
    let input = foreign::look(&path, &format!("image.{name} ({})", path.display()))?;
    let info = qemu_img::info(&input)?;
    if info.reads_other_files() {
        return Err(refused(format!("image.{name}: refers to another file (backing file or data file)")));
    }
    if info.virtual_size > size.0 {
        let needed = Bytes(info.virtual_size);
        return Err(refused(format!("image.{name}: is {needed}, larger than the VM's disk of {size}")));
    }
    qemu_img::convert(&input, Format::Raw, temporary)
}

/// Puts another disk in the place of one that exists: at every moment there is the old one or the new one, whole.
pub fn replace_disk(disk: &Path, size: Bytes, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let directory = disk.parent().with_context(|| format!("{} has no directory", disk.display()))?;
    remove_leftovers(directory)?;
    let temporary = directory.join(format!("{LEFTOVER}{}", std::process::id()));
    let replaced = whole(&temporary, size, fill).and_then(|()| {
        std::fs::rename(&temporary, disk).context("giving the copy its name")?;
        sync(directory)
    });
    // Under its own name by now, or worth nothing.
    let _ = std::fs::remove_file(&temporary);
    replaced.with_context(|| format!("replacing {}", disk.display()))
}

/// Gives the copy its name, only if nobody has it: a hard link fails where a rename would replace.
fn keep(temporary: &Path, disk: &Path, directory: &Path) -> Result<()> {
    std::fs::hard_link(temporary, disk).with_context(|| format!("naming the copy {}", disk.display()))?;
    std::fs::remove_file(temporary).context("removing the copy's temporary name")?;
    sync(directory)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
