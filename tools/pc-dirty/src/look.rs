//! Looks at one disk: bitmap, else digests, else everything.

use std::path::Path;

use anyhow::{Context, Result};
use segment_map::{
    Digest, DiskExtents, DiskState, Geometry, Hasher, Image, Method, Record, Source, State, changed_since,
    merge,
};

use crate::choose::{Known, choose};

/// What the command line says about all disks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method to begin with.
    pub method: Method,
    /// Size of a segment.
    pub segment: Option<u64>,
    /// The bitmap's name.
    pub bitmap: Option<&'a str>,
    /// Digests of everything are needed for a new state.
    pub digests: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Looked {
    /// The answer.
    pub extents: DiskExtents,
    geometry: Geometry,
    /// Of every segment, when they were read.
    digests: Vec<Digest>,
}

/// A state file as it was read.
pub type Loaded<'a> = (&'a Path, Result<Option<State>>);

/// Looks at a disk.
pub fn at(source: &Source, state: Option<&Loaded<'_>>, asked: &Asked<'_>) -> Result<Looked> {
    let image = Image::open(source)?;
    let path = state.map(|(path, _)| path.display().to_string()).unwrap_or_default();
    let unreadable = match state {
        Some((_, Err(error))) => format!("{error:#}"),
        _ => String::new(),
    };
    let known = match state {
        None => Known::Unnamed,
        Some((_, Ok(None))) => Known::Missing(&path),
        Some((_, Err(_))) => Known::Unreadable(&unreadable),
        Some((_, Ok(Some(state)))) => Known::State(&path, state),
    };
    let of_state = match known {
        Known::State(_, state) => state.disk(&source.name).map(|disk| disk.geometry.segment),
        _ => None,
    };
    let geometry = Geometry::new(image.size(), asked.segment.or(of_state));
    let mut chosen = choose(asked.method, known, &source.name, geometry);
    let mut ranges = None;
    let mut since = None;
    if let (Method::Bitmap, Some((state, _))) = (chosen.method, chosen.compare) {
        match by_bitmap(source, state, asked.bitmap, geometry.size) {
            Ok((found, reason)) => {
                ranges = Some(found);
                chosen.reason = reason;
                since = state.checkpoint.as_ref().map(|name| format!("checkpoint:{name}"));
            }
            Err(why) => {
                chosen = choose(Method::Digest, known, &source.name, geometry);
                chosen.reason = format!("no bitmap: {why}; {}", chosen.reason);
                chosen.fallback = true;
            }
        }
    }
    if chosen.fallback {
        pc_cli::log::warning(format_args!("{}: {}: {}", source.name, chosen.method, chosen.reason));
    }
    let (mut digests, mut read_bytes) = (Vec::new(), 0);
    if chosen.method == Method::Digest || asked.digests {
        (digests, read_bytes) =
            read(&image, geometry).with_context(|| format!("reading {}", source.format))?;
    }
    let ranges = match (ranges, chosen.compare) {
        (Some(ranges), _) => ranges,
        (None, Some((state, disk))) => {
            since = Some(format!("state:{}", state.id));
            differing(disk, &digests)
        }
        (None, None) => vec![(0, geometry.size)],
    };
    let extents = merge(ranges);
    Ok(Looked {
        geometry,
        digests,
        extents: DiskExtents {
            name: source.name.clone(),
            source: source.format.to_string(),
            size_bytes: geometry.size,
            method: chosen.method,
            reason: chosen.reason,
            since,
            dirty_bytes: extents.iter().map(|extent| extent.length_bytes).sum(),
            read_bytes,
            extents,
        },
    })
}

/// Extents of the bitmap, and how it is called; or why there is none that belongs to the state.
fn by_bitmap(
    source: &Source,
    state: &State,
    bitmap: Option<&str>,
    size: u64,
) -> Result<(Vec<(u64, u64)>, String), String> {
    if let Some(doubt) = &state.doubted {
        return Err(format!("the last run found the state wrong: {doubt}"));
    }
    let Some(checkpoint) = &state.checkpoint else { return Err("the state belongs to no checkpoint".into()) };
    let bitmap = bitmap.unwrap_or(checkpoint);
    let ranges = changed_since(&source.format, bitmap, size).map_err(|error| format!("{error:#}"))?;
    Ok((ranges, format!("bitmap {bitmap} since checkpoint {checkpoint}")))
}

/// Digests of all segments; holes are not read. Also how many bytes were.
fn read(image: &Image, geometry: Geometry) -> std::io::Result<(Vec<Digest>, u64)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; usize::try_from(geometry.segment).map_err(std::io::Error::other)?];
    let (mut digests, mut bytes) = (Vec::new(), 0);
    for index in 0..geometry.segments() {
        let (offset, length) = (geometry.offset(index), geometry.length(index));
        if image.is_hole(offset, length) {
            digests.push(hasher.zeros(length));
            continue;
        }
        let part = &mut buffer[..usize::try_from(length).map_err(std::io::Error::other)?];
        image.read(part, offset)?;
        bytes += length;
        digests.push(Digest::of(part));
    }
    Ok((digests, bytes))
}

/// Segments that no backup has, or that differ from what it has.
fn differing(disk: &DiskState, digests: &[Digest]) -> Vec<(u64, u64)> {
    let changed = |record: &Record, digest: &Digest| record.stamp == 0 || record.digest != *digest;
    let indexes =
        (0..).zip(disk.records.iter().zip(digests)).filter(|(_, (record, digest))| changed(record, digest));
    indexes.map(|(index, _)| (disk.geometry.offset(index), disk.geometry.length(index))).collect()
}

/// The state after an answer that somebody has taken over.
pub fn state(old: Option<&Loaded<'_>>, looked: &[Looked], checkpoint: Option<&str>, now: u64) -> State {
    let mut state = match old {
        Some((_, Ok(Some(state)))) => state.clone(),
        _ => State::default(),
    };
    let (id, stamp) = state.begin(now);
    let disk = |looked: &Looked| {
        let known = state.disk(&looked.extents.name).filter(|known| known.geometry == looked.geometry);
        let record = |(index, digest): (usize, &Digest)| {
            let before = known.and_then(|known| known.records.get(index));
            let same = before.filter(|record| record.stamp != 0 && record.digest == *digest);
            same.copied().unwrap_or(Record { digest: *digest, stamp })
        };
        let records = looked.digests.iter().enumerate().map(record).collect();
        DiskState { name: looked.extents.name.clone(), geometry: looked.geometry, records }
    };
    let disks = looked.iter().map(disk).collect();
    State { id, checkpoint: checkpoint.map(Into::into), doubted: None, disks, ..state }
}
