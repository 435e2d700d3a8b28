//! pc-exporter: what the tools know of this node, as Prometheus metrics.
//!
//! Never asks anything while a scrape waits, never changes anything, never listens on every interface unless told to.
//! A scrape is made of the last values; how old they are, and whether the last look failed, is told with them.

mod budgets;
mod catalogue;
mod clock;
mod collectors;
mod exposition;
mod facts;
mod format;
mod http;
mod jobs;
mod metric;
mod monitor;
mod node_exporter;
mod nouns;
mod page;
mod reader;
mod request;
mod rules;
mod serve;
mod supplies;
mod tang;
mod targets;
mod tls;
mod token;
mod units;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use cluster::Cluster;
use pc_cli::{Common, Exit, emit, emit_raw, refused, write_atomic};

use crate::catalogue::Metrics;
use crate::exposition::Format;
use crate::targets::Of;

/// Prometheus metrics of this node, made of answers that were there before the scrape
#[derive(Parser)]
#[command(name = "pc-exporter", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer scrapes at /metrics, on the node's own address, and show the page of pc-verify at /
    Serve(serve::Manner),
    /// Ask the tools and programs that only root may ask, and leave their answers for `serve`
    Facts {
        /// Also what was asked a short while ago
        #[arg(long)]
        all: bool,
        /// Kill a program that has given no answer for so long
        #[arg(long, value_name = "SECONDS", default_value = "30")]
        deadline: NonZero<u32>,
    },
    /// Turn `status --json` of the tools on standard input into metrics
    Format {
        /// `OpenMetrics` instead of Prometheus' own text format
        #[arg(long)]
        openmetrics: bool,
        /// Replace this file at once instead of printing
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print what Prometheus should scrape, as its `file_sd_configs` reads it
    Targets {
        /// Which exporters
        #[arg(long, value_enum, default_value = "all")]
        of: Of,
        /// Replace this file at once instead of printing
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the alert rules
    Rules {
        /// Write them below this directory instead, a file per subject
        #[arg(long, value_name = "DIR")]
        install: Option<PathBuf>,
    },
    /// Write all that Prometheus and Alertmanager read on the machine that watches
    Monitor(monitor::Manner),
    /// Write the arguments of Prometheus' node-exporter on this node
    NodeExporter {
        /// Have the one that runs started anew where they changed
        #[arg(long)]
        reload: bool,
    },
    /// Name every metric there is
    Metrics {
        /// With type, unit, labels and meaning
        #[arg(long)]
        describe: bool,
    },
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    let common = cli.common;
    pc_cli::log::set_verbosity(common.verbose);
    match cli.verb {
        Verb::Serve(manner) => serve::serve(&common, manner)?,
        Verb::Facts { all, deadline } => ask(&common, all, Duration::from_secs(deadline.get().into()))?,
        Verb::Format { openmetrics, output } => {
            let format = if openmetrics { Format::OpenMetrics } else { Format::Text };
            print_or_keep(&format::stdin(format)?, output.as_deref())?;
        }
        Verb::Targets { of, output } => {
            let text = targets::text(&load(&common)?, of)?;
            print_or_keep(&text, output.as_deref())?;
        }
        Verb::Rules { install: None } => emit_raw(rules::all().as_bytes())?,
        Verb::Rules { install: Some(directory) } => rules::install(&directory)?,
        Verb::Monitor(manner) => monitor::run(&common, &load(&common)?, &manner)?,
        Verb::NodeExporter { reload } => node_exporter::run(&common, reload)?,
        Verb::Metrics { describe } => emit(common.json, &Metrics::new(describe))?,
    }
    Ok(Exit::Done)
}

/// pc-ha stops it for maintenance.
const PACEMAKER: &str = "pacemaker.service";

/// The cluster file that the flags name.
fn load(common: &Common) -> Result<Cluster> {
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    file.map_err(refused)
}

fn ask(common: &Common, all: bool, deadline: Duration) -> Result<()> {
    if common.root == Path::new("/") {
        pc_cli::require_root()?;
    }
    let file = load(common)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    let there = |path: &str| common.under_root(path).exists();
    let here = jobs::Here {
        member: there(&format!("{}/member.json", cluster::paths::TRUST)),
        ha: there(cluster::paths::HA_ENABLED),
        // A private root has no systemd of its own.
        ha_stopped: common.root == Path::new("/") && units::is_stopped(PACEMAKER),
    };
    facts::run(common, jobs::jobs(&view, here, &flags(common)), all, deadline)
}

/// Our own flags, as a sibling takes them.
fn flags(common: &Common) -> Vec<String> {
    let mut flags = Vec::new();
    if common.applied {
        flags.push("--applied".to_string());
    }
    let paths = [("--file", common.file.as_deref()), ("--root", Some(common.root.as_path()))];
    for (flag, path) in paths {
        if let Some(path) = path.filter(|path| *path != Path::new("/")) {
            flags.extend([flag.to_string(), path.to_string_lossy().into_owned()]);
        }
    }
    if let Some(node) = &common.node {
        flags.extend(["--node".to_string(), node.clone()]);
    }
    flags
}

fn print_or_keep(text: &str, output: Option<&Path>) -> Result<()> {
    let Some(path) = output else { return emit_raw(text.as_bytes()) };
    // A bare name has the empty path as its directory.
    let path = std::path::absolute(path).with_context(|| format!("finding {}", path.display()))?;
    write_atomic(&path, text.as_bytes(), 0o644)
}
