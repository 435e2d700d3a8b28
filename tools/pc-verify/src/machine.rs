//! What no tool's status tells: the machine around the tools. Plain facts, read by host.rs and judged in lints.rs.

/// A unit of ours, as systemd has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// `pc-borg.timer`.
    pub name: String,
    /// `UnitFileState`: `enabled`, `disabled`, `masked`, `static`; empty for an instance that has no file.
    pub file: String,
    /// `ActiveState`; empty when systemd has not loaded it: nothing refers to it.
    pub active: String,
}

/// Who sets the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The kernel's clock is in step with a time server.
    pub synchronised: bool,
    /// A service is enabled that sets it.
    pub enabled: bool,
}

pub use swap_devices::Swap;

/// A file that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it was looked for.
    pub path: String,
    /// Permissions of what is there, links followed.
    pub mode: u32,
}

/// A disk, as its SMART has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Disk {
    /// Last part of its path.
    pub name: String,
    /// Its own judgement; none: it gives none.
    pub passed: Option<bool>,
    /// Warnings as a bit mask, of a disk that speaks `NVMe`.
    pub critical_warning: u64,
    /// Sectors that it could not read.
    pub pending_sectors: u64,
    /// Sectors that it could neither read nor replace.
    pub uncorrectable_sectors: u64,
    /// Used part of its rated life, where it tells.
    pub wear: Option<f64>,
}

/// An unlock server of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: String,
    /// Why it gave no answer that is signed by the pinned key.
    pub fault: Option<String>,
}

/// A power supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    /// As NUT calls it; none: NUT itself.
    pub name: Option<String>,
    /// Its status words, or why there are none.
    pub status: Result<String, String>,
}

/// All of it. Files that are not there are empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Machine {
    /// Units of ours; an error when systemd gave no answer. None: there is no systemd to ask.
    pub units: Option<Result<Vec<Unit>, String>>,
    /// The clock; likewise.
    pub clock: Option<Result<Clock, String>>,
    /// A cluster file is in force: the boot units have something to do.
    pub applied: bool,
    /// Swap in use.
    pub swaps: Vec<Swap>,
    /// crypttab(5).
    pub crypttab: String,
    /// fstab(5).
    pub fstab: String,
    /// libvirt's qemu.conf.
    pub qemu_conf: String,
    /// glusterd's own configuration, glusterd.vol.
    pub glusterd: String,
    /// Options of each volume in glusterd's store, by volume: `key=value` lines.
    pub volumes: Vec<(String, String)>,
    /// Gluster's snapshots, by name.
    pub snapshots: Vec<String>,
    /// Files that say what cron and units of the administrator run: path and text.
    pub jobs: Vec<(String, String)>,
    /// Disks, as they were last asked for pc-exporter.
    pub disks: Vec<Disk>,
    /// Power supplies that NUT knows.
    pub supplies: Vec<Supply>,
    /// The file's unlock servers.
    pub servers: Vec<Server>,
    /// Files with secrets.
    pub keys: Vec<Key>,
}
