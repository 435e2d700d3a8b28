//! What this node's libvirt may still make a QEMU of: a start that was handed to it, a guest that is being moved here. While there
//! is neither, a libvirt that hangs hides nothing that /proc does not show.
//!
//! Asked before /proc is looked at, never after: the note goes once the QEMU is there to be seen.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{log, write_atomic};

use crate::probe;
use crate::site::Site;

/// Below /run: what was handed to libvirt does not outlast the boot either.
const NOTES: &str = "/run/personal-cluster/vm-starting";
/// The record is on a volume, which may hang.
const READING: Duration = Duration::from_secs(10);

/// Hands a start to libvirt. A program that is killed on the way, and a libvirt that answers too late, leave the note: the QEMU may
/// come at any time until libvirt itself says that it does not.
pub fn hand_over(site: &Site, vm: &str, create: impl FnOnce() -> Result<()>) -> Result<()> {
    let directory = site.common.under_root(NOTES);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    write_atomic(&directory.join(vm), b"", 0o644)?;
    create()?;
    forget(site, vm);
    Ok(())
}

/// Nothing of it is under way: its QEMU was seen, or libvirt and /proc both say that there is none.
pub fn forget(site: &Site, vm: &str) {
    let note = site.common.under_root(NOTES).join(vm);
    match fs::remove_file(&note) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warning(format_args!("vm {vm}: removing {}: {error}", note.display()));
        }
        _ => {}
    }
}

/// For when libvirt is silent: `Ok` when the VM's QEMU is not here and nobody could still make it, else why that is not known.
pub fn cannot_come(site: &Site, vm: &str, uuid: &str) -> Result<(), String> {
    start(site, vm)?;
    move_here(site, vm)?;
    match probe::process(site, uuid)? {
        None => Ok(()),
        Some(pid) => Err(format!("it runs here, process {pid}")),
    }
}

fn start(site: &Site, vm: &str) -> Result<(), String> {
    match site.common.under_root(NOTES).join(vm).try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err("libvirt was told to start it".into()),
        Err(error) => Err(format!("whether libvirt was told to start it: {error}")),
    }
}

/// The one who moves a guest writes where to before he begins, and libvirt makes a QEMU there without anybody's start.
fn move_here(site: &Site, vm: &str) -> Result<(), String> {
    let guest = site.guest(vm).map_err(|error| format!("{error:#}"))?;
    if site.is_local(&guest) || guest.vm.has_devices() {
        return Ok(());
    }
    let store = site.store(&guest);
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the deadline.
    std::thread::spawn(move || drop(sender.send(store.require_mounted().and_then(|()| store.owner()))));
    let read = receiver.recv_timeout(READING);
    let owner = match read {
        Ok(read) => read.map_err(|error| format!("whether it is being moved here: {error:#}"))?,
        Err(_) => return Err("whether it is being moved here: its volume does not answer".into()),
    };
    match owner.and_then(|owner| owner.moving_to) {
        Some(to) if to == site.nodes.me() => Err("it may be on its way here, by its record".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::tests::{FILE, on_site};

    /// Killed at any instruction, the note is there for as long as libvirt might act.
    #[test]
    fn a_start_is_noted_before_libvirt_is_told_and_until_it_has_done_it() {
        let cluster = cluster::parse("test", FILE).unwrap();
        let root = tempfile::tempdir().unwrap();
        let note = root.path().join("run/personal-cluster/vm-starting/mail");
        on_site(&cluster, root.path(), "", |site| {
            let hangs = hand_over(site, "mail", || {
                assert!(note.exists());
                anyhow::bail!("no answer within 600 s")
            });
            assert!(hangs.is_err() && note.exists());
            hand_over(site, "mail", || Ok(())).unwrap();
            assert!(!note.exists());
            forget(site, "mail");
            // No note, no start.
            fs::remove_dir(note.parent().unwrap()).unwrap();
            fs::write(note.parent().unwrap(), "").unwrap();
            let error = hand_over(site, "mail", || panic!("libvirt was told")).unwrap_err();
            assert!(error.to_string().starts_with("creating "), "{error:#}");
        });
    }
}
