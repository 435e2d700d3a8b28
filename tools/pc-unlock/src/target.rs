//! What a header is about to be written over: may it be lost?

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::libc::{EBUSY, O_EXCL};
use pc_cli::{Common, refused};
use serde::Deserialize;

use crate::device::Device;
use crate::luks2::{self, Copy};
use crate::reencrypted;
use crate::salvage::Salvage;
use crate::signatures;

/// What may be lost for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// The header of another LUKS device, or of this one with another volume key.
    pub other_device: bool,
    /// Whatever is there.
    pub everything: bool,
    /// Whatever header is there, for one that nothing here opens.
    pub unproven: bool,
}

/// Opens the device for us alone: the kernel gives no device that is mounted, or below a mapper, a RAID or a volume group
/// (`O_EXCL` on a block device, open(2)).
pub fn free(device: &Device) -> Result<File> {
    match OpenOptions::new().read(true).write(true).custom_flags(O_EXCL).open(&device.path) {
        Ok(file) => Ok(file),
        Err(error) if error.raw_os_error() == Some(EBUSY) => Err(refused(format!(
            "{}: mounted, or held by the kernel or by another program\n  lsblk {0}",
            device.name
        ))),
        Err(error) => Err(error).with_context(|| format!("opening {}", device.name)),
    }
}

/// Refuses a device that the header's data never fitted on.
pub fn large_enough(device: &Device, file: &mut impl Seek, header: &Path) -> Result<()> {
    let size = file.seek(SeekFrom::End(0)).with_context(|| format!("measuring {}", device.name))?;
    let needed = luks2::extent(header)?.max(std::fs::metadata(header).context("measuring the backup")?.len());
    if size <= needed {
        return Err(refused(format!(
            "{} has {size} bytes, the header and data of this backup take more than {needed}\n  lsblk {0}",
            device.name
        )));
    }
    Ok(())
}

/// Refuses to write over anything but this header, the ruins of it, or nothing at all.
pub fn may_be_lost(
    common: &Common,
    device: &Device,
    file: &mut Salvage<impl Read + Seek>,
    header: &[u8],
    leave: Leave,
) -> Result<()> {
    let mut header = std::io::Cursor::new(header);
    let saved =
        luks2::copies(&mut header)?.into_iter().next().context("the backup holds no LUKS header")?.uuid;
    let saved = saved.as_str();
    if leave.everything {
        return Ok(());
    }
    let found = signatures::foreign(device, file.file())?;
    let reading = || format!("reading {}", device.name);
    let copies = luks2::copies(file).with_context(reading)?;
    let is_ours = |copy: &Copy| copy.uuid == saved;
    if !found.is_empty() {
        let found: Vec<_> = found.iter().map(signatures::Signature::in_words).collect();
        let whole = copies.iter().any(|copy| is_ours(copy) && copy.sound);
        return Err(precious(device, &found.join(", "), saved, whole));
    }
    let other = copies.iter().find(|copy| !is_ours(copy) && (copy.sound || !copies.iter().any(is_ours)));
    // Of a header that is gone pc-brick's record tells which one it was.
    let recorded = if copies.is_empty() { recorded(common, device)? } else { None };
    let other = other.map(|copy| copy.uuid.clone()).or_else(|| recorded.clone().filter(|uuid| uuid != saved));
    if let Some(other) = other {
        if leave.other_device {
            return Ok(());
        }
        return Err(refused(format!(
            "{} carries the header of another LUKS device ({other:?}, the backup is of {saved})\n  \
             add --overwrite-other-device when that one is to be lost for good",
            device.name
        )));
    }
    if copies.is_empty() && recorded.is_none() && !is_wiped(file, device)? {
        return Err(precious(device, "data without a signature", saved, false));
    }
    let since = reencrypted::since(file, &mut header).with_context(reading)?;
    // What cannot be read may have been anything.
    let hidden = file.lost() > 0 && !copies.iter().any(|copy| copy.sound);
    if leave.other_device {
        return Ok(());
    }
    match since {
        None if !hidden => Ok(()),
        None | Some(reencrypted::UNREADABLE) => Err(refused(format!(
            "{} holds {}, so that nobody can tell whether its volume key is still that of the backup of {saved}\n  \
             add --overwrite-other-device unless it was re-encrypted{} since; what {} is kept",
            device.name,
            if hidden { "bad sectors where its header stood" } else { reencrypted::UNREADABLE },
            if hidden { ", or given another use," } else { "" },
            if hidden { "can be read there" } else { "is there" }
        ))),
        Some(what) => Err(refused(format!(
            "{} holds {what} than the backup of {saved} (re-encrypted since?)\n  \
             add --overwrite-other-device when its data is to be lost for good",
            device.name
        ))),
    }
}

