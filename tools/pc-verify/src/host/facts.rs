//! Facts of the machine out of files and D-Bus. What is not there is empty; nothing is changed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::paths;
use pc_cli::log;

use crate::machine::{Key, Machine, Swap};
use crate::systemd;

/// Keys at the places where the programs look for them (pc-trust links them there). Not those of QEMU, which its own
/// user reads.
const KEYS: &[&str] = &[
    "/usr/lib/ssl/glusterfs.key",
    "/etc/ssl/glusterfs.key",
    "/etc/pki/libvirt/private/serverkey.pem",
    "/etc/pki/libvirt/private/clientkey.pem",
    "/etc/corosync/authkey",
];
/// Questions over D-Bus, one after the other.
const CALLS: u32 = 3;
/// dm-crypt on LVM on RAID: no stack is deeper.
const DEPTH: usize = 8;

/// Looks at everything within `patience`. A private root has no systemd of its own.
pub fn machine(root: &Path, volumes: &[String], patience: Duration) -> Machine {
    let under = |path: &str| root.join(path.trim_start_matches('/'));
    let text = |path: &str| read(&under(path));
    let bus = (root == Path::new("/"))
        .then(|| systemd::system_bus(patience / CALLS).map_err(|error| format!("{error:#}")));
    let told = |error: anyhow::Error| format!("{error:#}");
    let options = |volume: &String| {
        let options = text(&format!("/var/lib/glusterd/vols/{volume}/info"));
        (volume.clone(), options)
    };
    Machine {
        units: bus.as_ref().map(|bus| systemd::units(bus.as_ref().map_err(Clone::clone)?).map_err(told)),
        clock: bus.as_ref().map(|bus| systemd::clock(bus.as_ref().map_err(Clone::clone)?).map_err(told)),
        applied: under(pc_cli::APPLIED_FILE).exists(),
        swaps: swaps(root, &text("/proc/swaps")),
        crypttab: text("/etc/crypttab"),
        fstab: text("/etc/fstab"),
        qemu_conf: text("/etc/libvirt/qemu.conf"),
        glusterd: text("/etc/glusterfs/glusterd.vol"),
        volumes: volumes.iter().map(options).collect(),
        keys: keys(&under),
    }
}

/// What cannot be read says nothing; who reads as root is told why.
fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                log::warning(format_args!("reading {}: {error}", path.display()));
            }
            String::new()
        }
    }
}

fn keys(under: &impl Fn(&str) -> PathBuf) -> Vec<Key> {
    let mut files: Vec<String> = KEYS.iter().map(ToString::to_string).collect();
    for directory in [paths::SECRETS, paths::SEALED] {
        let Ok(entries) = fs::read_dir(under(directory)) else { continue };
        files.extend(
            entries
                .filter_map(Result::ok)
                .map(|entry| format!("{directory}/{}", entry.file_name().to_string_lossy())),
        );
    }
    files.sort();
    let mode = |path: String| {
        let mode = fs::metadata(under(&path)).ok()?.permissions().mode();
        Some(Key { path, mode })
    };
    files.into_iter().filter_map(mode).collect()
}

/// Rows of /proc/swaps, as proc(5) has them: file name, type, and three numbers.
fn swaps(root: &Path, table: &str) -> Vec<Swap> {
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
    if read(&block.join("dm/uuid")).starts_with("CRYPT-") {
        return true;
    }
    let Ok(slaves) = fs::read_dir(block.join("slaves")) else { return false };
    let mut below = slaves.filter_map(Result::ok).map(|entry| entry.path()).peekable();
    // A volume over two disks is as open as the more open of them.
    depth > 0 && below.peek().is_some() && below.all(|slave| is_encrypted(&slave, depth - 1))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn files_are_read_below_the_root_and_their_absence_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patience = Duration::from_secs(1);
        let empty = machine(root, &["vms".into()], patience);
        assert_eq!(empty, Machine { volumes: vec![("vms".into(), String::new())], ..Machine::default() });
        put(root, "etc/crypttab", "a /dev/sdb\n");
        put(root, "var/lib/glusterd/vols/vms/info", "server.allow-insecure=on\n");
        put(root, "run/personal-cluster/secrets/node.key", "");
        let key = root.join("run/personal-cluster/secrets/node.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
        let seen = machine(root, &["vms".into()], patience);
        assert_eq!(seen.crypttab, "a /dev/sdb\n");
        assert_eq!(seen.volumes, [("vms".into(), "server.allow-insecure=on\n".into())]);
        let keys: Vec<_> = seen.keys.iter().map(|key| (key.path.as_str(), key.mode & 0o777)).collect();
        assert_eq!(keys, [("/run/personal-cluster/secrets/node.key", 0o604)]);
    }
}
