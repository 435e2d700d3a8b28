//! This node's self-heal daemon: one process, to which glusterd attaches one volume after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

use super::age::age;
use crate::want::{Volume, Want, path_of};

/// Where glusterd keeps a file per volume with the number of the process that it is attached to (`NAME/NAME-shd.pid`,
/// glusterd-shd-svc-helper.c). One that has crashed leaves them behind.
const ATTACHED: &str = "/run/gluster/shd";

/// After a boot glusterd starts the bricks of all volumes, and then the self-heal daemon. Whoever asked for it sooner would ask
/// together with all other nodes, and for the cluster's lock.
const YOUNG: Duration = Duration::from_secs(60);

/// The volumes that are attached to a self-heal daemon that runs, or whose bricks have just been started. After a crash `volume
/// start NAME force` starts one for the volume that it names, and for no other.
pub fn healed(want: &Want, processes: &BTreeMap<PathBuf, Pid>) -> BTreeSet<String> {
    let running = running();
    let ages = |volume: &Volume| -> Vec<Option<Duration>> {
        let own = volume.sets.iter().flatten().filter(|brick| want.is_own(brick));
        own.filter_map(|brick| processes.get(Path::new(path_of(brick)))).map(|pid| age(*pid)).collect()
    };
    let healed = |volume: &&Volume| {
        is_attached(&volume.name, &running, Path::new(ATTACHED)) || is_expected(&ages(volume))
    };
    want.volumes.iter().filter(healed).map(|volume| volume.name.clone()).collect()
}

/// Whether a volume is attached to one that runs.
pub fn attached(volume: &str) -> bool {
    is_attached(volume, &running(), Path::new(ATTACHED))
}

/// By the ages of its bricks that run here.
fn is_expected(ages: &[Option<Duration>]) -> bool {
    !ages.is_empty() && ages.iter().all(|age| age.is_some_and(|age| age < YOUNG))
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
    fn it_comes_after_the_bricks() {
        let expected = |ages: &[u64]| {
            is_expected(&ages.iter().map(|seconds| Some(Duration::from_secs(*seconds))).collect::<Vec<_>>())
        };
        assert!(expected(&[0]) && expected(&[59, 3]));
        // One that was replaced is younger than the others, which a boot has not started.
        assert!(!expected(&[60]) && !expected(&[3600, 3]) && !expected(&[]));
        assert!(!is_expected(&[None]), "nobody knows how long it has run");
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
