//! qemu-nbd and qemu-img: qcow2 is theirs to read.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::nbd::Client;
use crate::source::Format;

/// qemu-nbd opens an image and its socket within milliseconds; a volume that hangs takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A qemu-nbd that shows one image read-only on a socket of its own. It ends when its last client has gone, so also
/// when this process is killed.
#[derive(Debug)]
pub(crate) struct Export {
    server: Child,
    directory: PathBuf,
}

impl Export {
    /// Starts it for a qcow2 file, with a dirty bitmap when one is named, and connects to it. QEMU's image lock refuses an
    /// image that a VM uses.
    ///
    /// # Errors
    /// qemu-nbd is not there, or refuses the image.
    pub(crate) fn qcow2(path: &Path, bitmap: Option<&str>) -> Result<(Export, Client)> {
        let path = std::path::absolute(path)?;
        std::fs::metadata(&path)?;
        let directory = private_directory()?;
        let mut command = Command::new("qemu-nbd");
        command.args(["--read-only", "--format=qcow2", "--shared=4", "--socket"]);
        command.arg(directory.join("nbd"));
        if let Some(bitmap) = bitmap {
            command.arg(format!("--bitmap={bitmap}"));
        }
        command.arg("--").arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let server = command.spawn().map_err(|error| {
            let _ = std::fs::remove_dir_all(&directory);
            anyhow::Error::new(error).context("running qemu-nbd\n  apt-get install qemu-utils")
        })?;
        let mut export = Export { server, directory };
        let client = export.wait()?;
        Ok((export, client))
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("nbd")
    }

    /// Takes the socket's name away once somebody is connected, so that nothing is left when we are killed.
    pub fn hide(&self) {
        // A directory that stays is litter, not a fault.
        let _ = std::fs::remove_dir_all(&self.directory);
    }

    /// Until it has answered. It listens before it has looked at the image: only an answer says that it likes it.
    fn wait(&mut self) -> Result<Client> {
        let until = Instant::now() + DEADLINE;
        let mut pause = Duration::from_millis(1);
        loop {
            let refused = match Client::connect(&self.socket(), "") {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            if let Some(status) = self.server.try_wait().context("waiting for qemu-nbd")? {
                let mut said = String::new();
                if let Some(stderr) = self.server.stderr.as_mut() {
                    let _ = stderr.read_to_string(&mut said);
                }
                let end = status.signal().map_or_else(String::new, |signal| format!(" (signal {signal})"));
                bail!("{}{end}", said.trim());
            }
            if Instant::now() > until {
                bail!("qemu-nbd: not ready within {} s: {refused}", DEADLINE.as_secs());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // It serves nobody but us, and only reads. That it has ended already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A directory that nobody else can enter, for a socket.
fn private_directory() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let base = std::env::temp_dir();
    for attempt in 0..100 {
        let directory = base.join(format!("pc-nbd-{}-{attempt}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("creating {}", directory.display())),
        }
    }
    bail!("{}: a hundred directories pc-nbd-* are in the way", base.display())
}

/// One range of `qemu-img map --output=json`.
#[derive(Debug, Deserialize)]
struct Range {
    start: u64,
    length: u64,
    zero: bool,
    data: bool,
}

/// Ranges of an export that read as zeros, ascending; touching ones are one.
pub fn holes(socket: &Path, export: &str, size: u64) -> Result<Vec<(u64, u64)>> {
    ranges(&map(socket, export, None)?, size, |range| range.zero && !range.data)
}

/// Ranges that a dirty bitmap calls changed, ascending.
///
/// # Errors
/// There is no such bitmap, it is inconsistent (QEMU was killed), or the image can carry none.
pub fn changed_since(format: &Format, bitmap: &str, size: u64) -> Result<Vec<(u64, u64)>> {
    match format {
        Format::Raw(_) => bail!("a raw image has none"),
        Format::Qcow2(path) => {
            // Its last client would end it: ours stays until the answer is there.
            let (server, _client) = Export::qcow2(path, Some(bitmap))?;
            changed(&server.socket(), "", bitmap, size)
        }
        Format::Nbd { export, socket } => changed(socket, export, bitmap, size),
    }
}

/// With `x-dirty-bitmap` qemu-img calls changed what is "no data", the only way it has to show a bitmap. A server that
/// does not know the bitmap is an error of qemu-img, not an empty answer.
fn changed(socket: &Path, export: &str, bitmap: &str, size: u64) -> Result<Vec<(u64, u64)>> {
    ranges(&map(socket, export, Some(bitmap))?, size, |range| !range.data)
}

fn map(socket: &Path, export: &str, bitmap: Option<&str>) -> Result<String> {
    let (socket, export) = (escaped(&socket.to_string_lossy()), escaped(export));
    let mut options = format!("driver=nbd,server.type=unix,server.path={socket},export={export}");
    if let Some(bitmap) = bitmap {
        options = format!("{options},x-dirty-bitmap=qemu:dirty-bitmap:{}", escaped(bitmap));
    }
    let mut command = Command::new("qemu-img");
    command.args(["map", "--output=json", "--image-opts", &options]);
    Ok(pc_run::run(command).deadline(Duration::from_secs(600)).read()?)
}

/// QEMU's option syntax: a comma is doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

fn ranges(json: &str, size: u64, wanted: impl Fn(&Range) -> bool) -> Result<Vec<(u64, u64)>> {
    let ranges: Vec<Range> = serde_json::from_str(json).context("reading the answer of qemu-img map")?;
    let mut end = 0;
    for range in &ranges {
        if range.start < end || range.length > size.saturating_sub(range.start) {
            bail!("qemu-img map: {range:?} is not within the disk of {size} bytes, or not in order");
        }
        end = range.start + range.length;
    }
    let chosen = ranges.iter().filter(|range| wanted(range)).map(|range| (range.start, range.length));
    Ok(crate::merge(chosen).into_iter().map(|extent| (extent.offset_bytes, extent.length_bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded: qemu-img 7.2, an image of 4 MiB with data from 1 MiB to 2 MiB.
    const MAP: &str = r#"[{ "start": 0, "length": 1048576, "depth": 0, "present": false, "zero": true, "data": false},
{ "start": 1048576, "length": 1048576, "depth": 0, "present": true, "zero": false, "data": true, "offset": 1048576},
{ "start": 2097152, "length": 2097152, "depth": 0, "present": false, "zero": true, "data": false}]"#;

    #[test]
    fn holes_of_a_recorded_map() {
        let holes = |size| ranges(MAP, size, |range| range.zero && !range.data);
        assert_eq!(holes(4 << 20).unwrap(), [(0, 1 << 20), (2 << 20, 2 << 20)]);
        assert!(holes(3 << 20).is_err(), "of another disk");
        assert!(ranges("[", 1, |_| true).is_err());
    }
}
