//! Where segments begin and end.

use std::ops::Range;

/// Smallest segment: below it a segment costs more than its bytes.
pub const SMALLEST: u64 = 64 << 10;
/// Largest segment: it is held in memory while it is read.
pub const LARGEST: u64 = 64 << 20;

/// A disk of `size` bytes in segments of `segment` bytes; the last one is as long as the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a segment: a power of two.
    pub segment: u64,
}

impl Geometry {
    /// With the segment size that was asked for, else 1 MiB, above 2 TiB 4 MiB.
    pub fn new(size: u64, segment: Option<u64>) -> Geometry {
        let usual = if size > 2 << 40 { 4 << 20 } else { 1 << 20 };
        Geometry { size, segment: segment.unwrap_or(usual) }
    }

    /// How many segments there are: none of a disk of 0 bytes.
    pub fn segments(self) -> u64 {
        self.size.div_ceil(self.segment)
    }

    /// First byte of a segment.
    pub fn offset(self, index: u64) -> u64 {
        index.saturating_mul(self.segment).min(self.size)
    }

    /// Bytes of a segment; 0 beyond the end.
    pub fn length(self, index: u64) -> u64 {
        (self.size - self.offset(index)).min(self.segment)
    }

    /// The segments that a range of bytes touches.
    pub fn touched(self, offset: u64, length: u64) -> Range<u64> {
        let end = offset.saturating_add(length).min(self.size);
        if length == 0 || offset >= end {
            return 0..0;
        }
        offset / self.segment..end.div_ceil(self.segment)
    }
}

/// `64KiB`, `1MiB`, `4194304`: the size of a segment.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn parse_segment(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not the size of a segment: a power of two from 64KiB to 64MiB");
    let (digits, factor) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(digits), _) => (digits, 1 << 10),
        (_, Some(digits)) => (digits, 1 << 20),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(factor) {
        Some(size) if valid_segment(size) => Ok(size),
        _ => Err(wrong()),
    }
}

pub(crate) fn valid_segment(size: u64) -> bool {
    size.is_power_of_two() && (SMALLEST..=LARGEST).contains(&size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_that_are_and_are_not() {
        assert_eq!(parse_segment("64KiB"), Ok(65536));
        assert_eq!(parse_segment("4MiB"), Ok(4 << 20));
        assert_eq!(parse_segment("1048576"), Ok(1 << 20));
        for wrong in ["", "MiB", "3MiB", "32KiB", "128MiB", "-1", "1 MiB", "18446744073709551615MiB"] {
            assert!(parse_segment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Geometry::new(2 << 40, None).segment, 1 << 20);
        assert_eq!(Geometry::new((2 << 40) + 1, None).segment, 4 << 20);
    }

    #[test]
    fn no_bytes_no_segments() {
        let nothing = Geometry::new(0, None);
        assert_eq!((nothing.segments(), nothing.length(0), nothing.touched(0, 5)), (0, 0, 0..0));
    }

    proptest! {
        #[test]
        fn segments_tile_the_disk(size in 0_u64..40 << 20, power in 16_u32..24) {
            let geometry = Geometry { size, segment: 1 << power };
            let mut at = 0;
            for index in 0..geometry.segments() {
                prop_assert_eq!(geometry.offset(index), at);
                prop_assert!(geometry.length(index) > 0);
                at += geometry.length(index);
            }
            prop_assert_eq!(at, size);
            prop_assert_eq!(geometry.length(geometry.segments()), 0);
        }

        #[test]
        fn touched_is_what_contains_a_byte_of_it(
            size in 0_u64..5 << 16, offset in 0_u64..6 << 16, length in 0_u64..6 << 16,
        ) {
            let geometry = Geometry { size, segment: 1 << 16 };
            let by_hand: Vec<u64> = (0..geometry.segments())
                .filter(|index| {
                    let (from, to) = (geometry.offset(*index), geometry.offset(*index) + geometry.length(*index));
                    from.max(offset) < to.min(offset + length)
                })
                .collect();
            prop_assert_eq!(geometry.touched(offset, length).collect::<Vec<_>>(), by_hand);
        }
    }
}
