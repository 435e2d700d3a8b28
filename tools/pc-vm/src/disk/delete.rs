//! The end of a VM's disk: of one that the file has no more, that runs nowhere, and only when the loss is named.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use cluster::{Name, Use};
use pc_cli::{Exit, emit, log, refused, try_again};
use pc_run::Cost;

use crate::disk::loss::loss;
use crate::disk::{Answer, Did, snapshot};
use crate::had;
use crate::host::sync_parent;
use crate::idle::{Claims, hold_uuid};
use crate::image_lock;
use crate::places::Places;
use crate::qemu_img;
use crate::site::{Site, tell};
use crate::store::{Carrier, Store};

/// How the end was asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// The volume, when the VM has a directory on more than one
    #[arg(long, value_name = "VOLUME")]
    pub volume: Option<String>,
    /// Without this flag: says what would be lost, and refuses
    #[arg(long)]
    pub yes_destroy_its_disk: bool,
    #[command(flatten)]
    pub claims: Claims,
}

/// What we, pc-borg and an interrupted copy of either put into a VM's directory. After its snapshots the disk goes first: what
/// is left when this is cut off is no VM, and is removed by the next attempt. The lock goes last.
const OURS: [&str; 11] = [
    "disk.img",
    "instant.qcow2",
    "instant.json",
    "instant.lock",
    "seed.img",
    "nvram.fd",
    "domain.xml",
    "restored.json",
    "backup-frozen.json",
    "owner.json",
    "lock",
];
/// Beside those, which are written under the name with a dot before it first.
const OURS_BEGIN: [&str; 2] = ["disk.img.", "backup-scratch."];

/// Whether one of us gives a file of a VM's directory this name.
fn is_ours(name: &str) -> bool {
    let half = |ours: &&str| name.strip_prefix('.').is_some_and(|rest| rest.starts_with(&format!("{ours}.")));
    OURS.contains(&name) || OURS.iter().any(half) || OURS_BEGIN.iter().any(|begin| name.starts_with(begin))
}

