//! plan and apply: this node's keys and certificates where others look for them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused};
use pc_plan::{Applied, Carried, Plan, Step};
use pc_run::Cost;

use crate::lost::{self, Way};
use crate::member::Member;
use crate::paths::Paths;
use crate::plan::{self, Action};
use crate::x509::Names;
use crate::{host, renewal, status};

/// The cluster file that the flags name.
pub fn load(common: &Common) -> Result<Cluster> {
    let file = common.cluster_file();
    let loaded = if common.applied { cluster::load_applied(&file) } else { cluster::load(&file) };
    loaded.map_err(refused)
}

/// What there is to say about this node.
pub struct Decision {
    /// What is to be done.
    pub plan: Plan<Action>,
    /// Paths that somebody else occupies.
    pub foreign: Vec<String>,
    /// Why sshd gets no drop-in, when it gets none.
    pub untold: Option<String>,
    /// All that is wrong and stays so.
    pub problems: Vec<String>,
}

/// Looks at the machine and decides.
pub fn decide(common: &Common, paths: &Paths, cluster: &Cluster, names: &Names) -> Result<Decision> {
    let want = host::want(paths, cluster)?;
    let have = host::have(paths, &want, names)?;
    let mut problems = match Member::read(paths)? {
        Some(member) => lost::problems(paths, &member, &Way::new(common, &member.node, Some(cluster))),
        None => Vec::new(),
    };
    problems.extend(plan::problems(&want, &have));
    Ok(Decision {
        plan: plan::plan(&names.node, &want, &have),
        foreign: plan::foreign(&want, &have),
        problems,
        untold: want.sshd,
    })
}

/// Refuses before anything is made, when somebody else's files stand where ours must, or somebody could be locked out.
pub fn refuse_foreign(common: &Common, paths: &Paths, cluster: &Cluster, names: &Names) -> Result<()> {
    let Decision { foreign, untold, .. } = decide(common, paths, cluster, names)?;
    if let Some(why) = untold {
        return Err(refused(format!(
            "{}\n  mend it until `sshd -t` is content, then run this again",
            plan::untold(&why)
        )));
    }
    if foreign.is_empty() { Ok(()) } else { Err(in_the_way(&foreign)) }
}

fn in_the_way(foreign: &[String]) -> anyhow::Error {
    refused(format!(
        "{}: not ours, and not overwritten\n  move {} away, then run this again",
        foreign.join(", "),
        if foreign.len() == 1 { "it" } else { "them" }
    ))
}

/// Carries a plan out, one line per change; a step that fails holds up only those that need it.
fn carry_out(paths: &Paths, file: &Path, names: &Names, steps: &[Step<Action>]) -> Carried {
    pc_plan::carry_out(steps, |step| {
        host::perform(paths, file, names, &step.action).with_context(|| step.action.to_string())
    })
}

/// Does all there is to do, on a node that becomes a member.
pub fn settle(common: &Common, paths: &Paths, cluster: &Cluster, names: &Names) -> Result<()> {
    let Decision { plan, problems, .. } = decide(common, paths, cluster, names)?;
    problems.iter().for_each(log::warning);
    carry_out(paths, &common.cluster_file(), names, &plan.steps).result()
}

fn view(common: &Common) -> Result<(Paths, Cluster, Names)> {
    let paths = Paths::new(&common.root);
    let member = Member::required(&paths)?;
    let cluster = load(common)?;
    let names = {
        let view = cluster.view(&member.node).map_err(refused)?;
        Names::of(&cluster, view.node)?
    };
    Ok((paths, cluster, names))
}

/// `pc-trust plan`.
pub fn plan(common: &Common, exit_code: bool) -> Result<Exit> {
    let (paths, cluster, names) = view(common)?;
    let Decision { plan, problems, .. } = decide(common, &paths, &cluster, &names)?;
    problems.iter().for_each(log::warning);
    pc_cli::emit(common.json, &plan)?;
    Ok(Exit::of_answer(exit_code, !plan.steps.is_empty() || !problems.is_empty()))
}

/// `pc-trust apply [-]`.
pub fn apply(common: &Common, edited: Option<&str>) -> Result<Exit> {
    let edited = edited.map(|_| Plan::from_stdin()).transpose()?;
    let started = Instant::now();
    let (paths, cluster, names) = view(common)?;
    let Decision { plan, foreign, problems, .. } = decide(common, &paths, &cluster, &names)?;
    problems.iter().for_each(log::warning);
    let steps = match edited {
        Some(edited) => edited.still_true(&plan).map_err(refused)?,
        None => plan.steps,
    };
    let Carried { done, failed } = carry_out(&paths, &common.cluster_file(), &names, &steps);
    let told = status::gather(common).and_then(|status| pc_cli::write_status(&common.root, "trust", &status));
    let foreign = (!foreign.is_empty()).then(|| in_the_way(&foreign));
    let errors = failed.into_iter().map(|(_, error)| error).chain(told.err()).chain(foreign);
    Applied::new("pc.trust.apply/1", &names.node, done, Cost::since(started))
        .end(common.json, pc_cli::together(errors))
}

/// `pc-trust renew`.
pub fn renew(common: &Common, force: bool) -> Result<Exit> {
    let (paths, _, names) = view(common)?;
    let due = renewal::due(&paths, &names)?;
    let reason = match (due, force) {
        (Some(reason), _) => reason,
        (None, true) => "it was asked for".into(),
        (None, false) => return Ok(Exit::Done),
    };
    for action in [Action::Renew { reason }, Action::ReloadSshd] {
        host::perform(&paths, &common.cluster_file(), &names, &action).with_context(|| action.to_string())?;
        log::info(&action);
    }
    Ok(Exit::Done)
}
