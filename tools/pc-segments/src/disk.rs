//! One disk while it is shown: reads segments, digests what was read, notes what was handed out.

use std::collections::{HashMap, VecDeque};
use std::io::Result;
use std::sync::Arc;

use segment_map::{Digest, DiskState, Geometry, Hasher, Image, LOST, Record};

use crate::decide::Decided;

/// Segments that stay in memory: what is read in pieces is read from the image once.
const KEPT: usize = 4;

/// What is known of one segment.
#[derive(Debug, Clone, Copy)]
struct Segment {
    record: Record,
    dirty: bool,
    /// What was read in this run.
    fresh: Option<Digest>,
    /// Handed out from its first byte to its last.
    done: bool,
    /// Two reads in this run differed: nobody knows what a backup got.
    unsettled: bool,
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// Its segments.
    pub geometry: Geometry,
    image: Image,
    segments: Vec<Segment>,
    partly: HashMap<u64, Vec<(u64, u64)>>,
    kept: VecDeque<(u64, Option<Arc<[u8]>>)>,
    hasher: Hasher,
    mismatched: Vec<u64>,
    /// Read from the image.
    pub read_bytes: u64,
    /// Of segments, handed out.
    pub served_bytes: u64,
}

impl Disk {
    /// With what was decided about each segment.
    pub fn new(name: String, geometry: Geometry, image: Image, decided: &Decided) -> Disk {
        let segment = |(record, dirty): (&Record, &bool)| Segment {
            record: *record,
            dirty: *dirty,
            fresh: None,
            done: false,
            unsettled: false,
        };
        Disk {
            name,
            geometry,
            image,
            segments: decided.records.iter().zip(&decided.dirty).map(segment).collect(),
            partly: HashMap::new(),
            kept: VecDeque::new(),
            hasher: Hasher::default(),
            mismatched: Vec::new(),
            read_bytes: 0,
            served_bytes: 0,
        }
    }

    fn at(&mut self, index: u64) -> Option<&mut Segment> {
        self.segments.get_mut(usize::try_from(index).ok()?)
    }

    /// The bytes of a segment, `None` for a hole. Its digest is noted, or compared when it is a clean one.
    fn load(&mut self, index: u64) -> Result<Option<Arc<[u8]>>> {
        if let Some((_, bytes)) = self.kept.iter().find(|(kept, _)| *kept == index) {
            return Ok(bytes.clone());
        }
        let (offset, length) = (self.geometry.offset(index), self.geometry.length(index));
        let (bytes, digest) = if self.image.is_hole(offset, length) {
            (None, self.hasher.zeros(length))
        } else {
            let length = usize::try_from(length).map_err(std::io::Error::other)?;
            let mut bytes = vec![0; length];
            self.image.read(&mut bytes, offset)?;
            self.read_bytes += length as u64;
            let digest = Digest::of(&bytes);
            (Some(Arc::from(bytes)), digest)
        };
        self.note(index, digest);
        self.kept.truncate(KEPT - 1);
        self.kept.push_front((index, bytes.clone()));
        Ok(bytes)
    }

    fn note(&mut self, index: u64, digest: Digest) {
        let Some(segment) = self.at(index) else { return };
        if segment.fresh.is_some_and(|before| before != digest) {
            segment.unsettled = true;
        }
        segment.fresh = Some(digest);
        if !segment.dirty && segment.record.digest != digest && !self.mismatched.contains(&index) {
            self.mismatched.push(index);
        }
    }

    /// Bytes of a segment for a reader: fewer at its end.
    pub fn serve(&mut self, index: u64, offset: u64, size: u64, hand_out: impl FnOnce(&[u8])) -> Result<()> {
        let length = self.geometry.length(index);
        let from = offset.min(length);
        let to = offset.saturating_add(size).min(length);
        let bytes = self.load(index)?;
        let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
        let (from_at, to_at) = range.ok_or_else(|| std::io::Error::other("a segment beyond memory"))?;
        match bytes.as_deref() {
            Some(bytes) => hand_out(bytes.get(from_at..to_at).unwrap_or_default()),
            None => hand_out(&vec![0; to_at - from_at]),
        }
        self.served_bytes += to - from;
        self.delivered(index, from, to, length);
        Ok(())
    }

    /// Notes that a range of a changed segment was handed out; pieces may come in any order.
    fn delivered(&mut self, index: u64, from: u64, to: u64, length: u64) {
        let Some(segment) = self.at(index) else { return };
        if !segment.dirty || segment.done {
            return;
        }
        let pieces = self.partly.entry(index).or_default();
        pieces.push((from, to - from));
        pieces.sort_unstable();
        *pieces =
            segment_map::merge(pieces.drain(..)).iter().map(|e| (e.offset_bytes, e.length_bytes)).collect();
        if *pieces == [(0, length)] {
            self.partly.remove(&index);
            if let Some(segment) = self.at(index) {
                segment.done = true;
            }
        }
    }

    /// Digest of a segment, reading it when this run does not know it yet.
    pub fn digest(&mut self, index: u64) -> Result<Digest> {
        let Some(segment) = self.at(index) else { return Ok(LOST.digest) };
        match *segment {
            Segment { fresh: Some(digest), .. } => Ok(digest),
            Segment { dirty: false, record, .. } => Ok(record.digest),
            _ => {
                self.load(index)?;
                Ok(self.at(index).and_then(|segment| segment.fresh).unwrap_or(LOST.digest))
            }
        }
    }

