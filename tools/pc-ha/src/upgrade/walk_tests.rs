use super::super::node::{Record, State, debian};
use super::*;

fn walk() -> Walk {
    Walk {
        id: "n1-7".into(),
        walker: "n1".into(),
        boot_id: "w1".into(),
        timeout_seconds: 60,
        nodes: ["n2", "n3", "n1"].map(String::from).to_vec(),
        running: Vec::new(),
        known: None,
        done: Vec::new(),
        current: None,
        stopped: None,
    }
}

fn report() -> Report {
    Report {
        schema: super::super::node::SCHEMA.into(),
        boot_id: "b1".into(),
        state: "running".into(),
        failed_units: Vec::new(),
        memory_bytes: 1,
        commands: debian(),
        active: false,
        last: None,
    }
}

fn seen() -> Seen {
    Seen {
        lease: Lease::Ours,
        in_the_way: Vec::new(),
        unsettled: Vec::new(),
        report: Ok(report()),
        drained: true,
        asked: Asked::No,
        late: false,
    }
}

fn upgraded(state: State) -> Report {
    let last = Record {
        run: "n1-7.n2.1".into(),
        boot_id: "b1".into(),
        state,
        reason: Some("apt-get: exit status: 100".into()),
        kept_back: vec!["linux-image-amd64".into()],
    };
    Report { last: Some(last), active: state == State::Running, ..report() }
}

/// On its way with n2.
fn at(phase: Phase) -> Walk {
    let mut walk = walk();
    walk.enter("n2".into(), &report());
    walk.go(Phase::Upgrade, None);
    if phase != Phase::Drain {
        walk.go(Phase::Reboot, Some(&upgraded(State::Done)));
    }
    walk.go(phase, None);
    walk
}

fn stops(next: Next) -> Doubt {
    match next {
        Next::Stop(doubt) => doubt,
        other => panic!("{other:?}"),
    }
}

const PHASES: [Phase; 5] = [Phase::Drain, Phase::Upgrade, Phase::Reboot, Phase::Settle, Phase::Undrain];

#[test]
fn a_whole_walk_one_node_after_the_other() {
    let mut walk = walk();
    let mut boots = vec!["n2=b1".to_string(), "n3=b1".into(), "n1=b1".into()];
    let mut last: Option<Record> = None;
    let mut told = Vec::new();
    let mut asked = Asked::No;
    for _ in 0..100 {
        // Whoever was killed reads what was written down, at every step.
        walk = serde_json::from_str(&serde_json::to_string(&walk).unwrap()).unwrap();
        let node = walk.at().unwrap_or_default().to_string();
        let boot = boots.iter().find_map(|boot| boot.strip_prefix(&format!("{node}="))).unwrap_or("");
        let report = Report { boot_id: boot.into(), last: last.clone(), ..report() };
        let next = next(&walk, &Seen { report: Ok(report.clone()), asked, ..seen() });
        match &next {
            Next::Finished => break,
            Next::Enter(node) => {
                told.push(format!("enter {node}"));
                walk.enter(node.clone(), &report);
            }
            Next::Go(phase) => {
                told.push(format!("{node} to {}", phase.word()));
                walk.go(*phase, Some(&report));
                asked = Asked::No;
            }
            Next::Do(Act::Drain) => walk.go(Phase::Upgrade, None),
            Next::Do(Act::Undrain) => walk.leave(),
            Next::Do(Act::Upgrade) => {
                told.push(format!("{node} upgrades as {}", walk.run()));
                let (run, boot_id, state) = (walk.run(), boot.to_string(), State::Done);
                last = Some(Record { run, boot_id, state, reason: None, kept_back: Vec::new() });
            }
            Next::Do(Act::Reboot) => {
                told.push(format!("{node} reboots"));
                boots.retain(|boot| !boot.starts_with(&format!("{node}=")));
                boots.push(format!("{node}=b2"));
                asked = Asked::Yes;
            }
            other => panic!("{other:?}"),
        }
    }
    let each = |node: &str| {
        [
            format!("enter {node}"),
            format!("{node} upgrades as n1-7.{node}.1"),
            format!("{node} to reboot"),
            format!("{node} reboots"),
            format!("{node} to settle"),
            format!("{node} to undrain"),
        ]
    };
    assert_eq!(told, [each("n2"), each("n3"), each("n1")].concat());
    assert_eq!(walk.done.len(), 3);
}

