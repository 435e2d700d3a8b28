//! The only module that touches the machine: it looks, and it carries out one action at a time.

mod age;
mod bounded;
pub mod bricks;
pub mod cli;
mod healer;
mod lost;
pub mod mounts;
pub mod systemd;
pub mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::try_again;
use time::OffsetDateTime;

use crate::action::Action;
use crate::have::{Have, Mount};
use crate::options::ALLOW;
use crate::want::{Want, path_of};

/// The unit that the rest of the machine waits for.
pub const STORAGE_TARGET: &str = "pc-storage.target";
/// From SIGTERM until a brick has ended.
pub const END: Duration = Duration::from_secs(60);
/// A FUSE mount, including systemd's own queue.
const JOB: Duration = Duration::from_secs(300);
/// What a run with little to do takes on a slow machine.
const OTHER_RUN: Duration = Duration::from_secs(120);
/// For a look that somebody waits on.
const GLANCE: Duration = Duration::from_secs(30);

/// The certificate authority whose presence means that this cluster has certificates.
pub const CA: &str = "etc/personal-cluster/trust/ca.crt";

/// Whether volumes shall be encrypted: pc-trust has put the cluster's certificates there.
pub fn has_certificates(root: &Path) -> bool {
    root.join(CA).exists()
}

/// What was seen, also when glusterd does not answer.
#[derive(Debug)]
pub struct Seen {
    /// When the look began: whatever is in it is no older.
    pub since: OffsetDateTime,
    /// Pool and volumes are empty when glusterd does not answer.
    pub have: Have,
    /// Why glusterd does not answer.
    pub glusterd: Option<anyhow::Error>,
}

/// Looks at everything the plan needs.
pub fn look(want: &Want) -> Seen {
    let since = OffsetDateTime::now_utc();
    let processes = bricks::processes();
    let own = want
        .volumes
        .iter()
        .flat_map(|volume| volume.sets.iter().flatten())
        .filter(|brick| want.is_own(brick));
    let mut have = Have {
        peers: Vec::new(),
        volumes: BTreeMap::new(),
        bricks: own.map(|brick| bricks::look(brick, &processes)).collect(),
        healed: healer::healed(want, &processes),
        online: BTreeSet::new(),
        mounts: want.volumes.iter().map(|v| (v.name.clone(), mounts::state(&v.name))).collect(),
        storage_target: systemd::is_active(STORAGE_TARGET),
    };
    let mut glusterd = None;
    if !want.volumes.is_empty() {
        match cli::peers().and_then(|peers| Ok((peers, cli::volumes()?))) {
            Ok((peers, volumes)) => (have.peers, have.volumes) = (peers, volumes),
            Err(error) => glusterd = Some(error),
        }
    }
    have.online = online(want, &have);
    lost::mark(&mut have);
    Seen { since, have, glusterd }
}

/// Bricks that are known to be online: a mounted client knows best and cannot hang on glusterd; without one
/// glusterd is asked, unless there is no other node to ask about.
fn online(want: &Want, have: &Have) -> BTreeSet<String> {
    let mut online: BTreeSet<String> =
        have.bricks.iter().filter(|brick| brick.running).map(|brick| brick.address.clone()).collect();
    for volume in &want.volumes {
        if have.mounts.get(&volume.name) == Some(&Mount::Mounted) {
            if let Some(connected) = mounts::connected_bricks(&volume.name) {
                online.retain(|brick| !volume.sets.iter().flatten().any(|own| own == brick));
                online.extend(connected);
                continue;
            }
        }
        let started = have.volumes.get(&volume.name).is_some_and(|info| info.started);
        if started && !have.peers.is_empty() {
            match cli::bricks_online(&volume.name, Some(GLANCE)) {
                Ok(bricks) => {
                    online.retain(|brick| bricks.get(brick) != Some(&false));
                    online.extend(bricks.into_iter().filter(|(_, up)| *up).map(|(brick, _)| brick));
                }
                Err(error) => pc_cli::log::debug(format_args!("volume {}: {error:#}", volume.name)),
            }
        }
    }
    online
}

