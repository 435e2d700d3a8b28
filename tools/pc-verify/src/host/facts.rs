//! Facts of the machine out of files and D-Bus. What is not there is empty; nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::paths;
use pc_cli::log;
use time::OffsetDateTime;

use super::{links, smart};
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
/// Where pc-trust keeps the secrets of a cluster without `[unlock]`.
const CLEAR: &str = "/etc/personal-cluster/secrets-clear";
/// What is started at times, by the administrator's own hand or by a package: both are read alike.
const JOBS: [&str; 8] = [
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
    "/etc/systemd/system",
    "/usr/local/bin",
];
/// No script of a person is longer; a longer one is left out, whoever wrote it.
const LONGEST_JOB: u64 = 256 << 10;
/// Where pc-exporter leaves what it asked.
const FACTS: &str = "/run/personal-cluster/facts";
/// Questions over D-Bus, one after the other.
const CALLS: u32 = 3;

/// Looks at everything within `patience`. A private root has no systemd of its own.
pub fn machine(root: &Path, patience: Duration) -> Machine {
    let under = |path: &str| root.join(path.trim_start_matches('/'));
    let text = |path: &str| read(&under(path));
    let bus = (root == Path::new("/"))
        .then(|| systemd::system_bus(patience / CALLS).map_err(|error| format!("{error:#}")));
    let told = |error: anyhow::Error| format!("{error:#}");
    Machine {
        units: bus.as_ref().map(|bus| systemd::units(bus.as_ref().map_err(Clone::clone)?).map_err(told)),
        clock: bus.as_ref().map(|bus| systemd::clock(bus.as_ref().map_err(Clone::clone)?).map_err(told)),
        applied: under(pc_cli::APPLIED_FILE).exists(),
        swaps: swap_devices::swaps(root, &text("/proc/swaps")),
        crypttab: text("/etc/crypttab"),
        fstab: text("/etc/fstab"),
        qemu_conf: text("/etc/libvirt/qemu.conf"),
        glusterd: text("/etc/glusterfs/glusterd.vol"),
        volumes: volumes(&under),
        snapshots: names(&under("/var/lib/glusterd/snaps"), Path::is_dir),
        jobs: jobs(root),
        disks: smart::disks(&under(FACTS), OffsetDateTime::now_utc()),
        keys: keys(&under),
        // Asked by others, side by side.
        supplies: Vec::new(),
        servers: Vec::new(),
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

/// What of a directory is wanted, by name.
pub fn names(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let found = entries.filter_map(Result::ok).filter(|entry| wanted(&entry.path()));
    let mut names: Vec<String> =
        found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn volumes(under: &impl Fn(&str) -> PathBuf) -> Vec<(String, String)> {
    let store = under("/var/lib/glusterd/vols");
    let options = |volume: String| {
        let options = read(&store.join(&volume).join("info"));
        (volume, options)
    };
    names(&store, Path::is_dir).into_iter().map(options).collect()
}

/// A link is followed by name: one that leads onto a volume is left out, as a volume may hang.
fn jobs(root: &Path) -> Vec<(String, String)> {
    let mut paths: Vec<String> = vec!["/etc/crontab".into()];
    for directory in JOBS {
        let Some(real) = links::settled(root, directory) else { continue };
        let found = names(&real, |_| true);
        paths.extend(found.into_iter().map(|name| format!("{directory}/{name}")));
    }
    let short = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LONGEST_JOB)
    };
    let job = |path: String| {
        let text = read(&links::settled(root, &path).filter(|real| short(real))?);
        (!text.is_empty()).then_some((path, text))
    };
    paths.into_iter().filter_map(job).collect()
}

fn keys(under: &impl Fn(&str) -> PathBuf) -> Vec<Key> {
    let mut files: Vec<String> = KEYS.iter().map(ToString::to_string).collect();
    for directory in [paths::SECRETS, paths::SEALED, CLEAR] {
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
    use crate::machine::Disk;

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
        assert_eq!(machine(root, patience), Machine::default());
        put(root, "etc/crypttab", "a /dev/sdb\n");
        put(root, "var/lib/glusterd/vols/vms/info", "server.allow-insecure=on\n");
        put(root, "run/personal-cluster/secrets/node.key", "");
        let key = root.join("run/personal-cluster/secrets/node.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
        put(root, "etc/personal-cluster/secrets-clear/node.key", "");
        let clear = root.join("etc/personal-cluster/secrets-clear/node.key");
        fs::set_permissions(&clear, fs::Permissions::from_mode(0o644)).unwrap();
        put(root, "var/lib/glusterd/snaps/nightly/info", "");
        put(root, "var/lib/glusterd/snaps/missed_snaps_list", "");
        put(root, "etc/crontab", "0 3 * * * root /root/backup\n");
        // What smartctl leaves of a disk that does not open has no part of this.
        put(
            root,
            "run/personal-cluster/facts/smart-ata-A.json",
            r#"{"measured_at": "2999-01-01T00:00:00Z", "answer": {"smartctl": {}}}"#,
        );
        put(root, "run/personal-cluster/facts/smart-ata-B.json", r#"{"error": "x"}"#);
        put(root, "run/personal-cluster/facts/config.json", "{}");
        let seen = machine(root, patience);
        assert_eq!(seen.snapshots, ["nightly"]);
        assert_eq!(seen.jobs, [("/etc/crontab".into(), "0 3 * * * root /root/backup\n".into())]);
        assert_eq!(seen.disks, [Disk { name: "ata-A".into(), ..Disk::default() }]);
        assert_eq!(seen.crypttab, "a /dev/sdb\n");
        assert_eq!(seen.volumes, [("vms".into(), "server.allow-insecure=on\n".into())]);
        let keys: Vec<_> = seen.keys.iter().map(|key| (key.path.as_str(), key.mode & 0o777)).collect();
        let expected = [
            ("/etc/personal-cluster/secrets-clear/node.key", 0o644),
            ("/run/personal-cluster/secrets/node.key", 0o604),
        ];
        assert_eq!(keys, expected);
    }
}
