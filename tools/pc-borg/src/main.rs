//! pc-borg: backups of the VMs with `BorgBackup`, at a cost that follows what changed.
//!
//! Never writes to a VM's disk, never writes over one that exists, never lets half of one be taken for one, never boots a copy that could reach anybody or be taken for
//! its VM, never mounts what a guest wrote, never backs up to a repository whose key nobody keeps
//! elsewhere, never deletes an archive that `keep` does not name, never hands a passphrase to argv or the environment,
//! never takes a lock away without proof that its holder is gone.

mod archive;
mod backup;
mod boot;
mod borg;
mod calendar;
mod changeover;
mod child;
mod cold;
mod copier;
mod drill;
mod duty;
mod fault;
mod files;
mod freeze;
mod guestfish;
mod half;
mod hypervisor;
mod instant;
mod key;
mod left;
mod list;
mod lock;
mod machine;
mod making;
mod moment;
mod naming;
mod passphrase;
mod queue;
mod records;
mod recover;
mod report;
mod restore;
mod scratch;
mod session;
mod shelf;
mod shown;
mod siblings;
mod site;
mod sparse;
mod stage;
mod status;
mod systemd;
mod unfinished;
mod upkeep;
mod verify;
mod view;
mod want;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pc_cli::{Common, Exit, emit, emit_heard, refused, require_root};

use crate::child::Interrupts;
use crate::site::Site;

/// Back up, restore and look after the virtual machines' archives
#[derive(Parser)]
#[command(name = "pc-borg", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Back up VMs
    Backup(backup::Options),
    /// Print how old the archives are and what is wrong
    Status {
        /// Exit with 3 when anything is not healthy
        #[arg(long)]
        exit_code: bool,
    },
    /// Print all archives
    List(list::Options),
    /// Bring a VM's disk back from an archive
    Restore(restore::Options),
    /// Run a VM that has lost its disk out of an archive at once, and copy the disk under it
    Instant(instant::Options),
    /// Take a file or a directory of the guest out of an archive
    RestoreFile(files::Options),
    /// Mount an archive read-only, until it is unmounted
    Mount(list::MountOptions),
    /// Delete what `keep` does not keep, and give the space back
    Prune(upkeep::PruneOptions),
    /// Check repositories
    Check(upkeep::CheckOptions),
    /// Read the newest archives as a restore would, and compare every segment
    Verify(verify::Options),
    /// Restore the newest archives beside their VMs, and boot the copies without a network until they are up
    Drill(drill::Options),
    /// Make a policy's repository and its passphrase
    Init(key::InitOptions),
    /// The copy of a key that lies outside of the cluster
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Take back what a run that was killed left on this node: a frozen guest, a mounted view, a drill's copy
    Recover,
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    let common = cli.common;
    pc_cli::log::set_verbosity(common.verbose);
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    let file = file.map_err(refused)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    let policies = want::policies(view.cluster)?;
    // Asking changes nothing: it may be ended at any moment, by anybody.
    let asks = matches!(cli.verb, Verb::Status { .. });
    if !asks {
        require_root()?;
        machine::require_self(&common.root, &view)?;
    }
    let interrupts = if asks { Interrupts::none()? } else { Interrupts::catch()? };
    let site = Site { common: &common, view, policies, interrupts };
    verb(&site, cli.verb)
}

fn verb(site: &Site, verb: Verb) -> Result<Exit> {
    let json = site.common.json;
    match verb {
        Verb::Backup(options) => {
            let ended = backup::backup(site, &options);
            leave_status(site);
            let (summary, result) = ended?;
            answer(json, &summary, result)
        }
        Verb::Status { exit_code } => {
            let status = status::status(site)?;
            if require_root().is_ok() {
                write_status(site, &status);
            }
            emit(json, &status)?;
            Ok(Exit::of_answer(exit_code, !status.healthy))
        }
        Verb::List(options) => {
            let (list, result) = list::list(site, &options)?;
            answer(json, &list, result)
        }
        Verb::Restore(options) => {
            let restored = restore::restore(site, &options)?;
            emit(json, &restored)?;
            Ok(Exit::Done)
        }
        Verb::Instant(options) => {
            emit(json, &instant::instant(site, &options)?)?;
            Ok(Exit::Done)
        }
        Verb::RestoreFile(options) => {
            emit(json, &files::restore_file(site, &options)?)?;
            Ok(Exit::Done)
        }
        Verb::Mount(options) => list::mount(site, &options).map(|()| Exit::Done),
        Verb::Prune(options) => {
            let (done, result) = upkeep::prune(site, &options)?;
            leave_status(site);
            answer(json, &done, result)
        }
        Verb::Check(options) => {
            let (done, result) = upkeep::check(site, &options)?;
            leave_status(site);
            answer(json, &done, result)
        }
        Verb::Verify(options) => {
            let (verified, result) = verify::verify(site, &options)?;
            leave_status(site);
            answer(json, &verified, result)
        }
        Verb::Drill(options) => {
            let (drills, result) = drill::drill(site, &options)?;
            leave_status(site);
            answer(json, &drills, result)
        }
        Verb::Init(options) => {
            emit(json, &key::init(site, &options)?)?;
            Ok(Exit::Done)
        }
        Verb::Key(key::KeyVerb::Export { policy, qr, lock }) => {
            emit(json, &key::export(site, &policy, qr, &lock)?)?;
            Ok(Exit::Done)
        }
        Verb::Key(key::KeyVerb::Acknowledge { policy, code, lock }) => {
            emit(json, &key::acknowledge(site, &policy, &code, &lock)?)?;
            Ok(Exit::Done)
        }
        Verb::Recover => {
            recover::recover(site)?;
            leave_status(site);
            Ok(Exit::Done)
        }
    }
}

/// The answer first, whatever went wrong with a part; then the error that decides the exit code.
fn answer<T: serde::Serialize + std::fmt::Display>(
    json: bool,
    value: &T,
    result: Result<()>,
) -> Result<Exit> {
    let heard = emit_heard(json, value);
    result?;
    match heard {
        Err(error) if error.chain().any(is_gone) => Ok(Exit::Done),
        heard => heard.map(|()| Exit::Done),
    }
}

/// A reader that has seen enough is no failure.
fn is_gone(cause: &(dyn std::error::Error + 'static)) -> bool {
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// For the siblings; a status that cannot be left (full disk) changes nothing of what was done.
fn leave_status(site: &Site) {
    match status::status(site) {
        Ok(status) => write_status(site, &status),
        Err(error) => pc_cli::log::warning(format_args!("leaving the status: {error:#}")),
    }
}

fn write_status(site: &Site, status: &status::Status) {
    if let Err(error) = pc_cli::write_status(&site.common.root, "borg", status) {
        pc_cli::log::warning(format_args!("leaving the status: {error:#}"));
    }
}
