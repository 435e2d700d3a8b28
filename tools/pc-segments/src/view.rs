//! The whole view: disks, lists of digests, manifest and sentinel. Knows nothing of FUSE.

use std::collections::HashMap;
use std::io::Result;
use std::sync::{Mutex, MutexGuard};

use segment_map::{Geometry, State};
use serde::Serialize;
use sha2::Digest as _;

use crate::disk::Disk;
use crate::layout::{self, Node};

/// What never changes while it is mounted, and the disks behind a lock.
#[derive(Debug)]
pub struct View {
    /// Names this run.
    pub id: String,
    /// Time stamp of what changed, nanoseconds.
    pub stamp: u64,
    places: Vec<Place>,
    disks: Mutex<Vec<Disk>>,
}

/// A disk's place in the view.
#[derive(Debug)]
pub struct Place {
    /// Its directory.
    pub name: String,
    /// Its number ([`layout::number`]).
    pub number: u64,
    /// Its segments.
    pub geometry: Geometry,
    stamps: Vec<u64>,
}

#[derive(Serialize)]
struct Manifest {
    schema: &'static str,
    state: String,
    taken: String,
    disks: Vec<ManifestDisk>,
}

#[derive(Serialize)]
struct ManifestDisk {
    name: String,
    size_bytes: u64,
    segment_bytes: u64,
    segments: u64,
    digests: String,
    digests_sha256: String,
}

/// What a node looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// A directory.
    pub directory: bool,
    /// Bytes of a file.
    pub size: u64,
    /// mtime and ctime, nanoseconds.
    pub stamp: u64,
}

const SECOND: u64 = 1_000_000_000;

impl View {
    /// Of these disks.
    ///
    /// # Errors
    /// Two names have the same number.
    pub fn new(id: String, stamp: u64, disks: Vec<Disk>) -> anyhow::Result<View> {
        let mut numbers: HashMap<u64, String> = HashMap::new();
        let mut places = Vec::new();
        for disk in &disks {
            let number = layout::number(&disk.name);
            if let Some(other) = numbers.insert(number, disk.name.clone()) {
                let name = &disk.name;
                return Err(pc_cli::refused(format!(
                    "disks {other} and {name}: give one of them another name"
                )));
            }
            let stamps = (0..disk.geometry.segments()).map(|index| disk.stamp(index, stamp)).collect();
            places.push(Place { name: disk.name.clone(), number, geometry: disk.geometry, stamps });
        }
        places.sort_by_key(|place| place.number);
        let mut disks = disks;
        disks.sort_by_key(|disk| layout::number(&disk.name));
        Ok(View { id, stamp, places, disks: Mutex::new(disks) })
    }

    /// The disks, in the order of their numbers.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The disks; a reader that panicked has left them as they were.
    pub fn disks(&self) -> MutexGuard<'_, Vec<Disk>> {
        self.disks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn place(&self, number: u64) -> Option<(usize, &Place)> {
        self.places.iter().enumerate().find(|(_, place)| place.number == number)
    }

    /// `None`: there is no such thing.
    pub fn look(&self, node: Node) -> Option<Look> {
        let directory = |stamp| Some(Look { directory: true, size: 0, stamp });
        let file = |size, stamp| Some(Look { directory: false, size, stamp });
        match node {
            Node::Root => directory(self.stamp),
            Node::Directory(number) => self.place(number).and_then(|_| directory(self.stamp)),
            Node::Segment(number, index) => {
                let (_, place) = self.place(number)?;
                let stamp = place.stamps.get(usize::try_from(index).ok()?)?;
                file(place.geometry.length(index), *stamp)
            }
            Node::List(number) => file(self.place(number)?.1.list_length(), self.stamp),
            Node::Manifest => {
                let digests = vec!["0".repeat(64); self.places.len()];
                file(self.manifest(&digests).len() as u64, self.stamp)
            }
            // The newest of all: borg does not remember the newest files of a run.
            Node::Sentinel => file(self.sentinel().len() as u64, self.stamp + SECOND),
        }
    }

    /// What has this name in a directory.
    pub fn lookup(&self, parent: Node, name: &str) -> Option<Node> {
        let by_name = |name: &str| self.places.iter().find(|place| place.name == name);
        let node = match parent {
            Node::Root => match name {
                "manifest.json" => Node::Manifest,
                "sentinel" => Node::Sentinel,
                _ => match name.strip_suffix(".sha256") {
                    Some(disk) => Node::List(by_name(disk)?.number),
                    None => Node::Directory(by_name(name)?.number),
                },
            },
            Node::Directory(number) => Node::Segment(number, layout::segment_index(name)?),
            _ => return None,
        };
        self.look(node).map(|_| node)
    }

