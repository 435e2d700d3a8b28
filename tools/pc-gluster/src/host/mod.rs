//! The only module that touches the machine: it looks, and it carries out one action at a time.

mod age;
mod bounded;
pub mod bricks;
pub mod cli;
mod healer;
pub mod mounts;
pub mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::try_again;

use crate::action::Action;
use crate::have::{Have, Mount, set_has_quorum};
use crate::options::ALLOW;
use crate::plan::sets_of;
use crate::want::{Want, path_of};
use crate::xml::VolumeInfo;

/// The unit that the rest of the machine waits for.
pub const STORAGE_TARGET: &str = "pc-storage.target";
/// A probe with TLS takes seconds on a slow machine.
const JOIN: Duration = Duration::from_secs(90);
/// From `volume start` until the bricks have signed in with their glusterd.
const BRICKS: Duration = Duration::from_secs(120);
/// From `volume start` until the volume is attached to the self-heal daemon: nothing waits for that.
const HEALER: Duration = Duration::from_secs(15);
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
    /// Pool and volumes are empty when glusterd does not answer.
    pub have: Have,
    /// Why glusterd does not answer.
    pub glusterd: Option<anyhow::Error>,
}

/// Looks at everything the plan needs.
pub fn look(want: &Want) -> Seen {
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
    Seen { have, glusterd }
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
                Ok(bricks) => online.extend(bricks.into_iter().filter(|(_, up)| *up).map(|(brick, _)| brick)),
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
            wait_for_member(want, node)
        }
        Action::BrickStart { bricks, .. } => {
            cli::carry_out(action)?;
            wait_for_processes(bricks)
        }
        Action::HealerStart { volume } => {
            cli::carry_out(action)?;
            wait_for_healer(volume)
        }
        Action::BrickUnmark { brick } => bricks::unmark(brick),
        Action::BrickMark { brick, volume_id } => bricks::mark_again(brick, volume_id),
        Action::MountPoint { volume } => mounts::prepare(volume),
        Action::Mount { volume } => {
            wait_for_quorum(volume)?;
            mount(volume, systemd::Request::Mount(mount_of(want, volume)))
        }
        Action::Remount { volume } => mount(volume, systemd::Request::Restart),
        Action::StorageTarget => {
            for volume in &want.volumes {
                require_quorum(&volume.name)?;
            }
            systemd::run_job(STORAGE_TARGET, systemd::Request::Start, JOB)
        }
        other => cli::carry_out(other),
    }
}

fn wait_for_member(want: &Want, node: &str) -> Result<()> {
    let member =
        want.members.iter().find(|member| member.name == node).context("no such node in the file")?;
    poll(JOIN, Duration::from_secs(1), || {
        let peers = cli::peers()?;
        let joined = peers.iter().any(|peer| {
            peer.connected && peer.member && peer.names.iter().any(|name| crate::have::is(name, member))
        });
        Ok(joined.then_some(()))
    })?
    .ok_or_else(|| try_again(format!("peer {node}: probed, but not a member after {} s", JOIN.as_secs())))
}

/// glusterd answers before the processes it forked are there.
fn wait_for_processes(addresses: &[String]) -> Result<()> {
    let missing = || {
        let running = bricks::processes();
        addresses.iter().find(|brick| !running.contains_key(Path::new(path_of(brick))))
    };
    let all = poll(BRICKS, Duration::from_millis(200), || Ok(missing().is_none().then_some(())))?;
    all.ok_or_else(|| {
        let brick = missing().map_or("a brick", String::as_str);
        try_again(format!("brick {brick}: does not start\n  tail /var/log/glusterfs/bricks/*.log"))
    })
}

fn wait_for_healer(volume: &str) -> Result<()> {
    let attached = poll(HEALER, Duration::from_millis(200), || Ok(healer::attached(volume).then_some(())))?;
    attached.ok_or_else(|| {
        try_again(format!(
            "volume {volume}: the self-heal daemon does not start\n  tail /var/log/glusterfs/glustershd.log"
        ))
    })
}

fn wait_for_quorum(volume: &str) -> Result<()> {
    let mut up = (0, 0);
    let ready = poll(BRICKS, Duration::from_secs(2), || {
        let info = volume_info(volume)?;
        let online = cli::bricks_online(volume, None)?;
        up = (online.values().filter(|up| **up).count(), info.bricks.len());
        let is_up = |brick: &str| online.get(brick) == Some(&true);
        Ok(sets_of(&info).iter().all(|set| set_has_quorum(set, &is_up)).then_some(()))
    })?;
    ready.ok_or_else(|| {
        try_again(format!("volume {volume}: {} of {} bricks are online, no quorum", up.0, up.1))
    })
}

fn volume_info(volume: &str) -> Result<VolumeInfo> {
    cli::volumes()?.remove(volume).with_context(|| format!("volume {volume}: does not exist"))
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

fn require_quorum(volume: &str) -> Result<()> {
    let info = volume_info(volume)?;
    let quorum = poll(BRICKS, Duration::from_secs(2), || {
        let connected = mounts::connected_bricks(volume).unwrap_or_default();
        let is_up = |brick: &str| connected.contains(brick);
        Ok(sets_of(&info).iter().all(|set| set_has_quorum(set, &is_up)).then_some(()))
    })?;
    quorum.ok_or_else(|| try_again(format!("volume {volume}: mounted without a quorum of its bricks")))
}

/// Asks again and again until there is an answer, an error that waiting does not mend, or the deadline.
fn poll<T>(
    deadline: Duration,
    pause: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let until = Instant::now() + deadline;
    loop {
        match ask() {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => {}
            Err(error) if error.downcast_ref::<pc_cli::TryAgain>().is_some() => {
                pc_cli::log::debug(format_args!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
        if Instant::now() + pause >= until {
            return Ok(None);
        }
        std::thread::sleep(pause);
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
