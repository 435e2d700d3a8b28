//! A VM has one disk: none is made while one of it lies where the file, as it is by now, does not look.

use anyhow::Result;
use cluster::Brick;
use pc_cli::{log, refused};

use crate::domain::Guest;
use crate::places::Places;
use crate::site::Site;

/// Refuses to make a second disk, on another node's volume of the same name, for a VM that has one already. Who does not
/// answer, or has its volume not mounted, cannot tell.
pub fn only_disk(site: &Site, guest: &Guest) -> Result<()> {
    let (name, volume, me) = (guest.name, &guest.vm.volume, site.nodes.me());
    let places = guest.places();
    for node in site.cluster().nodes.iter().filter(|node| node.name.as_str() != me) {
        let there = site.nodes.of(node).and_then(|libvirt| libvirt.disk_size(&guest.uuid(), &places.disk));
        if let Err(error) = there {
            log::debug(format_args!("vm {name}: no disk on {}: {error:#}", node.name));
            continue;
        }
        let directory = places.directory;
        return Err(refused(format!(
            "vm {name}: its disk is on {0}, for every node has a volume {volume} of its own, and this is {me}\n  \
             once it is stopped: rsync -aS root@{0}:{directory}/ {directory}/",
            node.name
        )));
    }
    Ok(())
}

/// Refuses to make an empty disk for a VM whose disk is on another volume of this node: its `volume` was changed.
pub fn only_volume(site: &Site, guest: &Guest) -> Result<()> {
    let (name, volume) = (guest.name, &guest.vm.volume);
    for other in site.cluster().volumes.keys().filter(|other| *other != volume) {
        let (there, here) = (Places::of(name, other), guest.places());
        if site.common.under_root(&there.disk).exists() {
            return Err(refused(format!(
                "vm {name}: has no disk on volume {volume}, and one on {other}\n  \
                 mv {}/* {}/    (or remove it there, when it is to be lost for good)",
                there.directory, here.directory
            )));
        }
    }
    Ok(())
}

/// Refuses to make an empty disk for a VM whose disk is on this very volume, as it was laid out before its `use` changed from or
/// to `local`: a local file system has it at its top, below /mnt or by now below /srv/bricks, and a brick in a directory.
pub fn only_layout(site: &Site, guest: &Guest) -> Result<()> {
    let (name, volume) = (guest.name, &guest.vm.volume);
    let (before, top): (_, fn(&Brick) -> String) =
        if site.is_local(guest) { ("vm", Brick::brick_directory) } else { ("local", Brick::mount_point) };
    for brick in site.nodes.view.bricks().iter().filter(|brick| brick.volume == *volume) {
        let there = Places::of_copy(&format!("{}/vms/{name}", top(brick)));
        if site.common.under_root(&there.disk).exists() {
            return Err(refused(format!(
                "vm {name}: has no disk on volume {volume}, and one of the time when that had use = \"{before}\": {}\n  \
                 take [vm.{name}] out, push, write use = \"{before}\" in [volume.{volume}], put it in again and push    \
                 (or remove it there, when it is to be lost for good)",
                there.disk
            )));
        }
    }
    Ok(())
}
