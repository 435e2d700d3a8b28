//! The units themselves: a pure function from what the node wants to files and links.

use cluster::view::paths;
use cluster::{Brick, Name, Use};

use crate::applied::Want;

/// One thing to create below the generator's directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the directory.
    pub path: String,
    /// What stands there.
    pub what: What,
}

/// A unit file, or a link that makes one unit want another.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// The text of a unit file.
    Unit(String),
    /// The target of a symbolic link.
    Link(String),
}

const MADE_BY: &str = "\
# Made by pc-generator out of /var/lib/personal-cluster/applied.json: changes here are lost.
";

/// Everything this node wants, in a stable order.
pub fn all(want: &Want) -> Vec<Entry> {
    let mut entries = Vec::new();
    for brick in &want.bricks {
        entries.extend(brick_entries(brick));
    }
    entries.extend(want.volumes.iter().map(|volume| volume_entry(volume, &want.peers)));
    entries.extend(want.vms.iter().map(vm_entry));
    entries.extend(want.after.iter().map(|(vm, first)| order_entry(vm, first)));
    entries.extend(credentials_entry(&want.credentials));
    entries
}

/// The mount, and a link that mounts it whenever its device appears: at boot, after a late unlock, after
/// somebody plugged the disk back in.
fn brick_entries(brick: &Brick) -> [Entry; 2] {
    let unit = paths::mount_unit(&brick.mount_point());
    let device = paths::device_unit(&brick.block_device());
    let link = Entry { path: format!("{device}.wants/{unit}"), what: What::Link(format!("../{unit}")) };
    let (what, users, why) = match brick.purpose {
        Use::Local => ("Local volume", "pc-storage.target pc-vm.service", "the VMs that live on it"),
        Use::Vm | Use::Backup => ("Brick of volume", "glusterd.service", "glusterd and its brick processes"),
    };
    let text = format!(
        "{MADE_BY}
[Unit]
Description={what} {volume}, {name}
Documentation=man:pc-generator(8)
# Outside local-fs.target: no boot waits for a data disk, and one that opens late closes no ordering cycle.
DefaultDependencies=no
BindsTo={device}
After={device}
# lvm2's unit deactivates every volume when it is stopped: not before this is unmounted.
After=blk-availability.service
# Its volume exists a little before its file system does.
ConditionPathExists=!{marker}
# Stopping goes the other way round: {why} end before the file system goes.
# Starting, this holds them only while a mount is under way, never for a disk that is not there.
Before={users}
Conflicts=umount.target
Before=umount.target

[Mount]
What={block}
Where={mount}
Type=xfs
Options={options}
# XFS may have to replay a log first; a dying disk must not hold the rest for ever.
TimeoutSec=5min
# Neither LazyUnmount= nor ForceUnmount=: a file system that is still written to must stay visible.
",
        volume = brick.volume,
        name = brick.name(),
        marker = paths::formatting_marker(brick.name()),
        block = brick.block_device(),
        mount = brick.mount_point(),
        options = Brick::MOUNT_OPTIONS,
    );
    [Entry { path: unit, what: What::Unit(text) }, link]
}

/// The FUSE mount of a replicated volume. Nothing pulls it in: pc-gluster starts it once its bricks answer.
fn volume_entry(volume: &Name, peers: &[String]) -> Entry {
    let mount = paths::volume_mount(volume);
    let backup = match peers {
        [] => String::new(),
        peers => format!("backup-volfile-servers={},", peers.join(":")),
    };
    let text = format!(
        "{MADE_BY}
[Unit]
Description=Volume {volume}
Documentation=man:pc-generator(8)
# Outside remote-fs.target, and no _netdev: logins and libvirtd do not wait for storage. pc-gluster starts it.
DefaultDependencies=no
After=glusterd.service network.target
# Stopping goes the other way round: VMs first, then this, then glusterd, then the network.
Before=pc-storage.target pc-vm.service
Conflicts=umount.target
Before=umount.target

[Mount]
# This node's glusterd first; any other node has the volume's layout too.
What=localhost:/{volume}
Where={mount}
Type=glusterfs
Options={backup}log-level=WARNING
TimeoutSec=3min
# The client is every VM's disk: the last thing to be killed when memory is short.
OOMScoreAdjust=-900
# No LazyUnmount=: \"unmounted\" must mean that nothing writes any more.
# No ForceUnmount=: it aborts the connection and so fails writes that could still be finished.
"
    );
    Entry { path: paths::mount_unit(&mount), what: What::Unit(text) }
}

/// Wanted by pc-vm.service, so that enabling that unit alone starts this node's VMs. A VM's name is a DNS
/// label and stands in the instance as it is: the unit uses `%i`.
fn vm_entry(vm: &Name) -> Entry {
    let path = format!("pc-vm.service.wants/pc-vm@{vm}.service");
    Entry { path, what: What::Link("/usr/lib/systemd/system/pc-vm@.service".into()) }
}

/// The first try of each comes in this order, and so does the end, the other way round; later tries are pc-vm's to hold
/// (`--in-order`), for a unit that waits for its next try is nothing that systemd orders after.
fn order_entry(vm: &Name, first: &[Name]) -> Entry {
    let units: Vec<String> = first.iter().map(|first| format!("pc-vm@{first}.service")).collect();
    let text = format!(
        "{MADE_BY}
[Unit]
After={}
",
        units.join(" ")
    );
    Entry { path: format!("pc-vm@{vm}.service.d/50-after.conf"), what: What::Unit(text) }
}

/// What lies open for root alone, for a program that runs as nobody. Only where the file wants it: with the node's key
/// one is the node.
fn credentials_entry(names: &[&str]) -> Option<Entry> {
    let secrets = paths::SECRETS;
    let line = |name: &&str| format!("LoadCredential={name}:{secrets}/{name}\nSetCredential={name}:closed\n");
    let lines: String = names.iter().map(line).collect();
    let text = format!(
        "{MADE_BY}
[Service]
# While a secret is not open, a word stands in for it: pc-exporter then ends with 75, and is tried again.
{lines}"
    );
    let path = "pc-exporter.service.d/50-credentials.conf".to_string();
    (!names.is_empty()).then_some(Entry { path, what: What::Unit(text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn escapes_as_systemd_escape_does() {
        let paths = [
            "/",
            "/srv/bricks/vms/ata-WDC_WD40-XYZ",
            "/dev/pc-nvme-eui.0025385b71b1_1/brick",
            "/.hidden/a.b",
            "/mnt//double/",
            "/srv/bricks/v/usb-A+B:0",
            "/srv/bricks/backup/wwn-0x5000c500a1b2c3d4-part1",
        ];
        for path in paths {
            let real = Command::new("systemd-escape").args(["--path", path]).output().unwrap();
            assert!(real.status.success(), "systemd-escape: {path}");
            assert_eq!(
                paths::escape_path(path),
                String::from_utf8(real.stdout).unwrap().trim_end(),
                "{path}"
            );
        }
    }
}
