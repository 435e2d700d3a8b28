//! The cluster's own CA: certificates for Gluster, libvirt, QEMU and SSH, join tokens, renewal.
//!
//! Never sends a private key of a node; never writes a secret to disk in clear unless the file has no
//! `[unlock]`; never overwrites a file that it did not make; never listens while no token is outstanding;
//! never asks what time it is before it trusts.

mod apply;
mod authority;
mod door;
mod files;
mod gate;
mod host;
mod init;
mod invite;
mod join;
mod lost;
mod member;
mod modes;
mod paths;
mod places;
mod plan;
mod recovery;
mod renewal;
mod secrets;
mod serve;
mod siblings;
mod sign;
mod ssh;
mod sshd;
mod status;
mod systemd;
mod tls;
mod token;
mod tokens;
mod wire;
mod wrap;
mod x509;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use pc_cli::{Common, Exit};

/// The cluster's own CA, join tokens, certificates and their renewal
#[derive(Debug, Parser)]
#[command(name = "pc-trust", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make this machine the first node: CA, keys, tokens for the other nodes of FILE
    Init {
        /// The cluster file; `-` reads standard input
        #[arg(value_name = "FILE")]
        cluster_file: PathBuf,
        /// Take the recovery key from this file (`-`: standard input) instead of making one
        #[arg(long, value_name = "KEYFILE")]
        recovery_key_file: Option<PathBuf>,
    },
    /// Make a token with which NODE can join within 15 minutes, once
    Token {
        /// Name of the node
        #[arg(value_name = "NODE")]
        for_node: String,
    },
    /// Make this machine a member, with the line that `init` or `token` printed
    Join {
        /// Address of a member, optionally with a port
        address: String,
        /// The token; `-` reads standard input
        token: String,
    },
    /// Show what would be put in place
    Plan {
        /// End with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Put links, drop-ins and certificates in place, renew what is due
    Apply {
        /// `-`: a plan from standard input, perhaps with steps left out
        #[arg(value_parser = ["-"])]
        plan: Option<String>,
    },
    /// Show what this node holds
    Status {
        /// End with 3 when something is wrong
        #[arg(long)]
        exit_code: bool,
    },
    /// Issue this node's certificates again when half of their life is over
    Renew {
        /// Even when nothing is due
        #[arg(long)]
        force: bool,
    },
    /// Sign a text with this node's key: standard input to standard output
    Sign,
    /// Check a signed text and print what was signed: standard input to standard output
    Verify,
    /// Run the verb that another node asked for over SSH
    #[command(hide = true)]
    Gate,
    /// Answer joining nodes while a token is outstanding
    #[command(hide = true)]
    Serve {
        /// Listen here instead of on systemd's socket
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(|cli| run(&cli))
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let common = &cli.common;
    pc_cli::log::set_verbosity(common.verbose);
    // Everything else reads secrets, or writes where only root does; below a --root anybody may.
    let unprivileged = matches!(cli.verb, Verb::Verify | Verb::Gate);
    if !unprivileged && common.root == std::path::Path::new("/") {
        pc_cli::require_root()?;
    }
    let changes =
        matches!(cli.verb, Verb::Init { .. } | Verb::Join { .. } | Verb::Apply { .. } | Verb::Renew { .. });
    let _lock = if changes { Some(files::alone(&common.root)?) } else { None };
    let started = Instant::now();
    let result = verb(cli);
    // The answer of apply has it too.
    if changes && !matches!(cli.verb, Verb::Apply { .. }) {
        pc_cli::log::debug(pc_run::Cost::since(started));
    }
    result
}

fn verb(cli: &Cli) -> anyhow::Result<Exit> {
    let common = &cli.common;
    match &cli.verb {
        Verb::Init { cluster_file, recovery_key_file } => {
            init::init(common, cluster_file, recovery_key_file.as_deref())
        }
        Verb::Token { for_node } => invite::token(common, for_node),
        Verb::Join { address, token } => join::join(common, address, token),
        Verb::Plan { exit_code } => apply::plan(common, *exit_code),
        Verb::Apply { plan } => apply::apply(common, plan.as_deref()),
        Verb::Status { exit_code } => status::status(common, *exit_code),
        Verb::Renew { force } => apply::renew(common, *force),
        Verb::Sign => sign::sign(common),
        Verb::Verify => sign::verify(common),
        Verb::Gate => gate::gate(),
        Verb::Serve { listen } => serve::serve(common, listen.as_deref()),
    }
}