#[test]
fn each_phase_taken_up_again_does_what_it_was_about_to() {
    // Killed before, or after, each act: the world says which.
    for (phase, report, wanted) in [
        (Phase::Drain, report(), Next::Do(Act::Drain)),
        (Phase::Upgrade, report(), Next::Do(Act::Upgrade)),
        (Phase::Upgrade, upgraded(State::Asked), Next::Do(Act::Upgrade)),
        (
            Phase::Upgrade,
            Report { active: true, ..upgraded(State::Asked) },
            Next::Wait("n2 upgrades itself".into()),
        ),
        (Phase::Upgrade, upgraded(State::Running), Next::Wait("n2 upgrades itself".into())),
        (Phase::Upgrade, upgraded(State::Done), Next::Go(Phase::Reboot)),
        (Phase::Reboot, upgraded(State::Done), Next::Do(Act::Reboot)),
        (Phase::Reboot, Report { boot_id: "b2".into(), ..report() }, Next::Go(Phase::Settle)),
        (Phase::Settle, Report { boot_id: "b2".into(), ..report() }, Next::Go(Phase::Undrain)),
        (Phase::Undrain, Report { boot_id: "b2".into(), ..report() }, Next::Do(Act::Undrain)),
    ] {
        let mut walk = at(phase);
        assert_eq!(walk.resume("w1", false), Resumed::Go, "{phase:?}");
        assert_eq!(next(&walk, &Seen { report: Ok(report), ..seen() }), wanted, "{phase:?}");
    }
}

#[test]
fn an_upgrade_that_was_done_in_an_earlier_boot_needs_no_other_reboot() {
    let mut walk = at(Phase::Upgrade);
    let mut told = upgraded(State::Done);
    told.boot_id = "b2".into();
    assert_eq!(next(&walk, &Seen { report: Ok(told.clone()), ..seen() }), Next::Go(Phase::Reboot));
    walk.go(Phase::Reboot, Some(&told));
    assert_eq!(walk.current.as_ref().unwrap().kept_back, ["linux-image-amd64"]);
    assert_eq!(next(&walk, &Seen { report: Ok(told), ..seen() }), Next::Go(Phase::Settle));
}

#[test]
fn nothing_is_asked_of_a_node_that_cannot_be_missed() {
    let way = vec!["12 entries wait for healing".to_string(), "n3 is away\n  pc-ha status".to_string()];
    let wait = Next::Wait("12 entries wait for healing; n3 is away".into());
    for walk in [walk(), at(Phase::Drain), at(Phase::Upgrade), at(Phase::Reboot)] {
        let drained = walk.current.as_ref().is_some_and(|at| at.phase != Phase::Drain);
        let seen = Seen { in_the_way: way.clone(), drained, ..seen() };
        assert_eq!(next(&walk, &seen), wait, "{walk:?}");
        let doubt = stops(next(&walk, &Seen { late: true, ..seen }));
        let reason = "12 entries wait for healing; n3 is away".to_string();
        assert_eq!(doubt, Doubt { reason, remedy: "pc-ha status".into(), failed: false });
    }
    // Killed while its VMs moved: the rest follows, whatever else is in the way.
    let seen = Seen { in_the_way: way, drained: true, ..seen() };
    assert_eq!(next(&at(Phase::Drain), &seen), Next::Do(Act::Drain));
}

