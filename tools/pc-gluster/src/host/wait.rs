//! Waiting until a change has taken effect.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::try_again;

use super::{bricks, cli, healer, mounts};
use crate::action::Action;
use crate::have::set_has_quorum;
use crate::plan::sets_of;
use crate::want::{Want, path_of};
use crate::xml::VolumeInfo;

/// A probe with TLS takes seconds on a slow machine.
const JOIN: Duration = Duration::from_secs(90);
/// From `volume start` until the bricks have signed in with their glusterd.
const BRICKS: Duration = Duration::from_secs(120);
/// From `volume start` until the volume is attached to the self-heal daemon.
const HEALER: Duration = Duration::from_secs(15);

/// A node that was probed is a member.
pub fn for_member(want: &Want, node: &str) -> Result<()> {
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

/// Bricks run: glusterd answers before the processes it forked are there.
pub fn for_processes(addresses: &[String]) -> Result<()> {
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

/// A volume is attached to the self-heal daemon.
pub fn for_healer(volume: &str) -> Result<()> {
    let attached = poll(HEALER, Duration::from_millis(200), || Ok(healer::attached(volume).then_some(())))?;
    attached.ok_or_else(|| {
        try_again(format!(
            "volume {volume}: the self-heal daemon does not start\n  tail /var/log/glusterfs/glustershd.log"
        ))
    })
}

/// Waits for a brick that has taken another one's place, and for the self-heal daemon, which glusterd starts anew with it and
/// sometimes fails to: without it a heal cannot be launched.
pub fn settle(volume: &str, brick: &str) -> Result<()> {
    for_processes(&[brick.to_string()])?;
    for_healer(volume).or_else(|_| {
        cli::carry_out(&Action::HealerStart { volume: volume.into() })?;
        for_healer(volume)
    })
}

/// Enough bricks are online for a mount, as glusterd sees it.
pub fn for_quorum(volume: &str) -> Result<()> {
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

/// Enough bricks are connected, as the mounted client sees it.
pub fn require_quorum(volume: &str) -> Result<()> {
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
