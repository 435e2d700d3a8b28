//! All calls of `pc-config` and `pc-unlock`: found on PATH, fed through stdin.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use pc_cli::{refused, try_again};
use xshell::{Shell, cmd};

use crate::paths::Paths;

/// Sealing asks every Tang server; a server that hangs costs it its own deadline.
const DEADLINE: Duration = Duration::from_secs(120);
/// Longer than a boot would wait for a server: this happens once, and an emulated machine is slow.
const PATIENCE: [&str; 4] = ["--server-time", "15", "--attempt-time", "40"];

/// Checks a cluster file: the faults of a bad one are the message.
pub fn check_file(paths: &Paths, node: &str, name: &str, content: &str) -> Result<()> {
    let sh = Shell::new()?;
    let root = root(paths);
    answer(
        pc_run::run(cmd!(sh, "pc-config {root...} --node {node} check -")).stdin(content).deadline(DEADLINE),
    )
    .with_context(|| format!("checking {name}"))
}

/// Installs a cluster file, or the signed generation that another node handed over.
pub fn put_file(paths: &Paths, node: &str, content: &str) -> Result<()> {
    let sh = Shell::new()?;
    let root = root(paths);
    answer(pc_run::run(cmd!(sh, "pc-config {root...} --node {node} put -")).stdin(content).deadline(DEADLINE))
        .context("installing the cluster file")
}

/// Seals a secret to the unlockers that `file` names.
pub fn seal(paths: &Paths, file: &Path, name: &str, secret: &[u8]) -> Result<()> {
    let sh = Shell::new()?;
    let root = root(paths);
    answer(
        pc_run::run(cmd!(sh, "pc-unlock {root...} --file {file} {PATIENCE...} seal {name}"))
            .stdin(secret)
            .deadline(DEADLINE),
    )
}

/// Opens sealed secrets to the tmpfs.
pub fn unseal(paths: &Paths, file: &Path, names: &[&str]) -> Result<()> {
    let sh = Shell::new()?;
    let root = root(paths);
    answer(
        pc_run::run(cmd!(sh, "pc-unlock {root...} --file {file} {PATIENCE...} unseal {names...}"))
            .deadline(DEADLINE),
    )
    .context("opening what was sealed")
}

fn root(paths: &Paths) -> Vec<String> {
    if paths.is_machine() { Vec::new() } else { vec!["--root".into(), paths.root().display().to_string()] }
}

/// A sibling's refusal is ours, and so is its "try again"; its stderr is passed on.
fn answer(run: pc_run::Run) -> Result<()> {
    let error = match run.output() {
        Ok(output) => {
            for line in output.stderr.lines() {
                pc_cli::log::info(line);
            }
            return Ok(());
        }
        Err(error) => error,
    };
    let pc_run::Error::Failed { stderr, .. } = &error else { return Err(anyhow!(error)) };
    let said = stderr.trim().trim_start_matches("error: ").to_string();
    match error.code() {
        Some(2) => Err(refused(said)),
        Some(75) => Err(try_again(said)),
        _ => Err(anyhow!(error)),
    }
}

/// A sibling by name, for the gate.
pub fn command(program: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
