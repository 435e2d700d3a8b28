//! Where a verb acts: the file, this node, the other nodes.

use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{Cluster, Name, Use};
use pc_cli::{Common, refused, try_again};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::Guest;
use crate::host::Host;
use crate::hypervisor::QUICK;
use crate::nodes::Nodes;
use crate::owner::Owner;
use crate::store::{Carrier, Store};

/// Everything a verb needs to begin.
#[derive(Debug)]
pub struct Site<'a> {
    /// Flags of the command line.
    pub common: &'a Common,
    /// The nodes' libvirt daemons, and this node's view of the file.
    pub nodes: Nodes<'a>,
}

impl<'a> Site<'a> {
    /// The whole file.
    pub fn cluster(&self) -> &'a Cluster {
        self.nodes.view.cluster
    }

    /// Finds a VM of the file.
    pub fn guest(&self, name: &str) -> Result<Guest<'a>> {
        let cluster = self.cluster();
        let Some((name, vm)) = cluster.vms.get_key_value(name) else {
            let known: Vec<&str> = cluster.vms.keys().map(cluster::Name::as_str).collect();
            let known = if known.is_empty() { "no vm".into() } else { known.join(", ") };
            return Err(refused(format!("no [vm] is called {name:?}: the file has {known}")));
        };
        Ok(Guest { cluster, name, vm })
    }

    /// The UUID of a VM, also of one that has left the file: it is made of names.
    pub fn uuid_of(&self, name: &str) -> Result<String> {
        let name = Name::try_from(name.to_string())
            .map_err(|fault| refused(format!("no [vm] can be called {name:?}: {fault}")))?;
        Ok(cluster::identity::uuid(&self.cluster().name, &name))
    }

    /// Every VM of the file, by name.
    pub fn guests(&self) -> Vec<Guest<'a>> {
        let cluster = self.cluster();
        cluster.vms.iter().map(|(name, vm)| Guest { cluster, name, vm }).collect()
    }

    /// An error unless this machine is the node that it acts as.
    pub fn require_self(&self) -> Result<()> {
        crate::machine::require_self(&self.common.root, &self.nodes.view)
    }

    /// Its files.
    pub fn store(&self, guest: &Guest) -> Store {
        let carrier = if self.is_local(guest) { Carrier::Disk } else { Carrier::Nodes };
        Store::new(&self.common.root, guest.name.as_str(), guest.places(), carrier)
    }

    /// Every node has its volume for itself, with a disk, a lock and a record that no other node sees.
    pub fn is_local(&self, guest: &Guest) -> bool {
        let volume = self.cluster().volumes.get(&guest.vm.volume);
        volume.is_some_and(|volume| volume.purpose == Use::Local)
    }

    /// Whether the record of a VM that ran on `node` is to be seen from here.
    pub fn sees_record(&self, guest: &Guest, node: &str) -> bool {
        node == self.nodes.me() || !self.is_local(guest)
    }

    /// This node with its libvirt, to do something.
    pub fn host(&self) -> Result<Host<'_>> {
        self.host_within(QUICK)
    }

    /// This node with its libvirt, connected and looked at within `patience` a call.
    pub fn host_within(&self, patience: Duration) -> Result<Host<'_>> {
        Host::new(self.common, &self.nodes.view, self.nodes.local_within(patience)?)
    }

    /// Pacemaker starts, stops and moves VMs: the file has `[ha]`, and pacemaker has taken over on this node.
    pub fn has_pacemaker(&self) -> bool {
        // A marker that cannot be looked at may be there: a VM that does not start is better than one that runs twice.
        let marker = || self.common.under_root(cluster::paths::HA_ENABLED).try_exists();
        self.cluster().ha.is_some() && marker().unwrap_or(true)
    }

    /// There is one starter: where pacemaker is it, a person is not.
    pub fn leave_to_pacemaker(&self, by_pacemaker: bool, instead: &str) -> Result<()> {
        if by_pacemaker || !self.has_pacemaker() {
            return Ok(());
        }
        Err(refused(format!("[ha] is enabled: pacemaker is the only starter\n  {instead}")))
    }

    /// What pacemaker started is not started or moved beside it on a node where it has not taken over: one that was installed
    /// anew, or whose marker was lost. Another node's pacemaker may start it at any time.
    pub fn leave_what_it_started(&self, vm: &str, owner: Option<&Owner>, by_pacemaker: bool) -> Result<()> {
        if by_pacemaker || self.cluster().ha.is_none() || !owner.is_some_and(|owner| owner.pacemaker) {
            return Ok(());
        }
        Err(refused(format!(
            "vm {vm}: pacemaker started it last, and has not taken over on this node\n  \
             pc-ha enable    (to go on without pacemaker: [ha] out of the file, then pc-config push)"
        )))
    }

    /// The command that starts a VM.
    pub fn start_of(&self, vm: &str) -> String {
        format!("{} start {vm}", self.starter())
    }

    /// The command that stops a VM, and keeps it stopped.
    pub fn stop_of(&self, vm: &str) -> String {
        format!("{} stop {vm}", self.starter())
    }

    fn starter(&self) -> &'static str {
        if self.has_pacemaker() { "pc-ha" } else { "pc-vm" }
    }

    /// The name of the node that starts a VM while pacemaker does not.
    pub fn home_of(&self, guest: &Guest) -> &'a str {
        self.cluster().home_of(guest.vm).map_or("", |node| node.name.as_str())
    }

    /// This boot of this node; `None` where the kernel does not tell.
    pub fn boot_id(&self) -> Option<String> {
        let path = self.common.under_root("/proc/sys/kernel/random/boot_id");
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
    }
}

