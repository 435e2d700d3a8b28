//! Where header backups stand: on the OS disk, and on a replicated volume while one is mounted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::view::paths;
use cluster::{Cluster, Use};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use pc_cli::Common;

use crate::silent;

/// A write to a replicated volume may hang for as long as the volume has no quorum.
const PATIENCE: Duration = Duration::from_secs(30);

/// `/var/lib/personal-cluster/headers`: off the disk it describes, on the node's own.
pub fn local(common: &Common) -> PathBuf {
    common.under_root(paths::STATE).join("headers")
}

/// `/mnt/<volume>/headers/<node>` of the first mounted volume, backup volumes before those of VMs.
pub fn replicated(common: &Common, cluster: &Cluster) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string(common.under_root("/proc/self/mountinfo")).ok()?;
    let node = common.node_name().ok()?;
    let of = |purpose: Use| cluster.volumes.iter().filter(move |(_, volume)| volume.purpose == purpose);
    let mut volumes = of(Use::Backup).chain(of(Use::Vm)).map(|(name, _)| name);
    let mounted = volumes.find(|volume| paths::is_mounted(&mounts, &paths::volume_mount(volume)))?;
    Some(common.under_root(&paths::header_copies(mounted, &node)))
}

/// Whether there is such a file. A volume that does not answer may have it.
pub fn is_there(path: PathBuf) -> bool {
    within(move || Ok(path.exists())).unwrap_or(true)
}

/// The content of a file that may not be there.
pub fn read(path: PathBuf) -> Result<Option<Vec<u8>>> {
    let name = path.display().to_string();
    within(move || match std::fs::read(&path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    })
    .with_context(|| format!("reading {name}"))
}

/// Writes `<directory>/<name>`, mode 0600.
pub fn write(directory: PathBuf, name: &str, content: Vec<u8>) -> Result<PathBuf> {
    let path = directory.join(name);
    let (target, name) = (path.clone(), name.to_string());
    within(move || {
        std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        sweep(&directory, &name);
        pc_cli::write_atomic(&target, &content, 0o600)
    })
    .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Removes what killed processes left half-written for `name`, `.<name>.<process>.<number>` as [`pc_cli::write_atomic`] calls
/// it. One that is alive may be at it.
pub fn sweep(directory: &Path, name: &str) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let rest =
            file.to_str().and_then(|file| file.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.'));
        let process = rest.and_then(|rest| rest.split_once('.')).and_then(|(process, number)| {
            number.parse::<u64>().ok()?;
            process.parse().ok().filter(|process| *process > 0)
        });
        // Of one that is hidden from us below /proc the kernel says at least that we may not signal it.
        if process.is_some_and(|process| kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)) {
            // The next one tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// On a thread that is left behind when the volume hangs: a later attempt may succeed.
fn within<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    silent::within(PATIENCE, work)?
        .ok_or_else(|| pc_cli::try_again(format!("no answer within {} s", PATIENCE.as_secs())))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_half_written_goes_with_the_next_backup() {
        let directory = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let (dead, alive) = (dead.id(), std::process::id());
        let stale = [format!(".ata-A.jwe.{dead}.0"), format!(".ata-A.jwe.{dead}.17")];
        let others = [
            format!(".ata-A.jwe.{alive}.99"),
            format!(".ata-B.jwe.{dead}.0"),
            format!(".ata-A.jwe.{dead}"),
            format!(".ata-A.jwe.{dead}.x"),
            format!("ata-A.jwe.{dead}.0"),
            ".ata-A.jwe.0.0".into(),
        ];
        for name in stale.iter().chain(&others) {
            std::fs::write(directory.path().join(name), "half").unwrap();
        }
        let path = write(directory.path().into(), "ata-A.jwe", b"whole".to_vec()).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"whole");
        let is_there = |name: &String| directory.path().join(name).exists();
        assert!(!stale.iter().any(is_there) && others.iter().all(is_there));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), others.len() + 1);
    }
}
