//! Files of this node: configuration, marker, the kernel's watchdogs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::{Common, log, write_atomic};

use crate::watchdog::{self, DRIVER, Watchdog, modules_of};

/// A text file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Replaces a text file, in a directory that is made when it is missing. The first file that was there and is not ours
/// is kept beside it.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().with_context(|| format!("{} has no directory", path.display()))?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let kept = path.with_extension("conf.before-personal-cluster");
    let foreign = read(path)?.filter(|old| !old.starts_with("# Made by pc-ha "));
    if let Some(old) = foreign.filter(|_| !kept.exists()) {
        write_atomic(&kept, old.as_bytes(), 0o644).with_context(|| format!("keeping {}", kept.display()))?;
    }
    write_atomic(path, text.as_bytes(), 0o644)
}

/// Whether a file could not be written because its file system is not for writing.
pub fn is_read_only(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == ErrorKind::ReadOnlyFilesystem)
}

/// Takes a file away, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Has the kernel reset the machine now: nothing is stopped, unmounted or written out (the kernel's admin-guide/sysrq.rst).
pub fn power_cut(common: &Common) -> Result<()> {
    let path = common.under_root("/proc/sysrq-trigger");
    fs::write(&path, "b").with_context(|| {
        format!("{}: the kernel was not told to reset (CONFIG_MAGIC_SYSRQ?)", path.display())
    })
}

/// The watchdogs that the kernel lists, the first one first.
pub fn watchdogs(root: &Path) -> Result<Vec<Watchdog>> {
    let directory = root.join("sys/class/watchdog");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", directory.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", directory.display()))?;
        let device = format!("/dev/{}", entry.file_name().to_string_lossy());
        // A driver need not have all attributes, and a kernel need not show them.
        let read = |name: &str| match name {
            DRIVER => {
                let module = fs::read_link(entry.path().join(name)).ok()?;
                Some(module.file_name()?.to_string_lossy().into_owned())
            }
            _ => fs::read_to_string(entry.path().join(name)).ok(),
        };
        found.push(Watchdog::new(device, |name| read(name).map(|text| text.trim().to_string())));
    }
    found.sort();
    watchdog::attribute(&mut found, &names(&root.join("sys/module/watchdog/holders")));
    Ok(found)
}

/// What is in a directory; nothing where there is none.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Directories of modules-load.d(5) that outlast a boot; a file in one hides those of its name in the next ones.
const MODULES: [&str; 4] =
    ["etc/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d", "lib/modules-load.d"];

/// The modules that every boot loads because a file says so.
pub fn boot_modules(root: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeMap::new();
    for directory in MODULES.map(|directory| root.join(directory)) {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("reading {}", directory.display())),
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", directory.display()))?;
            files.entry(entry.file_name()).or_insert(entry.path());
        }
    }
    let mut modules = BTreeSet::new();
    for path in files.values().filter(|path| path.extension().is_some_and(|end| end == "conf")) {
        // A link that leads nowhere names nothing.
        modules.extend(read(path)?.iter().flat_map(|text| modules_of(text)));
    }
    Ok(modules)
}

/// A process of sbd's is there, by the kernel's word.
pub fn sbd_runs(root: &Path) -> bool {
    let Ok(processes) = fs::read_dir(root.join("proc")) else { return false };
    processes.flatten().any(|process| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.trim_end() == "sbd")
    })
}

/// corosync, sbd and pacemaker may start on this node.
pub fn is_enabled(root: &Path) -> bool {
    root.join(cluster::paths::HA_ENABLED.trim_start_matches('/')).exists()
}

/// From now on they may, and pc-vm starts nothing by itself.
pub fn enable(root: &Path) -> Result<()> {
    let path = root.join(cluster::paths::HA_ENABLED.trim_start_matches('/'));
    if path.exists() {
        return Ok(());
    }
    write_atomic(&path, b"", 0o644)?;
    log::info(format_args!("{}: pacemaker is the only starter of VMs on this node", path.display()));
    Ok(())
}
