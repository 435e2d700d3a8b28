//! pc-gluster: peers, volumes, options, heal and the quorum gate.
//!
//! Never removes a peer, a brick or a volume, never formats or mounts a disk, never changes what the cluster
//! file does not name, never asks glusterd anything without a deadline. What it did not expect it reports.

mod action;
mod apply;
mod foreign;
mod gate;
mod grow;
mod have;
mod heal;
mod host;
mod marks;
mod options;
mod plan;
mod pool;
mod replace;
mod report;
mod serve;
mod status;
mod storage;
mod want;
mod xml;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use pc_cli::{Common, Exit, emit, refused, try_again};
use pc_plan::{Applied, Plan};
use pc_run::Cost;

use crate::replace::Stays;
use crate::report::Depth;
use crate::want::Want;

/// Schema of what `apply` answers.
const APPLIED: &str = "pc.gluster.apply/1";

/// Peers, volumes, options, heal and the quorum gate of GlusterFS
#[derive(Parser)]
#[command(name = "pc-gluster", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print what apply would do on this node, what it waits for and what needs a person
    Plan {
        /// Exit with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Bring the pool, the volumes and this node's mounts to the file
    Apply {
        /// `-`: a plan from standard input, perhaps filtered, instead of a new one
        #[arg(value_parser = ["-"])]
        plan: Option<String>,
    },
    /// Print peers, volumes, bricks, quorum, heal backlog and mounts
    Status {
        /// Ask every brick of the cluster for its heal backlog, not only count on this node's
        #[arg(long)]
        full: bool,
        /// Exit with 3 when anything is not healthy
        #[arg(long)]
        exit_code: bool,
    },
    /// Start healing and print what every brick still holds back
    Heal {
        /// Volumes; all of the file's when none is named
        volume: Vec<String>,
        /// Wait until nothing is left, at most this many seconds; 75 when that is not enough
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
        /// Exit with 3 when something is left to heal
        #[arg(long)]
        exit_code: bool,
    },
    /// Exit with 0 when a node can be missed (drain, reboot), with 75 while it cannot
    Gate {
        /// The node that shall leave; this one when absent
        #[arg(long, value_name = "NODE")]
        leaving: Option<String>,
    },
    /// Give a dead disk's brick's place to an empty brick of this node, which then heals
    ReplaceBrick {
        /// The volume
        volume: String,
        /// The brick that goes, `node:/path`, no longer in the file
        old: String,
        /// The brick that comes, `node:/path`, in the file and mounted
        new: String,
        /// Give up what only OLD has, when it is offline for good and other copies are not known to be current
        #[arg(long)]
        lose_unhealed: bool,
    },
    /// End this node's brick processes cleanly, so that clients elsewhere do not hang
    StopBricks {
        /// Do nothing unless the machine is going down
        #[arg(long)]
        at_shutdown: bool,
    },
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    let common = cli.common;
    pc_cli::log::set_verbosity(common.verbose);
    let want = want(&common)?;
    // glusterd talks to root only, and to anybody else as if it were not there.
    pc_cli::require_root()?;
    match cli.verb {
        Verb::Plan { exit_code } => {
            let (outcome, _) = apply::outcome(&want)?;
            let differs = !outcome.plan.steps.is_empty();
            emit(common.json, &outcome)?;
            Ok(Exit::of_answer(exit_code, differs))
        }
        Verb::Apply { plan } => {
            let printed = plan.map(|_| Plan::from_stdin()).transpose()?;
            let (started, mut done) = (Instant::now(), Vec::new());
            let result = apply::apply(&common.root, &want, printed.as_ref(), &mut done);
            Applied::new(APPLIED, &want.node, done, Cost::since(started)).end(common.json, result)
        }
        Verb::Status { full, exit_code } => {
            let depth = if full { Depth::All } else { Depth::Own };
            let seen = host::look(&want);
            let status = report::gather(&common.root, &want, &seen, depth);
            emit(common.json, &status)?;
            Ok(Exit::of_answer(exit_code, !status.healthy))
        }
        Verb::Heal { volume, wait, exit_code } => {
            let volumes = named(&want, volume)?;
            let mut answer = heal::start(&volumes)?;
            if let Some(seconds) = wait {
                answer = heal::wait(&volumes, Duration::from_secs(seconds))?;
            }
            emit(common.json, &answer)?;
            Ok(heal::exit(&answer, exit_code))
        }
        Verb::Gate { leaving } => {
            let leaving = leaving.unwrap_or_else(|| want.node.clone());
            if !want.members.iter().any(|member| member.name == leaving) {
                return Err(refused(format!("--leaving {leaving}: no [[node]] of the file has this name")));
            }
            let seen = host::look(&want);
            let answer = gate::gate(&report::gather(&common.root, &want, &seen, Depth::All), &leaving);
            emit(common.json, &answer)?;
            Ok(if answer.open { Exit::Done } else { Exit::TryAgain })
        }
        Verb::ReplaceBrick { volume, old, new, lose_unhealed } => {
            replace_brick(&common, &want, &volume, [&old, &new], lose_unhealed)
        }
        Verb::StopBricks { at_shutdown } => stop_bricks(&want, at_shutdown),
    }
}

