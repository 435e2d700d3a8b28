//! The pure core: what a disk needs to become a mounted brick, or why it is left alone.

use cluster::{Brick, Use};
use pc_plan::{Plan, Step};

use crate::answer::{Action, Answer, Refusal, SCHEMA, Verb};
use crate::facts::{Backup, Content, Device, Directory, Facts, Have, Luks, Mount, Record, Stack, State};
use remedy::{EVERYTHING, LOST_TOO, Now, OTHER, restore};

mod remedy;

/// A smaller device is a card reader or a mistake; XFS itself needs 300 MB and the pool its metadata.
pub const SMALLEST_BYTES: u64 = 1 << 30;

/// The planner's word on one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What is left to do, in order; empty: it is a mounted brick.
    Do(Vec<Verb>),
    /// The disk is not there.
    Missing,
    /// The disk is left exactly as it is.
    Refused(Refusal),
}

/// What would make every disk of the file a mounted brick: first whatever brings each disk into service, those of
/// volumes for VMs before the others, then, for all of them, what can wait until it serves.
pub fn plan(node: &str, want: &[Brick], have: &Have, unlock: bool) -> Answer {
    let (mut steps, mut later) = (Vec::new(), Vec::new());
    let (mut refused, mut missing) = (Vec::new(), Vec::new());
    let nothing = Facts::default();
    let mut order: Vec<&Brick> = want.iter().collect();
    // On the first evening a disk takes a while, and VMs wait for theirs. The sort keeps the file's order otherwise.
    order.sort_by_key(|brick| brick.purpose != Use::Vm);
    for brick in order {
        let facts = have.get(brick.name()).unwrap_or(&nothing);
        match judge(brick, facts, unlock) {
            Verdict::Do(verbs) => {
                let can_wait = |verb: &Verb| matches!(verb, Verb::Bind | Verb::HeaderBackup);
                let serving = verbs.iter().rposition(|verb| !can_wait(verb)).map_or(0, |last| last + 1);
                let all = verbs.iter().enumerate().map(|(index, verb)| step(brick, *verb, &verbs[..index]));
                let mut all: Vec<_> = all.collect();
                later.extend(all.split_off(serving));
                steps.append(&mut all);
            }
            Verdict::Missing => {
                missing.push(brick.name().to_string());
                // Nothing may be written where it would be mounted, above all now.
                if matches!(facts.mount, Mount::Absent | Mount::Writable) {
                    steps.push(step(brick, Verb::Mountpoint, &[]));
                }
            }
            Verdict::Refused(refusal) => refused.push(refusal),
        }
    }
    steps.append(&mut later);
    Answer { plan: Plan::new(SCHEMA, node, have, steps), refused, missing }
}

/// A step needs the one before it. Binding, and saving the header, need a header; the copy should be of the bound one.
fn step(brick: &Brick, verb: Verb, before: &[Verb]) -> Step<Action> {
    let id = |verb: Verb| format!("{}/{}", brick.name(), verb.as_str());
    let last = |kinds: &[Verb]| before.iter().rev().copied().find(|verb| kinds.contains(verb));
    let needed = match verb {
        Verb::Bind => last(&[Verb::LuksFormat]),
        Verb::HeaderBackup => last(&[Verb::LuksFormat, Verb::Bind]),
        _ => before.last().copied(),
    };
    Step {
        id: id(verb),
        needs: needed.map(id).into_iter().collect(),
        action: Action {
            verb,
            disk: brick.name().into(),
            volume: brick.volume.to_string(),
            device: brick.device.to_string(),
        },
    }
}

