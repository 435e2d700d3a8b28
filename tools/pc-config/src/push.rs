//! push: one file on all nodes, or on none.
//!
//! Every node is asked what it has; then every node checks the new generation, all it would write included;
//! only when all agree does the first of them write. What can still go wrong after that (a node that dies
//! within these seconds) is repaired by the next push: it has the same number, and changes only who lacks it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused, try_again};
use pc_ssh::Ssh;
use serde::Serialize;

use crate::generation::Generation;
use crate::host::{ALL, ELSEWHERE, Host};
use crate::keeps::keeps_vms;
use crate::newest::{choose, overtaken};
use crate::plan::{Have, Place, Want, plan};
use crate::put::{in_force, own_name, understand};
use crate::status::{self, Status};
use crate::trust::Trust;
use crate::{local_disks, network};

/// `pc.config.push/1`.
#[derive(Debug, Serialize)]
struct Answered {
    schema: &'static str,
    generation: u64,
    sha256: String,
    /// Nodes that have this generation in force now.
    nodes: Vec<String>,
    /// Nodes that are new in the file and were not reached: they get it when they join.
    waiting: Vec<String>,
    /// Nodes that had another one before.
    changed: Vec<String>,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changed.is_empty() {
            return Ok(());
        }
        writeln!(f, "generation {} is in force on {}", self.generation, self.nodes.join(", "))
    }
}

/// What a push that was refused says last.
pub const UNCHANGED: &str = "nothing was changed on any node";
const REPEAT: &str = "the others have the new file: repeat `pc-config push`, which goes on where this ended";

/// `pc-config push [FILE]`.
pub fn push(common: &Common, source: Option<&Path>) -> Result<Exit> {
    let host = Host::new(common);
    if host.declared()?.is_some() {
        return Err(refused(ELSEWHERE));
    }
    host.ready(&ALL)?;
    let path = source.map_or_else(|| common.cluster_file(), Path::to_path_buf);
    let text = cluster::read_text(&path).map_err(refused)?;
    let (cluster, text) = understand(common, &path.display().to_string(), &text)?;
    let own = own_name(common, &cluster)?;
    let trust = Trust::of(common);
    let ssh = Ssh::of(common)?;
    let _lock = host.lock()?;
    let have = host.have()?;
    have.warn_of_loss();
    keeps_vms(&path.display().to_string(), &have, &cluster)?;
    let (reached, waiting) = ask(&ssh, &cluster, &own, &have)?;
    let own_status = status::of(&have, &own);
    let generation =
        choose(&text, have.known_number(), &reached.iter().chain([&own_status]).collect::<Vec<_>>())?;
    overtaken(&own_status, &reached, &generation)?;
    let lacking = |status: &&Status| {
        status.generation != Some(generation.generation)
            || status.sha256.as_ref() != Some(&generation.sha256)
            || !status.signed
    };
    for status in reached.iter().filter(lacking).filter(|status| status.edited) {
        log::warning(format_args!(
            "{}: {} was edited there and never put; it is kept as {}",
            status.node,
            Place::File,
            Place::Edited
        ));
    }
    let others: Vec<&str> = reached.iter().filter(lacking).map(|status| status.node.as_str()).collect();
    let mut changed: Vec<String> = others.iter().map(ToString::to_string).collect();
    let ours = match (&have.kept, &have.generation) {
        (Some((kept, true)), Some(record)) if *kept == generation && trust.holds(record) => Some(record),
        _ => None,
    };
    // Whoever signed ours may be no node of the file that one of the others still has in force.
    let signed = match ours {
        Some(ours) if others.is_empty() => ours.clone(),
        _ => trust.sign(&generation.to_text()?)?,
    };
    let record = ours.unwrap_or(&signed);
    let writes = plan(&Want { cluster: &cluster, generation: &generation, record }, &have)?;
    let check = "pc-config put --check --signed -";
    on_each(&others, |node| ssh.verb(node, check).stdin(&signed).text().map(drop))
        .map_err(|error| advised(&error, UNCHANGED))?;
    if !writes.is_empty() {
        in_force(&host, &writes, &own, &have, &cluster)?;
        network::warn(&have, &cluster, None);
        local_disks::warn(&have, &cluster, None);
        changed.insert(0, own.clone());
    }
    host.sweep();
    on_each(&others, |node| {
        ssh.verb(node, "pc-config put --signed -")
            .stdin(&signed)
            .text()
            .map(|_| log::info(format_args!("{node}: put in force")))
    })
    .map_err(|error| advised(&error, REPEAT))?;
    let mut nodes: Vec<String> = reached.iter().map(|status| status.node.clone()).collect();
    nodes.insert(0, own);
    let Generation { generation, sha256, .. } = generation;
    pc_cli::emit(
        common.json,
        &Answered { schema: "pc.config.push/1", generation, sha256, nodes, waiting, changed },
    )?;
    Ok(Exit::Done)
}

