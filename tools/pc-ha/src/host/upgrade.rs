//! What an upgrade touches on this node: its own two files, the kernel's words about this boot, the unit that upgrades.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pc_cli::{Common, log, refused, try_again};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{files, locks, peers, systemd};
use crate::upgrade::node::{self, Record, Report, State};

/// An upgrade of all nodes, on the node that walks.
pub const WALK: &str = "/var/lib/personal-cluster/ha/upgrade.json";
/// The last upgrade of this node.
const RECORD: &str = "/var/lib/personal-cluster/ha/upgrade-node.json";
/// What to run instead of Debian's own, a word a line; the NixOS module writes it.
const COMMAND: &str = "/etc/personal-cluster/upgrade-command";
const APT: &str = "/usr/bin/apt-get";
/// Runs `pc-ha engine upgrade-here`.
const UNIT: &str = "pc-ha-upgrade-node.service";
/// For what only counts.
const COUNT: Duration = Duration::from_secs(300);
/// For another apt, or dpkg, that is at work on this node: the nightly one of Debian, or a person's.
const OTHERS: Duration = Duration::from_secs(600);

/// A file of ours; `None` when there is none.
pub fn read<T: DeserializeOwned>(common: &Common, path: &str) -> Result<Option<T>> {
    let path = common.under_root(path);
    let text = files::read(&path)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .with_context(|| format!("reading {}", path.display()))
}

/// Replaces a file of ours: a power cut leaves the old one or the new one.
pub fn write<T: Serialize>(common: &Common, path: &str, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
    text.push('\n');
    let path = common.under_root(path);
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    pc_cli::write_atomic(&path, text.as_bytes(), 0o600)
}

/// Takes a file of ours away.
pub fn remove(common: &Common, path: &str) -> Result<()> {
    files::remove(&common.under_root(path))
}

/// Held while one process of this node walks.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holding it is its use")] std::fs::File);

