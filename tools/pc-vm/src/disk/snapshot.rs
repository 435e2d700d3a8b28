//! States of a disk to come back to. A raw disk holds no snapshot of itself, and one that grows beside it would be what
//! backups, moves and the image lock do not look at: a state is a whole copy, made and brought back while the VM is stopped.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cluster::{Bytes, Name};
use pc_cli::{Exit, emit, log, refused, write_atomic};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::disk::export::write;
use crate::idle::{Claims, Disk, Idle, hold, require_home, runs_nowhere};
use crate::image::replace_disk;
use crate::qemu_img::{self, Format, Input};
use crate::site::{Site, tell};
use crate::store::Store;

/// What is to become of a state.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Keep the state of a stopped VM's disk: a copy beside it
    Create {
        /// The VM
        name: String,
        /// What the state is called
        state: String,
        #[command(flatten)]
        claims: Claims,
    },
    /// Print the states that are kept
    List {
        /// The VM
        name: String,
    },
    /// Bring a stopped VM's disk back to a state, which stays
    Revert {
        /// The VM
        name: String,
        /// The state
        state: String,
        /// Without this flag: says what would be lost, and refuses
        #[arg(long)]
        yes_lose_what_was_written_since: bool,
        #[command(flatten)]
        claims: Claims,
    },
    /// Forget a state; the disk stays as it is
    Delete {
        /// The VM
        name: String,
        /// The state
        state: String,
        /// Without this flag: says what would be lost, and refuses
        #[arg(long)]
        yes_destroy_this_snapshot: bool,
    },
}

/// `pc.vm.snapshots/1`: what is kept of a VM, after whatever was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshots {
    /// `pc.vm.snapshots/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// By age, the oldest first.
    #[serde(rename = "snapshots")]
    pub kept: Vec<Snapshot>,
}

/// One state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// What it is called.
    pub name: String,
    /// When it was made, RFC 3339 UTC.
    pub made_at: String,
    /// What it takes.
    pub allocated_bytes: u64,
}

impl fmt::Display for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kept.is_empty() {
            return writeln!(f, "vm {}: no snapshot", self.vm);
        }
        self.kept.iter().try_for_each(|state| {
            let mebibytes = state.allocated_bytes.div_ceil(1 << 20);
            writeln!(f, "{}  {}  {mebibytes} MiB", state.made_at, state.name)
        })
    }
}

const DISK: &str = ".qcow2";
const VARIABLES: &str = ".nvram.fd";

/// Does it, and tells what is kept then.
pub fn run(site: &Site, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Create { name, state, claims } => create(site, &name, &state, &claims),
        Verb::List { name } => {
            let guest = site.guest(&name)?;
            require_home(site, &guest, &format!("pc-vm snapshot list {name}"))?;
            let store = site.store(&guest);
            store.require_mounted()?;
            tell_kept(site, &name, &store)
        }
        Verb::Revert { name, state, yes_lose_what_was_written_since: yes, claims } => {
            revert(site, &name, &state, yes, &claims)
        }
        Verb::Delete { name, state, yes_destroy_this_snapshot: yes } => delete(site, &name, &state, yes),
    }
}

