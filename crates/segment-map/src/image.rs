//! Reading an image: raw file, block device, or NBD export.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise};

use crate::nbd::Client;
use crate::qemu::{self, Export};
use crate::source::{Format, Source};

/// An open image; only ever read.
#[derive(Debug)]
pub struct Image {
    size: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Nbd {
        client: Client,
        /// Ranges that read as zeros, ascending.
        holes: Vec<(u64, u64)>,
        /// The qemu-nbd that we started.
        _export: Option<Export>,
    },
}

impl Image {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, not readable, or of another kind.
    pub fn open(source: &Source) -> Result<Image> {
        match &source.format {
            Format::Raw(path) => Image::raw(path),
            Format::Nbd { export, socket } => {
                let connected = Client::connect(socket, export).map_err(Into::into);
                connected.map(|client| Image::nbd(export, socket, client, None))
            }
            Format::Qcow2(path) => {
                let started = Export::qcow2(path, None);
                started.map(|(server, client)| Image::nbd("", &server.socket(), client, Some(server)))
            }
        }
        .with_context(|| format!("opening {}", source.format))
    }

    fn raw(path: &Path) -> Result<Image> {
        let mut file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            bail!(pc_cli::refused("neither a file nor a block device"));
        }
        let size = file.seek(SeekFrom::End(0))?;
        // Segments are read whole and far apart: read-ahead beyond them is wasted. A hint; not every file system takes it.
        let _ = fadvise(&file, 0, None, Advice::Random);
        Ok(Image { size, bytes: Bytes::File(file) })
    }

    fn nbd(export: &str, socket: &Path, client: Client, server: Option<Export>) -> Image {
        let size = client.size();
        let holes = qemu::holes(socket, export, size).unwrap_or_else(|error| {
            pc_cli::log::debug(format_args!("{}: holes are read too: {error:#}", socket.display()));
            Vec::new()
        });
        if let Some(server) = &server {
            server.hide();
        }
        Image { size, bytes: Bytes::Nbd { client, holes, _export: server } }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The whole range is known to read as zeros without being read.
    pub fn is_hole(&self, offset: u64, length: u64) -> bool {
        let end = offset.saturating_add(length);
        match &self.bytes {
            // Gluster's FUSE mounts and block devices do not know: then it is data.
            Bytes::File(file) => match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
                Ok(data) => data >= end,
                Err(error) => error == rustix::io::Errno::NXIO && end <= self.size,
            },
            Bytes::Nbd { holes, .. } => {
                let after = holes.partition_point(|(from, _)| *from <= offset);
                after.checked_sub(1).is_some_and(|at| holes[at].0 + holes[at].1 >= end)
            }
        }
    }

    /// Fills the buffer from this offset on.
    ///
    /// # Errors
    /// The image ends before that, or cannot be read.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        match &self.bytes {
            Bytes::File(file) => file.read_exact_at(buffer, offset),
            Bytes::Nbd { client, .. } => client.read(buffer, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn open(path: &Path) -> Result<Image> {
        Image::open(&Source { name: "a".into(), format: Format::Raw(path.into()) })
    }

    #[test]
    fn holes_are_found_and_data_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.img");
        let mut file = File::create(&path).unwrap();
        file.set_len((3 << 20) + 5).unwrap();
        file.seek(SeekFrom::Start(1 << 20)).unwrap();
        file.write_all(b"data").unwrap();
        let image = open(&path).unwrap();
        assert_eq!(image.size(), (3 << 20) + 5);
        assert!(image.is_hole(0, 1 << 20) && !image.is_hole(1 << 20, 1 << 20));
        assert!(image.is_hole(2 << 20, 1 << 20) && image.is_hole(3 << 20, 5));
        let mut buffer = [0; 4];
        image.read(&mut buffer, 1 << 20).unwrap();
        assert_eq!(&buffer, b"data");
        assert!(image.read(&mut [0; 6], 3 << 20).is_err(), "beyond the end");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path()).unwrap_err();
        assert_eq!(pc_cli::Exit::of(&error), pc_cli::Exit::Refused);
        assert!(
            format!("{:#}", open(Path::new("/nonexistent")).unwrap_err())
                .starts_with("opening /nonexistent: No such")
        );
    }
}