/// Decides on one disk.
pub fn judge(brick: &Brick, facts: &Facts, unlock: bool) -> Verdict {
    let Some(device) = &facts.device else { return Verdict::Missing };
    let refusal = |found: String, remedy: String, passing: bool| {
        Verdict::Refused(Refusal { disk: brick.name().into(), found, remedy, passing })
    };
    let unreadable = matches!(device.content, Content::Unreadable(_));
    let refuse = |found, remedy| refusal(found, remedy, unreadable);
    if let Content::Unreadable(fault) = &device.content {
        return refuse(
            format!("cannot be examined: {fault}"),
            "journalctl -k -b  # what the kernel says of it".into(),
        );
    }
    if !device.users.is_empty() {
        let held = match &device.content {
            Content::Found(found) => format!("holds {}; ", found.join(", ")),
            _ => String::new(),
        };
        return refuse(
            format!("{held}in use: {}", device.users.join(", ")),
            format!("lsblk {}", brick.device),
        );
    }
    if let Mount::Foreign(source) = &facts.mount {
        let found = format!("{} is mounted on its mount point {}", source, brick.mount_point());
        return refuse(found, format!("umount {}", brick.mount_point()));
    }
    let state = match &facts.record {
        None => match may_claim(brick, device, facts.header_backup.as_ref().or(facts.kept_backup.as_ref())) {
            Ok(()) => None,
            Err((found, remedy)) => return refuse(found, remedy),
        },
        Some(record) => match recognise(brick, record, device, facts.header_backup.as_ref()) {
            Ok(()) => Some(record.state),
            Err((found, remedy)) => return refuse(found, remedy),
        },
    };
    match remaining(brick, facts, device, state, unlock) {
        Ok(verbs) => Verdict::Do(verbs),
        // A cable or a controller may have hidden it, so the service looks again; nobody wipes a disk on one look.
        Err(found) => {
            let replace = "if it stays so, the disk has failed: replace it";
            refusal(found, format!("journalctl -k -b; pc-brick status  # {replace}"), true)
        }
    }
}

type Reason = (String, String);

fn wipe(brick: &Brick) -> String {
    format!("pc-brick wipe {} --yes-destroy-all-data-on-it  # if nothing on it is needed", brick.device)
}

/// A disk that this node has never touched must be blank beyond doubt.
fn may_claim(brick: &Brick, device: &Device, backup: Option<&Backup>) -> Result<(), Reason> {
    let wipe = wipe(brick);
    if device.read_only {
        return Err(("write-protected".into(), format!("blockdev --getro {}", brick.device)));
    }
    match &device.content {
        Content::Blank if !device.partitions.is_empty() => {
            Err((format!("has partitions: {}", device.partitions.join(", ")), wipe))
        }
        Content::Blank if device.size_bytes < SMALLEST_BYTES => {
            let found = format!("{} bytes are too few for a brick (at least 1 GiB)", device.size_bytes);
            Err((found, format!("lsblk {}", brick.device)))
        }
        Content::Blank => Ok(()),
        Content::Unknown | Content::UnknownStart => Err(match backup {
            None => ("holds data without a signature (a plain encrypted volume?)".into(), wipe),
            Some(backup) => (
                "holds data without a signature, and a backup of a LUKS header that was on it is kept".into(),
                restore(brick, backup, Now::Forgotten(EVERYTHING)) + &wipe + LOST_TOO,
            ),
        }),
        // An installer, or mkfs, on the wrong disk leaves most of what is behind the header as it was.
        Content::Found(found) => Err(match backup {
            None => (format!("holds {}", found.join(", ")), wipe),
            Some(backup) => (
                format!("holds {}, and a backup of a LUKS header that was on it is kept", found.join(", ")),
                restore(brick, backup, Now::Forgotten(EVERYTHING)) + &wipe + LOST_TOO,
            ),
        }),
        Content::Unreadable(fault) => Err((fault.clone(), wipe)),
        Content::Luks2(luks) if luks.subsystem == "personal-cluster" => Err((
            format!("holds a brick that this node has no record of (crypto_LUKS {})", luks.uuid),
            format!("pc-brick adopt {}  # or wipe it", brick.device),
        )),
        Content::Luks2(luks) => {
            let back = backup.map(|backup| restore(brick, backup, Now::Forgotten(OTHER)));
            let lost = if back.is_some() { LOST_TOO } else { "" };
            let found = format!("holds crypto_LUKS version 2, UUID {}", luks.uuid);
            Err((found, back.unwrap_or_default() + &wipe + lost))
        }
    }
}

