//! Zones and routes: the networks of the file that have a `gateway`, as rows of `OVN_Northbound`. Node networking is
//! another thing and never waits for this one.

mod acl;
mod explain;
mod lease;
mod north;
mod plan;
mod row;
mod status;
#[cfg(test)]
mod tests;
mod want;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::Result;
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused};
use pc_plan::{Applied, Plan};
use pc_run::Cost;

use self::explain::{Source, Verdict};
use self::lease::Kept;
use self::north::North;
use self::plan::{Change, Have, Planned};
use crate::apply::while_stale;

/// There are zones, and nothing to make them.
const MISSING: &str = "the file has zones, and OVN's databases are not on this machine\n  \
     run it where they are, or: apt-get install ovn-central";

/// What can be done with zones.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Print what apply would do
    Plan {
        /// Exit with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Bring OVN of this machine to the cluster file: all of it, or nothing
    Apply,
    /// Show zones, their VMs and addresses, and what is wrong with them
    Status {
        /// Exit with 3 when something is wrong
        #[arg(long)]
        exit_code: bool,
    },
}

/// `pc-ovs zones`.
pub fn run(verb: &Verb, common: &Common, cluster: &Cluster) -> Result<Exit> {
    let node = common.node_name()?;
    match verb {
        Verb::Plan { exit_code } => {
            let seen = Seen::of(common, cluster)?.in_force()?;
            seen.planned.notes.iter().for_each(log::warning);
            let plan = seen.plan(&node);
            pc_cli::emit(common.json, &plan)?;
            Ok(Exit::of_answer(*exit_code, !plan.steps.is_empty()))
        }
        Verb::Apply => apply(common, cluster, &node),
        Verb::Status { exit_code } => {
            let seen = Seen::of(common, cluster)?;
            let status = status::status(&node, cluster, seen.north.as_ref(), &seen.have, &seen.planned);
            pc_cli::emit(common.json, &status)?;
            Ok(Exit::of_answer(*exit_code, !status.healthy || !status.converged))
        }
    }
}

/// `pc-ovs explain`.
pub fn explain(common: &Common, ends: (&str, &str), port: &str, exit_code: bool) -> Result<Exit> {
    let path = common.cluster_file();
    let name = path.display().to_string();
    let answer = if common.applied {
        let cluster = cluster::load_applied(&path).map_err(refused)?;
        explain::explain(&cluster, &Source { name, text: None }, ends, port)?
    } else {
        let text = cluster::read_text(&path).map_err(refused)?;
        let cluster = cluster::parse(&name, &text).map_err(refused)?;
        explain::explain(&cluster, &Source { name, text: Some(&text) }, ends, port)?
    };
    pc_cli::emit(common.json, &answer)?;
    Ok(Exit::of_answer(exit_code, answer.verdict == Verdict::Refused))
}

/// The database as it is, and what would be done.
struct Seen {
    north: Option<North>,
    have: Have,
    planned: Planned,
}

impl Seen {
    fn of(common: &Common, cluster: &Cluster) -> Result<Seen> {
        let north = North::open(&common.root, cluster.name.as_str())?;
        let have = north.as_ref().map(North::have).unwrap_or_default();
        let want = want::want(cluster, &kept(&have)).map_err(refused)?;
        let planned = plan::plan(&want, &have);
        Ok(Seen { north, have, planned })
    }

    /// Refuses where nothing can be done.
    fn in_force(self) -> Result<Seen> {
        if self.north.is_none() && !self.planned.steps.is_empty() {
            return Err(refused(MISSING));
        }
        if !self.planned.refusals.is_empty() {
            return Err(refused(self.planned.refusals.join("\n")));
        }
        Ok(self)
    }

    fn plan(&self, node: &str) -> Plan<Change> {
        Plan::new(plan::SCHEMA, node, &self.have, self.planned.steps.clone())
    }
}

/// Leases that VMs have: a VM keeps its own while others come and go.
fn kept(have: &Have) -> Kept {
    let mut kept = BTreeMap::new();
    for (key, found) in &have.rows {
        let parts: Vec<&str> = key.split('/').collect();
        let ["zone", zone, "vm", vm] = parts[..] else { continue };
        let mut words = found.row.words_of("addresses").flat_map(str::split_whitespace);
        let address = words.find_map(|word| word.parse::<Ipv4Addr>().ok());
        kept.extend(address.map(|address| ((zone.to_string(), vm.to_string()), address)));
    }
    kept
}

/// A part of the steps would be a zone with some of its rules: there is no such thing.
fn apply(common: &Common, cluster: &Cluster, node: &str) -> Result<Exit> {
    let started = Instant::now();
    while_stale("OVN_Northbound", || {
        let Seen { north, have, planned } = Seen::of(common, cluster)?.in_force()?;
        planned.notes.iter().for_each(log::warning);
        let steps = planned.steps;
        if let Some(mut north) = north.filter(|_| !steps.is_empty()) {
            north.commit(&have, &steps)?;
            for step in &steps {
                log::info(&step.action);
            }
        }
        let done = steps.into_iter().map(|step| step.id).collect();
        Applied::new("pc.ovs.zones.apply/1", node, done, Cost::since(started)).end(common.json, Ok(()))
    })
}
