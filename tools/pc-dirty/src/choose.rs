//! Which method is possible: a pure function of what was asked and of what is known.

use segment_map::{DiskState, Geometry, Method, State};

/// What there is to compare a disk with.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// No state file was named.
    Unnamed,
    /// It is not there yet.
    Missing(&'a str),
    /// It cannot be read, or is damaged.
    Unreadable(&'a str),
    /// It is there.
    State(&'a str, &'a State),
}

/// The method, why, and what to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Where to begin.
    pub method: Method,
    /// Why not what was asked for, or how.
    pub reason: String,
    /// It is dearer than what was asked for.
    pub fallback: bool,
    /// Digests to compare with; absent for `full`.
    pub compare: Option<(&'a State, &'a DiskState)>,
}

/// Chooses for one disk.
pub fn choose<'a>(asked: Method, known: Known<'a>, name: &str, geometry: Geometry) -> Chosen<'a> {
    let full = |reason: String, fallback| Chosen { method: Method::Full, reason, fallback, compare: None };
    if asked == Method::Full {
        return full("asked for".into(), false);
    }
    let (path, state) = match known {
        Known::Unnamed => return full("no --state to compare with".into(), true),
        Known::Missing(path) => return full(format!("{path}: there is no state yet"), true),
        Known::Unreadable(error) => return full(error.to_string(), true),
        Known::State(path, state) => (path, state),
    };
    let Some(disk) = state.disk(name) else {
        return full(format!("{path}: knows no disk {name}"), true);
    };
    if disk.geometry != geometry {
        let (was, is) = (disk.geometry, geometry);
        return full(
            format!(
                "{path}: has {} bytes in segments of {}, the disk {} in segments of {}",
                was.size, was.segment, is.size, is.segment
            ),
            true,
        );
    }
    let count = disk.records.len();
    let reason = match asked {
        Method::Bitmap => format!("relative to the state {}", state.id),
        _ => format!("compared with {count} digests of {path}"),
    };
    Chosen { method: asked, reason, fallback: false, compare: Some((state, disk)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segment_map::LOST;

    #[test]
    fn what_cannot_be_compared_counts_as_changed_and_says_why() {
        let geometry = Geometry { size: 1 << 17, segment: 1 << 16 };
        let disk = DiskState { name: "vda".into(), geometry, records: vec![LOST; 2] };
        let state = State { id: "a-1".into(), disks: vec![disk], ..State::default() };
        let known = Known::State("/s", &state);
        let cases = [
            (Method::Full, known, "vda", geometry, Method::Full, "asked for"),
            (Method::Digest, Known::Unnamed, "vda", geometry, Method::Full, "no --state to compare with"),
            (
                Method::Bitmap,
                Known::Missing("/s"),
                "vda",
                geometry,
                Method::Full,
                "/s: there is no state yet",
            ),
            (Method::Digest, Known::Unreadable("/s: damaged"), "vda", geometry, Method::Full, "/s: damaged"),
            (Method::Digest, known, "vdb", geometry, Method::Full, "/s: knows no disk vdb"),
            (
                Method::Digest,
                known,
                "vda",
                Geometry { size: 5, ..geometry },
                Method::Full,
                "/s: has 131072 bytes in segments of 65536, the disk 5 in segments of 65536",
            ),
            (Method::Digest, known, "vda", geometry, Method::Digest, "compared with 2 digests of /s"),
            (Method::Bitmap, known, "vda", geometry, Method::Bitmap, "relative to the state a-1"),
        ];
        for (asked, known, name, geometry, method, reason) in cases {
            let chosen = choose(asked, known, name, geometry);
            assert_eq!((chosen.method, chosen.reason.as_str()), (method, reason));
            assert_eq!(chosen.fallback, asked != method, "{reason}");
            assert_eq!(chosen.compare.is_some(), method != Method::Full, "{reason}");
        }
    }
}
