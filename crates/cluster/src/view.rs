//! One node's view of the file: which bricks, mounts and VMs are its own. The names made here are the
//! contract between tools: mapper, volume group, mount points.

use crate::model::{Cluster, Node, Use, Vm};
use crate::names::{DevicePath, Name};

/// What one disk of one node becomes: disk -> LUKS2 -> LVM thin pool -> XFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brick {
    /// The volume it belongs to.
    pub volume: Name,
    /// What the volume is for.
    pub purpose: Use,
    /// The disk.
    pub device: DevicePath,
}

impl Brick {
    /// The brick's name: the disk's by-id name, so that it says which hardware it is and never shifts
    /// when another disk leaves the file.
    pub fn name(&self) -> &str {
        self.device.id()
    }

    /// Device-mapper name of the open LUKS device: `pc-<disk>`, below `/dev/mapper`.
    pub fn mapper(&self) -> String {
        mapper_name(&self.device)
    }

    /// LVM volume group: the same name (LVM allows no colon, which becomes `_`).
    pub fn volume_group(&self) -> String {
        self.mapper().replace(':', "_")
    }

    /// Thin pool within the group.
    pub fn pool(&self) -> &'static str {
        "pool"
    }

    /// Thin logical volume within the pool.
    pub fn logical_volume(&self) -> &'static str {
        "brick"
    }

    /// The block device with the file system: `/dev/<vg>/brick`.
    pub fn block_device(&self) -> String {
        format!("/dev/{}/{}", self.volume_group(), self.logical_volume())
    }

    /// Where the file system is mounted: `/srv/bricks/<volume>/<disk>`, or for a local volume `/mnt/<volume>`.
    pub fn mount_point(&self) -> String {
        match self.purpose {
            Use::Local => format!("/mnt/{}", self.volume),
            Use::Vm | Use::Backup => format!("/srv/bricks/{}/{}", self.volume, self.name()),
        }
    }

    /// How the file system is mounted: no write per read; `nouuid`, because a thin snapshot of the brick
    /// carries the same UUID and may be mounted beside it; nothing on it is a device or runs as another user.
    pub const MOUNT_OPTIONS: &'static str = "noatime,inode64,nouuid,nodev,nosuid";

    /// The directory Gluster uses: a subdirectory, so that an unmounted brick is never written to.
    pub fn brick_directory(&self) -> String {
        format!("{}/brick", self.mount_point())
    }
}

/// Device-mapper name of a disk's LUKS device when it is open.
pub fn mapper_name(device: &DevicePath) -> String {
    format!("pc-{}", device.id())
}

/// What a node is, found by name.
#[derive(Debug, Clone)]
pub struct NodeView<'a> {
    /// The whole file.
    pub cluster: &'a Cluster,
    /// This node's entry.
    pub node: &'a Node,
}

/// Why a node has no view. The remedy is for a machine that looked for itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}\n  rename this machine, or say which node it is with --node", self.told())]
pub struct UnknownNode {
    /// The name that was looked for.
    pub name: String,
    /// The names there are.
    pub known: String,
}

impl UnknownNode {
    /// The same without a remedy, for a name that somebody typed.
    pub fn told(&self) -> String {
        format!("no [[node]] is called {:?}: the file has {}", self.name, self.known)
    }
}

impl Cluster {
    /// The view of the node called `name` (a host name; a domain part is ignored).
    pub fn view(&self, name: &str) -> Result<NodeView<'_>, UnknownNode> {
        let label = name.split('.').next().unwrap_or(name);
        let node = self.nodes.iter().find(|node| node.name.as_str() == label);
        node.map(|node| NodeView { cluster: self, node }).ok_or_else(|| UnknownNode {
            name: name.into(),
            known: match self.nodes.len() {
                0 => "no node".into(),
                _ => self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "),
            },
        })
    }

    /// All bricks of one node, in the order of the file.
    pub fn bricks_of(&self, node: &Node) -> Vec<Brick> {
        let of_volume = |(volume, devices): (&Name, &Vec<DevicePath>)| {
            let purpose = self.volumes.get(volume).map_or(Use::Local, |volume| volume.purpose);
            let volume = volume.clone();
            devices
                .iter()
                .map(move |device| Brick { volume: volume.clone(), purpose, device: device.clone() })
                .collect::<Vec<_>>()
        };
        node.disks.iter().flat_map(of_volume).collect()
    }

    /// Whether a VM can run at home only: its disk, or a device of it, is on that node and on no other.
    pub fn stays_home(&self, vm: &Vm) -> bool {
        let volume = self.volumes.get(&vm.volume);
        vm.has_devices() || volume.is_some_and(|volume| volume.purpose == Use::Local)
    }

    /// The node that starts a VM until pacemaker has taken over.
    pub fn home_of(&self, vm: &Vm) -> Option<&Node> {
        match &vm.home {
            Some(home) => self.nodes.iter().find(|node| node.name == *home),
            None => self.nodes.first(),
        }
    }
}

