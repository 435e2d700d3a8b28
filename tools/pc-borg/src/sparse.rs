//! A disk that is written, or only read, segment by segment: each is compared with its digest before the next one is taken,
//! and what is zero is left out.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// What is looked at as zero or not: small enough to keep a file system's holes, large enough to be quick.
const BLOCK: usize = 64 << 10;

/// Where a disk goes.
#[derive(Debug)]
pub struct Writer<'a> {
    /// Nowhere: it is only compared.
    file: Option<&'a File>,
    size: u64,
    segment: usize,
    digests: Vec<String>,
    /// The segment that is being filled.
    buffer: Vec<u8>,
    at: u64,
    /// Bytes that were not zero.
    pub written: u64,
}

/// Reads `vda.sha256` (sha256sum(1)): one digest for each segment, in their order.
pub fn digests(text: &str, disk: &str) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let expected = format!("{disk}/{index:010}");
        match line.split_once("  ") {
            Some((digest, file)) if file == expected && digest.len() == 64 => {
                digests.push(digest.to_string());
            }
            _ => bail!("{disk}.sha256:{}: {line:?} is not the digest of {expected}", index + 1),
        }
    }
    Ok(digests)
}

impl Writer<'_> {
    /// Makes `file`, when there is one, as large as the disk, all zero.
    pub fn new(file: Option<&File>, size: u64, segment: u64, digests: Vec<String>) -> Result<Writer<'_>> {
        let segments = if size == 0 { 0 } else { (size - 1) / segment.max(1) + 1 };
        if segment == 0 || segments != digests.len() as u64 {
            bail!("{size} bytes in segments of {segment} are not {} segments", digests.len());
        }
        if let Some(file) = file {
            file.set_len(size).context("making the disk")?;
        }
        let segment = usize::try_from(segment).context("the size of a segment")?;
        Ok(Writer { file, size, segment, digests, buffer: Vec::with_capacity(segment), at: 0, written: 0 })
    }

    /// The next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let whole = self.next_length();
            if whole == 0 {
                bail!("the archive holds more than the {} bytes of the disk", self.size);
            }
            let (now, later) = bytes.split_at(bytes.len().min(whole - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == whole {
                self.segment_done()?;
            }
        }
        Ok(())
    }

    /// Length of the segment that is being filled; 0 behind the last one.
    fn next_length(&self) -> usize {
        usize::try_from(self.size - self.at).map_or(self.segment, |left| left.min(self.segment))
    }

    fn segment_done(&mut self) -> Result<()> {
        let index = usize::try_from(self.at / self.segment as u64).context("the number of a segment")?;
        let digest = format!("{:x}", Sha256::digest(&self.buffer));
        if self.digests.get(index) != Some(&digest) {
            bail!("segment {index:010} is not what was backed up: its digest differs");
        }
        for (number, block) in self.buffer.chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                let offset = self.at + (number * BLOCK) as u64;
                if let Some(file) = self.file {
                    file.write_all_at(block, offset).context("writing the disk")?;
                }
                self.written += block.len() as u64;
            }
        }
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Everything is there, and on stable storage.
    pub fn finish(self) -> Result<u64> {
        if self.at != self.size || !self.buffer.is_empty() {
            let got = self.at + self.buffer.len() as u64;
            bail!("the archive ends after {got} of the {} bytes of the disk", self.size);
        }
        if let Some(file) = self.file {
            file.sync_all().context("writing the disk")?;
        }
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 128 << 10;

    /// Two segments and a third of an odd size; the second one is zero.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 300_000];
        for (index, byte) in disk.iter_mut().enumerate() {
            if !(70_000..=262_200).contains(&index) {
                *byte = u8::try_from(index % 251).unwrap();
            }
        }
        disk
    }

    /// sha256sum(1) makes them, not the code under test.
    fn real_digests(disk: &[u8]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("vda")).unwrap();
        for (index, part) in disk.chunks(usize::try_from(SEGMENT).unwrap()).enumerate() {
            std::fs::write(directory.path().join(format!("vda/{index:010}")), part).unwrap();
        }
        let sums = std::process::Command::new("sh")
            .args(["-c", "sha256sum vda/*"])
            .current_dir(directory.path())
            .output()
            .unwrap();
        digests(&String::from_utf8(sums.stdout).unwrap(), "vda").unwrap()
    }

    #[test]
    fn what_comes_out_is_what_went_in_with_holes() {
        use std::os::unix::fs::MetadataExt;
        let disk = disk();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer::new(Some(file.as_file()), 300_000, SEGMENT, real_digests(&disk)).unwrap();
        for piece in disk.chunks(7919) {
            writer.take(piece).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 65536 * 2 + (300_000 - 262_144));
        assert_eq!(std::fs::read(file.path()).unwrap(), disk);
        assert!(file.as_file().metadata().unwrap().blocks() * 512 < 250_000, "the hole is one");
    }

    #[test]
    fn one_wrong_byte_too_few_or_too_many_are_found() {
        let disk = disk();
        let digests = real_digests(&disk);
        let of = |disk: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut writer = Writer::new(Some(file.as_file()), 300_000, SEGMENT, digests.clone()).unwrap();
            let taken = disk.chunks(50_000).try_for_each(|piece| writer.take(piece));
            taken.and_then(|()| writer.finish()).unwrap_err().to_string()
        };
        let mut wrong = disk.clone();
        wrong[200_000] ^= 1;
        assert_eq!(of(&wrong), "segment 0000000001 is not what was backed up: its digest differs");
        assert_eq!(of(&disk[..299_999]), "the archive ends after 299999 of the 300000 bytes of the disk");
        let mut compared = Writer::new(None, 300_000, SEGMENT, digests.clone()).unwrap();
        assert!(compared.take(&wrong).is_err(), "also where nothing is written");
        let longer = [disk.as_slice(), b"x"].concat();
        assert_eq!(of(&longer), "the archive holds more than the 300000 bytes of the disk");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Writer::new(Some(file.as_file()), 300_000, SEGMENT, digests[..2].to_vec()).is_err());
    }

    #[test]
    fn digests_are_those_of_this_disk() {
        let line = format!("{}  vda/0000000000\n", "0".repeat(64));
        assert_eq!(digests(&line, "vda").unwrap().len(), 1);
        for bad in [line.replace("vda", "vdb"), line.replace("0000000000\n", "0000000001\n"), "x\n".into()] {
            assert!(digests(&bad, "vda").is_err(), "{bad}");
        }
    }
}
