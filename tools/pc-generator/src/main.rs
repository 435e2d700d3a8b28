//! systemd generator (systemd.generator(7)): what of this node's boot depends on the cluster file, as units.
//!
//! Never fails the boot: whatever it cannot read or write is one line in the kernel's log and exit code 0.
//! Never reads anything but `applied.json`, which must be a regular file, the marker of high availability and the host name, never runs a
//! program, never waits, never replaces a unit that another generator or the administrator wrote.

mod applied;
mod kmsg;
mod source;
mod units;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pc_cli::Exit;

/// Writes this node's mount units and VM instances; systemd runs it at boot and at every daemon-reload
#[derive(Debug, clap::Parser)]
#[command(name = "pc-generator", version)]
struct Cli {
    /// Directory for ordinary units (systemd passes three directories; the other two stay empty)
    normal: PathBuf,
    /// Directory for units that override the administrator's: not used
    early: Option<PathBuf>,
    /// Directory for units that everything else overrides: not used
    late: Option<PathBuf>,
    /// Treat this directory as the root of the machine
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
    /// Act as this node instead of finding it by host name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

fn main() -> ExitCode {
    pc_cli::main(|cli: Cli| {
        for line in run(&cli) {
            kmsg::log(&cli.root, &line);
        }
        Ok(Exit::Done)
    })
}

/// Does the work and gives back what somebody should read in the log.
fn run(cli: &Cli) -> Vec<String> {
    let path = cli.root.join(pc_cli::APPLIED_FILE.trim_start_matches('/'));
    let text = match source::read(&path) {
        Ok(text) => text,
        // A machine that has no cluster file yet is not worth a line at every boot.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![format!("reading {}: {error}", path.display())],
    };
    let Some(node) = node_name(cli) else { return vec!["asking the kernel for the host name failed".into()] };
    let mut faults = Vec::new();
    // A marker that cannot be looked at may be there: a VM that does not start is better than one that runs twice.
    let marker = cluster::paths::HA_ENABLED.trim_start_matches('/');
    let ha_enabled = cli.root.join(marker).try_exists().unwrap_or(true);
    if let Some(want) = applied::read(&text, &node, ha_enabled, &mut faults) {
        for entry in units::all(&want) {
            if let Err(error) = write(&cli.normal, &entry) {
                faults.push(format!("{error:#}"));
            }
        }
    }
    faults
}

fn node_name(cli: &Cli) -> Option<String> {
    let name = match &cli.node {
        Some(node) => node.clone(),
        None => nix::unistd::gethostname().ok()?.to_string_lossy().into_owned(),
    };
    Some(name.split('.').next().unwrap_or_default().to_string())
}

/// Creates one file or link; one that is there already (fstab, another generator) is left as it is.
fn write(directory: &Path, entry: &units::Entry) -> anyhow::Result<()> {
    use anyhow::Context;
    let path = directory.join(&entry.path);
    let parent = path.parent().unwrap_or(directory);
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let written = match &entry.what {
        units::What::Link(target) => std::os::unix::fs::symlink(target, &path),
        units::What::Unit(text) => std::fs::File::create_new(&path).and_then(|mut file| {
            // Half a unit could mount something, without the options that come last.
            std::io::Write::write_all(&mut file, text.as_bytes()).inspect_err(|_| {
                // What cannot be removed either is told by the error of writing it.
                let _ = std::fs::remove_file(&path);
            })
        }),
    };
    written.with_context(|| format!("writing {}", path.display()))
}