/// `whole`: a sound copy of the header stands behind what was found.
fn precious(device: &Device, found: &str, saved: &str, whole: bool) -> anyhow::Error {
    let name = &device.name;
    refused(if whole {
        format!(
            "{name} holds {found}, and a sound copy of the header that the backup is of ({saved}): either was written over the other\n  \
             cryptsetup repair {name}  # when the header is the newer one, or the other was written by mistake\n  \
             add --yes-destroy-all-data-on-it when what else is there is to be lost for good"
        )
    } else {
        format!(
            "{name} holds {found}, not the header that the backup is of ({saved})\n  \
             add --yes-destroy-all-data-on-it when that is to be lost for good"
        )
    })
}

/// Nothing is left where both copies of a header stand by default.
fn is_wiped(file: &mut (impl Read + Seek), device: &Device) -> Result<bool> {
    let mut area = vec![0; 0x8000];
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut area))
        .with_context(|| format!("reading {}", device.name))?;
    Ok(area.iter().all(|byte| *byte == 0))
}

/// The header that pc-brick made on this disk, by its own record.
pub fn recorded(common: &Common, device: &Device) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Record {
        luks_uuid: String,
    }
    let directory = common.under_root(cluster::paths::STATE).join("brick");
    let path = directory.join(format!("{}.json", device.id()));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let record: Record =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(record.luks_uuid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::{disk, format};

    /// A sector that cannot be read is the commonest damage, and writing is what a disk mends it by.
    #[test]
    fn bad_sectors_keep_nobody_from_writing_a_header_back_and_hide_none() {
        use crate::luks2::Header;
        use crate::salvage::tests::Bad;
        use std::io::Cursor;

        let root = tempfile::tempdir().unwrap();
        let (common, device) = disk(root.path());
        let path = &device.path;
        format(&device, b"passphrase");
        let Header::Luks2(metadata) = device.header().unwrap() else { panic!("no LUKS2") };
        let mut saved = std::fs::read(path).unwrap();
        saved.truncate(metadata.header_size());
        let refusal = |sectors: &[std::ops::Range<u64>], leave| {
            let disk = Cursor::new(std::fs::read(path).unwrap());
            let mut disk = Salvage::new(Bad { disk, sectors: sectors.to_vec() });
            may_be_lost(&common, &device, &mut disk, &saved, leave).err().map(|error| error.to_string())
        };
        let other = Leave { other_device: true, ..Leave::default() };
        let (first, second, noise) = (0..512, 0x5000..0x5200, 1_600_000..1_600_512);
        // All of the end as well.
        let end = 20 << 20..24 << 20;
        for sectors in
            [vec![first.clone(), end.clone()], vec![second.clone()], vec![noise], vec![end.clone()]]
        {
            assert_eq!(refusal(&sectors, Leave::default()), None, "{sectors:?}");
        }
        let both = [first, second];
        let said = refusal(&both, Leave::default()).unwrap();
        assert!(said.contains("bad sectors where its header stood, so that nobody can tell"), "{said}");
        assert_eq!(refusal(&both, other), None);
        // Zeros that were read say that nothing is there, zeros in the place of what was not say nothing.
        disk(root.path());
        assert_eq!(refusal(&[], Leave::default()), None);
        assert_eq!(refusal(&[end], Leave::default()), None);
        assert!(refusal(&both, Leave::default()).unwrap().contains("bad sectors where its header stood"));
        // What can be read says what it is.
        format(&device, b"passphrase");
        let said = refusal(&both[..1], Leave::default()).unwrap();
        assert!(said.contains("carries the header of another LUKS device"), "{said}");
        std::fs::write(path, vec![7; 24 << 20]).unwrap();
        let said = refusal(&both[..1], other).unwrap();
        assert!(said.contains("data without a signature"), "{said}");
    }
}
