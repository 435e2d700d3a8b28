//! Where header backups stand: on the OS disk, and on a replicated volume while one is mounted.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::view::paths;
use cluster::{Cluster, Use};
use pc_cli::Common;

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
    let target = path.clone();
    within(move || {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))
            .and_then(|()| pc_cli::write_atomic(&target, &content, 0o600))
    })
    .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// On a thread that is left behind when the volume hangs: a later attempt may succeed.
fn within<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more when it came too late.
    std::thread::spawn(move || drop(sender.send(work())));
    receiver
        .recv_timeout(PATIENCE)
        .map_err(|_| pc_cli::try_again(format!("no answer within {} s", PATIENCE.as_secs())))?
}