/// What the other nodes have. One that was in the file before must answer; one that is new in it may not
/// have joined yet.
fn ask(ssh: &Ssh, cluster: &Cluster, own: &str, have: &Have) -> Result<(Vec<Status>, Vec<String>)> {
    let before = have.before();
    let before: Option<BTreeSet<String>> =
        before.file().map(|before| before.nodes.iter().map(|node| node.name.to_string()).collect());
    let peers: Vec<&str> =
        cluster.nodes.iter().map(|node| node.name.as_str()).filter(|name| *name != own).collect();
    let answers = parallel(&peers, |node| {
        let answer = ssh.verb(node, "pc-config status --json").text()?;
        let status: Status = serde_json::from_str(&answer)
            .map_err(|error| anyhow::anyhow!("{node}: reading its status: {error}"))?;
        if status.node.split('.').next() != Some(node) {
            return Err(refused(format!(
                "{node} calls itself {}\n  hostnamectl hostname {node}, there",
                status.node
            )));
        }
        Ok(Status { node: node.into(), ..status })
    });
    let (mut reached, mut waiting, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (node, answer) in peers.into_iter().zip(answers) {
        match answer {
            Ok(status) => reached.push(status),
            Err(error) if before.as_ref().is_some_and(|before| !before.contains(node)) => {
                let error = format!("{error:#}");
                let why = error.lines().next().unwrap_or_default();
                log::info(format_args!("{node} is new and gets the file when it joins ({why})"));
                waiting.push(node.to_string());
            }
            Err(error) => missing.push(error),
        }
    }
    for gone in
        before.iter().flatten().filter(|name| cluster.nodes.iter().all(|node| node.name.as_str() != *name))
    {
        log::warning(format_args!(
            "{gone} is no longer in the file and keeps the last one until it is switched off"
        ));
    }
    match all(&missing) {
        Some(error) => Err(advised(&error, UNCHANGED)),
        None => Ok((reached, waiting)),
    }
}

fn on_each(nodes: &[&str], work: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    match all(&parallel(nodes, work).into_iter().filter_map(Result::err).collect::<Vec<_>>()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// One thread per node: a slow node costs its own time only.
fn parallel<T: Send>(nodes: &[&str], work: impl Fn(&str) -> Result<T> + Sync) -> Vec<Result<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(move || work(node))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<T>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Several errors as one.
fn all(errors: &[anyhow::Error]) -> Option<anyhow::Error> {
    let text = errors.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n");
    match Exit::of_parts(errors.iter().map(Exit::of)) {
        Exit::Done => None,
        end => Some(ending(end, text)),
    }
}

fn ending(end: Exit, text: String) -> anyhow::Error {
    match end {
        Exit::Refused => refused(text),
        Exit::TryAgain => try_again(text),
        _ => anyhow::anyhow!(text),
    }
}

/// The same error with what to do next as its last line.
fn advised(error: &anyhow::Error, remedy: &str) -> anyhow::Error {
    ending(Exit::of(error), format!("{error:#}\n  {remedy}"))
}
