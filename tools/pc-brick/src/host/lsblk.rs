//! lsblk(8): what a block device is, and what stands on it.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use xshell::{Shell, cmd};

/// One device with everything above it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Block {
    /// Kernel name, or the device-mapper name.
    pub name: String,
    /// `disk`, `part`, `crypt`, `lvm`, `raid1`, `mpath`, `loop`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// In bytes.
    pub size: u64,
    /// Write-protected.
    pub ro: bool,
    /// Spinning.
    pub rota: bool,
    /// Largest discard in bytes; 0: it takes none.
    #[serde(rename = "disc-max")]
    pub discard_max: u64,
    /// Where it is mounted; `[SWAP]` for swap.
    #[serde(default)]
    pub mountpoints: Vec<Option<String>>,
    /// What uses it.
    #[serde(default)]
    pub children: Vec<Block>,
}

#[derive(Deserialize)]
struct Answer {
    blockdevices: Vec<Block>,
}

/// Asks about one device.
pub fn block(sh: &Shell, device: &Path) -> Result<Block> {
    let columns = "NAME,TYPE,SIZE,RO,ROTA,DISC-MAX,MOUNTPOINTS";
    let run = pc_run::run(cmd!(sh, "lsblk --json --bytes --output {columns} {device}"));
    let text = run.read().with_context(|| format!("asking about {}", device.display()))?;
    parse(&text).with_context(|| format!("reading what lsblk says of {}", device.display()))
}

fn parse(text: &str) -> Result<Block> {
    let answer: Answer = serde_json::from_str(text)?;
    answer.blockdevices.into_iter().next().context("no device in the answer")
}

/// What stands on a disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Above {
    /// Who uses it, other than the brick itself.
    pub users: Vec<String>,
    /// Its partitions; those that are mounted or held are users, too.
    pub partitions: Vec<String>,
    /// The brick's LUKS device is open.
    pub open: bool,
}

/// What stands on a disk. Everything inside the brick's volume group is its own: thin snapshots, too.
pub fn above(disk: &Block, mapper: &str, group: &str) -> Above {
    let mut above = Above { users: mounts(disk), ..Above::default() };
    // Device-mapper names double the hyphens of a group and join group and volume by a single one.
    let own = format!("{}-", group.replace('-', "--"));
    // cryptsetup's own short-lived mapping while it reads or writes a keyslot without AF_ALG.
    let lasting = disk.children.iter().filter(|child| !child.name.starts_with("temporary-cryptsetup-"));
    for child in lasting {
        if child.kind == "crypt" && child.name == mapper {
            above.open = true;
            above.users.extend(mounts(child));
            let foreign = child.children.iter().filter(|above| !above.name.starts_with(&own));
            above.users.extend(foreign.flat_map(described));
        } else if child.kind == "part" {
            above.partitions.push(child.name.clone());
            above.users.extend(mounts(child));
            above.users.extend(child.children.iter().flat_map(described));
        } else {
            above.users.extend(described(child));
        }
    }
    above.users.sort();
    above.users.dedup();
    above
}

/// Mount points of a device and everything above it.
pub fn all_mounts(block: &Block) -> Vec<String> {
    let own = block.mountpoints.iter().flatten().cloned();
    own.chain(block.children.iter().flat_map(all_mounts)).collect()
}

fn mounts(block: &Block) -> Vec<String> {
    let place = |point: &String| match point.as_str() {
        "[SWAP]" => format!("{} is swap", block.name),
        point => format!("{} mounted at {point}", block.name),
    };
    block.mountpoints.iter().flatten().map(place).collect()
}

fn described(block: &Block) -> Vec<String> {
    let above = block.children.iter().flat_map(described);
    std::iter::once(format!("{} ({})", block.name, block.kind)).chain(mounts(block)).chain(above).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: &str = r#"{"blockdevices": [{"name":"loop3","type":"loop","size":67108864,"ro":false,"rota":true,
        "disc-max":4294966784,"mountpoints":["/tmp/brick/m"]}]}"#;

    const BRICK: &str = r#"{"blockdevices": [{"name":"vdb","type":"disk","size":4294967296,"ro":false,"rota":true,
        "disc-max":0,"mountpoints":[null],"children":[{"name":"pc-virtio-d1","type":"crypt","size":4278190080,
        "ro":false,"rota":true,"disc-max":0,"mountpoints":[null],"children":[
        {"name":"pc--virtio--d1-pool_tmeta","type":"lvm","size":16777216,"ro":false,"rota":true,"disc-max":0,
         "mountpoints":[null],"children":[{"name":"pc--virtio--d1-pool-tpool","type":"lvm","size":4,"ro":false,
         "rota":true,"disc-max":0,"mountpoints":[null],"children":[{"name":"pc--virtio--d1-brick","type":"lvm",
         "size":4,"ro":false,"rota":true,"disc-max":0,"mountpoints":["/srv/bricks/vms/virtio-d1"]}]}]}]}]}]}"#;

    #[test]
    fn a_mount_is_a_user() {
        // util-linux 2.38, a loop device.
        let found = above(&parse(LOOP).unwrap(), "pc-x", "pc-x");
        assert_eq!((found.users, found.open), (vec!["loop3 mounted at /tmp/brick/m".into()], false));
    }

    #[test]
    fn the_brick_itself_is_no_user() {
        let disk = parse(BRICK).unwrap();
        let own = above(&disk, "pc-virtio-d1", "pc-virtio-d1");
        assert_eq!(own, Above { open: true, ..Above::default() });
        assert_eq!(all_mounts(&disk), ["/srv/bricks/vms/virtio-d1"]);
        let other = above(&disk, "pc-virtio-d2", "pc-virtio-d2");
        assert!(!other.open);
        assert!(other.users.contains(&"pc-virtio-d1 (crypt)".to_string()), "{other:?}");
        let mounted = "pc--virtio--d1-brick mounted at /srv/bricks/vms/virtio-d1".to_string();
        assert!(other.users.contains(&mounted), "{other:?}");
    }

    #[test]
    fn partitions_are_named_and_their_mounts_are_users() {
        let text = r#"{"blockdevices": [{"name":"vda","type":"disk","size":1,"ro":false,"rota":false,"disc-max":0,
            "mountpoints":[null],"children":[{"name":"vda1","type":"part","size":1,"ro":false,"rota":false,
            "disc-max":0,"mountpoints":["/"]},{"name":"vda2","type":"part","size":1,"ro":false,"rota":false,
            "disc-max":0,"mountpoints":["[SWAP]"]},{"name":"vda3","type":"part","size":1,"ro":false,"rota":false,
            "disc-max":0,"mountpoints":[null]}]}]}"#;
        let found = above(&parse(text).unwrap(), "m", "m");
        assert_eq!(found.users, ["vda1 mounted at /", "vda2 is swap"]);
        assert_eq!(found.partitions, ["vda1", "vda2", "vda3"]);
    }
}
