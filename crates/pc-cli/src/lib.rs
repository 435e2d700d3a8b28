//! First and last ten lines of every tool: flags, logging, exit codes, printing.
//!
//! Never does the work of a tool, never reads the cluster file, never runs a program.

mod exit;
mod file;
pub mod log;
mod manual;
mod plain;
mod print;
mod root;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

pub use exit::{Exit, Refused, TryAgain, refused, together, try_again};
pub use file::{write_atomic, write_status};
pub use plain::printable;
pub use print::{emit, emit_heard, emit_raw};
pub use root::{as_root, require_root};

/// Where the administrator's file lives, the same on every node.
pub const CLUSTER_FILE: &str = "/etc/personal-cluster/cluster.toml";
/// What was applied last; the generator and the boot units read only this.
pub const APPLIED_FILE: &str = "/var/lib/personal-cluster/applied.json";

/// Flags that mean the same in every tool. Flatten into the tool's own `clap` struct.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Cluster file, TOML or JSON; `-` reads standard input
    #[arg(long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Read the file that was applied last instead of the one being edited (what boot units do)
    #[arg(long, global = true, conflicts_with = "file")]
    pub applied: bool,
    /// Act as this node instead of finding it by hostname
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Treat this directory as the root of the machine
    #[arg(long, global = true, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
    /// Log what is being done, twice for every external call
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Common {
    /// The cluster file that these flags name: `--file`, `--applied`, else the administrator's
    /// `cluster.toml`, else `cluster.json` beside it (which `NixOS` writes).
    pub fn cluster_file(&self) -> PathBuf {
        if let Some(file) = &self.file {
            return file.clone();
        }
        if self.applied {
            return self.under_root(APPLIED_FILE);
        }
        let toml = self.under_root(CLUSTER_FILE);
        let json = toml.with_extension("json");
        if !toml.exists() && json.exists() { json } else { toml }
    }

    /// The node to act as: `--node`, else this machine's host name.
    pub fn node_name(&self) -> anyhow::Result<String> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let name = nix::unistd::gethostname().context("asking the kernel for the host name")?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// An absolute path of the machine, below `--root`.
    pub fn under_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// Parses the command line, runs the tool, turns its answer into an exit code.
///
/// `C` is the tool's `clap` parser. A hidden first argument `--generate man|man-index|bash|zsh|fish`
/// prints the man page of the tool or of one verb (`--generate man VERB`), or a completion script,
/// out of the same definition; packaging calls it at build time.
pub fn main<C: clap::Parser>(run: impl FnOnce(C) -> anyhow::Result<Exit>) -> ExitCode {
    if let Some(code) = manual::generate::<C>(std::env::args_os().skip(1)) {
        return code;
    }
    let cli = match C::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and versions to stdout with code 0, errors to stderr with 2.
            let printed = error.print();
            return match printed {
                // A usage error stays one when nobody can be told; a reader of help may go before its end.
                _ if error.use_stderr() => Exit::Refused.into(),
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    log::error(format_args!("writing to standard output: {error}"));
                    Exit::Failed.into()
                }
                _ => Exit::Done.into(),
            };
        }
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error).into(),
    }
}
