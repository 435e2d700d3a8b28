//! What would be lost with a VM's directory, in words.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use cluster::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::store::Store;

/// The size of the disk, and what would be lost. While the disk is still being copied out of an archive, what the guest has
/// written lies beside it, and nowhere else.
pub fn loss(store: &Store) -> Result<(Option<u64>, String)> {
    let mut lost = Vec::new();
    let disk = store.disk();
    let meta = look(&disk)?;
    if let Some(meta) = &meta {
        lost.push(format!("{}, {} of which {}", disk.display(), Bytes(meta.len()), used(meta)));
    }
    if let Some(archive) = store.unfinished()? {
        let overlay = store.overlay();
        if let Some(meta) = look(&overlay)? {
            let what = format!("{}, of which {}", overlay.display(), used(&meta));
            lost.push(format!("all that its guest has written since it runs out of {archive}: {what}"));
        }
    }
    if lost.is_empty() {
        lost.push("its directory, without a disk".into());
    }
    Ok((meta.map(|meta| meta.len()), lost.join(", and ")))
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
    }
}

fn used(meta: &Metadata) -> String {
    let written =
        OffsetDateTime::from_unix_timestamp(meta.mtime()).ok().and_then(|time| time.format(&Rfc3339).ok());
    let mebibytes = (meta.blocks() * 512).div_ceil(1 << 20);
    format!("{mebibytes} MiB are in use, last written to {}", written.unwrap_or_default())
}
