//! Blank disk to LUKS2 to LVM thin pool to XFS brick.
//!
//! Never formats a disk that is not blank, that somebody uses, or that this node has formatted before; never
//! makes anything a second time, however often it is killed and started again. Never touches a disk that the
//! cluster file does not name. Destroying is `wipe`, a verb of its own, with the disk named in full.

mod answer;
mod apply;
mod facts;
mod fault;
mod host;
mod key;
mod plan;
mod status;
mod wipe;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use cluster::Brick;
use pc_cli::{Common, Exit, emit};
use pc_plan::Plan;

use apply::Stop;
use host::Host;
use key::Keys;

/// Blank disks become encrypted, thin-provisioned bricks
#[derive(Debug, clap::Parser)]
#[command(name = "pc-brick", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print what would make every disk of this node a mounted brick
    Plan {
        /// End with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Do it: all of it, or what is left of a printed plan
    Apply {
        /// `-`: a plan, perhaps filtered, from standard input
        #[arg(value_name = "-", value_parser = ["-"])]
        plan: Option<String>,
        /// File with the recovery key; `-` is standard input
        ///
        /// Taken from the credential `recovery-key` or the cluster's open secrets when absent; generated and shown once when
        /// there is none.
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
        /// Kill this process after a step (tests)
        #[arg(long, value_name = "STEP", hide = true)]
        stop_after: Option<String>,
        /// Kill this process within a step, milliseconds after its start (tests)
        #[arg(long, value_name = "STEP=MILLIS", hide = true, value_parser = within)]
        stop_within: Option<(String, u64)>,
    },
    /// Tell the actual state of every disk
    Status {
        /// End with 3 when something is not as it should be
        #[arg(long)]
        exit_code: bool,
    },
    /// Destroy everything on one disk, and forget it
    Wipe {
        /// The disk in full: /dev/disk/by-id/...
        device: String,
        /// Without this flag: says what is on the disk, and refuses
        #[arg(long)]
        yes_destroy_all_data_on_it: bool,
    },
    /// Forget a disk that is gone for good; the disk itself is not touched
    Forget {
        /// The disk in full: /dev/disk/by-id/...
        device: String,
    },
    /// Take over a brick that pc-brick made on another system; the disk itself is not touched
    Adopt {
        /// The disk in full: /dev/disk/by-id/...
        device: String,
    },
}

fn within(text: &str) -> Result<(String, u64), String> {
    let (step, millis) = text.split_once('=').ok_or("expected STEP=MILLIS")?;
    Ok((step.into(), millis.parse().map_err(|_| "expected STEP=MILLIS")?))
}

fn main() -> ExitCode {
    pc_cli::main(run)
}

/// What the file wants of this node.
struct Want {
    node: String,
    bricks: Vec<Brick>,
    unlock: bool,
}

fn want(common: &Common) -> Result<Want> {
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    let file = file.map_err(pc_cli::refused)?;
    let view = file.view(&common.node_name()?).map_err(pc_cli::refused)?;
    Ok(Want { node: view.node.name.to_string(), bricks: view.bricks(), unlock: file.unlock.is_some() })
}

fn run(cli: Cli) -> Result<Exit> {
    let Cli { common, verb } = cli;
    pc_cli::log::set_verbosity(common.verbose);
    let host = Host::new(&common)?;
    let one_disk = match &verb {
        Verb::Wipe { device, yes_destroy_all_data_on_it: yes } => {
            Some(wipe::wipe(&common, &host, device, *yes)?)
        }
        Verb::Forget { device } => Some(wipe::forget(&host, device)?),
        Verb::Adopt { device } => Some(wipe::adopt(&host, device)?),
        _ => None,
    };
    if let Some(answer) = one_disk {
        emit(common.json, &answer)?;
        return Ok(Exit::Done);
    }
    let want = want(&common)?;
    let host = host.bound(want.unlock);
    match verb {
        Verb::Apply { plan, recovery_key_file, stop_after, stop_within } => {
            if plan.is_some() && recovery_key_file.as_deref() == Some(std::path::Path::new("-")) {
                bail!(pc_cli::refused("standard input is the plan or the recovery key, not both"));
            }
            let secrets = common.under_root(cluster::paths::SECRETS);
            // A boot unit generates no key: nobody reads what it prints, and its log would keep it. Nor does anybody on a
            // node that has the cluster's key, sealed.
            let sealed = common.under_root(cluster::paths::SEALED).join("recovery-key.jwe").exists();
            let mut keys = Keys::new(recovery_key_file, secrets, !common.applied, sealed);
            let stop = Stop { after: stop_after, within: stop_within };
            apply(&common, &host, &want, plan.is_some(), &mut keys, &stop)
        }
        Verb::Plan { exit_code } => {
            let answer = plan::plan(&want.node, &want.bricks, &host.probe(&want.bricks)?, want.unlock);
            emit(common.json, &answer)?;
            Ok(Exit::of_answer(exit_code, !answer.converged()))
        }
        Verb::Status { exit_code } => {
            let status = leave_status(&common, &host, &want, &host.probe(&want.bricks)?)?;
            emit(common.json, &status)?;
            Ok(Exit::of_answer(exit_code, !status.healthy))
        }
        Verb::Wipe { .. } | Verb::Forget { .. } | Verb::Adopt { .. } => Ok(Exit::Done),
    }
}

fn apply(
    common: &Common,
    host: &Host,
    want: &Want,
    printed: bool,
    keys: &mut Keys,
    stop: &Stop,
) -> Result<Exit> {
    let printed = printed.then(Plan::from_stdin).transpose()?;
    let _lock = host.lock()?;
    let started = std::time::Instant::now();
    let mut have = host.probe(&want.bricks)?;
    let fresh = plan::plan(&want.node, &want.bricks, &have, want.unlock);
    let chosen = apply::choose(fresh, printed.as_ref())?;
    let idle = chosen.plan.steps.is_empty();
    let applied = apply::apply(host, &want.bricks, chosen, keys, stop, started)?;
    let heard = pc_cli::emit_heard(common.json, &applied);
    if applied.shows_key() && heard.is_ok() {
        keys.shown()?;
    }
    if !idle {
        have = host.probe(&want.bricks)?;
    }
    leave_status(common, host, want, &have)?;
    // A reader that has gone changes nothing of what was done, but a key that nobody has read must not look like success.
    match heard {
        Err(error) if applied.shows_key() => {
            Err(error.context("nobody has read the recovery key: it is shown again"))
        }
        _ => Ok(applied.exit()),
    }
}

/// Every run leaves the status for its siblings in /run.
fn leave_status(common: &Common, host: &Host, want: &Want, have: &facts::Have) -> Result<status::Status> {
    let status = status::status(host, &want.node, &want.bricks, have, want.unlock)?;
    // The disks are as they are: a status that cannot be left (full or read-only file system) changes nothing of that.
    if let Err(error) = pc_cli::write_status(&common.root, "brick", &status) {
        pc_cli::log::warning(format_args!("leaving the status: {error:#}"));
    }
    Ok(status)
}

/// RFC 3339, UTC, whole seconds.
fn now() -> Result<String> {
    let now = time::OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).context("asking the time")?;
    whole.format(&time::format_description::well_known::Rfc3339).context("writing the time")
}
