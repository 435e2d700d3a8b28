//! A share of the clean segments is read again: a map that lies is found within so many runs.

use std::io::Result;

use crate::disk::Disk;

/// 0 to 100.
pub fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("{text:?} is not a share between 0 and 100 percent")),
    }
}

/// Every how manyth segment is read; `None`: none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 2^63, checked")]
fn stride(percent: f64) -> Option<u64> {
    (percent > 0.0).then(|| (100.0 / percent).ceil().clamp(1.0, 1e12) as u64)
}

/// The segments whose turn it is in this run: after as many runs as the stride each had its turn.
fn turns(segments: u64, stride: u64, run: u64) -> impl Iterator<Item = u64> {
    let first = (stride - run % stride) % stride;
    (first..segments).step_by(usize::try_from(stride).unwrap_or(usize::MAX))
}

/// Reads the share of a disk; what differs is noted in it.
pub fn share(disk: &mut Disk, percent: f64, run: u64) -> Result<()> {
    let Some(stride) = stride(percent) else { return Ok(()) };
    for index in turns(disk.geometry.segments(), stride, run) {
        if !disk.is_dirty(index) && !disk.verify(index)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares() {
        assert_eq!(percent("0.5"), Ok(0.5));
        for wrong in ["-1", "101", "NaN", "", "1%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (stride(0.0), stride(1.0), stride(100.0), stride(30.0)),
            (None, Some(100), Some(1), Some(4))
        );
    }

    proptest! {
        #[test]
        fn each_has_its_turn_once_in_a_round(segments in 0_u64..300, stride in 1_u64..120, run in 0_u64..10_000) {
            let mut all: Vec<u64> = (run..run + stride).flat_map(|run| turns(segments, stride, run)).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..segments).collect::<Vec<_>>());
        }
    }
}
