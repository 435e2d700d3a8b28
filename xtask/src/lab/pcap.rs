//! libpcap's classic file format (pcap-savefile(5)), link type Ethernet: what tcpdump -r and Wireshark read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

const SNAP_LENGTH: usize = 65535;

/// A recording under way. Dropping it flushes what is buffered.
#[derive(Debug)]
pub struct Recording<W: Write> {
    out: BufWriter<W>,
}

impl Recording<File> {
    /// Begin a new file.
    pub fn create(path: &Path) -> Result<Recording<File>> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Recording::new(file)
    }
}

impl<W: Write> Recording<W> {
    fn new(out: W) -> Result<Recording<W>> {
        let mut out = BufWriter::new(out);
        let mut header = Vec::with_capacity(24);
        header.extend(0xa1b2_c3d4_u32.to_ne_bytes());
        header.extend(2_u16.to_ne_bytes());
        header.extend(4_u16.to_ne_bytes());
        header.extend([0; 8]);
        header.extend(u32::try_from(SNAP_LENGTH)?.to_ne_bytes());
        header.extend(1_u32.to_ne_bytes());
        out.write_all(&header)?;
        Ok(Recording { out })
    }

    /// Add one frame, stamped with the host's clock. Flushed at once: a reader may be following.
    pub fn frame(&mut self, frame: &[u8]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let kept = &frame[..frame.len().min(SNAP_LENGTH)];
        for word in [now.as_secs(), u64::from(now.subsec_micros()), kept.len() as u64, frame.len() as u64] {
            // The format has 32 bits for each, the seconds included (unsigned, until 2106).
            self.out.write_all(&u32::try_from(word)?.to_ne_bytes())?;
        }
        self.out.write_all(kept)?;
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_lengths_are_where_the_manual_puts_them() {
        let mut bytes = Vec::new();
        let mut recording = Recording::new(&mut bytes).unwrap();
        recording.frame(&[7; 60]).unwrap();
        drop(recording);
        assert_eq!(bytes.len(), 24 + 16 + 60);
        assert_eq!(bytes[0..4], 0xa1b2_c3d4_u32.to_ne_bytes());
        assert_eq!(bytes[32..36], 60_u32.to_ne_bytes());
        assert_eq!(bytes[36..40], 60_u32.to_ne_bytes());
        assert_eq!(bytes[99], 7);
    }
}
