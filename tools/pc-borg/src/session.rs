//! A policy's repository, ready to be worked with: volumes whole, lock taken, disk mounted, passphrase open.

use std::time::Duration;

use anyhow::Result;
use pc_cli::refused;
use zeroize::Zeroizing;

use crate::cold::Plugged;
use crate::lock::Lock;
use crate::passphrase;
use crate::site::{Site, tell};
use crate::want::Policy;

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
        site.require_policy(policy)?;
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
        let session = Session { passphrase, _disk: disk, lock };
        if session.lock.was_stale {
            let guard = session.guard(site);
            site.borg(policy, Some(session.passphrase.clone()), &guard).break_lock()?;
        }
        Ok(session)
    }

    /// What every long step asks again and again: nobody wants us to end, and nobody has taken over.
    pub fn guard<'a>(&'a self, site: &'a Site<'a>) -> impl Fn() -> Result<()> + 'a {
        move || {
            site.interrupts.check()?;
            self.lock.still_ours()
        }
    }
}
