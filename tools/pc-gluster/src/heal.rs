//! What every brick says is left to heal, and the wait for it.

use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use pc_cli::{Exit, try_again};
use serde::Serialize;

use crate::host::cli;
use crate::report;
use crate::status::{Status, VolumeStatus};
use crate::xml::BrickHeal;

/// `pc.gluster.heal/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heal {
    /// `pc.gluster.heal/1`.
    pub schema: &'static str,
    /// Volume by volume.
    pub volumes: Vec<VolumeHeal>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeHeal {
    /// Its name.
    pub name: String,
    /// What each brick answered.
    pub bricks: Vec<BrickHeal>,
}

impl Heal {
    /// Every brick was asked and holds nothing back.
    pub fn is_done(&self) -> bool {
        self.volumes.iter().flat_map(|volume| &volume.bricks).all(|brick| brick.pending == Some(0))
    }

    /// Entries that wait, as far as bricks could be asked.
    pub fn pending(&self) -> u64 {
        self.volumes.iter().flat_map(|volume| &volume.bricks).filter_map(|brick| brick.pending).sum()
    }
}

/// How long a heal that makes no progress is left alone before it is started again. One that is launched while
/// self-heal daemons still connect to a new brick ends at once, and the daemons look again only every 10 minutes.
const STALLED: Duration = Duration::from_secs(10);

/// Starts a heal of these volumes where something waits for it, and asks how far it is.
pub fn start(volumes: &[String]) -> Result<Heal> {
    let heal = ask(volumes)?;
    if heal.pending() == 0 {
        return Ok(heal);
    }
    launch(&heal, pc_cli::log::warning);
    ask(volumes)
}

/// A brick that is offline makes Gluster refuse the launch; the daemons heal what they can by themselves.
fn launch(heal: &Heal, tell: impl Fn(String)) {
    let waiting =
        |volume: &&VolumeHeal| volume.bricks.iter().any(|brick| brick.pending.is_some_and(|count| count > 0));
    for volume in heal.volumes.iter().filter(waiting) {
        if let Err(error) = cli::heal_now(&volume.name) {
            tell(format!("volume {}: {error:#}", volume.name));
        }
    }
}

/// Volumes that had something to heal at the last report and still have, although every brick is there: the daemons
/// have missed their moment, and would look again only after 10 minutes.
pub fn stuck<'a>(status: &'a Status, before: &[(String, Option<u64>)]) -> Vec<&'a str> {
    let waits = |pending: Option<u64>| pending.is_some_and(|count| count > 0);
    let had = |name: &str| before.iter().any(|(volume, pending)| volume == name && waits(*pending));
    let whole =
        |volume: &&VolumeStatus| volume.started && volume.sets.iter().flatten().all(|brick| brick.online);
    let stuck =
        status.volumes.iter().filter(whole).filter(|volume| waits(volume.heal_pending) && had(&volume.name));
    stuck.map(|volume| volume.name.as_str()).collect()
}

/// Tells the daemons to look now. That it could not be told is no failure: the next run tells it again.
pub fn nudge(status: &Status, before: &[(String, Option<u64>)]) {
    for volume in stuck(status, before) {
        if let Err(error) = cli::heal_now(volume) {
            pc_cli::log::debug(format_args!("volume {volume}: {error:#}"));
        }
    }
}

fn ask(volumes: &[String]) -> Result<Heal> {
    let ask = |name: &String| Ok(VolumeHeal { name: name.clone(), bricks: cli::heal_backlog(name)? });
    Ok(Heal { schema: "pc.gluster.heal/1", volumes: volumes.iter().map(ask).collect::<Result<_>>()? })
}

/// Waits until nothing is left to heal, telling how far it is.
pub fn wait(volumes: &[String], deadline: Duration) -> Result<Heal> {
    let until = Instant::now() + deadline;
    let terminal = std::io::stderr().is_terminal();
    let mut least = u64::MAX;
    let mut progress = Instant::now();
    loop {
        let heal = ask(volumes)?;
        let line = format!("{} entries to heal", heal.pending());
        report::tell(&line);
        if terminal {
            eprint!("\r\x1b[K{line}{}", if heal.is_done() { "\n" } else { "" });
        }
        if heal.is_done() {
            return Ok(heal);
        }
        if Instant::now() >= until {
            return Err(try_again(format!("{line} after {} s", deadline.as_secs())));
        }
        if heal.pending() < least {
            (least, progress) = (heal.pending(), Instant::now());
        } else if progress.elapsed() > STALLED {
            launch(&heal, pc_cli::log::debug);
            progress = Instant::now();
        }
        std::thread::sleep(report::PAUSE);
    }
}

/// How `heal` ends when it did not wait.
pub fn exit(heal: &Heal, exit_code: bool) -> Exit {
    Exit::of_answer(exit_code, !heal.is_done())
}

impl fmt::Display for Heal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for volume in &self.volumes {
            writeln!(f, "volume {}:", volume.name)?;
            for brick in &volume.bricks {
                match (brick.pending, brick.split_brain) {
                    (None, _) => writeln!(f, "  {}: cannot be asked", brick.brick)?,
                    (Some(count), Some(split)) if split > 0 => {
                        writeln!(f, "  {}: {count} entries, {split} in split-brain", brick.brick)?;
                    }
                    (Some(count), _) => writeln!(f, "  {}: {count} entries", brick.brick)?,
                }
            }
        }
        Ok(())
    }
}