#[test]
fn a_node_that_somebody_undrained_is_neither_upgraded_nor_rebooted_before_it_is_drained_again() {
    let undrained = |report| Seen { report: Ok(report), drained: false, ..seen() };
    assert_eq!(next(&at(Phase::Upgrade), &undrained(report())), Next::Go(Phase::Drain));
    assert_eq!(next(&at(Phase::Reboot), &undrained(upgraded(State::Done))), Next::Go(Phase::Drain));
    let asked = Seen { asked: Asked::Yes, ..undrained(upgraded(State::Done)) };
    assert_eq!(next(&at(Phase::Reboot), &asked), Next::Wait("n2 goes down".into()), "it is going already");
}

#[test]
fn it_is_not_undrained_before_all_is_whole() {
    let back = Report { boot_id: "b2".into(), ..report() };
    let of = |report: Report, unsettled: &[&str], late| {
        let unsettled = unsettled.iter().map(ToString::to_string).collect();
        next(&at(Phase::Settle), &Seen { report: Ok(report), unsettled, late, ..seen() })
    };
    assert_eq!(
        of(back.clone(), &["2 of 3 votes are there"], false),
        Next::Wait("2 of 3 votes are there".into())
    );
    let broken = Report { failed_units: vec!["glusterd.service".into()], ..back.clone() };
    assert_eq!(of(broken.clone(), &[], false), Next::Wait("glusterd.service failed on n2".into()));
    let doubt = stops(of(broken, &["pc-verify: n2: a brick is gone\n  pc-brick status"], true));
    assert_eq!(doubt.reason, "glusterd.service failed on n2; pc-verify: n2: a brick is gone");
    assert_eq!(doubt.remedy, "on n2: systemctl status glusterd.service");
    assert_eq!(of(back, &[], true), Next::Go(Phase::Undrain), "late, and well");
}

#[test]
fn every_silence_has_an_end() {
    let silent = |phase| {
        let seen = Seen { report: Err("n2 cannot be reached".into()), asked: Asked::Yes, ..seen() };
        assert_eq!(next(&at(phase), &seen), Next::Wait("n2 cannot be reached".into()), "{phase:?}");
        stops(next(&at(phase), &Seen { late: true, ..seen }))
    };
    for phase in [Phase::Upgrade, Phase::Reboot, Phase::Settle] {
        let doubt = silent(phase);
        assert_eq!((doubt.remedy.as_str(), doubt.failed), ("look at the console of n2", false), "{phase:?}");
    }
    // It answers, and nothing happens.
    let late = Seen { asked: Asked::Yes, late: true, ..seen() };
    assert_eq!(stops(next(&at(Phase::Reboot), &late)).reason, "n2 goes down");
    assert_eq!(stops(next(&at(Phase::Upgrade), &late)).reason, "n2 does not begin its upgrade");
    let under = Seen { report: Ok(upgraded(State::Running)), ..late };
    assert_eq!(stops(next(&at(Phase::Upgrade), &under)).reason, "n2 upgrades itself");
    let mut unknown = seen();
    unknown.lease = Lease::Unknown("asking for the CIB".into());
    assert_eq!(next(&walk(), &unknown), Next::Wait("asking for the CIB".into()));
    unknown.late = true;
    assert!(!stops(next(&walk(), &unknown)).failed);
}