/// Removes the directory.
pub fn delete(site: &Site, name: &str, options: &Options) -> Result<Exit> {
    let started = Instant::now();
    let uuid = site.uuid_of(name)?;
    left_the_file(site, name)?;
    let found = find(site, name, options.volume.as_deref())?;
    let Found { directory, store, local, .. } = &found;
    let command = format!("pc-vm delete {name} --volume {} --yes-destroy-its-disk", found.volume);
    let lock = hold_uuid(site, name, &uuid, store, *local, &options.claims, &command)?;
    // With the VM's lock: nobody begins to.
    let copier = store.lock_copier()?;
    let snapshots = store.snapshots();
    let kept = states(&snapshots)?;
    let files = files(directory, &snapshots)?;
    let (bytes, mut what) = loss(store)?;
    if !kept.is_empty() {
        what.push_str(", and what its snapshots hold");
    }
    if !options.yes_destroy_its_disk {
        return Err(refused(format!("vm {name}: {what}, would be lost\n  {command}")));
    }
    // An empty one is of no size for qemu-img.
    if bytes.is_some_and(|bytes| bytes > 0) {
        qemu_img::require_unlocked(&store.disk())?;
    }
    require_unlocked(&store.overlay())?;
    tell(&format!("removing the disk of vm {name}"));
    for file in kept.iter().chain(&files) {
        fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
    }
    if snapshots.exists() {
        fs::remove_dir(&snapshots).with_context(|| format!("removing {}", snapshots.display()))?;
    }
    fs::remove_dir(directory).with_context(|| format!("removing {}", directory.display()))?;
    had::forget(&site.common.root, name)?;
    drop((copier, lock));
    sync_parent(directory)?;
    log::warning(format_args!("removed vm {name}: {what}"));
    let answer = Answer {
        schema: "pc.vm.disk/1",
        vm: name.into(),
        did: Did::Deleted,
        disk: store.disk().display().to_string(),
        size_bytes: bytes.unwrap_or_default(),
        was_bytes: None,
        from: None,
        to: None,
        running: false,
        cost: Cost::since(started),
    };
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// Refuses while the file, or the one in force, has the VM: its next start would make it a new disk.
fn left_the_file(site: &Site, name: &str) -> Result<()> {
    if site.cluster().vms.contains_key(name) {
        return Err(refused(format!(
            "vm {name}: is in the file\n  take [vm.{name}] out of it, then: pc-config push"
        )));
    }
    let path = site.common.under_root(pc_cli::APPLIED_FILE);
    if !path.try_exists().with_context(|| format!("looking for {}", path.display()))? {
        return Ok(());
    }
    let applied = cluster::load_applied(&path).map_err(refused)?;
    if applied.vms.contains_key(name) {
        return Err(refused(format!("vm {name}: is in the file that was applied last\n  pc-config push")));
    }
    Ok(())
}

/// Where a VM that the file does not place has its directory.
struct Found {
    volume: Name,
    directory: PathBuf,
    store: Store,
    /// Every node has this volume for itself.
    local: bool,
}

fn find(site: &Site, name: &str, volume: Option<&str>) -> Result<Found> {
    let volumes = &site.cluster().volumes;
    if let Some(volume) = volume.filter(|volume| !volumes.contains_key(*volume)) {
        let known: Vec<&str> = volumes.keys().map(Name::as_str).collect();
        return Err(refused(format!("no [volume] is called {volume:?}: the file has {}", known.join(", "))));
    }
    let vm = Name::try_from(name.to_string()).map_err(refused)?;
    let (mut found, mut unknown) = (Vec::new(), None);
    for (known, section) in volumes {
        if volume.is_some_and(|volume| volume != known.as_str()) || section.purpose == Use::Backup {
            continue;
        }
        let local = section.purpose == Use::Local;
        let places = Places::of(&vm, known);
        let directory = site.common.under_root(&places.directory);
        let carrier = if local { Carrier::Disk } else { Carrier::Nodes };
        let store = Store::new(&site.common.root, name, places, carrier);
        if let Err(error) = store.require_mounted() {
            unknown = Some(error);
            continue;
        }
        match directory.symlink_metadata() {
            Ok(_) => found.push(Found { volume: known.clone(), directory, store, local }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(try_again(format!("looking for {}: {error}", directory.display()))),
        }
    }
    let names: Vec<String> = found.iter().map(|found| found.volume.to_string()).collect();
    match (found.pop(), names.len()) {
        (Some(only), 1) => Ok(only),
        // One that is not mounted may hold it.
        (None, _) => Err(unknown.unwrap_or_else(|| {
            refused(format!("vm {name}: has no directory on a volume, so there is nothing to remove"))
        })),
        _ => Err(refused(format!(
            "vm {name}: has a directory on {}: which one?\n  pc-vm delete {name} --volume {}",
            names.join(" and "),
            names[0]
        ))),
    }
}

/// All files of the directory in the order in which they go; refuses when there is anything that none of us made.
fn files(directory: &Path, snapshots: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if entry.path() == snapshots {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().with_context(reading)?.is_file();
        let place = OURS.iter().position(|known| *known == name);
        if !(is_file && is_ours(&name)) {
            return Err(foreign(&entry.path()));
        }
        files.push((place.unwrap_or(1), entry.path()));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// All states of the disk, and what is left of one that was being made; refuses as above.
fn states(snapshots: &Path) -> Result<Vec<PathBuf>> {
    // Through a link it would be somebody else's directory.
    if snapshots.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
        return Err(foreign(snapshots));
    }
    let states = snapshot::files(snapshots)?;
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    match states.iter().find(|path| !is_file(path) || !snapshot::is_ours(path)) {
        Some(path) => Err(foreign(path)),
        None => Ok(states),
    }
}

fn foreign(path: &Path) -> anyhow::Error {
    refused(format!("{}: was not made by pc-vm or pc-borg\n  move it away", path.display()))
}

/// As qemu-img does of a disk, for an overlay whose archive is not there to open it with.
fn require_unlocked(overlay: &Path) -> Result<()> {
    if overlay.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    let overlay_is = |what: &str| format!("{}: {what}", overlay.display());
    match image_lock::is_held(overlay) {
        Some(false) => Ok(()),
        Some(true) => {
            Err(refused(overlay_is("a QEMU has it open, whatever libvirt says") + "\n  pc-vm list"))
        }
        None => Err(try_again(overlay_is("whether a QEMU has it open cannot be told"))),
    }
}
