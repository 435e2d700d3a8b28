//! Proxies of systemd's objects (org.freedesktop.systemd1(5)).

use zbus::zvariant::{ObjectPath, OwnedObjectPath, Value};

/// Properties of a transient unit: name and value.
pub type Properties<'a> = Vec<(&'a str, Value<'a>)>;
/// Units that are made along with a transient one.
pub type Auxiliary<'a> = Vec<(&'a str, Properties<'a>)>;
/// What `ListUnitsByPatterns` tells of a unit: name, description, load state, active state, sub state, ...
pub type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
/// What `DisableUnitFiles` did: kind, link, its former destination.
pub type Change = (String, String, String);

/// Those methods of `org.freedesktop.systemd1.Manager` that our tools call.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_async = false,
    blocking_name = "Manager"
)]
pub trait Manager {
    /// Asks for signals: without, systemd sends none.
    fn subscribe(&self) -> zbus::Result<()>;
    /// Reads unit files again; generators run.
    fn reload(&self) -> zbus::Result<()>;
    /// The object of a unit, loaded when it is not.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Queues a start.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Queues a stop.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Queues a restart.
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Queues a reload, or a restart of a unit that cannot reload.
    fn reload_or_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Makes a unit that lasts until it ends, and queues its start.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &Properties<'_>,
        auxiliary: &Auxiliary<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    /// Units in one of these active states whose name matches one of these patterns.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// Sends a signal to the processes of a unit; whom: `main`, `control`, `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Removes the links of `[Install]`.
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<Change>>;
    /// `running`, `stopping`, `degraded`, ...
    #[zbus(property)]
    fn system_state(&self) -> zbus::Result<String>;
    /// A job has ended, and how: `done`, `failed`, `timeout`, `dependency`, ...
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_async = false,
    blocking_name = "Unit"
)]
pub trait Unit {
    /// `active`, `inactive`, `failed`, ...
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
}
