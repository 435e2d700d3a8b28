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

/// All of it. Files that are not there are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// Files with secrets.
    pub keys: Vec<Key>,
}