#[test]
fn an_upgrade_that_does_not_begin_is_not_waited_for_as_long_as_one_that_goes_on() {
    let asked = Seen { asked: Asked::Yes, report: Ok(upgraded(State::Asked)), ..seen() };
    let mut walk = at(Phase::Upgrade);
    assert_eq!(next(&walk, &asked), Next::Wait("n2 is about to upgrade itself".into()));
    let doubt = stops(next(&walk, &Seen { asked: Asked::LongAgo, ..asked.clone() }));
    assert_eq!(
        (doubt.reason.as_str(), doubt.remedy.as_str(), doubt.failed),
        ("n2 does not begin its upgrade", "on n2: systemctl status pc-ha-upgrade-node.service", false)
    );
    // Taken up again, it asks again, for the same upgrade: nothing of it was done.
    walk.stopped = Some(doubt);
    assert_eq!(walk.resume("w1", true), Resumed::Go);
    assert_eq!(next(&walk, &Seen { asked: Asked::No, ..asked.clone() }), Next::Do(Act::Upgrade));
    // One that has begun has all its time.
    let under = Seen { asked: Asked::LongAgo, report: Ok(upgraded(State::Running)), ..asked };
    assert_eq!(next(&walk, &under), Next::Wait("n2 upgrades itself".into()));
}

#[test]
fn a_failed_upgrade_stops_and_is_asked_for_anew_by_a_person_alone() {
    let mut walk = at(Phase::Upgrade);
    let doubt = stops(next(&walk, &Seen { report: Ok(upgraded(State::Failed)), ..seen() }));
    assert_eq!(doubt.reason, "the upgrade of n2 failed: apt-get: exit status: 100");
    assert!(doubt.failed);
    walk.stopped = Some(doubt.clone());
    assert_eq!(walk.resume("w1", false), Resumed::Rests);
    assert_eq!(walk.stopped, Some(doubt), "it stays so until a person has looked");
    assert_eq!(walk.resume("w1", true), Resumed::Go);
    assert_eq!((walk.run().as_str(), &walk.stopped), ("n1-7.n2.2", &None));
    assert_eq!(
        next(&walk, &Seen { report: Ok(upgraded(State::Failed)), ..seen() }),
        Next::Do(Act::Upgrade),
        "the old failure is another run's"
    );
    // One that was only slow is waited for, not begun a second time.
    let mut slow = at(Phase::Upgrade);
    slow.stopped = Some(Doubt { reason: "slow".into(), remedy: "x".into(), failed: false });
    assert_eq!(slow.resume("w1", true), Resumed::Go);
    assert_eq!(slow.run(), "n1-7.n2.1");
}

#[test]
fn a_node_that_walks_goes_on_after_its_own_reboot_and_after_no_other() {
    for phase in PHASES {
        let mut other = at(phase);
        let Resumed::Stop(doubt) = other.resume("w2", false) else { panic!("{phase:?}") };
        assert_eq!(doubt.reason, "n1 was restarted while it walked, at n2, and nobody asked it to");
        assert_eq!(at(phase).resume("w2", true), Resumed::Go, "a person has seen why");
        let mut own = at(phase);
        own.current.as_mut().unwrap().node = "n1".into();
        let resumed = own.resume("w2", false);
        if phase == Phase::Reboot {
            assert_eq!((resumed, own.boot_id.as_str()), (Resumed::Go, "w2"));
        } else {
            assert!(matches!(resumed, Resumed::Stop(_)), "{phase:?}");
        }
    }
    assert!(matches!(walk().resume("w2", false), Resumed::Stop(_)), "between two nodes");
    assert_eq!(walk().resume("w1", false), Resumed::Go, "killed, and not restarted");
}

#[test]
fn without_the_lease_nothing_is_done() {
    for walk in PHASES.map(at).into_iter().chain([walk()]) {
        let doubt = stops(next(&walk, &Seen { lease: Lease::Lost, ..seen() }));
        assert_eq!(doubt.remedy, "pc-ha upgrade --abandon");
    }
    // Killed between giving it back and the end.
    let mut done = walk();
    for _ in 0..3 {
        done.enter(done.upcoming().unwrap().into(), &report());
        done.leave();
    }
    assert_eq!(next(&done, &Seen { lease: Lease::Lost, ..seen() }), Next::Finished);
    let fallen = Seen { in_the_way: vec!["vm mail ran before".into()], ..seen() };
    assert_eq!(next(&done, &fallen), Next::Wait("vm mail ran before".into()));
}
