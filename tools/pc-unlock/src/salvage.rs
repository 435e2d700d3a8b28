//! Reading a disk that has bad sectors: what cannot be read is taken for zeros, and counted.

use std::collections::BTreeSet;
use std::io::{Error, Read, Result, Seek, SeekFrom};
use std::time::{Duration, Instant};

/// What is given up at a time. Disks have sectors of this size; the kernel reads no less.
const BLOCK: u64 = 4096;
/// The kernel tries each for seconds. After so many of them, or so long, nothing more is read.
const MOST: usize = 64;
const LONGEST: Duration = Duration::from_secs(120);

/// Reads around bad sectors.
#[derive(Debug)]
pub struct Salvage<F> {
    file: F,
    /// Numbers of the blocks that could not be read; they are not tried again.
    bad: BTreeSet<u64>,
    /// What they have cost.
    spent: Duration,
    /// Something was not even tried any more.
    given_up: bool,
}

impl<F: Read + Seek> Salvage<F> {
    /// From `file`, wherever it stands.
    pub fn new(file: F) -> Salvage<F> {
        Salvage { file, bad: BTreeSet::new(), spent: Duration::ZERO, given_up: false }
    }

    /// The file by itself, for another look.
    pub fn file(&mut self) -> &mut F {
        &mut self.file
    }

    /// How many blocks could not be read.
    pub fn lost(&self) -> usize {
        self.bad.len()
    }

    /// There are so many that others, which nobody has tried, were taken for unreadable as well.
    pub fn given_up(&self) -> bool {
        self.given_up
    }
}

/// The kernel's word for sectors; any other error is not the disk's.
fn is_bad(error: &Error) -> bool {
    use nix::libc::{EBADMSG, EIO, ENODATA, EREMOTEIO};
    error.raw_os_error().is_some_and(|code| [EIO, EBADMSG, ENODATA, EREMOTEIO].contains(&code))
}

impl<F: Read + Seek> Read for Salvage<F> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let at = self.file.stream_position()?;
        // Block by block: one that is bad must not take its neighbours along.
        let rest = usize::try_from(BLOCK - at % BLOCK).unwrap_or(usize::MAX).min(bytes.len());
        if !self.bad.contains(&(at / BLOCK)) {
            if self.bad.len() < MOST && self.spent < LONGEST {
                let begun = Instant::now();
                match self.file.read(&mut bytes[..rest]) {
                    Err(error) if is_bad(&error) => {
                        self.spent += begun.elapsed();
                        self.bad.insert(at / BLOCK);
                    }
                    other => return other,
                }
            } else {
                self.given_up = true;
            }
        }
        let end = self.file.seek(SeekFrom::End(0))?;
        let rest = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(rest);
        self.file.seek(SeekFrom::Start(at + rest as u64))?;
        bytes[..rest].fill(0);
        Ok(rest)
    }
}

impl<F: Read + Seek> Seek for Salvage<F> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}

/// So many blocks, in words.
pub fn blocks(lost: usize) -> String {
    format!("{lost} block{} of 4 KiB", if lost == 1 { "" } else { "s" })
}

/// How many blocks of the first `length` bytes cannot be read.
pub fn lost(file: impl Read + Seek, length: u64) -> Result<usize> {
    let mut salvage = Salvage::new(file);
    salvage.seek(SeekFrom::Start(0))?;
    std::io::copy(&mut Read::by_ref(&mut salvage).take(length), &mut std::io::sink())?;
    Ok(salvage.lost())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Cursor;

    /// A disk with bad sectors.
    #[derive(Debug)]
    pub struct Bad {
        pub disk: Cursor<Vec<u8>>,
        /// Where a read of even one byte fails.
        pub sectors: Vec<std::ops::Range<u64>>,
    }

    impl Read for Bad {
        fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
            let (from, to) = (self.disk.position(), self.disk.position() + bytes.len() as u64);
            if self.sectors.iter().any(|bad| bad.start < to && from < bad.end) {
                return Err(Error::from_raw_os_error(nix::libc::EIO));
            }
            self.disk.read(bytes)
        }
    }

    impl Seek for Bad {
        fn seek(&mut self, to: SeekFrom) -> Result<u64> {
            self.disk.seek(to)
        }
    }

    fn disk(sectors: impl IntoIterator<Item = std::ops::Range<u64>>) -> Bad {
        Bad { disk: Cursor::new(vec![7; 1 << 20]), sectors: sectors.into_iter().collect() }
    }

    #[test]
    fn what_cannot_be_read_is_zeros_and_everything_else_is_there() {
        let mut salvage = Salvage::new(disk([8704..9216, 65536..66048]));
        let mut all = Vec::new();
        salvage.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), salvage.lost()), (1 << 20, 2));
        // Again: nothing new.
        salvage.seek(SeekFrom::Start(0)).unwrap();
        salvage.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!((salvage.lost(), salvage.given_up()), (2, false));
        let zeros: Vec<_> = (0..all.len()).filter(|at| all[*at] == 0).collect();
        let expected: Vec<_> = (8192..12288).chain(65536..69632).collect();
        assert_eq!(zeros, expected);
        assert_eq!(lost(disk(Some(8704..9216)), 8192).unwrap(), 0);
        assert_eq!(lost(disk(Some(8704..9216)), 8705).unwrap(), 1);
    }

    #[test]
    fn a_disk_that_cannot_be_read_at_all_is_soon_given_up() {
        let mut salvage = Salvage::new(disk(Some(0..1 << 20)));
        let mut all = Vec::new();
        salvage.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), salvage.lost(), salvage.given_up()), (1 << 20, MOST, true));
        assert!(all.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn other_errors_are_errors() {
        struct Gone;
        impl Read for Gone {
            fn read(&mut self, _: &mut [u8]) -> Result<usize> {
                Err(Error::from_raw_os_error(nix::libc::ENXIO))
            }
        }
        impl Seek for Gone {
            fn seek(&mut self, _: SeekFrom) -> Result<u64> {
                Ok(0)
            }
        }
        assert!(Salvage::new(Gone).read(&mut [0; 8]).is_err());
    }
}
