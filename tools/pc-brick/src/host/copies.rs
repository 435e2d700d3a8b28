//! The copies of a disk's header backup that pc-unlock keeps on replicated volumes.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::view::paths;
use cluster::{Cluster, Use};
use pc_cli::{Common, log};

/// A replicated volume may hang for as long as it has no quorum.
const PATIENCE: Duration = Duration::from_secs(30);

/// Removes every copy of the header backup of a disk that was wiped: with the recovery key it would open what the disk still
/// holds. The disk is wiped already, so what cannot be reached is a warning.
pub fn remove(common: &Common, disk: &str) {
    match places(common, disk) {
        Ok(places) => places.into_iter().for_each(|place| place.clear(disk)),
        Err(error) => log::warning(format_args!(
            "{disk}: copies of its header backup on replicated volumes are left: {error:#}\n  \
             rm /mnt/*/headers/*/{disk}.jwe"
        )),
    }
}

struct Place {
    volume: String,
    copy: PathBuf,
    mounted: bool,
}

/// `/mnt/<volume>/headers/<node>/<disk>.jwe` of every volume that pc-unlock may choose.
fn places(common: &Common, disk: &str) -> Result<Vec<Place>> {
    let cluster = load(common)?;
    let node = common.node_name()?;
    let mounts = std::fs::read_to_string(common.under_root("/proc/self/mountinfo")).unwrap_or_default();
    let replicated =
        cluster.volumes.iter().filter(|(_, volume)| matches!(volume.purpose, Use::Backup | Use::Vm));
    Ok(replicated
        .map(|(name, _)| {
            let mount = paths::volume_mount(name);
            let mounted = paths::is_mounted(&mounts, &mount);
            let copy = common.under_root(&paths::header_copies(name, &node)).join(format!("{disk}.jwe"));
            Place { volume: name.to_string(), copy, mounted }
        })
        .collect())
}

fn load(common: &Common) -> Result<Cluster> {
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    Ok(file?)
}

impl Place {
    fn clear(self, disk: &str) {
        let Place { volume, copy, mounted } = self;
        let shown = copy.display().to_string();
        if !mounted {
            log::warning(format_args!(
                "{disk}: volume {volume} is not mounted: a copy of the header backup may be left there\n  \
                 rm -f {shown}  # once it is"
            ));
            return;
        }
        let removed = within(move || super::records::remove(&copy));
        match removed {
            Ok(true) => log::info(format_args!("{disk}: {shown} removed")),
            Ok(false) => {}
            Err(error) => log::warning(format_args!(
                "{disk}: a copy of its header backup may be left: {error:#}\n  rm -f {shown}"
            )),
        }
    }
}

/// On a thread that is left behind when the volume hangs.
fn within<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more when it came too late.
    std::thread::spawn(move || drop(sender.send(work())));
    receiver.recv_timeout(PATIENCE).context("waiting for the volume")?
}