    /// Reads a clean segment and compares it; `false` when it differs.
    pub fn verify(&mut self, index: u64) -> Result<bool> {
        self.load(index)?;
        Ok(!self.mismatched.contains(&index))
    }

    /// Whether a segment counts as changed.
    pub fn is_dirty(&self, index: u64) -> bool {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.segments.get(index))
            .is_none_or(|segment| segment.dirty)
    }

    /// The time stamp that a segment shows.
    pub fn stamp(&self, index: u64, run: u64) -> u64 {
        let segment = usize::try_from(index).ok().and_then(|index| self.segments.get(index));
        segment.filter(|segment| !segment.dirty).map_or(run, |segment| segment.record.stamp)
    }

    /// What the next run may believe, if this one worked: a changed segment only when all of it was handed out.
    pub fn committed(&self, run: u64) -> DiskState {
        let record = |segment: &Segment| match *segment {
            Segment { dirty: false, record, .. } => record,
            Segment { fresh: Some(digest), done: true, unsettled: false, .. } => {
                Record { digest, stamp: run }
            }
            _ => LOST,
        };
        let records = self.segments.iter().map(record).collect();
        DiskState { name: self.name.clone(), geometry: self.geometry, records }
    }

    /// Clean segments that differ from their digest.
    pub fn mismatched(&self) -> &[u64] {
        &self.mismatched
    }

    /// Changed segments, their bytes, and how many of them would stay changed.
    pub fn changed(&self) -> (u64, u64, u64) {
        let mut sum = (0, 0, 0);
        for (index, segment) in (0..).zip(&self.segments).filter(|(_, segment)| segment.dirty) {
            sum.0 += 1;
            sum.1 += self.geometry.length(index);
            sum.2 += u64::from(!segment.done || segment.unsettled);
        }
        sum
    }

    /// Clean segments that were read and compared.
    pub fn verified(&self) -> u64 {
        self.segments.iter().filter(|segment| !segment.dirty && segment.fresh.is_some()).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use segment_map::{Format, Source};

    const SEGMENT: u64 = 1 << 16;

    fn disk(directory: &std::path::Path, content: &[u8], dirty: bool) -> Disk {
        let path = directory.join("a.img");
        std::fs::write(&path, content).unwrap();
        let image = Image::open(&Source { name: "a".into(), format: Format::Raw(path) }).unwrap();
        let geometry = Geometry { size: content.len() as u64, segment: SEGMENT };
        let records = content.chunks(1 << 16).map(|part| Record { digest: Digest::of(part), stamp: 5 });
        let records: Vec<Record> = records.collect();
        let decided = Decided { dirty: vec![dirty; records.len()], records, everything: None };
        Disk::new("a".into(), geometry, image, &decided)
    }

    #[test]
    fn only_what_was_handed_out_whole_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = disk(directory.path(), &vec![7; 3 << 16], true);
        let mut read = |index, offset, size| disk.serve(index, offset, size, |_| ()).unwrap();
        read(0, 40_000, 40_000);
        read(0, 0, 50_000);
        read(1, 0, SEGMENT - 1);
        let committed = disk.committed(9).records;
        assert_eq!(committed.iter().map(|record| record.stamp).collect::<Vec<_>>(), [9, 0, 0]);
        assert_eq!(committed[0].digest, Digest::of(&vec![7; 1 << 16]));
        assert_eq!(disk.changed(), (3, 3 << 16, 2));
        assert_eq!((disk.read_bytes, disk.served_bytes), (2 << 16, 40_000 - 14_464 + 50_000 + SEGMENT - 1));
    }

    #[test]
    fn a_segment_that_changes_while_it_is_read_stays_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = disk(directory.path(), &vec![7; 6 << 16], true);
        disk.serve(0, 0, 100, |_| ()).unwrap();
        std::fs::write(directory.path().join("a.img"), vec![8; 6 << 16]).unwrap();
        for index in 1..=4 {
            disk.serve(index, 0, SEGMENT, |_| ()).unwrap();
        }
        disk.serve(0, 100, SEGMENT, |_| ()).unwrap();
        let stamps: Vec<u64> = disk.committed(9).records.iter().map(|record| record.stamp).collect();
        assert_eq!(stamps, [0, 9, 9, 9, 9, 0]);
    }

    #[test]
    fn a_clean_segment_that_differs_is_found_by_reading_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = disk(directory.path(), &vec![7; 3 << 16], false);
        assert!(disk.verify(1).unwrap());
        std::fs::write(directory.path().join("a.img"), vec![8; 3 << 16]).unwrap();
        assert!(!disk.verify(2).unwrap());
        assert_eq!((disk.mismatched(), disk.verified(), disk.stamp(2, 9)), (&[2][..], 2, 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn whatever_is_read_in_whatever_order_is_the_image(
            size in 0_usize..5 << 16,
            reads in prop::collection::vec((0_u64..6, 0_u64..70_000, 0_u64..70_000), 0..20),
        ) {
            let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let directory = tempfile::tempdir().unwrap();
            let mut disk = disk(directory.path(), &content, true);
            for (index, offset, length) in reads {
                let whole = content.chunks(1 << 16).nth(usize::try_from(index).unwrap()).unwrap_or_default();
                let from = usize::try_from(offset).unwrap().min(whole.len());
                let to = usize::try_from(offset + length).unwrap().min(whole.len());
                let mut got = Vec::new();
                disk.serve(index, offset, length, |bytes| got = bytes.to_vec()).unwrap();
                prop_assert_eq!(&got[..], &whole[from..to]);
            }
        }
    }
}
