//! The only module that touches the machine: asks the tools, systemd and the files, all at once, within one deadline.

mod asked;
mod facts;
mod links;
mod smart;

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::{Cluster, NodeView, Use};
use pc_cli::{Common, refused};
use pc_ssh::Ssh;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::judge::{Answer, Asked, Reports};
use crate::lints::Ours;
use crate::machine::{Machine, Server, Supply};
use crate::tools::{TOOLS, Tool};
use crate::verdict::Verdict;
use crate::want::{self, Here};
use crate::whole::Other;

/// A program is killed so long before the whole is over, so that its silence can still be told.
const MARGIN: Duration = Duration::from_millis(200);
/// Connecting to another node, beside the time that its own verdict takes: one that is off is told after so long.
const CONNECT: Duration = Duration::from_secs(2);

/// The moment, RFC 3339 UTC.
fn stamp(time: OffsetDateTime) -> Result<String> {
    let time = time.replace_millisecond(time.millisecond()).context("rounding a time")?;
    time.format(&Rfc3339).context("writing a time")
}

/// What a worker has found out.
enum Part {
    Tool(Asked),
    Machine(Box<Machine>),
    Servers(Vec<Server>),
    Supplies(Vec<Supply>),
}

/// Looks at this node; whatever has not answered by then is silent.
pub fn look(common: &Common, view: &NodeView<'_>, budget: Duration) -> Result<Reports> {
    let started = Instant::now();
    let there = |path: &str| common.under_root(path).exists();
    let here = Here {
        member: there(&format!("{}/member.json", cluster::paths::TRUST)),
        ha: there(cluster::paths::HA_ENABLED),
    };
    let wanted = want::tools(view, here);
    let (sender, parts) = mpsc::channel();
    let patience = budget.saturating_sub(MARGIN);
    for tool in TOOLS.iter().filter(|tool| wanted.contains(&tool.name)) {
        let (sender, arguments) = (sender.clone(), flags(common));
        // Nobody listens any more once the time is over.
        std::thread::spawn(move || drop(sender.send(Part::Tool(ask(tool, &arguments, patience)))));
    }
    let root = common.root.clone();
    let of_machine = sender.clone();
    std::thread::spawn(move || {
        drop(of_machine.send(Part::Machine(Box::new(facts::machine(&root, patience)))));
    });
    let tang = view.cluster.unlock.as_ref().map(|unlock| unlock.tang.clone()).unwrap_or_default();
    let (servers_of, asked_of) = (sender.clone(), tang.clone());
    std::thread::spawn(move || drop(servers_of.send(Part::Servers(asked::servers(&asked_of, patience)))));
    std::thread::spawn(move || drop(sender.send(Part::Supplies(asked::supplies(patience)))));
    let late = || format!("no answer within {} s", budget.as_secs());
    let (mut asked, mut machine) = (Vec::new(), Machine::default());
    let mut unseen = Some(format!("looking at the files of this machine: {}", late()));
    // A name that cannot be looked up in time is a server that does not answer.
    let silent = |tang: &cluster::Tang| Server { url: tang.url.clone(), fault: Some(late()) };
    let (mut servers, mut supplies) = (tang.iter().map(silent).collect(), Vec::new());
    // Both ends of the channel decide: all workers are done, or the time is over.
    while let Ok(part) = parts.recv_timeout(budget.saturating_sub(started.elapsed())) {
        match part {
            Part::Tool(answer) => asked.push(answer),
            Part::Machine(seen) => (machine, unseen) = (*seen, None),
            Part::Servers(seen) => servers = seen,
            Part::Supplies(seen) => supplies = seen,
        }
    }
    for tool in TOOLS.iter().filter(|tool| wanted.contains(&tool.name)) {
        if asked.iter().all(|asked| asked.name != tool.name) {
            asked.push(Asked {
                name: tool.name,
                seconds: budget.as_secs_f64(),
                answer: Answer::Silent(late()),
            });
        }
    }
    Ok(Reports {
        cluster: view.cluster.name.to_string(),
        node: view.node.name.to_string(),
        measured_at: stamp(OffsetDateTime::now_utc())?,
        seconds: started.elapsed().as_secs_f64(),
        asked,
        file: want::warnings(view.cluster),
        // Whatever the files are late for.
        machine: Machine { supplies, servers, ..machine },
        unseen,
        ours: ours(view, here),
    })
}

