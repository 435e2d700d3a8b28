//! Disk images as read-only directories of fixed-size segment files, for backup programs that skip unchanged files.
//!
//! Never writes to an image and never guesses its format; never counts a changed segment as saved that nobody has read
//! to its end; never believes extents that are relative to another state; never needs the cluster file.

#![forbid(unsafe_code)]

mod decide;
mod disk;
mod fs;
mod host;
mod input;
mod join;
mod join_fs;
mod layout;
mod mountinfo;
mod report;
mod run;
mod verify;
mod view;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use pc_cli::Exit;

/// Disk images as directories of segments that borg and restic skip when they did not change
#[derive(Debug, clap::Parser)]
#[command(
    name = "pc-segments",
    version,
    override_usage = "pc-segments [OPTIONS] [NAME=]IMAGE... MOUNTPOINT [-- COMMAND [ARGUMENT]...]\n       pc-segments --join [--json] DIRECTORY MOUNTPOINT"
)]
struct Cli {
    /// `[NAME=]IMAGE` for each disk, then the mount point
    ///
    /// IMAGE is a raw file or block device, qcow2:PATH, or `nbd+unix:///EXPORT?socket=PATH`. Without NAME: the file name
    /// up to its first dot.
    #[arg(required = true, num_args = 2.., value_names = ["IMAGE", "MOUNTPOINT"])]
    places: Vec<OsString>,
    /// The other way round: DIRECTORY has what a view showed (`borg mount`), MOUNTPOINT gets one file for each disk
    ///
    /// Read-only, every segment compared with its digest before it is handed out.
    #[arg(long, conflicts_with_all = ["state", "extents", "full", "segment", "verify_share", "report", "command"])]
    join: bool,
    /// Digest and time stamp of every segment; without it everything is new in every run
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// What changed (pc.dirty.extents/1); `-` is standard input, which is read anyhow when it is a pipe or a file
    #[arg(long, value_name = "FILE", conflicts_with = "full")]
    extents: Option<PathBuf>,
    /// Everything counts as changed
    #[arg(long)]
    full: bool,
    /// Size of a segment: 64KiB to 64MiB, a power of two
    ///
    /// Default: 1MiB, for a disk above 2 TiB 4MiB.
    #[arg(long, value_name = "SIZE", value_parser = segment_map::parse_segment)]
    segment: Option<u64>,
    /// Share of the clean segments that is read again and compared
    ///
    /// Default: 1, and 0 when the extents come from digests.
    #[arg(long, value_name = "PERCENT", value_parser = verify::percent)]
    verify_share: Option<f64>,
    /// Exit codes of the command that count as success
    #[arg(long, value_name = "CODES", value_delimiter = ',', default_value = "0")]
    commit_on: Vec<u8>,
    /// Where to leave what the run did (pc.segments.run/1)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Without a command: print one JSON object when the view is mounted
    #[arg(long)]
    json: bool,
    /// Log what is being done
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Runs while the view is mounted; the state is committed when it succeeds
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(|cli| {
        pc_cli::log::set_verbosity(cli.verbose);
        if cli.join { join::run(&cli) } else { run::run(&cli) }
    })
}

/// How [`run::run`] or [`join::run`] ended.
type Ended = Result<Exit>;
