//! Which segments count as changed: a pure function of the state and of what pc-dirty says.

use anyhow::{Result, bail};
use pc_cli::refused;
use segment_map::{Extents, Geometry, LOST, Record, State};

/// A disk as it is now.
#[derive(Debug, Clone)]
pub struct Now {
    /// Its name.
    pub name: String,
    /// Its size, in segments of the size asked for.
    pub geometry: Geometry,
}

/// A disk's segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What is known of each.
    pub records: Vec<Record>,
    /// Whether it counts as changed.
    pub dirty: Vec<bool>,
    /// Why all do.
    pub everything: Option<String>,
}

/// What a run was told about changes.
#[derive(Debug, Clone)]
pub enum Told {
    /// Nothing; why.
    Nothing(&'static str),
    /// This.
    Extents(Extents),
}

/// Decides for every disk. An answer that does not fit the disks or the state is refused: taking a clean segment for
/// changed costs a read, the reverse costs a backup.
pub fn decide(state: &State, told: &Told, disks: &[Now]) -> Result<Vec<Decided>> {
    if let Told::Extents(extents) = told {
        fits(extents, disks)?;
    }
    disks.iter().map(|disk| one(state, told, disk)).collect()
}

fn fits(extents: &Extents, disks: &[Now]) -> Result<()> {
    for told in &extents.disks {
        let Some(disk) = disks.iter().find(|disk| disk.name == told.name) else {
            bail!(refused(format!(
                "the extents speak of disk {:?}, which is not on the command line\n  pc-segments {}={} ...",
                told.name, told.name, told.source
            )));
        };
        if disk.geometry.size != told.size_bytes {
            bail!(refused(format!(
                "disk {}: has {} bytes, but the extents speak of {}: run pc-dirty again",
                disk.name, disk.geometry.size, told.size_bytes
            )));
        }
    }
    match disks.iter().find(|disk| extents.disks.iter().all(|told| told.name != disk.name)) {
        Some(disk) => Err(refused(format!(
            "the extents do not speak of disk {}\n  --full  # everything counts as changed",
            disk.name
        ))),
        None => Ok(()),
    }
}

fn one(state: &State, told: &Told, disk: &Now) -> Result<Decided> {
    let segments = usize::try_from(disk.geometry.segments())?;
    let all = |records: Vec<Record>, why: String| Decided {
        records,
        dirty: vec![true; segments],
        everything: Some(why),
    };
    let Some(known) = state.disk(&disk.name) else {
        return Ok(all(vec![LOST; segments], "nothing is known of an earlier run".into()));
    };
    if known.geometry != disk.geometry {
        let (was, is) = (known.geometry, disk.geometry);
        let why = format!(
            "it had {} bytes in segments of {}, now {} in segments of {}",
            was.size, was.segment, is.size, is.segment
        );
        return Ok(all(vec![LOST; segments], why));
    }
    let records = known.records.clone();
    if let Some(doubt) = &state.doubted {
        return Ok(all(records, format!("the last run found the state wrong: {doubt}")));
    }
    let extents = match told {
        Told::Nothing(why) => return Ok(all(records, (*why).into())),
        Told::Extents(extents) => extents,
    };
    let Some(told) = extents.disks.iter().find(|told| told.name == disk.name) else {
        return Ok(all(records, "the extents do not speak of it".into()));
    };
    let Some(since) = &told.since else {
        return Ok(all(records, format!("the extents are relative to nothing: {}", told.reason)));
    };
    let checkpoint = state.checkpoint.as_ref().map(|name| format!("checkpoint:{name}"));
    if *since != format!("state:{}", state.id) && Some(since) != checkpoint.as_ref() {
        bail!(refused(format!(
            "disk {}: the extents are relative to {since}, but the state is {:?}: run pc-dirty again, with the same --state",
            disk.name, state.id
        )));
    }
    let mut dirty: Vec<bool> = records.iter().map(|record| record.stamp == 0).collect();
    for extent in &told.extents {
        for index in disk.geometry.touched(extent.offset_bytes, extent.length_bytes) {
            if let Some(dirty) = dirty.get_mut(usize::try_from(index)?) {
                *dirty = true;
            }
        }
    }
    Ok(Decided { records, dirty, everything: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use segment_map::{Digest, DiskState, Extent};

    const SEGMENT: u64 = 1 << 16;

    fn geometry() -> Geometry {
        Geometry { size: 4 * SEGMENT + 9, segment: SEGMENT }
    }

    fn now() -> Vec<Now> {
        vec![Now { name: "vda".into(), geometry: geometry() }]
    }

    fn state() -> State {
        let mut records: Vec<Record> =
            (0..5).map(|i| Record { digest: Digest::of(&[i]), stamp: 100 + u64::from(i) }).collect();
        records[3] = LOST;
        let disk = DiskState { name: "vda".into(), geometry: geometry(), records };
        State { id: "a-1".into(), checkpoint: Some("pc-1".into()), disks: vec![disk], ..State::default() }
    }

    fn told(since: Option<&str>, ranges: &[(u64, u64)]) -> Extents {
        let text = include_str!("../../pc-dirty/tests/golden/extents.json");
        let mut extents = Extents::parse(text).unwrap();
        let disk = &mut extents.disks[0];
        disk.size_bytes = geometry().size;
        disk.since = since.map(Into::into);
        disk.extents = ranges.iter().map(|(o, l)| Extent { offset_bytes: *o, length_bytes: *l }).collect();
        extents
    }

    fn dirty(extents: Extents) -> Result<Vec<bool>> {
        decide(&state(), &Told::Extents(extents), &now()).map(|mut disks| disks.remove(0).dirty)
    }

    #[test]
    fn changed_is_what_an_extent_touches_and_what_nobody_saved() {
        let touched = told(Some("state:a-1"), &[(SEGMENT - 1, 2), (4 * SEGMENT + 8, 1)]);
        assert_eq!(dirty(touched).unwrap(), [true, true, false, true, true]);
        assert_eq!(dirty(told(Some("checkpoint:pc-1"), &[])).unwrap(), [false, false, false, true, false]);
    }

    #[test]
    fn everything_changed_when_there_is_nothing_to_stand_on() {
        let everything = |state: &State, told: &Told, now: &[Now]| {
            let decided = decide(state, told, now).unwrap().remove(0);
            assert!(decided.dirty.iter().all(|dirty| *dirty) && decided.dirty.len() == decided.records.len());
            decided.everything.unwrap()
        };
        let good = Told::Extents(told(Some("state:a-1"), &[]));
        assert_eq!(everything(&State::default(), &good, &now()), "nothing is known of an earlier run");
        assert_eq!(everything(&state(), &Told::Nothing("--full"), &now()), "--full");
        let relative = everything(&state(), &Told::Extents(told(None, &[])), &now());
        assert!(relative.starts_with("the extents are relative to nothing: compared"), "{relative}");
        let doubted = State { doubted: Some("vda: 3".into()), ..state() };
        assert_eq!(everything(&doubted, &good, &now()), "the last run found the state wrong: vda: 3");
        let finer = [Now { name: "vda".into(), geometry: Geometry { segment: 2 * SEGMENT, ..geometry() } }];
        assert!(everything(&state(), &good, &finer).starts_with("it had 262153 bytes"));
    }

    #[test]
    fn extents_of_something_else_are_refused() {
        let refusal = |extents: Extents| {
            let error = dirty(extents).unwrap_err();
            assert_eq!(pc_cli::Exit::of(&error), pc_cli::Exit::Refused);
            error.to_string()
        };
        assert!(refusal(told(Some("state:a-2"), &[])).contains("relative to state:a-2"));
        assert!(refusal(told(Some("checkpoint:pc-0"), &[])).contains("relative to checkpoint:pc-0"));
        let mut larger = told(Some("state:a-1"), &[]);
        larger.disks[0].size_bytes += 1;
        assert!(refusal(larger).contains("has 262153 bytes, but the extents speak of 262154"));
        let mut other = told(Some("state:a-1"), &[]);
        other.disks[0].name = "vdb".into();
        assert!(refusal(other).contains("disk \"vdb\", which is not on the command line"));
        let mut none = told(Some("state:a-1"), &[]);
        none.disks.clear();
        assert!(refusal(none).contains("do not speak of disk vda"));
    }
}