fn create(site: &Site, name: &str, state: &str, claims: &Claims) -> Result<Exit> {
    let command = format!("pc-vm snapshot create {name} {state}");
    named(state)?;
    let idle = hold(site, name, Disk::There, claims, &command)?;
    let (disk, nvram) = (idle.store.disk(), idle.store.nvram());
    let directory = idle.store.snapshots();
    let target = directory.join(format!("{state}{DISK}"));
    if target.symlink_metadata().is_ok() {
        return Err(refused(format!("vm {name}: has a snapshot {state}\n  pc-vm snapshot list {name}")));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.with_context(|| format!("creating {}", directory.display()))?;
    sweep(&directory)?;
    tell(&format!("copying the disk of vm {name}"));
    // Before the disk: a state that has a name is whole.
    copy_variables(&nvram, &directory.join(format!("{state}{VARIABLES}")))?;
    write(&target, |temporary| qemu_img::convert(&Input::raw(&disk), Format::Qcow2, temporary))
        .with_context(|| format!("writing {}", target.display()))?;
    log::info(format_args!("vm {name}: made snapshot {state}"));
    tell_kept(site, name, &idle.store)
}

fn revert(site: &Site, name: &str, state: &str, yes: bool, claims: &Claims) -> Result<Exit> {
    let command = format!("pc-vm snapshot revert {name} {state} --yes-lose-what-was-written-since");
    named(state)?;
    let Idle { guest, store, .. } = &hold(site, name, Disk::There, claims, &command)?;
    let kept = find(store, name, state)?;
    if !yes {
        return Err(refused(format!(
            "vm {name}: what it has written since {}, when snapshot {state} was made, would be lost\n  {command}",
            kept.made_at
        )));
    }
    let disk = store.disk();
    qemu_img::require_unlocked(&disk)?;
    let path = store.snapshots().join(format!("{state}{DISK}"));
    let input = Input::File { path, format: Format::Qcow2 };
    // As large as the file has it by now, and never smaller than it was.
    let bytes = qemu_img::info(&input)?.virtual_size.max(guest.vm.disk.0);
    tell(&format!("bringing the disk of vm {name} back to {state}"));
    replace_disk(&disk, Bytes(bytes), |temporary| {
        qemu_img::convert(&input, Format::Raw, temporary)?;
        // That took a while, and a guest that was started meanwhile would write to a file without a name.
        qemu_img::require_unlocked(&disk)?;
        runs_nowhere(site, name, &guest.uuid(), store, site.is_local(guest), claims, &command)
    })?;
    // After the disk: the copy takes long, and whoever is cut off in it finds both as they were.
    copy_variables(&store.snapshots().join(format!("{state}{VARIABLES}")), &store.nvram()).with_context(|| {
        format!("vm {name}: its disk is that of snapshot {state}, its UEFI variables only when this is typed again")
    })?;
    log::warning(format_args!("vm {name}: its disk is that of {}, snapshot {state}", kept.made_at));
    tell_kept(site, name, store)
}

/// No guest has a state open: it may run meanwhile, but nobody may be reading it.
fn delete(site: &Site, name: &str, state: &str, yes: bool) -> Result<Exit> {
    let command = format!("pc-vm snapshot delete {name} {state} --yes-destroy-this-snapshot");
    named(state)?;
    let guest = site.guest(name)?;
    require_home(site, &guest, &command)?;
    let store = site.store(&guest);
    store.require_mounted()?;
    let kept = find(&store, name, state)?;
    if !yes {
        return Err(refused(format!(
            "vm {name}: its state of {}, snapshot {state}, would be lost\n  {command}",
            kept.made_at
        )));
    }
    let _lock = store.lock()?;
    let directory = store.snapshots();
    let path = directory.join(format!("{state}{DISK}"));
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    // Without its disk it is nobody's.
    let _ = fs::remove_file(directory.join(format!("{state}{VARIABLES}")));
    log::warning(format_args!("vm {name}: removed snapshot {state}, made {}", kept.made_at));
    tell_kept(site, name, &store)
}

/// A state is called as a VM may be: its name is a file's.
fn named(state: &str) -> Result<()> {
    let name = Name::try_from(state.to_string());
    name.map(drop).map_err(|fault| refused(format!("no snapshot can be called {state:?}: {fault}")))
}

fn find(store: &Store, name: &str, state: &str) -> Result<Snapshot> {
    let kept = kept(&store.snapshots())?;
    let names: Vec<String> = kept.iter().map(|kept| kept.name.clone()).collect();
    kept.into_iter().find(|kept| kept.name == state).ok_or_else(|| {
        let known = if names.is_empty() { "none".into() } else { names.join(", ") };
        refused(format!("vm {name}: has no snapshot {state:?}: there is {known}"))
    })
}

fn tell_kept(site: &Site, name: &str, store: &Store) -> Result<Exit> {
    let kept = kept(&store.snapshots())?;
    emit(site.common.json, &Snapshots { schema: "pc.vm.snapshots/1", vm: name.into(), kept })?;
    Ok(Exit::Done)
}

fn kept(directory: &Path) -> Result<Vec<Snapshot>> {
    use std::os::unix::fs::MetadataExt;
    let mut kept = Vec::new();
    for path in files(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(state) = name.strip_suffix(DISK).filter(|state| !state.starts_with('.')) else { continue };
        let meta = path.metadata().with_context(|| format!("looking at {}", path.display()))?;
        let made =
            OffsetDateTime::from_unix_timestamp(meta.mtime()).context("reading the time of a snapshot")?;
        let made_at = made.format(&Rfc3339).context("writing the time")?;
        kept.push(Snapshot { name: state.into(), made_at, allocated_bytes: meta.blocks() * 512 });
    }
    kept.sort_by(|one, other| (&one.made_at, &one.name).cmp(&(&other.made_at, &other.name)));
    Ok(kept)
}

/// All files of the directory, when it is there.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    entries.map(|entry| Ok(entry.with_context(reading)?.path())).collect()
}

/// Whether this is a file of a state, or one that was being made: `NAME.qcow2`, `.NAME.qcow2.4711`.
pub fn is_ours(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let whole = match name.strip_prefix('.') {
        None => Some(name),
        Some(rest) => [DISK, VARIABLES]
            .iter()
            .find_map(|end| rest.find(&format!("{end}.")).map(|at| &rest[..at + end.len()])),
    };
    let state = whole.and_then(|name| name.strip_suffix(DISK).or_else(|| name.strip_suffix(VARIABLES)));
    state.is_some_and(|state| named(state).is_ok())
}

/// What an interrupted copy has left. The caller holds the VM's lock: nobody is writing it.
fn sweep(directory: &Path) -> Result<()> {
    for path in files(directory)? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            fs::remove_file(&path)
                .with_context(|| format!("removing an interrupted copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Copies UEFI variables, when there are any.
pub fn copy_variables(from: &Path, to: &Path) -> Result<()> {
    match fs::read(from) {
        Ok(variables) => write_atomic(to, &variables, 0o600),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reading {}", from.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_state_are_known_by_their_names() {
        for ours in ["before.qcow2", "before.nvram.fd", ".before-2.qcow2.4711", ".before.nvram.fd.4711.0"] {
            assert!(is_ours(&Path::new("/v/snapshots").join(ours)), "{ours}");
        }
        for foreign in
            ["notes", "before.img", ".qcow2", "Not A Name.qcow2", ".before.qcow2", ".swp", "before.qcow2.bak"]
        {
            assert!(!is_ours(&Path::new("/v/snapshots").join(foreign)), "{foreign}");
        }
    }
}