/// The time, RFC 3339 UTC, whole seconds.
pub fn now() -> Result<String> {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).context("reading the clock")?;
    now.format(&Rfc3339).context("writing the time")
}

/// Progress for whoever looks at the unit.
pub fn tell(status: &str) {
    pc_cli::log::debug(status);
    // No NOTIFY_SOCKET: nobody listens, which is fine.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(status)]);
}

/// Why a node that does not answer may run a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clue {
    /// The record names it.
    Record,
    /// There is no record.
    NoRecord,
    /// The record lies on a volume that every node has for itself.
    OwnVolumes,
}

/// Nodes that may run a VM are out of reach for now.
pub fn unreachable(vm: &str, clue: Clue, silent: &[(String, String)], by_pacemaker: bool) -> anyhow::Error {
    let start = match clue {
        _ if by_pacemaker => format!("pc-ha start {vm}"),
        // On volumes of their own it starts at home only.
        Clue::OwnVolumes => format!("pc-vm start {vm}"),
        Clue::Record | Clue::NoRecord => format!("pc-vm start {vm} --here"),
    };
    unreachable_for(vm, clue, silent, &start)
}

/// The same for another command than `start`, which takes the claim that they are dead as well.
pub fn unreachable_for(vm: &str, clue: Clue, silent: &[(String, String)], command: &str) -> anyhow::Error {
    let what = |(node, reason): &(String, String)| match clue {
        Clue::Record => format!("{node} owns it and does not answer, it may still run there: {reason}"),
        Clue::NoRecord => {
            format!("no owner.json beside its disk, and {node} does not answer, it may run there: {reason}")
        }
        Clue::OwnVolumes => {
            format!(
                "every node has its volume for itself, and {node} does not answer, it may run there: {reason}"
            )
        }
    };
    let what: Vec<String> = silent.iter().map(what).collect();
    let names: Vec<&str> = silent.iter().map(|(node, _)| node.as_str()).collect();
    let flags: Vec<String> = names.iter().map(|node| format!("--owner-is-dead {node}")).collect();
    let are = if names.len() == 1 { "is" } else { "are" };
    try_again(format!(
        "vm {vm}: {}\n  when {} {are} switched off for certain: {command} {}",
        what.join("; "),
        names.join(" and "),
        flags.join(" ")
    ))
}

#[cfg(test)]
#[path = "site_tests.rs"]
pub mod tests;
