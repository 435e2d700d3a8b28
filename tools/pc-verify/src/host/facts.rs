//! Facts of the machine out of files and D-Bus. What is not there is empty; nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::paths;
use pc_cli::log;

use crate::machine::{Key, Machine};
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
        swaps: swap_devices::swaps(root, &text("/proc/swaps")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
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
