//! This node's self-heal daemon: one process, to which glusterd attaches one volume after the other.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where glusterd keeps a file per volume with the number of the process that it is attached to (`NAME/NAME-shd.pid`,
/// glusterd-shd-svc-helper.c). One that has crashed leaves them behind.
const ATTACHED: &str = "/run/gluster/shd";

/// The volumes of these that are attached to a self-heal daemon that runs. After a crash `volume start NAME force` starts
/// one for the volume that it names, and for no other.
pub fn healed<'a>(volumes: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let running = running();
    volumes.filter(|volume| is_attached(volume, &running, Path::new(ATTACHED))).map(Into::into).collect()
}

fn is_attached(volume: &str, running: &BTreeSet<u32>, attached: &Path) -> bool {
    let file = attached.join(volume).join(format!("{volume}-shd.pid"));
    match std::fs::read_to_string(file) {
        Ok(text) => text.trim().parse().is_ok_and(|pid| running.contains(&pid)),
        // A Gluster that keeps its files elsewhere.
        Err(_) => !attached.exists() && !running.is_empty(),
    }
}

fn running() -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    let healer = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        is_healer(&std::fs::read(entry.path().join("cmdline")).ok()?).then_some(pid)
    };
    entries.flatten().filter_map(healer).collect()
}

/// As glusterd starts it (`--process-name glustershd`, glusterd-shd-svc.c).
fn is_healer(command: &[u8]) -> bool {
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next().is_some_and(|word| Path::new(OsStr::from_bytes(word)).ends_with("glusterfs"));
    program && words.skip_while(|word| *word != b"--process-name").nth(1) == Some(b"glustershd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_heal_daemon_is_known_by_its_name() {
        let command = |line: &str| line.replace(' ', "\0").into_bytes();
        let shd = "/usr/sbin/glusterfs -s localhost --volfile-id shd/vms -p /var/run/gluster/shd/vms/vms-shd.pid \
                   --process-name glustershd --client-pid=-6";
        assert!(is_healer(&command(shd)));
        for other in [
            "/usr/sbin/glusterfs --process-name fuse --volfile-server=localhost --volfile-id=vms /mnt/vms",
            "/usr/sbin/glusterfsd -s node1 --volfile-id vms.node1 --process-name brick",
            "grep --process-name glustershd",
            "",
        ] {
            assert!(!is_healer(&command(other)), "{other}");
        }
    }

    #[test]
    fn a_volume_is_healed_by_the_process_that_it_is_attached_to() {
        let directory = tempfile::tempdir().unwrap();
        let attached = directory.path().join("shd");
        let is = |volume: &str, running: &[u32]| {
            is_attached(volume, &running.iter().copied().collect(), &attached)
        };
        assert!(is("vms", &[314]) && !is("vms", &[]), "files that are elsewhere say nothing");
        for (volume, pid) in [("vms", "314\n"), ("backup", "129\n"), ("web", "")] {
            std::fs::create_dir_all(attached.join(volume)).unwrap();
            std::fs::write(attached.join(volume).join(format!("{volume}-shd.pid")), pid).unwrap();
        }
        assert!(is("vms", &[314]) && !is("vms", &[]));
        for other in ["backup", "web", "new"] {
            assert!(!is(other, &[314]), "{other}");
        }
    }
}
