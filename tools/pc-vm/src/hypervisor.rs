//! Every call of libvirt, each with a deadline. libvirt itself has none: a call to a daemon that hangs, or to a
//! node that has gone, would wait for ever. A call that is given up goes on in its thread until we end.

mod changes;

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use pc_cli::try_again;
use serde::Serialize;
use virt::connect::Connect;
use virt::domain::{Domain, DomainPausedReason, DomainState, DomainStateReason, JobStats, MigrateParameters};
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::sys;

use crate::domain::mark_of;

/// For calls that only read or change a definition, when there is work to be done. The first one of a daemon waits until
/// it has asked QEMU what it can do, which takes minutes on an emulated machine.
pub const QUICK: Duration = Duration::from_secs(240);
/// For telling a person what there is: a libvirt that has begun to answer answers this fast, even on an emulated machine,
/// and one that hangs is what the person wants to know.
pub const LOOK: Duration = Duration::from_secs(20);
/// For starting QEMU, which opens images on a volume that may be busy healing.
const START: Duration = Duration::from_secs(600);

/// [`Live::reason`] of a guest that QEMU paused because its disk failed (`error_policy=stop`).
pub const IO_ERROR: &str = "I/O error on its disk";

/// A domain as libvirt knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// The digest in our mark; `None`: somebody else's.
    pub mark: Option<String>,
    /// The digest in the mark of the definition that its QEMU was started with; `None` when it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_mark: Option<String>,
    /// A QEMU process exists (running or paused).
    pub active: bool,
    /// libvirt would start it at boot.
    pub autostart: bool,
}

/// What a domain does at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// virsh's word: `running`, `paused`, `shut off`, ...
    pub state: &'static str,
    /// Why it is paused, when that is worth telling.
    pub reason: Option<&'static str>,
    /// A QEMU process exists.
    pub active: bool,
    /// Memory it has now, in bytes.
    pub memory_bytes: u64,
}

/// Where and how a guest is to be moved.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The other libvirt, as the one that runs the guest reaches it.
    pub uri: String,
    /// Address that takes the memory stream.
    pub address: std::net::IpAddr,
    /// Name that its certificate must carry.
    pub name: String,
}

/// A connection to one node's libvirt.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    connect: Connect,
    /// How messages call it.
    called: String,
    /// How long it may take to connect, and to tell what there is.
    patience: Duration,
}

/// Runs a call on a thread of its own and waits for it no longer than `deadline`.
fn within<T: Send + 'static>(
    what: &str,
    deadline: Duration,
    call: impl FnOnce() -> Result<T, virt::error::Error> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(call())));
    match pc_run::timed(|| receiver.recv_timeout(deadline)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(anyhow!("{what}: {}", error.message())),
        Err(_) => Err(try_again(format!("{what}: no answer within {} s", deadline.as_secs()))),
    }
}

fn no_domain(error: &virt::error::Error) -> bool {
    error.code() == Enum::Known(ErrorNumber::NoDomain)
}

impl Hypervisor {
    /// Connects; `called` is how messages name the node.
    pub fn open(uri: &str, called: &str, patience: Duration) -> Result<Hypervisor> {
        virt::error::clear_error_callback();
        let owned = uri.to_string();
        let connect = within(called, patience, move || Connect::open(Some(&owned)))
            .map_err(|error| try_again(format!("connecting to libvirt of {error:#}")))?;
        Ok(Hypervisor { connect, called: called.into(), patience })
    }

    fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl FnOnce(&Connect) -> Result<T, virt::error::Error> + Send + 'static,
    ) -> Result<T> {
        let connect = self.connect.clone();
        within(&format!("libvirt of {}", self.called), deadline, move || call(&connect))
    }

    fn on<T: Send + 'static>(
        &self,
        uuid: &str,
        deadline: Duration,
        call: impl FnOnce(&Domain) -> Result<T, virt::error::Error> + Send + 'static,
    ) -> Result<T> {
        let uuid = uuid.to_string();
        self.call(deadline, move |connect| call(&connect.lookup_domain_by_uuid_string(&uuid)?))
    }

    /// libvirt's capabilities of the host, XML.
    pub fn capabilities(&self) -> Result<String> {
        self.call(self.patience, Connect::capabilities).context("asking for capabilities")
    }

    /// All domains, whoever made them, by name.
    pub fn domains(&self) -> Result<Vec<Found>> {
        let mut found = self
            .call(self.patience, |connect| {
                let mut found = Vec::new();
                for domain in connect.list_all_domains(0)? {
                    match describe(&domain) {
                        Ok(described) => found.push(described),
                        // Gone since it was listed.
                        Err(error) if no_domain(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(found)
            })
            .context("listing domains")?;
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// What the domain does; `None` when it is not defined here.
    pub fn live(&self, uuid: &str, deadline: Duration) -> Result<Option<Live>> {
        let uuid = uuid.to_string();
        self.call(deadline, move |connect| {
            let look = || -> Result<Live, virt::error::Error> {
                let domain = connect.lookup_domain_by_uuid_string(&uuid)?;
                let info = domain.info()?;
                let (_, reason) = domain.state()?;
                Ok(live(info.state.unwrap_or(DomainState::NoState), reason, info.memory))
            };
            match look() {
                Ok(live) => Ok(Some(live)),
                Err(error) if no_domain(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Makes the definition, or replaces it: for the next start when the domain runs.
    pub fn define(&self, xml: &str) -> Result<()> {
        let xml = xml.to_string();
        self.call(QUICK, move |connect| {
            connect.define_domain_xml_flags(&xml, sys::VIR_DOMAIN_DEFINE_VALIDATE).map(drop)
        })
    }

    /// Forgets the definition; UEFI variables stay. libvirt refuses when a managed save or snapshots hang on it.
    pub fn undefine(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, |domain| domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM))
    }

    /// libvirt shall not start it by itself.
    pub fn autostart_off(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, |domain| domain.set_autostart(false).map(drop))
    }

    /// Whether libvirt holds a saved state that a start would resume.
    pub fn has_managed_save(&self, uuid: &str) -> Result<bool> {
        self.on(uuid, QUICK, |domain| domain.has_managed_save(0))
    }

    /// The size of a disk of its definition, when the file is there; QEMU need not run.
    pub fn disk_size(&self, uuid: &str, disk: &str) -> Result<u64> {
        let disk = disk.to_string();
        self.on(uuid, QUICK, move |domain| domain.block_info(&disk, 0).map(|info| info.capacity))
    }

    /// Starts it.
    pub fn create(&self, uuid: &str) -> Result<()> {
        self.on(uuid, START, Domain::create)
    }

    /// Starts it as another definition of it says, this once: the one that it has stays what the next start takes.
    pub fn create_as(&self, xml: &str) -> Result<()> {
        let xml = xml.to_string();
        self.call(START, move |connect| connect.create_domain_xml(&xml, 0).map(drop))
    }

    /// Has a paused guest go on: QEMU tries again what failed, and pauses it again should that fail again.
    pub fn resume(&self, uuid: &str, deadline: Duration) -> Result<()> {
        self.on(uuid, deadline, |domain| domain.resume().map(drop))
    }

    /// Presses its power button.
    pub fn press_power_button(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, |domain| domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))
    }

    /// Ends its QEMU process: SIGTERM, so that buffers are flushed.
    pub fn terminate(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, |domain| domain.destroy_flags(sys::VIR_DOMAIN_DESTROY_GRACEFUL))
    }

    /// Ends its QEMU process whatever it does.
    pub fn kill(&self, uuid: &str) -> Result<()> {
        self.on(uuid, QUICK, Domain::destroy)
    }

    /// Moves it while it runs. Both streams, control and memory, are encrypted; the two daemons talk to each
    /// other directly, so that the guest arrives even when we are killed.
    pub fn migrate(&self, uuid: &str, to: &Destination, patience: Duration) -> Result<()> {
        let host = match to.address {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("[{address}]"),
        };
        let parameters = MigrateParameters {
            uri: Some(format!("tcp://{host}")),
            listen_address: Some(to.address.to_string()),
            tls_destination: Some(to.name.clone()),
            ..MigrateParameters::default()
        };
        let flags = sys::VIR_MIGRATE_LIVE
            | sys::VIR_MIGRATE_PEER2PEER
            | sys::VIR_MIGRATE_TLS
            | sys::VIR_MIGRATE_PERSIST_DEST
            | sys::VIR_MIGRATE_AUTO_CONVERGE
            | sys::VIR_MIGRATE_ABORT_ON_ERROR;
        let uri = to.uri.clone();
        self.on(uuid, patience, move |domain| domain.migrate_to_uri3(Some(&uri), parameters, flags))
    }

    /// Figures of the migration that ended last.
    pub fn last_migration(&self, uuid: &str) -> Result<JobStats> {
        self.on(uuid, QUICK, |domain| domain.job_stats(sys::VIR_DOMAIN_JOB_STATS_COMPLETED))
    }
}

fn describe(domain: &Domain) -> Result<Found, virt::error::Error> {
    // A domain without a definition (a guest somebody started directly) cannot have one that starts at boot.
    let persistent = domain.is_persistent()?;
    let flags = if persistent { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
    let active = domain.is_active()?;
    Ok(Found {
        name: domain.name()?,
        uuid: domain.uuid_string()?,
        mark: mark_of(&domain.xml_desc(flags)?),
        running_mark: if active { mark_of(&domain.xml_desc(0)?) } else { None },
        active,
        autostart: persistent && domain.autostart()?,
    })
}

fn live(state: DomainState, reason: virt::domain::DomainStateReasonEnum, memory_kib: u64) -> Live {
    let (word, active) = match state {
        DomainState::NoState => ("no state", true),
        DomainState::Running => ("running", true),
        DomainState::Blocked => ("blocked", true),
        DomainState::Paused => ("paused", true),
        DomainState::Shutdown => ("in shutdown", true),
        DomainState::Shutoff => ("shut off", false),
        DomainState::Crashed => ("crashed", false),
        DomainState::PMSuspended => ("asleep", true),
    };
    let reason = match reason {
        Enum::Known(DomainStateReason::Paused(Enum::Known(reason))) => match reason {
            DomainPausedReason::IOError => Some(IO_ERROR),
            DomainPausedReason::User => Some("by an administrator"),
            DomainPausedReason::Migration => Some("is being moved"),
            DomainPausedReason::Crashed => Some("the guest crashed"),
            _ => None,
        },
        _ => None,
    };
    Live { state: word, reason, active, memory_bytes: memory_kib * 1024 }
}

#[cfg(test)]
#[path = "hypervisor_tests.rs"]
mod tests;
