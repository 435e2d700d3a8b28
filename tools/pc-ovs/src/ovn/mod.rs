//! OVN on this node: the databases on up to three nodes, ovn-northd beside them, and what ovn-controller has to know. Needed by
//! zones only; a node's own address and its disks never wait for any of it.

mod chassis;
mod create;
mod daemon;
mod database;
mod plan;
mod status;
mod want;

use std::time::{Duration, Instant};

use anyhow::Result;
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused};
use pc_plan::{Applied, Plan};
use pc_run::Cost;

use self::chassis::Chassis;
use self::daemon::Daemon;
use self::plan::{Action, Have, Planned};
use self::want::Want;
use crate::apply::while_stale;
use crate::host::Host;

pub use self::database::{file, socket};
pub use self::want::Side;

/// For systemd to queue a job.
const QUEUE: Duration = Duration::from_secs(30);

/// What can be done with OVN of this node.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Print what apply would do
    Plan {
        /// Exit with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Tell ovn-controller of this node what the file says, and start what is missing
    Apply,
    /// Show the databases of this node, and what is wrong with them
    Status {
        /// Exit with 3 when something is wrong
        #[arg(long)]
        exit_code: bool,
    },
    /// Make the databases of a cluster that has none: once, on one of the nodes that hold them
    Create {
        /// Make them without asking this node: it does not answer, and never had them
        #[arg(long, value_name = "NODE")]
        without: Vec<String>,
    },
    /// Become one of the daemons, once what it needs is there: for its unit
    Run {
        /// Which
        daemon: Daemon,
    },
}

/// `pc-ovs ovn`.
pub fn run(verb: &Verb, common: &Common, cluster: &Cluster) -> Result<Exit> {
    let node = common.node_name()?;
    let view = cluster.view(&node).map_err(refused)?;
    let want = want::want(&view, &common.root);
    let (want, name) = (want.as_ref(), cluster.name.as_str());
    match verb {
        Verb::Plan { exit_code } => {
            let (_, have, planned) = seen(common, name, want)?;
            refuse(&planned)?;
            let plan = Plan::new(plan::SCHEMA, &node, &have, planned.steps);
            pc_cli::emit(common.json, &plan)?;
            Ok(Exit::of_answer(*exit_code, !plan.steps.is_empty()))
        }
        Verb::Apply => apply(common, name, want, &node),
        Verb::Status { exit_code } => {
            let (_, _, planned) = seen(common, name, want)?;
            let status = status::status(&common.root, &node, want, &planned);
            pc_cli::emit(common.json, &status)?;
            Ok(Exit::of_answer(*exit_code, !status.healthy || !status.converged))
        }
        Verb::Create { without } => {
            let made = create::create(&common.root, want, without)?;
            if made && Host::new(common).is_real() {
                Daemon::ALL.iter().try_for_each(|daemon| start(&daemon.unit()))?;
            }
            Ok(Exit::Done)
        }
        Verb::Run { daemon } => daemon::run(*daemon, &common.root, want).map(|()| Exit::Done),
    }
}

/// The node as it is, and what would be done.
fn seen(common: &Common, cluster: &str, want: Option<&Want>) -> Result<(Chassis, Have, Planned)> {
    let host = Host::new(common);
    let chassis = Chassis::open(&host.socket())?;
    let mut have = chassis.have(cluster)?;
    // Only a real machine has a systemd that is its own.
    if host.is_real() && want.is_some_and(|want| want.own().is_some()) {
        let mut active = std::collections::BTreeSet::new();
        for unit in Daemon::ALL.iter().map(|daemon| daemon.unit()) {
            if systemd_jobs::is_active(&unit)? {
                active.insert(unit);
            }
        }
        have.active = Some(active);
    }
    let planned = plan::plan(cluster, want, &have);
    Ok((chassis, have, planned))
}

fn refuse(planned: &Planned) -> Result<()> {
    if planned.refusals.is_empty() { Ok(()) } else { Err(refused(planned.refusals.join("\n"))) }
}

fn start(unit: &str) -> Result<()> {
    // Not awaited: it may have to wait for another node.
    systemd_jobs::request(unit, QUEUE)
}

fn apply(common: &Common, name: &str, want: Option<&Want>, node: &str) -> Result<Exit> {
    let started = Instant::now();
    while_stale("the switch's database", || {
        let (mut chassis, _, planned) = seen(common, name, want)?;
        refuse(&planned)?;
        let actions: Vec<&Action> = planned.steps.iter().map(|step| &step.action).collect();
        chassis.commit(&actions, name)?;
        for step in &planned.steps {
            if let Action::Start { unit } = &step.action {
                start(unit)?;
            }
            log::info(&step.action);
        }
        let done = planned.steps.into_iter().map(|step| step.id).collect();
        Applied::new("pc.ovs.ovn.apply/1", node, done, Cost::since(started)).end(common.json, Ok(()))
    })
}
