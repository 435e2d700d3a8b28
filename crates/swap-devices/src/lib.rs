//! Which swap is in use, and whether what goes there is encrypted. Nothing but files of /proc and /sys is read, below a root
//! that is a parameter; nothing is changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// dm-crypt on LVM on RAID: no stack is deeper.
const DEPTH: usize = 8;

/// Swap in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Device or file.
    pub path: String,
    /// It lies on dm-crypt, or in memory; none: it cannot be told.
    pub encrypted: Option<bool>,
}

impl Swap {
    /// What to do about one that is not encrypted.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!(
            "swapoff {}, and put dm-crypt with a random key below it (crypttab(5), option swap)",
            self.path
        )
    }
}

/// What stands in `table`, which is /proc/swaps as proc(5) has it: file name, type, and three numbers; below `root`.
#[must_use]
pub fn swaps(root: &Path, table: &str) -> Vec<Swap> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?, fields.next()?))
    });
    rows.map(|(path, kind)| {
        // A blank in a name is written as in fstab(5).
        let path = path.replace("\\040", " ");
        let block = if kind == "file" {
            device_of_file(root, &path)
        } else {
            let name = path.rsplit('/').next().unwrap_or_default();
            Some(root.join("sys/class/block").join(name))
        };
        let encrypted = if path.starts_with("/dev/zram") {
            Some(true)
        } else {
            block.filter(|block| block.exists()).map(|block| is_encrypted(&block, DEPTH))
        };
        Swap { path, encrypted }
    })
    .collect()
}

/// The block device below a file's file system; none for one that spans several (Btrfs, ZFS).
fn device_of_file(root: &Path, path: &str) -> Option<PathBuf> {
    let device = fs::metadata(root.join(path.trim_start_matches('/'))).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    Some(root.join(format!("sys/dev/block/{major}:{minor}")))
}

/// dm-crypt somewhere below: the kernel keeps what a mapping is in its UUID (`CRYPT-LUKS2-...`, `CRYPT-PLAIN-...`).
fn is_encrypted(block: &Path, depth: usize) -> bool {
    if fs::read_to_string(block.join("dm/uuid")).is_ok_and(|uuid| uuid.starts_with("CRYPT-")) {
        return true;
    }
    let Ok(slaves) = fs::read_dir(block.join("slaves")) else { return false };
    let mut below = slaves.filter_map(Result::ok).map(|entry| entry.path()).peekable();
    // A volume over two disks is as open as the more open of them.
    depth > 0 && below.peek().is_some() && below.all(|slave| is_encrypted(&slave, depth - 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn swap_on_a_disk_on_lvm_over_luks_and_in_memory() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        // /dev/sda3 in clear; dm-1 is LVM over dm-0, which is LUKS; dm-2 is LVM over a disk.
        put(root, "sys/class/block/sda3/size", "1");
        put(root, "sys/class/block/dm-0/dm/uuid", "CRYPT-LUKS2-0e3c-swap\n");
        put(root, "sys/class/block/dm-1/dm/uuid", "LVM-abc\n");
        put(root, "sys/class/block/dm-1/slaves/dm-0/dm/uuid", "CRYPT-LUKS2-0e3c-swap\n");
        put(root, "sys/class/block/dm-2/dm/uuid", "LVM-abc\n");
        put(root, "sys/class/block/dm-2/slaves/sda4/size", "1");
        let table = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                     /dev/sda3                               partition\t999420\t\t0\t\t-2\n\
                     /dev/dm-1                               partition\t999420\t\t0\t\t-3\n\
                     /dev/dm-2                               partition\t999420\t\t0\t\t-4\n\
                     /dev/zram0                              partition\t999420\t\t0\t\t100\n\
                     /dev/nowhere                            partition\t999420\t\t0\t\t-5\n";
        let found = swaps(root, table);
        let seen: Vec<_> = found.iter().map(|swap| (swap.path.as_str(), swap.encrypted)).collect();
        let expected = [
            ("/dev/sda3", Some(false)),
            ("/dev/dm-1", Some(true)),
            ("/dev/dm-2", Some(false)),
            ("/dev/zram0", Some(true)),
            ("/dev/nowhere", None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(swaps(root, "Filename\tType\tSize\tUsed\tPriority\n"), []);
    }

    #[test]
    fn a_swap_file_lies_where_its_file_system_does() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "var/my swap", "");
        let device = fs::metadata(root).unwrap().dev();
        let name = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let table = "Filename\tType\tSize\tUsed\tPriority\n/var/my\\040swap file 1 0 -2\n";
        put(root, &format!("sys/dev/block/{name}/dm/uuid"), "CRYPT-PLAIN-swap\n");
        assert_eq!(swaps(root, table), [Swap { path: "/var/my swap".into(), encrypted: Some(true) }]);
        put(root, &format!("sys/dev/block/{name}/dm/uuid"), "LVM-x\n");
        assert_eq!(swaps(root, table)[0].encrypted, Some(false));
    }
}