impl NodeView<'_> {
    /// This node's bricks.
    pub fn bricks(&self) -> Vec<Brick> {
        self.cluster.bricks_of(self.node)
    }

    /// The other nodes, in the order of the file.
    pub fn peers(&self) -> impl Iterator<Item = &Node> {
        self.cluster.nodes.iter().filter(|node| node.name != self.node.name)
    }

    /// VMs that this node starts until pacemaker has taken over.
    pub fn home_vms(&self) -> impl Iterator<Item = (&Name, &Vm)> {
        self.cluster
            .vms
            .iter()
            .filter(|(_, vm)| self.cluster.home_of(vm).is_some_and(|home| home.name == self.node.name))
    }
}

/// Where things of the cluster stand on every node.
pub mod paths {
    use crate::names::Name;

    /// Clear certificates and public keys (0644).
    pub const TRUST: &str = "/etc/personal-cluster/trust";
    /// Sealed secrets: one `NAME.jwe` each (0600).
    pub const SEALED: &str = "/etc/personal-cluster/sealed";
    /// Open secrets, on a tmpfs (directory 0700, files 0600, named NAME).
    pub const SECRETS: &str = "/run/personal-cluster/secrets";
    /// State that survives a reboot.
    pub const STATE: &str = "/var/lib/personal-cluster";
    /// Exists once pacemaker has taken over on this node; corosync, pacemaker and sbd start only with it. Until
    /// then a VM starts on its home node although the file has `[ha]`.
    pub const HA_ENABLED: &str = "/var/lib/personal-cluster/ha-enabled";

    /// Where a volume is mounted on every node.
    pub fn volume_mount(volume: &Name) -> String {
        format!("/mnt/{volume}")
    }

    /// Where a replicated volume keeps the header backups of a node's disks.
    pub fn header_copies(volume: &Name, node: &str) -> String {
        format!("{}/headers/{node}", volume_mount(volume))
    }

    /// Whether something is mounted at `point`, by the text of `/proc/self/mountinfo` (field 5 of `proc_pid_mountinfo(5)`).
    /// Not stat(2): that may hang on a volume without quorum. The points asked about hold nothing that is escaped there.
    pub fn is_mounted(mountinfo: &str, point: &str) -> bool {
        mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(point))
    }

    /// Exists while pc-brick makes the file system of a disk: its mount unit is skipped until that is done.
    pub fn formatting_marker(disk: &str) -> String {
        format!("/run/personal-cluster/formatting/{disk}")
    }

    /// The name of the systemd unit of a mount point: `/srv/a-b` is `srv-a\x2db.mount`.
    pub fn mount_unit(mount_point: &str) -> String {
        format!("{}.mount", escape_path(mount_point))
    }

    /// The name of the systemd unit of a block device: `/dev/vg/lv` is `dev-vg-lv.device`.
    pub fn device_unit(device: &str) -> String {
        format!("{}.device", escape_path(device))
    }

    /// What `systemd-escape --path` prints (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
    pub fn escape_path(path: &str) -> String {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return "-".into();
        }
        let mut name = String::new();
        for (index, byte) in parts.join("/").bytes().enumerate() {
            match byte {
                b'/' => name.push('-'),
                b'.' if index == 0 => name.push_str("\\x2e"),
                b':' | b'_' | b'.' => name.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
                byte => name.extend(["\\x", &format!("{byte:02x}")]),
            }
        }
        name
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn mount_points_are_compared_whole() {
            let mounts = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                61 24 0:51 / /mnt/vms rw,relatime shared:30 - fuse.glusterfs localhost:/vms rw,user_id=0\n";
            assert!(is_mounted(mounts, "/mnt/vms") && is_mounted(mounts, "/"));
            for other in ["/mnt/vm", "/mnt/vms/vms", "/mnt", ""] {
                assert!(!is_mounted(mounts, other), "{other}");
            }
        }
    }
}
