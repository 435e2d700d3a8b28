//! SHA-256 of a segment: what `sha256sum` prints for the file in the view.

use std::fmt;

use sha2::Digest as _;

/// Digest of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Digests segments; remembers what a hole of each length has, so that holes cost nothing.
#[derive(Debug, Default)]
pub struct Hasher {
    zeros: Vec<(u64, Digest)>,
}

impl Hasher {
    /// Of `length` zero bytes.
    pub fn zeros(&mut self, length: u64) -> Digest {
        if let Some((_, digest)) = self.zeros.iter().find(|(known, _)| *known == length) {
            return *digest;
        }
        let block = [0_u8; 8192];
        let mut hasher = sha2::Sha256::new();
        let mut left = length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(block.len()).min(block.len());
            hasher.update(&block[..part]);
            left -= part as u64;
        }
        let digest = Digest(hasher.finalize().into());
        self.zeros.push((length, digest));
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_sha256sum_says() {
        // printf abc | sha256sum; head -c 1048576 /dev/zero | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        let zeros = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58";
        let mut hasher = Hasher::default();
        assert_eq!(hasher.zeros(1 << 20).to_string(), zeros);
        assert_eq!(hasher.zeros(1 << 20).to_string(), zeros);
        assert_eq!(hasher.zeros(0), Digest::of(b""));
        assert_eq!(hasher.zeros(512), Digest::of(&[0; 512]));
    }
}