/// Reads the file and derives what is wanted; exits with 2 when it asks for what cannot be.
fn want(common: &Common) -> Result<Want> {
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    let file = file.map_err(refused)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    let tls = host::has_certificates(&common.root);
    want::want(&view, tls).map_err(|fault| refused(format!("{}: {fault}", path.display())))
}

fn named(want: &Want, volumes: Vec<String>) -> Result<Vec<String>> {
    let known: Vec<String> = want.volumes.iter().map(|volume| volume.name.clone()).collect();
    if let Some(unknown) = volumes.iter().find(|name| !known.contains(name)) {
        return Err(refused(format!("volume {unknown}: the file has {}", known.join(", "))));
    }
    Ok(if volumes.is_empty() { known } else { volumes })
}

fn replace_brick(
    common: &Common,
    want: &Want,
    volume: &str,
    [old, new]: [&str; 2],
    lossy: bool,
) -> Result<Exit> {
    let _lock = host::lock(&common.root)?;
    let seen = host::look(want);
    if let Some(error) = seen.glusterd {
        return Err(error);
    }
    let info = replace::check(want, &seen.have, volume, old, new).map_err(refused)?;
    replace::empty(new, &host::bricks::contents(new)?).map_err(refused)?;
    let backlog = host::cli::heal_backlog(volume).map_err(|error| try_again(format!("{error:#}")))?;
    replace::healed(info, volume, old, &backlog, seen.have.online.contains(old), lossy).map_err(|stays| {
        match stays {
            Stays::Wait(reason) => try_again(reason),
            Stays::Refused(reason) => refused(reason),
        }
    })?;
    host::cli::replace_brick(volume, old, new)?;
    pc_cli::log::info(format_args!("volume {volume}: {new} takes the place of {old} and heals"));
    if let Err(error) = host::wait::settle(volume, new) {
        // It is done; the next run of the timer does the rest.
        pc_cli::log::warning(format_args!("{error:#}"));
    }
    report::refresh(&common.root, want, Depth::All)?;
    Ok(Exit::Done)
}

fn stop_bricks(want: &Want, at_shutdown: bool) -> Result<Exit> {
    if at_shutdown && !host::systemd::is_stopping() {
        return Ok(Exit::Done);
    }
    let own = want
        .volumes
        .iter()
        .flat_map(|volume| volume.sets.iter().flatten())
        .filter(|brick| want.is_own(brick));
    let paths: Vec<PathBuf> = own.map(|brick| PathBuf::from(want::path_of(brick))).collect();
    host::bricks::stop(&paths, host::END)?;
    Ok(Exit::Done)
}