/// Carries out one action and waits until it has taken effect.
pub fn carry_out(want: &Want, action: &Action) -> Result<()> {
    match action {
        Action::VolumeCreate { volume, .. } => {
            let clear =
                |wanted: &crate::want::Volume| wanted.name == *volume && !wanted.options.contains_key(ALLOW);
            if want.members.len() > 1 && want.volumes.iter().any(clear) {
                pc_cli::log::warning(format_args!(
                    "volume {volume}: is made without encryption, this node has no /{CA}\n  pc-trust init, or join"
                ));
            }
            cli::carry_out(action)
        }
        Action::PeerProbe { node } => {
            cli::carry_out(action)?;
            wait::for_member(want, node)
        }
        Action::BrickStart { bricks, .. } => {
            cli::carry_out(action)?;
            wait::for_processes(bricks)
        }
        Action::BrickRestart { volume, bricks } => {
            // Nobody has ever reached one without a port; one that has got it meanwhile may serve guests.
            let lost = cli::bricks_lost(volume, GLANCE)?;
            let still: Vec<String> = bricks.iter().filter(|brick| lost.contains(*brick)).cloned().collect();
            let paths: Vec<PathBuf> = still.iter().map(|brick| PathBuf::from(path_of(brick))).collect();
            bricks::stop(&paths, END)?;
            cli::carry_out(action)?;
            wait::for_processes(&still)
        }
        Action::HealerStart { volume } => {
            cli::carry_out(action)?;
            wait::for_healer(volume)
        }
        Action::BrickUnmark { brick } => bricks::unmark(brick),
        Action::BrickMark { brick, volume_id } => bricks::mark_again(brick, volume_id),
        Action::MountPoint { volume } => mounts::prepare(volume),
        Action::Mount { volume } => {
            wait::for_quorum(volume)?;
            mount(volume, systemd::Request::Mount(mount_of(want, volume)))
        }
        Action::Remount { volume } => mount(volume, systemd::Request::Restart),
        Action::StorageTarget => {
            for volume in &want.volumes {
                wait::require_quorum(&volume.name)?;
            }
            systemd::run_job(STORAGE_TARGET, systemd::Request::Start, JOB)
        }
        other => cli::carry_out(other),
    }
}

/// This node's glusterd first; any other node has the volume's layout too.
fn mount_of(want: &Want, volume: &str) -> systemd::Mount {
    let others = want.members.iter().map(|member| member.name.as_str()).filter(|name| *name != want.node);
    let others = others.collect::<Vec<_>>().join(":");
    let backup = if others.is_empty() { others } else { format!("backup-volfile-servers={others},") };
    systemd::Mount {
        what: format!("localhost:/{volume}"),
        point: mounts::point(volume).display().to_string(),
        options: format!("{backup}log-level=WARNING"),
    }
}

fn mount(volume: &str, request: systemd::Request) -> Result<()> {
    systemd::run_job(&systemd::mount_unit(volume), request, JOB)?;
    match mounts::state(volume) {
        Mount::Mounted => Ok(()),
        _ => Err(try_again(format!("volume {volume}: mounted, but its client does not answer"))),
    }
}

/// Holds while one process of this tool changes things on this node.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

/// Takes the lock. The timer's run is usually over within seconds: whoever types `apply` meanwhile waits for it.
pub fn lock(root: &Path) -> Result<Lock> {
    let directory = root.join("run/personal-cluster");
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let path: PathBuf = directory.join("gluster.lock");
    let file = std::fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    take(file, OTHER_RUN).with_context(|| format!("locking {}", path.display()))
}

fn take(file: std::fs::File, deadline: Duration) -> Result<Lock> {
    use rustix::fs::{FlockOperation, flock};
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(error) => return Err(error.into()),
    }
    crate::report::tell("waiting for another pc-gluster on this node");
    let wait = move || flock(&file, FlockOperation::LockExclusive).map(|()| file);
    let waited = pc_run::timed(|| bounded::bounded(deadline, wait));
    match waited {
        Some(locked) => Ok(Lock { _file: locked? }),
        None => Err(try_again(format!(
            "another pc-gluster has been at work on this node for {} s",
            deadline.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_waited_for_but_not_for_ever() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || std::fs::File::create(path.path()).unwrap();
        let held = take(open(), Duration::ZERO).unwrap();
        let error = take(open(), Duration::from_millis(50)).unwrap_err();
        assert!(error.downcast_ref::<pc_cli::TryAgain>().is_some(), "{error:#}");
        // The waiter is told the moment the lock is free: the first one is dropped once the second one waits.
        let second = open();
        let waiter = std::thread::spawn(move || take(second, Duration::from_secs(60)));
        drop(held);
        waiter.join().unwrap().unwrap();
    }
}
