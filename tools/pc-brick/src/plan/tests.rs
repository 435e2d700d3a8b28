use std::collections::BTreeMap;

use cluster::{DevicePath, Name};
use proptest::prelude::*;

use super::*;

pub(super) const OURS: &str = "11111111-2222-4333-8444-555555555555";
const SINCE: &str =
    "was blank when it was claimed on 2025-01-01T00:00:00Z, and holds data without a signature now";
const SIZE: u64 = 4 << 40;

pub(crate) fn brick(purpose: Use) -> Brick {
    Brick {
        volume: Name::try_from("vms".to_string()).unwrap(),
        purpose,
        device: DevicePath::try_from("/dev/disk/by-id/ata-A".to_string()).unwrap(),
    }
}

fn record(state: State) -> Record {
    Record {
        schema: "pc.brick.record/1".into(),
        device: "/dev/disk/by-id/ata-A".into(),
        luks_uuid: OURS.into(),
        file_system_uuid: None,
        size_bytes: SIZE,
        state,
        claimed: "2025-01-01T00:00:00Z".into(),
    }
}

fn luks(uuid: &str, bound: bool) -> Content {
    Content::Luks2(Luks { uuid: uuid.into(), subsystem: String::new(), keyslots: 1, bound })
}

pub(super) fn disk(content: Content) -> Facts {
    let device = Device { kernel_name: "/dev/sda".into(), size_bytes: SIZE, content, ..Device::default() };
    Facts { device: Some(device), ..Facts::default() }
}

pub(crate) fn known(state: State, content: Content) -> Facts {
    Facts { record: Some(record(state)), ..disk(content) }
}

pub(crate) fn sealed() -> Backup {
    Backup::Sealed("/headers/ata-A.jwe".into())
}

fn found(directory: bool) -> Directory {
    if directory { Directory::There } else { Directory::Gone }
}

/// A finished brick that is mounted.
pub(crate) fn serving(directory: Directory) -> Facts {
    let mut facts = Facts { mount: Mount::Mounted { directory }, ..known(State::Done, luks(OURS, true)) };
    facts.device.as_mut().unwrap().stack =
        Stack { open: true, volume_group: true, pool: true, volume: true, active: true, file_system: true };
    facts
}