/// Takes the lock; somebody else who has it is busy for hours.
pub fn lock(common: &Common) -> Result<Lock> {
    use rustix::fs::{FlockOperation, flock};
    let directory = common.under_root("/run/personal-cluster");
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let path: PathBuf = directory.join("ha-upgrade.lock");
    let file = std::fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(try_again(
            "another pc-ha upgrade is at work on this node\n  journalctl -fu pc-ha-upgrade.service, or the terminal that it runs on",
        )),
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// The kernel's name for this boot.
pub fn boot_id(common: &Common) -> Result<String> {
    let path = common.under_root("/proc/sys/kernel/random/boot_id");
    let text = files::read(&path)?.with_context(|| format!("{} is missing", path.display()))?;
    Ok(text.trim().to_string())
}

/// The memory that the kernel has.
pub fn memory(common: &Common) -> Result<u64> {
    let path = common.under_root("/proc/meminfo");
    let text = files::read(&path)?.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    let kib: Option<u64> = line.and_then(|kib| kib.trim().parse().ok());
    kib.map(|kib| kib * 1024).with_context(|| format!("{} has no MemTotal", path.display()))
}

fn commands(common: &Common) -> Result<Vec<Vec<String>>> {
    let file = files::read(&common.under_root(COMMAND))?;
    Ok(node::commands(file.as_deref(), common.under_root(APT).exists()))
}

/// What this node says of itself.
pub fn report(common: &Common) -> Result<Report> {
    let (state, failed_units) = systemd::state()?;
    // Before the record: a unit that ends in between has written it.
    let (mut active, mut last) = (is_at_work()?, read::<Record>(common, RECORD)?);
    // One that began in between was not killed.
    if !active && last.as_ref().is_some_and(|last| last.state == State::Running) {
        (active, last) = (is_at_work()?, read(common, RECORD)?);
    }
    Ok(Report {
        schema: node::SCHEMA.into(),
        boot_id: boot_id(common)?,
        state,
        failed_units,
        memory_bytes: memory(common)?,
        commands: commands(common)?,
        active,
        last,
    })
}

fn is_at_work() -> Result<bool> {
    systemd::active(UNIT).map(|units| !units.is_empty())
}

/// What any node says of itself.
pub fn report_of(common: &Common, me: &str, name: &str) -> Result<Report> {
    if name == me {
        return report(common);
    }
    let text = peers::ask(common, name, "report", "")?;
    let report: Report =
        serde_json::from_str(&text).with_context(|| format!("reading what {name} says of itself"))?;
    if report.schema != node::SCHEMA {
        bail!(
            "{name} answers {:?}, not {:?}\n  on {name}: apt-get install pc-ha",
            report.schema,
            node::SCHEMA
        );
    }
    Ok(report)
}

/// Whether any node is in the middle of an upgrade. Of this one systemd is not asked where its record settles it.
pub fn upgrades(common: &Common, me: &str, name: &str) -> Result<bool> {
    if name != me {
        return report_of(common, me, name).map(|report| report.active);
    }
    let last: Option<Record> = read(common, RECORD)?;
    let open = last.is_some_and(|last| matches!(last.state, State::Asked | State::Running));
    Ok(open && is_at_work()?)
}

/// Has any node upgrade itself, under this name; one that was asked already is not asked twice.
pub fn upgrade(common: &Common, me: &str, name: &str, run: &str) -> Result<()> {
    if name == me { accept(common, run) } else { peers::ask(common, name, "upgrade", run).map(drop) }
}

/// Has any node go down and come back.
pub fn reboot(common: &Common, me: &str, name: &str) -> Result<()> {
    if name == me { systemd::reboot() } else { peers::ask(common, name, "reboot", "").map(drop) }
}

/// `pc-ha engine upgrade`: the name comes on standard input.
pub fn accept_from_stdin(common: &Common) -> Result<()> {
    let mut text = String::new();
    std::io::stdin().take(1024).read_to_string(&mut text).context("reading the name of the upgrade")?;
    let run = node::run_name(&text).ok_or_else(|| refused("the name of the upgrade is none"))?;
    accept(common, run)
}

fn accept(common: &Common, run: &str) -> Result<()> {
    // Before the record, as above.
    let active = is_at_work()?;
    let last: Option<Record> = read(common, RECORD)?;
    // Asked for, and its unit was not started: it is started now.
    let known = |last: &Record| last.run == run && (active || last.state != State::Asked);
    if last.as_ref().is_some_and(known) {
        return Ok(());
    }
    if active {
        return Err(try_again(
            "another upgrade of this node is under way\n  journalctl -fu pc-ha-upgrade-node.service",
        ));
    }
    if commands(common)?.is_empty() {
        return Err(refused(format!(
            "nobody says how this node is upgraded: there is no apt-get, and no {COMMAND}\n  \
             write the command there, a word a line (on NixOS: services.personal-cluster.ha.upgradeCommand)"
        )));
    }
    let boot_id = boot_id(common)?;
    let record =
        Record { run: run.into(), boot_id, state: State::Asked, reason: None, kept_back: Vec::new() };
    write(common, RECORD, &record)?;
    systemd::request(UNIT).inspect_err(|_| {
        // It has not begun: nobody shall wait for it.
        let restored = last.map_or_else(|| remove(common, RECORD), |last| write(common, RECORD, &last));
        if let Err(error) = restored {
            log::warning(format_args!("{error:#}"));
        }
    })
}

/// `pc-ha engine upgrade-here`, which the unit runs: the commands, one after the other, until one fails.
pub fn here(common: &Common) -> Result<()> {
    let Some(mut record) = read::<Record>(common, RECORD)?.filter(|record| record.state == State::Asked)
    else {
        return Err(refused("nobody asked for an upgrade of this node\n  pc-ha upgrade NODE"));
    };
    record.state = State::Running;
    record.boot_id = boot_id(common)?;
    write(common, RECORD, &record)?;
    let commands = commands(common)?;
    let failed = commands.iter().find_map(|words| patient(common, words).err());
    if commands == node::debian() {
        record.kept_back = kept_back().unwrap_or_else(|error| {
            log::warning(format_args!("what is kept back is not known: {error:#}"));
            Vec::new()
        });
    }
    record.state = if failed.is_some() { State::Failed } else { State::Done };
    record.reason = failed.as_ref().map(|error| format!("{error:#}"));
    write(common, RECORD, &record)?;
    failed.map_or(Ok(()), Err)
}

/// One command, once nobody else is at the packages; again, when somebody has come in between and it failed.
fn patient(common: &Common, words: &[String]) -> Result<()> {
    let until = Instant::now() + OTHERS;
    loop {
        locks::wait(common, until)?;
        let Err(error) = command(words) else { return Ok(()) };
        match locks::held(common)? {
            Some(held) if Instant::now() < until => {
                log::warning(format_args!("{error:#}, and {held}: it is run again"));
            }
            _ => return Err(error),
        }
    }
}

/// One command; what it says goes to the journal as it comes. It has no deadline here: half of an upgrade is worse than a slow
/// one, and whoever waits for it has his own.
fn command(words: &[String]) -> Result<()> {
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    log::info(words.join(" "));
    let mut command = Command::new(program);
    command.args(rest).envs(node::ENVIRONMENT).stdin(std::process::Stdio::null());
    let status = command.status().with_context(|| format!("running {program}"))?;
    if !status.success() {
        bail!("{}: {status}", words.join(" "));
    }
    Ok(())
}

fn kept_back() -> Result<Vec<String>> {
    let mut command = Command::new(APT);
    command.args(["--simulate", "upgrade", "--with-new-pkgs"]);
    Ok(node::kept_back(&pc_run::run(command).deadline(COUNT).output()?.text()))
}
