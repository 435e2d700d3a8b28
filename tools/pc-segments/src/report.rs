//! What is told: that the view is there, and what a run did.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use crate::view::View;

/// `pc.segments.mount/1`.
#[derive(Debug, Serialize)]
pub struct Mounted {
    schema: &'static str,
    mount_point: String,
    pid: u32,
    size_bytes: u64,
    dirty_bytes: u64,
}

impl Mounted {
    /// Of a view that is mounted there.
    pub fn new(view: &View, mount_point: &std::path::Path) -> Mounted {
        let disks = view.disks();
        let size_bytes = disks.iter().map(|disk| disk.geometry.size).sum();
        Mounted::of(mount_point, size_bytes, disks.iter().map(|disk| disk.changed().1).sum())
    }

    /// With its figures.
    pub fn of(mount_point: &std::path::Path, size_bytes: u64, dirty_bytes: u64) -> Mounted {
        Mounted {
            schema: "pc.segments.mount/1",
            mount_point: mount_point.display().to_string(),
            pid: std::process::id(),
            size_bytes,
            dirty_bytes,
        }
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mounted { mount_point, dirty_bytes, size_bytes, .. } = self;
        write!(f, "{mount_point}: mounted, {dirty_bytes} of {size_bytes} bytes changed")
    }
}

/// How a view came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// The command ended.
    Command,
    /// SIGUSR1.
    Commit,
    /// SIGTERM or SIGINT.
    Signal,
    /// Somebody unmounted it.
    Unmount,
    /// A clean segment differs from its digest.
    Mismatch,
}

/// `pc.segments.run/1`.
#[derive(Debug, Serialize)]
pub struct Run {
    schema: &'static str,
    state: String,
    committed: bool,
    ended_by: EndedBy,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_exit_code: Option<i32>,
    everything: Option<String>,
    disks: Vec<Disk>,
    read_bytes: u64,
    served_bytes: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Disk {
    name: String,
    size_bytes: u64,
    segments: u64,
    dirty_segments: u64,
    dirty_bytes: u64,
    left_dirty_segments: u64,
    verified_segments: u64,
    mismatched_segments: Vec<u64>,
}

/// What only the end of a run knows.
#[derive(Debug)]
pub struct End {
    /// How it ended.
    pub by: EndedBy,
    /// The command's exit code.
    pub code: Option<i32>,
    /// The state was replaced.
    pub committed: bool,
}

impl Run {
    /// Of a view at its end.
    pub fn new(view: &View, everything: Option<String>, end: &End, started: Instant) -> Run {
        let disks = view.disks();
        let disk = |disk: &crate::disk::Disk| {
            let (dirty_segments, dirty_bytes, left_dirty_segments) = disk.changed();
            Disk {
                name: disk.name.clone(),
                size_bytes: disk.geometry.size,
                segments: disk.geometry.segments(),
                dirty_segments,
                dirty_bytes,
                left_dirty_segments,
                verified_segments: disk.verified(),
                mismatched_segments: disk.mismatched().to_vec(),
            }
        };
        Run {
            schema: "pc.segments.run/1",
            state: view.id.clone(),
            committed: end.committed,
            ended_by: end.by,
            command_exit_code: end.code,
            everything,
            disks: disks.iter().map(disk).collect(),
            read_bytes: disks.iter().map(|disk| disk.read_bytes).sum(),
            served_bytes: disks.iter().map(|disk| disk.served_bytes).sum(),
            seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }

    /// Changed segments that nobody has read to their end.
    pub fn left_dirty(&self) -> u64 {
        self.disks.iter().map(|disk| disk.left_dirty_segments).sum()
    }
}