fn verbs(facts: &Facts, unlock: bool) -> Vec<&'static str> {
    match judge(&brick(Use::Vm), facts, unlock) {
        Verdict::Do(verbs) => verbs.into_iter().map(Verb::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn refused(facts: &Facts) -> String {
    match judge(&brick(Use::Vm), facts, true) {
        Verdict::Refused(refusal) => refusal.found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blank_disk_becomes_a_brick() {
    let all = "claim luks-format bind open vg pool lv mkfs mountpoint mount directory record header-backup";
    assert_eq!(verbs(&disk(Content::Blank), true).join(" "), all);
    assert_eq!(verbs(&disk(Content::Blank), false).join(" "), all.replace("bind ", ""));
    match judge(&brick(Use::Local), &disk(Content::Blank), true) {
        Verdict::Do(verbs) => assert!(!verbs.contains(&Verb::Directory) && verbs.contains(&Verb::Mkfs)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_interrupted_format_goes_on() {
    assert_eq!(verbs(&known(State::Claimed, Content::Blank), true)[0], "luks-format");
    for content in [Content::Blank, Content::UnknownStart, luks(OURS, false)] {
        assert_eq!(verbs(&known(State::Formatting, content), true)[0], "luks-format");
    }
    assert_eq!(verbs(&known(State::Formatted, luks(OURS, false)), true)[0], "bind");
    let mut open = known(State::Formatted, luks(OURS, true));
    open.header_backup = Some(sealed());
    open.device.as_mut().unwrap().stack = Stack { open: true, volume_group: true, ..Stack::default() };
    assert_eq!(verbs(&open, true).join(" "), "pool lv mkfs mountpoint mount directory record");
}

#[test]
fn a_finished_brick_is_opened_and_mounted_and_nothing_is_made() {
    let locked =
        Facts { header_backup: Some(sealed()), mount: Mount::Ready, ..known(State::Done, luks(OURS, true)) };
    assert_eq!(verbs(&locked, true), ["open", "activate", "mount"]);
    // Serving comes before what needs Tang or room on the system disk.
    let bare = Facts { mount: Mount::Ready, ..known(State::Done, luks(OURS, false)) };
    assert_eq!(verbs(&bare, true), ["open", "activate", "mount", "bind", "header-backup"]);
    let mut lost = locked;
    lost.device.as_mut().unwrap().stack = Stack { open: true, ..Stack::default() };
    assert_eq!(refused(&lost), "is a finished brick, but its volume group is gone");
    // Never a reason to wipe, and always one to look again.
    match judge(&brick(Use::Vm), &lost, true) {
        Verdict::Refused(refusal) => {
            assert!(refusal.passing && !refusal.remedy.contains("wipe"), "{refusal}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_blank_or_not_ours_is_refused() {
    let cases = [
        (disk(Content::Found(vec!["ext4 file system \"x\"".into()])), "holds ext4 file system \"x\""),
        (disk(Content::Unknown), "holds data without a signature (a plain encrypted volume?)"),
        (disk(luks("other", true)), "holds crypto_LUKS version 2, UUID other"),
        (
            known(State::Done, Content::Blank),
            "was made a brick on 2025-01-01T00:00:00Z and has no LUKS header any more",
        ),
        (known(State::Claimed, Content::Unknown), SINCE),
        (known(State::Claimed, Content::UnknownStart), SINCE),
        (known(State::Formatting, Content::Unknown), SINCE),
        (
            known(State::Formatted, Content::UnknownStart),
            "was made a brick on 2025-01-01T00:00:00Z and has no LUKS header any more",
        ),
        (
            known(State::Formatting, luks("other", false)),
            "holds crypto_LUKS other instead of the brick of 2025-01-01T00:00:00Z (11111111-2222-4333-8444-555555555555)",
        ),
        (
            known(State::Formatting, Content::Found(vec!["xfs file system".into()])),
            "holds xfs file system instead of the brick of 2025-01-01T00:00:00Z",
        ),
    ];
    for (facts, found) in cases {
        assert_eq!(refused(&facts), found);
    }
    let with = |change: fn(&mut Device), facts: Facts| {
        let mut facts = facts;
        change(facts.device.as_mut().unwrap());
        refused(&facts)
    };
    let blank = || disk(Content::Blank);
    assert_eq!(
        with(|disk| disk.users.push("sda1 mounted at /".into()), blank()),
        "in use: sda1 mounted at /"
    );
    for facts in [blank(), known(State::Claimed, Content::Blank)] {
        assert_eq!(with(|disk| disk.partitions.push("sda1".into()), facts), "has partitions: sda1");
    }
    assert_eq!(with(|disk| disk.read_only = true, blank()), "write-protected");
    assert_eq!(refused(&disk(Content::Unreadable("I/O error".into()))), "cannot be examined: I/O error");
    assert!(with(|disk| disk.size_bytes = 1 << 20, blank()).contains("too few"));
    let other = with(|disk| disk.size_bytes += 512, known(State::Done, luks(OURS, true)));
    assert!(other.starts_with("another disk under the same name"), "{other}");
    let foreign = Facts { mount: Mount::Foreign("tmpfs".into()), ..blank() };
    assert!(refused(&foreign).starts_with("tmpfs is mounted on its mount point"));
    assert_eq!(judge(&brick(Use::Vm), &Facts::default(), true), Verdict::Missing);
}

#[test]
fn a_plan_chains_each_disk_and_names_the_rest() {
    let want = [brick(Use::Vm)];
    let have = BTreeMap::from([("ata-A".to_string(), disk(Content::Blank))]);
    let answer = plan("n", &want, &have, false);
    assert_eq!(answer.plan.steps[0].id, "ata-A/claim");
    assert_eq!(answer.plan.steps[1].needs, ["ata-A/claim"]);
    assert!(answer.to_string().starts_with("ata-A (vms): write down"));
    let last = answer.plan.steps.last().unwrap();
    assert_eq!(
        (last.id.as_str(), &last.needs[..]),
        ("ata-A/header-backup", &["ata-A/luks-format".to_string()][..])
    );
    // Nothing can be written beneath a brick that is missing.
    let answer = plan("n", &want, &BTreeMap::new(), false);
    assert_eq!(answer.to_string(), "ata-A (vms): make the mount point, immutable\nata-A: missing\n");
    let ready = Facts { mount: Mount::Ready, ..Facts::default() };
    let answer = plan("n", &want, &BTreeMap::from([("ata-A".to_string(), ready)]), false);
    assert_eq!(answer.to_string(), "ata-A: missing\n");
    let held = BTreeMap::from([("ata-A".to_string(), disk(Content::Unknown))]);
    assert!(plan("n", &want, &held, false).to_string().starts_with("ata-A: refused: holds data"));
}

/// A disk on which steps do what their doc comments promise. What is inside is hidden while it is locked.
struct Machine {
    facts: Facts,
    inside: Stack,
    /// The brick directory on its file system.
    directory: bool,
    /// How often LUKS and the file system were made.
    formats: [u32; 2],
}

impl Machine {
    fn act(&mut self, verb: Verb) {
        let (facts, inside) = (&mut self.facts, &mut self.inside);
        let device = facts.device.as_mut().unwrap();
        let mut state = facts.record.as_ref().map(|record| record.state);
        match verb {
            Verb::Claim => state = Some(State::Claimed),
            Verb::LuksFormat => {
                if !matches!(device.content, Content::Luks2(_)) {
                    self.formats[0] += 1;
                    device.content = luks(OURS, false);
                }
                state = Some(State::Formatted);
            }
            Verb::Bind => device.content = luks(OURS, true),
            Verb::HeaderBackup => facts.header_backup = Some(sealed()),
            Verb::Open => inside.open = true,
            Verb::Vg => inside.volume_group = true,
            Verb::Pool => inside.pool = true,
            Verb::Lv => (inside.volume, inside.active) = (true, true),
            Verb::Activate => inside.active = true,
            Verb::Mkfs => {
                assert!(inside.active, "mkfs on a volume that is not active");
                if !inside.file_system {
                    self.formats[1] += 1;
                    inside.file_system = true;
                }
                state = Some(State::Made);
            }
            Verb::Mountpoint => facts.mount = Mount::Ready,
            Verb::Mount => {
                assert!(inside.active && inside.file_system);
                facts.mount = Mount::Mounted { directory: found(self.directory) };
            }
            Verb::Directory => {
                self.directory = true;
                facts.mount = Mount::Mounted { directory: Directory::There };
            }
            Verb::Record => state = Some(State::Done),
        }
        facts.record = state.map(record);
        self.look();
    }

    fn look(&mut self) {
        let seen = if self.inside.open { self.inside.clone() } else { Stack::default() };
        self.facts.device.as_mut().unwrap().stack = seen;
    }

    /// Killed after the disk was changed and before the record says so.
    fn tear(&mut self, verb: Verb) {
        let before = self.facts.record.clone();
        self.act(verb);
        match verb {
            Verb::Claim => {}
            Verb::LuksFormat => self.facts.record = Some(record(State::Formatting)),
            _ => self.facts.record = before,
        }
    }

    /// A power cut: nothing is open, active or mounted any more; nothing on a disk is lost.
    fn cut(&mut self) {
        (self.inside.open, self.inside.active) = (false, false);
        if let Mount::Mounted { .. } = self.facts.mount {
            self.facts.mount = Mount::Ready;
        }
        self.look();
    }

    fn verbs(&self, brick: &Brick, unlock: bool) -> Vec<Verb> {
        match judge(brick, &self.facts, unlock) {
            Verdict::Do(verbs) => verbs,
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    /// Kill after any step, or between a step and its record, any number of times, with or without a power cut: the end
    /// is the same, and both formats happened exactly once.
    #[test]
    fn every_interruption_converges(
        kills in prop::collection::vec((0..14_usize, any::<bool>(), any::<bool>()), 0..6),
        unlock: bool,
        local: bool,
    ) {
        let brick = brick(if local { Use::Local } else { Use::Vm });
        let facts = disk(Content::Blank);
        let mut machine = Machine { facts, inside: Stack::default(), directory: false, formats: [0, 0] };
        for (at, between, cut) in kills {
            for (index, verb) in machine.verbs(&brick, unlock).into_iter().enumerate() {
                match index {
                    _ if index < at => machine.act(verb),
                    _ if index == at && between => machine.tear(verb),
                    _ => break,
                }
            }
            if cut {
                machine.cut();
            }
        }
        for verb in machine.verbs(&brick, unlock) {
            machine.act(verb);
        }
        prop_assert_eq!(machine.verbs(&brick, unlock), vec![]);
        prop_assert_eq!(machine.formats, [1, 1]);
        prop_assert_eq!(machine.facts.record.map(|record| record.state), Some(State::Done));
        prop_assert_eq!(machine.facts.mount, Mount::Mounted { directory: found(!local) });
    }

    /// Whatever is found: a step that overwrites is planned only for a blank disk, or one whose record says that its
    /// formatting was not finished.
    #[test]
    fn nothing_is_formatted_without_permission(
        state in prop::option::of(prop::sample::select(vec![State::Claimed, State::Formatting, State::Formatted, State::Made, State::Done])),
        content in 0..6_usize,
        stack in any::<[bool; 6]>(),
        users: bool,
        unlock: bool,
    ) {
        let contents = [
            Content::Blank, Content::Unknown, Content::Found(vec!["ext4".into()]), luks(OURS, false), luks("other", true),
            Content::UnknownStart,
        ];
        let content = contents[content].clone();
        let mut facts = Facts { record: state.map(record), ..disk(content.clone()) };
        let device = facts.device.as_mut().unwrap();
        let [open, volume_group, pool, volume, active, file_system] = stack;
        device.stack = Stack { open, volume_group, pool, volume, active, file_system };
        if users { device.users.push("somebody".into()) }
        if let Verdict::Do(verbs) = judge(&brick(Use::Vm), &facts, unlock) {
            let has = |verb| verbs.contains(&verb);
            if has(Verb::LuksFormat) {
                let fresh = state.is_none() && content == Content::Blank;
                let ours = content == luks(OURS, false);
                let resumed = match state {
                    Some(State::Claimed) => ours || content == Content::Blank,
                    Some(State::Formatting) => ours || matches!(content, Content::Blank | Content::UnknownStart),
                    _ => false,
                };
                prop_assert!((fresh || resumed) && !users);
            }
            if [Verb::Vg, Verb::Pool, Verb::Lv, Verb::Mkfs].into_iter().any(has) {
                prop_assert!(matches!(state, None | Some(State::Claimed | State::Formatting | State::Formatted)));
            }
            prop_assert!(!users);
        }
    }
}
