//! The cluster file: check, show, draft, merge, put in force on this node or on all.
//!
//! Never touches a disk, a network card, or a service other than the two that read the disks of a file once; never puts a
//! file in force that has a fault, or that is older than the one in force; never puts it in force on some nodes while others refuse it; never edits a
//! line of /etc/hosts that it did not write.

mod before;
mod check;
mod disks;
mod draft;
mod generation;
mod host;
mod hosts;
mod ip;
mod join;
mod keeps;
mod local_disks;
mod lsblk;
mod merge;
mod network;
mod newest;
mod plan;
mod push;
mod put;
mod show;
mod status;
mod trust;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pc_cli::{Common, Exit};

/// Check, show, draft, merge and distribute the cluster file
#[derive(Debug, Parser)]
#[command(name = "pc-config", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tell everything that is wrong or risky in the file
    Check {
        /// The file to check instead of --file; `-` reads standard input
        #[arg(value_name = "FILE")]
        source: Option<PathBuf>,
    },
    /// Print the file in its normal form; with --node, what that node is to be
    Show,
    /// Print the names of the nodes, one a line
    Nodes,
    /// Print the JSON Schema of the file
    Schema,
    /// Look at this machine and write a first file, with comments where you decide
    Draft {
        /// Name of the cluster
        #[arg(long, default_value = "home", value_parser = name)]
        name: cluster::Name,
    },
    /// Join the drafts of several machines into one file
    Merge {
        /// Drafts, TOML or JSON; `-` reads one or several from standard input
        #[arg(value_name = "FILE", required = true)]
        sources: Vec<PathBuf>,
        /// Name of the cluster, whatever the drafts say
        #[arg(long, value_parser = name)]
        name: Option<cluster::Name>,
    },
    /// Put a checked file in force on this node
    Put {
        /// The file; `-` reads standard input: a file, or a generation that another node signed
        #[arg(value_name = "FILE")]
        source: PathBuf,
        /// Only tell whether it would be accepted
        #[arg(long)]
        check: bool,
        /// Refuse what no node of this cluster signed (what another node may ask for)
        #[arg(long)]
        signed: bool,
    },
    /// Put the file in force on all nodes, or on none
    Push {
        /// The file instead of --file
        #[arg(value_name = "FILE")]
        source: Option<PathBuf>,
    },
    /// Tell which generation is in force, and whether the file has been edited since
    Status {
        /// End with 3 when the file that is edited is not the one in force
        #[arg(long)]
        exit_code: bool,
    },
}

fn name(text: &str) -> Result<cluster::Name, String> {
    cluster::Name::try_from(text.to_string())
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(|cli| run(&cli))
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let common = &cli.common;
    pc_cli::log::set_verbosity(common.verbose);
    match &cli.verb {
        Verb::Check { source } => check::check(common, source.as_deref()),
        Verb::Show => show::show(common),
        Verb::Nodes => show::nodes(common),
        Verb::Schema => show::schema(),
        Verb::Draft { name } => draft::draft(common, name),
        Verb::Merge { sources, name } => merge::merge(common, sources, name.as_ref()),
        Verb::Put { source, check, signed } => put::put(common, source, *check, *signed),
        Verb::Push { source } => push::push(common, source.as_deref()),
        Verb::Status { exit_code } => status::status(common, *exit_code),
    }
}
