//! A brick gives its place to an empty one: what must hold first. Pure; the command itself is Gluster's
//! `replace-brick ... commit force`, which marks the new brick so that everything heals into it.

use crate::have::Have;
use crate::plan::sets_of;
use crate::want::{Want, node_of};
use crate::xml::{BrickHeal, VolumeInfo};

/// Why the old brick stays for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stays {
    /// Time mends it.
    Wait(String),
    /// Only a person can decide it.
    Refused(String),
}

/// Refuses with the reason, or agrees and gives the volume as it is. Without the old brick every other copy must be
/// there: one of them is what the new brick heals from.
pub fn check<'a>(
    want: &Want,
    have: &'a Have,
    volume: &str,
    old: &str,
    new: &str,
) -> Result<&'a VolumeInfo, String> {
    let wanted = want.volumes.iter().find(|wanted| wanted.name == volume);
    let wanted = wanted.ok_or_else(|| format!("volume {volume}: is no replicated volume of the file"))?;
    let info = have.volumes.get(volume).filter(|info| info.started);
    let info = info.ok_or_else(|| format!("volume {volume}: is not started"))?;
    let named = |brick: &str| wanted.sets.iter().flatten().any(|known| known == brick);
    let sets = sets_of(info);
    let Some(set) = sets.iter().find(|set| set.iter().any(|brick| brick == old)) else {
        return Err(format!("brick {old}: volume {volume} has {}", info.bricks.join(" ")));
    };
    if named(old) {
        return Err(format!("brick {old}: is still in the file; name the new disk in its place first"));
    }
    if !named(new) {
        return Err(format!("brick {new}: is not in the file"));
    }
    if info.bricks.iter().any(|brick| brick == new) {
        return Err(format!("brick {new}: belongs to the volume already"));
    }
    if !want.is_own(new) {
        return Err(format!("brick {new}: is on {}\n  run this there", node_of(new)));
    }
    match have.own_brick(new) {
        Some(own) if own.mounted && own.marked.is_none() => {}
        Some(own) if own.mounted => return Err(format!("brick {new}: carries the mark of a volume")),
        _ => return Err(format!("brick {new}: is not mounted\n  pc-brick status")),
    }
    let others = set.iter().filter(|brick| *brick != old);
    if let Some(beside) = others.clone().find(|brick| node_of(brick) == node_of(new)) {
        return Err(format!("brick {new}: two copies would share one node with {beside}"));
    }
    if set.len() == 1 {
        return Err(format!("brick {old}: is the only copy, nothing could heal into {new}"));
    }
    match others.clone().find(|brick| !have.online.contains(*brick)) {
        Some(away) => Err(format!("brick {away}: is not online; with {old} gone too, copies are missing")),
        None => Ok(info),
    }
}

/// Agrees when nothing is in the new brick's directory: what is there would become part of the volume.
pub fn empty(new: &str, contents: &[String]) -> Result<(), String> {
    const SHOWN: usize = 5;
    if contents.is_empty() {
        return Ok(());
    }
    let more = if contents.len() > SHOWN { " ..." } else { "" };
    let names = contents.iter().take(SHOWN).map(|name| pc_cli::printable(name)).collect::<Vec<_>>().join(" ");
    Err(format!("brick {new}: is not empty, it holds {names}{more}"))
}

/// Agrees when the old brick is needed for no heal: judged by what every brick of its set holds back. `lossy` is the
/// word of a person that the old one never comes back.
///
/// An answer of Gluster counts the entries of a brick's index, it does not say which copy they blame. So:
/// - the old one answers: nothing may be left to heal anywhere in the set, its own index included, since in a pair
///   only that one knows what the other missed;
/// - it does not, and two or more data copies are left: client quorum wrote everything to one of them at least, and
///   entries that only the old one missed stand in the index of every other brick. Different counts: one is behind;
/// - it does not, and one data copy is left: that is known to be current only when a witness (the arbiter) has
///   nothing to say.
pub fn healed(
    info: &VolumeInfo,
    volume: &str,
    old: &str,
    backlog: &[BrickHeal],
    online: bool,
    lossy: bool,
) -> Result<(), Stays> {
    let sets = sets_of(info);
    let set = sets.iter().find(|set| set.iter().any(|brick| brick == old)).map_or(&[][..], Vec::as_slice);
    let answer = |brick: &String| backlog.iter().find(|known| known.brick == *brick);
    let pending = |brick: &String| answer(brick).and_then(|known| known.pending);
    let others: Vec<&String> = set.iter().filter(|brick| *brick != old).collect();
    let alive = online || set.iter().any(|brick| brick == old && pending(brick).is_some());
    let asked = |brick: &&String| alive || *brick != old;
    let counts =
        set.iter().filter(asked).map(|brick| pending(brick).ok_or(brick)).collect::<Result<Vec<u64>, _>>();
    let counts = counts.map_err(|brick| {
        Stays::Wait(format!(
            "brick {brick}: cannot be asked what is left to heal\n  pc-gluster heal {volume}"
        ))
    })?;
    let left = counts.iter().max().copied().unwrap_or(0);
    if alive {
        return match left {
            0 => Ok(()),
            _ => Err(Stays::Wait(format!(
                "volume {volume}: {left} entries to heal, perhaps from {old} alone\n  pc-gluster heal {volume} --wait 86400"
            ))),
        };
    }
    if lossy {
        return Ok(());
    }
    let arbiter = set.last().filter(|_| info.arbiter > 0);
    let data = others.iter().filter(|brick| Some(**brick) != arbiter).count();
    let split = others.iter().any(|brick| answer(brick).and_then(|known| known.split_brain) != Some(0));
    if !split && (data > 1 && counts.iter().all(|count| *count == left) || others.len() > 1 && left == 0) {
        return Ok(());
    }
    let heal = format!("heal the others until they agree: pc-gluster heal {volume}");
    let back = "bring it back and heal; when it is gone for good, give up what only it has: --lose-unhealed"
        .to_string();
    let (reason, remedy) = match (split, data, others.len()) {
        (true, ..) => ("other copies are in split-brain".to_string(), back),
        (_, 2.., _) => (format!("other copies differ ({left} entries to heal), one of them is behind"), heal),
        (.., 1) => ("nobody else knows whether the other copy is current".to_string(), back),
        _ => (format!("{left} entries to heal, the only other data copy may be behind"), back),
    };
    Err(Stays::Refused(format!("brick {old}: is offline, and {reason}\n  {remedy}")))
}

#[cfg(test)]
#[path = "replace_tests.rs"]
mod tests;
