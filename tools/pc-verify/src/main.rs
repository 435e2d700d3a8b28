//! pc-verify: one verdict over everything that the tools know of this node, or of all nodes.
//!
//! Never changes anything, never judges again what a tool has judged, never waits longer than its deadline: what has
//! not answered by then is a reason by itself.

mod borg;
mod disks;
mod gluster;
mod host;
mod html;
mod judge;
mod lints;
mod machine;
mod screen;
mod systemd;
mod tables;
mod terminal;
mod there;
mod told;
mod tools;
mod verdict;
mod want;
mod watch;
mod whole;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use cluster::Cluster;
use pc_cli::{Common, Exit, emit, emit_raw, refused, write_atomic};

use crate::verdict::Verdict;
use crate::whole::Other;

/// What a person waits for without wondering.
const BUDGET: Duration = Duration::from_secs(3);
/// The nodes of a VM that two of them run are asked again after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// A machine under emulation, or right after its start.
const PATIENT: Duration = Duration::from_secs(30);

/// Every check of every tool as one verdict, with reasons and remedies
///
/// Ends with 0 when the node (with --cluster: every node) is healthy, with 3 when it is not.
#[derive(Parser)]
#[command(name = "pc-verify", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    /// Ask every node of the file, and hold their answers side by side
    #[arg(long)]
    cluster: bool,
    /// Give every check 30 seconds instead of 3
    #[arg(long)]
    patient: bool,
    /// Print the verdict, with what there is, as one page of HTML that needs nothing else
    #[arg(long, conflicts_with = "json")]
    html: bool,
    /// Replace this file at once instead of printing the page
    #[arg(long, value_name = "FILE", requires = "html")]
    output: Option<PathBuf>,
    /// Show the same on this terminal, and look again so many seconds (15) after each look, until q ends it
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "15",
        value_parser = clap::value_parser!(u64).range(2..=86_400),
        conflicts_with_all = ["json", "html"]
    )]
    watch: Option<u64>,
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    pc_cli::log::set_verbosity(cli.common.verbose);
    if cli.common.root == Path::new("/") {
        pc_cli::require_root()?;
    }
    if cli.common.file.as_deref() == Some(Path::new("-")) {
        return Err(refused("--file -: every tool reads the file for itself\n  save it, and give its name"));
    }
    let json = cli.common.json;
    let question =
        Question { common: host::in_force(cli.common), cluster: cli.cluster, patient: cli.patient };
    if let Some(seconds) = cli.watch {
        watch::watch(question, Duration::from_secs(seconds))?;
        return Ok(Exit::Done);
    }
    let verdict = question.ask()?;
    match cli.output {
        Some(path) => {
            // A bare name has the empty path as its directory.
            let path = std::path::absolute(&path).with_context(|| format!("finding {}", path.display()))?;
            write_atomic(&path, html::page(&verdict).as_bytes(), 0o644)?;
        }
        None if cli.html => emit_raw(html::page(&verdict).as_bytes())?,
        None => emit(json, &verdict)?,
    }
    Ok(Exit::of_answer(true, !verdict.healthy))
}

/// What is to be looked at.
struct Question {
    common: Common,
    cluster: bool,
    patient: bool,
}

impl Question {
    /// How long a check may take.
    fn budget(&self) -> Duration {
        if self.patient { PATIENT } else { BUDGET }
    }

    /// The file that is in force by now; this node is in it.
    fn read(&self) -> Result<Cluster> {
        let file = host::load(&self.common)?;
        file.view(&self.common.node_name()?).map_err(refused)?;
        Ok(file)
    }

    /// Looks once.
    fn ask(&self) -> Result<Verdict> {
        let file = self.read()?;
        if !self.cluster {
            return self.own(&file);
        }
        let (own, others) = self.all(&file, |_| true)?;
        let mut twice = whole::doubtful(&own, &others);
        if !twice.is_empty() {
            // A guest that is being moved has left one of them by then.
            std::thread::sleep(AGAIN);
            let (own, others) = self.all(&file, |node| twice.iter().any(|(_, other)| other == node))?;
            let still = whole::doubtful(&own, &others);
            twice.retain(|at| still.contains(at));
        }
        Ok(whole::merge(own, others, &twice))
    }

    fn own(&self, file: &Cluster) -> Result<Verdict> {
        let view = file.view(&self.common.node_name()?).map_err(refused)?;
        host::look(&self.common, &view, self.budget()).map(|reports| judge::judge(&reports))
    }

    /// This node and others, side by side: those are not asked after this one is done.
    fn all(&self, file: &Cluster, wanted: impl Fn(&str) -> bool + Sync) -> Result<(Verdict, Vec<Other>)> {
        let name = self.common.node_name()?;
        let wanted = |node: &str| node != name && wanted(node);
        let (own, others) = std::thread::scope(|scope| {
            let others =
                scope.spawn(|| host::others(&self.common, file, &wanted, self.patient, self.budget()));
            (self.own(file), others.join())
        });
        Ok((own?, others.map_err(|_| anyhow::anyhow!("asking the other nodes ended badly"))?))
    }
}

/// Compares with what was recorded in tests/golden.
#[cfg(test)]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let recorded = std::fs::read_to_string(path).unwrap_or_default();
    assert!(recorded == text, "tests/golden/{name} differs, it would be:\n{text}");
}