/// A disk with a record must be the one that the record was written for.
fn recognise(brick: &Brick, record: &Record, device: &Device, backup: Option<&Backup>) -> Result<(), Reason> {
    let forget = format!("pc-brick forget {}  # if that brick is gone for good", brick.device);
    let back = |now| backup.map(|backup| restore(brick, backup, now)).unwrap_or_default();
    let since = &record.claimed;
    if record.size_bytes != device.size_bytes {
        let found = format!(
            "another disk under the same name: {} bytes, the brick of {since} had {}",
            device.size_bytes, record.size_bytes
        );
        return Err((found, forget));
    }
    match &device.content {
        Content::Luks2(luks) if luks.uuid == record.luks_uuid => Ok(()),
        // Anybody may have written to it since.
        Content::Blank if record.state == State::Claimed => may_claim(brick, device, backup),
        // luksFormat was interrupted before the header was there; what it wrote until then is noise of ours.
        Content::Blank | Content::UnknownStart if record.state == State::Formatting => Ok(()),
        Content::Unknown | Content::UnknownStart if record.state.is_unformatted() => Err((
            format!("was blank when it was claimed on {since}, and holds data without a signature now"),
            wipe(brick),
        )),
        Content::Blank | Content::Unknown | Content::UnknownStart => {
            // Most often the header alone is damaged, and everything behind it comes back with it.
            let found = format!("was made a brick on {since} and has no LUKS header any more");
            Err((found, back(Now::Recorded) + &forget))
        }
        Content::Luks2(luks) => {
            let uuid = &luks.uuid;
            let found =
                format!("holds crypto_LUKS {uuid} instead of the brick of {since} ({})", record.luks_uuid);
            Err((found, back(Now::Another(OTHER)) + &forget))
        }
        Content::Unreadable(fault) => Err((fault.clone(), forget)),
        Content::Found(found) => {
            let found = format!("holds {} instead of the brick of {since}", found.join(", "));
            Err((found, back(Now::Another(EVERYTHING)) + &forget))
        }
    }
}

/// The steps from here to a mounted brick. An error: something that was complete is broken.
fn remaining(
    brick: &Brick,
    facts: &Facts,
    device: &Device,
    state: Option<State>,
    unlock: bool,
) -> Result<Vec<Verb>, String> {
    let luks = match &device.content {
        Content::Luks2(luks) => luks.clone(),
        _ => Luks::default(),
    };
    let stack = &device.stack;
    let unformatted = state.is_none_or(State::is_unformatted);
    let finished = matches!(state, Some(State::Made | State::Done));
    if finished {
        intact(stack)?;
    }
    let done = state == Some(State::Done);
    let (mounted, directory) = match &facts.mount {
        Mount::Mounted { directory } => (true, *directory == Directory::There),
        _ => (false, false),
    };
    let bind = unlock && (unformatted || !luks.bound);
    let all = [
        (Verb::Claim, state.is_none()),
        (Verb::LuksFormat, unformatted),
        // Before any data: a brick that cannot open by itself is not finished.
        (Verb::Bind, bind && !finished),
        (Verb::Open, !stack.open),
        (Verb::Vg, !finished && !stack.volume_group),
        (Verb::Pool, !finished && !stack.pool),
        (Verb::Lv, !finished && !stack.volume),
        (Verb::Activate, !stack.active && (finished || stack.volume)),
        // Also when the file system is complete: the step writes down that it is.
        (Verb::Mkfs, !finished),
        (Verb::Mountpoint, !mounted && facts.mount != Mount::Ready),
        (Verb::Mount, !mounted),
        // A finished brick that has lost its directory is not given an empty one: Gluster would heal into it.
        (Verb::Directory, brick.purpose != Use::Local && !done && !directory),
        (Verb::Record, !done),
        // A brick that holds data serves first: Tang may be down, and the system disk full.
        (Verb::Bind, bind && finished),
        (Verb::HeaderBackup, unformatted || facts.header_backup.is_none()),
    ];
    Ok(all.into_iter().filter(|(_, needed)| *needed).map(|(verb, _)| verb).collect())
}

/// What a finished brick consists of is never made again, so its loss is an error, not a step.
fn intact(stack: &Stack) -> Result<(), String> {
    let parts = [
        (stack.volume_group, "volume group"),
        (stack.pool, "thin pool"),
        (stack.volume, "thin volume"),
        (stack.file_system || !stack.active, "file system"),
    ];
    match parts.into_iter().find(|(there, _)| stack.open && !there) {
        Some((_, part)) => Err(format!("is a finished brick, but its {part} is gone")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod remedy_tests;
#[cfg(test)]
pub(crate) mod tests;
