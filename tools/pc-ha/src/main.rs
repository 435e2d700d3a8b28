//! pc-ha: corosync, pacemaker and sbd out of the cluster file; drain, move, maintenance, upgrade.
//!
//! Never starts, stops or moves a VM itself: pacemaker does, through our agent. Never touches a row of the CIB that it
//! did not make, never lets fencing become faster while a watchdog may be slower, never arms anything before `enable`.

mod apply;
mod boot;
mod cib;
mod claim;
mod corosync;
mod drain;
mod drill;
mod duration;
mod enable;
mod engine;
mod gate;
mod host;
mod inhibit;
mod lowering;
mod members;
mod moving;
mod plan;
mod room;
mod rows;
mod running;
mod sbd;
mod sending;
mod status;
mod takeover;
mod upgrade;
mod want;
mod watchdog;
mod whole;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use cluster::timing::Timing;
use cluster::{Cluster, Ha, Profile};
use pc_cli::{Common, Exit, emit, log, refused, require_root, together};
use pc_plan::{Applied, Plan};
use pc_run::Cost;

use crate::status::{Seen, Status};
use crate::want::Want;

/// Schema of what `apply` answers.
const APPLIED: &str = "pc.ha.apply/1";

/// High availability: who runs what, and who is dead
#[derive(Parser)]
#[command(name = "pc-ha", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// How long a verb waits for pacemaker.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Patience {
    /// How long to wait, in seconds; 75 when that is not enough
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

impl Patience {
    fn duration(self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Subcommand)]