    /// The nth entry of a directory; `None` after the last.
    pub fn entry(&self, directory: Node, nth: u64) -> Option<(Node, String)> {
        match directory {
            Node::Root => {
                let nth = usize::try_from(nth).ok()?;
                let disks = self.places.len();
                if let Some(place) = self.places.get(nth) {
                    return Some((Node::Directory(place.number), place.name.clone()));
                }
                if let Some(place) = self.places.get(nth - disks) {
                    return Some((Node::List(place.number), format!("{}.sha256", place.name)));
                }
                match nth - 2 * disks {
                    0 => Some((Node::Manifest, "manifest.json".into())),
                    1 => Some((Node::Sentinel, "sentinel".into())),
                    _ => None,
                }
            }
            Node::Directory(number) => {
                let (_, place) = self.place(number)?;
                (nth < place.geometry.segments())
                    .then(|| (Node::Segment(number, nth), layout::segment_name(nth)))
            }
            _ => None,
        }
    }

    /// Hands out bytes of a file; fewer at its end.
    pub fn read(&self, node: Node, offset: u64, size: u64, hand_out: impl FnOnce(&[u8])) -> Result<()> {
        match node {
            Node::Segment(number, index) => {
                let (at, _) = self.place(number).ok_or(std::io::ErrorKind::NotFound)?;
                let mut disks = self.disks();
                let disk = disks.get_mut(at).ok_or(std::io::ErrorKind::NotFound)?;
                disk.serve(index, offset, size, hand_out)
            }
            Node::List(number) => {
                let (at, place) = self.place(number).ok_or(std::io::ErrorKind::NotFound)?;
                let mut disks = self.disks();
                let disk = disks.get_mut(at).ok_or(std::io::ErrorKind::NotFound)?;
                list(disk, place, offset, size).map(|bytes| hand_out(&bytes))
            }
            Node::Manifest => {
                let text = self.manifest(&self.list_digests()?);
                hand_out(part(text.as_bytes(), offset, size));
                Ok(())
            }
            Node::Sentinel => {
                hand_out(part(self.sentinel().as_bytes(), offset, size));
                Ok(())
            }
            Node::Root | Node::Directory(_) => Err(std::io::ErrorKind::IsADirectory.into()),
        }
    }

    fn sentinel(&self) -> String {
        format!("{} {}\n", self.id, self.taken())
    }

    fn taken(&self) -> String {
        rfc3339(self.stamp / SECOND)
    }

    /// SHA-256 of each list; reads what nobody has read yet.
    fn list_digests(&self) -> Result<Vec<String>> {
        let mut disks = self.disks();
        let whole = |(disk, place): (&mut Disk, &Place)| {
            let mut sum = sha2::Sha256::new();
            for index in 0..place.geometry.segments() {
                sum.update(layout::list_line(&disk.digest(index)?, &place.name, index));
            }
            let sum: [u8; 32] = sum.finalize().into();
            Ok::<_, std::io::Error>(segment_map::Digest(sum).to_string())
        };
        disks.iter_mut().zip(&self.places).map(whole).collect()
    }

    fn manifest(&self, digests: &[String]) -> String {
        let disk = |(place, digest): (&Place, &String)| ManifestDisk {
            name: place.name.clone(),
            size_bytes: place.geometry.size,
            segment_bytes: place.geometry.segment,
            segments: place.geometry.segments(),
            digests: format!("{}.sha256", place.name),
            digests_sha256: digest.clone(),
        };
        let manifest = Manifest {
            schema: "pc.segments.manifest/1",
            state: self.id.clone(),
            taken: self.taken(),
            disks: self.places.iter().zip(digests).map(disk).collect(),
        };
        // Numbers and strings: there is nothing in it that could not be written.
        serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n"
    }

    /// What the state becomes if this run worked.
    pub fn committed(&self, state: &State, checkpoint: Option<String>) -> State {
        State {
            id: self.id.clone(),
            runs: state.runs,
            last_stamp: state.last_stamp,
            checkpoint,
            doubted: None,
            disks: self.disks().iter().map(|disk| disk.committed(self.stamp)).collect(),
        }
    }

    /// The first clean segment that differs from its digest, for a message.
    pub fn mismatch(&self) -> Option<String> {
        let disks = self.disks();
        let of = |disk: &Disk| {
            disk.mismatched().first().map(|index| format!("disk {}, segment {index}", disk.name))
        };
        disks.iter().find_map(of)
    }
}

impl Place {
    fn list_length(&self) -> u64 {
        self.geometry.segments() * layout::line_length(&self.name)
    }
}

/// A piece of a list: the lines that it touches are made, no others.
fn list(disk: &mut Disk, place: &Place, offset: u64, size: u64) -> Result<Vec<u8>> {
    let line = layout::line_length(&place.name);
    let end = offset.saturating_add(size).min(place.list_length());
    let first = offset / line;
    let mut text = String::new();
    for index in first..end.div_ceil(line) {
        text.push_str(&layout::list_line(&disk.digest(index)?, &place.name, index));
    }
    Ok(part(text.as_bytes(), offset - first * line, end.saturating_sub(offset)).to_vec())
}

fn part(bytes: &[u8], offset: u64, size: u64) -> &[u8] {
    let at = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[at(offset)..at(offset.saturating_add(size))]
}

/// Seconds since 1970 as RFC 3339, always of the same length.
fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
    let text = time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
