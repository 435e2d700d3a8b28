//! What changed, as it comes in.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::stat::SFlag;
use pc_cli::refused;
use segment_map::Extents;

use crate::decide::Told;

/// An answer for the largest disks has some hundred thousand extents of 60 bytes.
const LIMIT: u64 = 1 << 30;

/// Reads the file that was named, or standard input when it is a pipe, a socket or a file.
pub fn told(extents: Option<&Path>, full: bool) -> Result<Told> {
    match extents {
        _ if full => Ok(Told::Nothing("--full was given")),
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            parsed(file, &path.display().to_string())
        }
        Some(_) => parsed(std::io::stdin().lock(), "standard input"),
        None if speaks() => parsed(std::io::stdin().lock(), "standard input"),
        None => Ok(Told::Nothing("no extents were given")),
    }
}

/// A terminal and `/dev/null` say nothing; a closed standard input neither.
fn speaks() -> bool {
    let Ok(status) = nix::sys::stat::fstat(std::io::stdin()) else { return false };
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    [SFlag::S_IFIFO, SFlag::S_IFREG, SFlag::S_IFSOCK].contains(&kind)
}

fn parsed(from: impl Read, name: &str) -> Result<Told> {
    let mut text = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut text).with_context(|| format!("reading {name}"))?;
    if text.len() as u64 > LIMIT {
        return Err(refused(format!("{name}: more than {LIMIT} bytes of extents")));
    }
    let text = String::from_utf8(text).map_err(|_| refused(format!("{name}: not UTF-8")))?;
    let extents = Extents::parse(&text).map_err(|fault| {
        refused(format!("{name}: {fault}\n  --full < /dev/null  # everything counts as changed"))
    })?;
    Ok(Told::Extents(extents))
}