fn ours(view: &NodeView<'_>, here: Here) -> Ours {
    let (file, of_vms) = (view.cluster, |volume: &cluster::Volume| volume.purpose == Use::Vm);
    let named = |(name, _): (&cluster::Name, &cluster::Volume)| name.to_string();
    let immovable = |vm: &cluster::Vm| file.nodes.len() == 1 || file.stays_home(vm);
    Ours {
        disks: view.bricks().iter().map(|brick| brick.device.to_string()).collect(),
        volumes: file.volumes.iter().map(named).collect(),
        replicated_for_vms: file.volumes.iter().filter(|(_, volume)| of_vms(volume)).map(named).collect(),
        threshold: file.unlock.as_ref().map_or(0, |unlock| unlock.threshold.into()),
        ha: here.ha,
        immovable: file
            .vms
            .iter()
            .filter(|(_, vm)| immovable(vm))
            .map(|(name, _)| name.to_string())
            .collect(),
    }
}

fn ask(tool: &Tool, flags: &[String], patience: Duration) -> Asked {
    let started = Instant::now();
    let mut command = Command::new(tool.program);
    command.args(["status", "--json"]).args(flags);
    let answer = match pc_run::run(command).deadline(patience).output() {
        Err(error) if error.is_missing() => Answer::Absent,
        Err(error) => Answer::Silent(said(&error)),
        Ok(output) => match serde_json::from_slice(&output.stdout) {
            Ok(value) => Answer::Status(value),
            Err(error) => Answer::Silent(format!("its answer is no JSON: {error}")),
        },
    };
    Asked { name: tool.name, seconds: started.elapsed().as_secs_f64(), answer }
}

/// A tool that fails says why, and often what to do.
fn said(error: &pc_run::Error) -> String {
    let stderr = error.stderr().trim();
    if stderr.is_empty() { error.to_string() } else { stderr.trim_start_matches("error: ").to_string() }
}

/// Our own flags, as a tool takes them.
fn flags(common: &Common) -> Vec<String> {
    let mut flags = Vec::new();
    if common.applied {
        flags.push("--applied".to_string());
    }
    for (flag, path) in [("--file", common.file.as_deref()), ("--root", Some(common.root.as_path()))] {
        if let Some(path) = path.filter(|path| *path != Path::new("/")) {
            flags.extend([flag.to_string(), path.to_string_lossy().into_owned()]);
        }
    }
    if let Some(node) = &common.node {
        flags.extend(["--node".to_string(), node.clone()]);
    }
    flags
}

/// Asks nodes of the file for their verdicts, all at once.
pub fn others(
    common: &Common,
    file: &Cluster,
    wanted: &dyn Fn(&str) -> bool,
    patient: bool,
    budget: Duration,
) -> Vec<Other> {
    let ssh = Ssh::of(common);
    let verb = if patient { "pc-verify --json --patient" } else { "pc-verify --json" };
    let nodes = file.nodes.iter().map(|node| node.name.as_str()).filter(|name| wanted(name));
    std::thread::scope(|scope| {
        let ssh = ssh.as_ref();
        let ask = move |node: &str| {
            let asked = OffsetDateTime::now_utc();
            let ssh = ssh.map_err(|error| format!("{error:#}"));
            let verdict = verdict_of(ssh, node, verb, (!patient).then_some(CONNECT), budget);
            Other { node: node.into(), verdict, asked: (asked, OffsetDateTime::now_utc()) }
        };
        let asked: Vec<_> = nodes.map(|node| (node, scope.spawn(move || ask(node)))).collect();
        let lost = |node: &str| Other {
            node: node.into(),
            verdict: Err("asking it ended badly".into()),
            asked: (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH),
        };
        asked.into_iter().map(|(node, thread)| thread.join().unwrap_or_else(|_| lost(node))).collect()
    })
}

fn verdict_of(
    ssh: Result<&Ssh, String>,
    node: &str,
    verb: &str,
    connect: Option<Duration>,
    budget: Duration,
) -> Result<Verdict, String> {
    // 3 is a verdict, too.
    let call = ssh?.verb(node, verb).allow(&[3]).deadline(budget + CONNECT);
    let call = match connect {
        Some(limit) => call.connect_within(limit),
        None => call,
    };
    let text = call.text().map_err(|error| format!("{error:#}"))?;
    let verdict: Verdict =
        serde_json::from_str(&text).map_err(|error| format!("{node}: reading its verdict: {error}"))?;
    if verdict.schema != crate::verdict::SCHEMA {
        return Err(format!("{node}: its verdict is a {:?}", verdict.schema));
    }
    if verdict.node != node {
        return Err(format!("{node} calls itself {}\n  hostnamectl hostname {node}, there", verdict.node));
    }
    Ok(verdict)
}

/// The file that is in force, unless another one is asked for: what the node does is judged, not what somebody writes.
pub fn in_force(mut common: Common) -> Common {
    let applied = common.under_root(pc_cli::APPLIED_FILE);
    if common.file.is_none() && applied.exists() {
        common.applied = true;
    }
    common
}

/// The cluster file that the flags name.
pub fn load(common: &Common) -> Result<Cluster> {
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    file.map_err(refused)
}