enum Verb {
    /// Print what apply would do
    Plan {
        /// Exit with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
        /// As if every node had been restarted since the file asked for shorter times
        #[arg(long)]
        lower: bool,
    },
    /// Bring corosync, sbd and pacemaker's configuration to the file
    Apply {
        /// `-`: a plan from standard input, perhaps filtered, instead of a new one
        #[arg(value_parser = ["-"])]
        plan: Option<String>,
        /// Every node was restarted since the file asks for shorter times: fencing may be faster now
        #[arg(long)]
        lower: bool,
    },
    /// Print quorum, nodes, VMs, the watchdog and what a fail-over takes at worst
    Status {
        /// Exit with 3 when anything is not healthy
        #[arg(long)]
        exit_code: bool,
    },
    /// Let pacemaker take over on this node: from now on it alone starts VMs here
    Enable,
    /// Move everything off a node, so that it may be rebooted or replaced
    Drain {
        /// The node
        #[arg(value_name = "NODE")]
        target: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Let a node take VMs again, and bring those back whose home it is
    Undrain {
        /// The node
        #[arg(value_name = "NODE")]
        target: String,
        /// Bring none back
        #[arg(long)]
        stay: bool,
        #[command(flatten)]
        patience: Patience,
    },
    /// Move a running VM to another node
    Move {
        /// The VM
        vm: String,
        /// Where to
        // Not `node`: clap would take it for the flag --node, which says who we are.
        #[arg(value_name = "NODE")]
        to: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Have a VM run, after `stop`, or although a node that is switched off might run it
    Start {
        /// The VM
        vm: String,
        /// NODE is switched off for certain: do not wait for its word that it does not run the VM. Refused when anything
        /// shows NODE to be alive. Once for each node
        #[arg(long, value_name = "NODE")]
        owner_is_dead: Vec<String>,
        #[command(flatten)]
        patience: Patience,
    },
    /// Stop a VM, and keep it stopped
    Stop {
        /// The VM
        vm: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Suspend restarts and fencing for planned work (a switch, the engine itself); guests run on
    Maintenance {
        /// On or off
        switch: Switch,
        /// NODE is switched off for certain. With `on`: until maintenance is over, do not refuse because it is away. With
        /// `off`: do not wait for it, and have its VMs start elsewhere; nobody fences it, for without pacemaker it feeds its
        /// watchdog, however silent it is. Refused when anything shows NODE to be alive. Once for each node
        #[arg(long, value_name = "NODE")]
        dead: Vec<String>,
    },
    /// Reset a node as if its power was cut, and measure what the others make of it: what `status` computes, shown
    Drill(drill::Options),
    /// Upgrade one node after the other: drain, upgrade, reboot, wait until all is whole, undrain. Run again, it goes on
    /// where it was; it stops at the first doubt
    Upgrade(upgrade::Options),
    /// Stop all guests, then pacemaker everywhere, then switch all nodes off
    Shutdown {
        /// All nodes: one alone is `pc-ha drain` and `poweroff`
        #[arg(long, required = true)]
        all: bool,
        #[command(flatten)]
        patience: Patience,
    },
    /// Hold logind's delay of reboot and poweroff, and move all VMs away when one begins (pc-ha-inhibit.service)
    #[command(hide = true)]
    Inhibit,
    /// Close this machine's connections to the storage of a member that corosync loses, for as long as corosync runs
    /// (pc-ha-members.service)
    #[command(hide = true)]
    Members {
        /// NODE is lost: what would be done now, and no more
        #[arg(long, value_name = "NODE")]
        lost: Option<String>,
    },
    /// Choose the watchdog of this boot, before sbd opens it (sbd.service)
    #[command(hide = true)]
    Watchdog,
    /// What the other nodes ask of this one in `maintenance`, `shutdown`, `drill` and `upgrade`
    #[command(hide = true)]
    Engine {
        /// Of this node only
        verb: whole::Engine,
    },
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    let common = cli.common;
    log::set_verbosity(common.verbose);
    if let Verb::Engine { verb } = cli.verb {
        require_root()?;
        return whole::engine(&common, verb);
    }
    let (file, want) = wanted(&common)?;
    // pacemaker talks to root and to the group haclient; a directory that stands for a machine is anybody's.
    if common.root == std::path::Path::new("/") {
        require_root()?;
    }
    verb(&common, &file, &want, cli.verb)
}

/// The cluster file, and what it wants of this node.
fn wanted(common: &Common) -> Result<(Cluster, Want)> {
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    let file = file.map_err(refused)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    let want = want::want(&view).map_err(|fault| refused(format!("{}: {fault}", path.display())))?;
    Ok((file, want))
}

fn verb(common: &Common, file: &Cluster, want: &Want, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Plan { exit_code, lower } => {
            let outcome = apply::outcome(common, want, lower)?;
            emit(common.json, &outcome)?;
            Ok(Exit::of_answer(exit_code, !outcome.plan.steps.is_empty()))
        }
        Verb::Apply { plan, lower } => {
            let printed = plan.map(|_| Plan::from_stdin()).transpose()?;
            let (started, mut done) = (Instant::now(), Vec::new());
            let mut result = apply::apply(common, want, lower, printed.as_ref(), &mut done);
            // Also beside a fault: a VM need not wait for a person who is asked about something else.
            if printed.is_none() {
                result =
                    together([result, takeover::take_over(common, want)].into_iter().filter_map(Result::err));
            }
            leave_status(common, file, want);
            Applied::new(APPLIED, &want.node, done, Cost::since(started)).end(common.json, result)
        }
        Verb::Status { exit_code } => {
            let status = status(common, file, want)?;
            // The answer is what was asked for: a status that cannot be left changes nothing of it.
            if let Err(error) = pc_cli::write_status(&common.root, "ha", &status) {
                log::warning(format_args!("leaving the status: {error:#}"));
            }
            emit(common.json, &status)?;
            Ok(Exit::of_answer(exit_code, !status.healthy))
        }
        Verb::Enable => enable::enable(common, want),
        Verb::Drain { target, patience } => drain::drain(common, want, &target, patience.duration()),
        Verb::Undrain { target, stay, patience } => {
            drain::undrain(common, want, &target, stay, patience.duration())
        }
        Verb::Move { vm, to, patience } => moving::move_vm(common, want, &vm, &to, patience.duration()),
        Verb::Start { vm, owner_is_dead, patience } => {
            claim::start(common, want, &vm, &owner_is_dead, patience.duration())
        }
        Verb::Stop { vm, patience } => moving::target(common, want, &vm, false, patience.duration()),
        Verb::Maintenance { switch: Switch::On, dead } => whole::maintenance_on(common, want, &dead),
        Verb::Maintenance { switch: Switch::Off, dead } => whole::maintenance_off(common, want, &dead),
        Verb::Shutdown { patience, .. } => whole::shutdown(common, want, patience.duration()),
        Verb::Inhibit => inhibit::hold(want),
        Verb::Watchdog => boot::watchdog(common, want),
        Verb::Members { lost: None } => members::follow(common),
        Verb::Members { lost: Some(node) } => members::lost(want, &node),
        Verb::Drill(options) => drill::drill(common, want, &options),
        Verb::Upgrade(options) => upgrade::upgrade(common, want, &options),
        Verb::Engine { verb } => whole::engine(common, verb),
    }
}

fn status(common: &Common, file: &Cluster, want: &Want) -> Result<Status> {
    let have = host::look(common)?;
    let enabled = host::files::is_enabled(&common.root);
    let chosen = watchdog::choose(&want.watchdog, &have.watchdogs);
    let fed = chosen.as_ref().ok().filter(|_| host::files::sbd_runs(&common.root));
    let seen = Seen {
        enabled,
        unfed: fed.and_then(|chosen| watchdog::unfed(chosen, &have.watchdogs)),
        watchdog: chosen.cloned(),
        engine: host::engine_and_fencing().map_err(|error| format!("{error:#}")),
        quorum: host::quorum().ok(),
        outcome: plan::plan(want, &have, false)?,
        second_starters: if enabled { host::units::second_starters() } else { Vec::new() },
    };
    Ok(Status::new(want, seen, &profiles(file), host::now()?))
}

/// The worst case of every profile, as this file would have it.
fn profiles(file: &Cluster) -> Vec<(&'static str, u64)> {
    let Some(ha) = &file.ha else { return Vec::new() };
    let of = |profile| {
        let plain =
            Ha { profile, token_ms: None, watchdog_seconds: None, fencing_seconds: None, ..ha.clone() };
        Timing::of(&plain, file.nodes.len()).map(|timing| timing.worst_case_ms()).ok()
    };
    let all = [("fast", Profile::Fast), ("normal", Profile::Normal), ("patient", Profile::Patient)];
    all.into_iter().filter_map(|(name, profile)| Some((name, of(profile)?))).collect()
}

/// Leaves the status for siblings.
fn leave_status(common: &Common, file: &Cluster, want: &Want) {
    let written =
        status(common, file, want).and_then(|status| pc_cli::write_status(&common.root, "ha", &status));
    if let Err(error) = written {
        log::debug(format_args!("leaving the status: {error:#}"));
    }
}
