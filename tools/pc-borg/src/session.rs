//! A policy's repository, ready to be worked with: volumes whole, lock taken, disk mounted, passphrase open.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use pc_cli::refused;
use zeroize::Zeroizing;

use crate::borg::Borg;
use crate::cold::Plugged;
use crate::left::{self, Owner};
use crate::lock::{self, Lock};
use crate::passphrase;
use crate::site::{Heal, Site, tell};
use crate::want::{Policy, Target};

/// How the lock of a repository is taken.
#[derive(Debug, Clone, clap::Args)]
pub struct LockOptions {
    /// Wait this long for another run to end
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub lock_wait: u64,
    /// This node is switched off for certain: what it held is nobody's
    #[arg(long, value_name = "NODE")]
    pub holder_is_dead: Vec<String>,
}

/// A repository that is ours for now. Fields are dropped in this order: the disk is unmounted before the lock is given
/// back.
pub struct Session {
    /// Opens the repository.
    pub passphrase: Zeroizing<Vec<u8>>,
    /// A removable disk.
    _disk: Option<Plugged>,
    /// The lock.
    pub lock: Lock,
}

impl Session {
    /// Prepares `policy` for `what`, a run that only goes on with a copy of the key elsewhere when it writes archives.
    pub fn open(site: &Site, policy: &Policy, what: &str, options: &LockOptions) -> Result<Session> {
        let heal = if what == "backup" { Heal::Awaited } else { Heal::Ignored };
        site.require_policy(policy, heal)?;
        if what == "backup" && site.records(policy).key()?.is_none() {
            let passphrase = passphrase::find(site, policy);
            let next = if matches!(passphrase, Ok(None)) { "init" } else { "key export" };
            return Err(refused(format!(
                "backup.{0}: nobody has vouched for a copy of its key outside of this cluster\n  pc-borg {next} {0}",
                policy.name
            )));
        }
        Session::open_with(site, policy, what, options, || passphrase::require(site, policy))
    }

    /// As `open`, for a repository that may have no key yet; `passphrase` is asked for under the lock.
    pub fn open_with(
        site: &Site,
        policy: &Policy,
        what: &str,
        options: &LockOptions,
        passphrase: impl FnOnce() -> Result<Zeroizing<Vec<u8>>>,
    ) -> Result<Session> {
        let patience = Duration::from_secs(options.lock_wait);
        if !patience.is_zero() {
            tell(&format!("waiting for backup.{}", policy.name));
        }
        let lock =
            site.lock_files(policy)
                .acquire(&site.me()?, what, patience, &options.holder_is_dead, &|| site.interrupts.check())?;
        let disk = Plugged::mount(site, policy)?;
        let passphrase = passphrase()?;
        let mut session = Session { passphrase, _disk: disk, lock };
        session.clear_left_behind(site, policy)?;
        Ok(session)
    }

    /// borg's own locks of runs that are gone: of the repository, unless its locks are a server's business, and of the
    /// caches.
    fn clear_left_behind(&mut self, site: &Site, policy: &Policy) -> Result<()> {
        if self.lock.left_behind().is_empty() {
            return Ok(());
        }
        let (me, host_id) = (site.me()?, self.lock.host_id());
        let gone = |owner: &Owner| {
            let Owner { node, boot_id, pid } = owner;
            let here = *node == me.node && *boot_id == me.boot_id;
            let known =
                self.lock.left_behind().iter().any(|boot| boot.node == *node && boot.boot_id == *boot_id);
            known && !(here && lock::started(Path::new("/proc"), *pid).is_some())
        };
        if !matches!(policy.target, Target::Ssh(_)) {
            left::clear(Path::new(&site.repository(policy)), &host_id, &gone)?;
        }
        let caches = site.records(policy).base().join(".cache/borg");
        for cache in fs::read_dir(caches).into_iter().flatten().flatten() {
            if cache.path().is_dir() {
                left::clear(&cache.path(), &host_id, &gone)?;
            }
        }
        self.lock.cleared()
    }

    /// borg on its repository.
    pub fn borg<'b>(&self, site: &Site, policy: &Policy, may_go_on: &'b dyn Fn() -> Result<()>) -> Borg<'b> {
        let repository = site.repository(policy);
        Borg {
            repository,
            policy: policy.name.to_string(),
            base: site.records(policy).base(),
            host_id: self.lock.host_id(),
            passphrase: self.passphrase.clone(),
            limit: policy.settings.limit,
            may_go_on,
        }
    }

    /// What every long step asks again and again: nobody wants us to end, and nobody has taken over.
    pub fn guard<'a>(&'a self, site: &'a Site<'a>) -> impl Fn() -> Result<()> + 'a {
        move || {
            site.interrupts.check()?;
            self.lock.still_ours()
        }
    }
}
