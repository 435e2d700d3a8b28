use super::*;
use crate::cib::Fencing;

const FILE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\n\
    [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\n\
    [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\n\
    [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\n[ha]\n";

fn want(profile: &str) -> Want {
    let file = format!("{FILE}profile = \"{profile}\"\n");
    let cluster = cluster::parse("test", &file).unwrap();
    crate::want::want(&cluster.view("n1").unwrap()).unwrap()
}

/// A node on which all of a profile is in force, with the watchdog running so long.
fn have(profile: &str, runs: u64) -> Have {
    let want = want(profile);
    let attributes =
        [("identity", "iTCO_wdt".to_string()), ("state", "active".into()), ("timeout", runs.to_string())];
    let chip = Watchdog::new("/dev/watchdog0".into(), |name| {
        attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    });
    let objects = rows::rows(&want).into_iter().map(|row| (row.id, row.xml)).collect();
    Have {
        corosync: Some(corosync::render(&want)),
        corosync_runs: true,
        running: None,
        shuts_down: false,
        quorum_device: None,
        quorum_device_votes: false,
        sbd: Some(sbd::render(&want, &chip)),
        cib: Some(Cib {
            objects,
            maintenance: false,
            fencing: Fencing::Seconds(want.timing.fencing_ms / 1000),
            watchdogs: ["n1", "n2", "n3"].map(|node| (node.to_string(), runs)).into(),
            tokens: BTreeMap::new(),
            shut_down: false,
            shutting_down: Vec::new(),
            left: Vec::new(),
            counted: room::Counted::default(),
        }),
        watchdogs: vec![chip],
        boot_modules: BTreeSet::new(),
        active: BTreeMap::new(),
        memory_bytes: None,
    }
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.plan.steps.iter().map(|step| step.id.as_str()).collect()
}

#[test]
fn what_is_in_force_is_left_alone() {
    let outcome = plan(&want("patient"), &have("patient", 15), false).unwrap();
    assert_eq!((ids(&outcome), outcome.waiting.len(), outcome.faults.len()), (Vec::new(), 0, 0), "{outcome}");
}

/// normal to patient: the watchdog from 5 to 15 s, the token from 3 to 10 s, the wait from 23 to 51 s.
#[test]
fn slower_times_follow_the_longer_wait_and_need_it() {
    let outcome = plan(&want("patient"), &have("normal", 5), false).unwrap();
    assert_eq!(ids(&outcome), ["cib/cib-bootstrap-options", "sbd", "corosync", "corosync-reload"]);
    for (step, needs) in [(1, "cib/cib-bootstrap-options"), (2, "cib/cib-bootstrap-options"), (3, "corosync")]
    {
        assert_eq!(outcome.plan.steps[step].needs, [needs]);
    }
    // Pacemaker cannot be asked: nothing slower may be lying there when this node boots.
    let blind = Have { cib: None, ..have("normal", 5) };
    let outcome = plan(&want("patient"), &blind, false).unwrap();
    assert_eq!(ids(&outcome), Vec::<&str>::new());
    assert_eq!(outcome.waiting.len(), 3, "{outcome}");
    for path in [sbd::PATH, corosync::PATH] {
        assert!(
            outcome.waiting.iter().any(|line| line.starts_with(&format!("{path} stays as it is"))),
            "{outcome}"
        );
    }
    // The first time there is nothing that it could be slower than, and faster is always safe.
    let fresh = Have { cib: None, corosync: None, corosync_runs: false, sbd: None, ..have("normal", 5) };
    assert_eq!(ids(&plan(&want("patient"), &fresh, false).unwrap()), ["sbd", "corosync"]);
    let faster = Have { cib: None, ..have("patient", 15) };
    assert_eq!(ids(&plan(&want("normal"), &faster, false).unwrap()), ["sbd", "corosync", "corosync-reload"]);
}

/// A file that says 5 s is not a watchdog that waits 5 s: sbd reads it when it starts.
#[test]
fn the_wait_gets_shorter_when_every_running_watchdog_is_fast_enough() {
    let lowered = |watchdogs: &[(&str, u64)]| {
        let mut have = have("patient", 5);
        let told = watchdogs.iter().map(|(node, runs)| ((*node).to_string(), *runs)).collect();
        if let Some(cib) = &mut have.cib {
            cib.watchdogs = told;
            cib.tokens = ["n1", "n2", "n3"].map(|node| (node.to_string(), 3000)).into();
        }
        let outcome = plan(&want("normal"), &have, true).unwrap();
        (ids(&outcome).contains(&"cib/cib-bootstrap-options"), outcome.faults.join("; "))
    };
    assert_eq!(lowered(&[("n1", 5), ("n2", 5), ("n3", 5)]), (true, String::new()));
    assert_eq!(lowered(&[("n1", 5), ("n2", 3), ("n3", 5)]), (true, String::new()));
    let (changed, fault) = lowered(&[("n1", 5), ("n2", 15)]);
    assert!(!changed);
    let says = "stonith-watchdog-timeout stays 51 s, the file asks for 23 s: the watchdog of n2 waits 15 s, \
                nobody knows how long the watchdog of n3 waits\n";
    assert!(fault.starts_with(says), "{fault}");
    let unasked = plan(&want("normal"), &have("patient", 5), false).unwrap();
    assert!(unasked.faults[0].contains("while any node's watchdog still waits as long as before"));
}

#[test]
fn a_node_tells_the_others_what_its_watchdog_does() {
    let mut have = have("normal", 15);
    if let Some(cib) = &mut have.cib {
        cib.watchdogs.insert("n1".into(), 5);
    }
    let outcome = plan(&want("normal"), &have, false).unwrap();
    assert_eq!(ids(&outcome), ["watchdog"]);
    assert_eq!(outcome.plan.steps[0].action, Action::WatchdogTell { watchdog_seconds: 15 });
    // Nobody has opened it: its number is its driver's.
    have.watchdogs[0].armed = false;
    assert_eq!(ids(&plan(&want("normal"), &have, false).unwrap()), Vec::<&str>::new());
}

/// With what a node's corosync runs when its file is that of a profile.
fn runs(profile: &str) -> Running {
    let want = want(profile);
    let nodes = want.members.iter().map(|node| (node.id, node.name.clone(), node.address.clone())).collect();
    Running { token_ms: want.timing.token_ms, consensus_ms: want.timing.consensus_ms, nodes }
}

fn told(have: &mut Have, node: &str, token_ms: Option<u64>) {
    if let Some(cib) = &mut have.cib {
        cib.tokens.remove(node);
        cib.tokens.extend(token_ms.map(|token_ms| (node.to_string(), token_ms)));
    }
}

/// The file was written, and its reload failed, or whoever was to ask for it was killed.
#[test]
fn a_reload_that_never_came_is_made_up_for() {
    let mut have = Have { running: Some(runs("patient")), ..have("normal", 5) };
    told(&mut have, "n1", Some(10_000));
    let outcome = plan(&want("normal"), &have, false).unwrap();
    assert_eq!(ids(&outcome), ["corosync-reload"]);
    assert_eq!(outcome.plan.steps[0].needs, Vec::<String>::new());
    // The other way: what it would be slower than is what runs, and pacemaker waits longer first.
    let mut have = Have { running: Some(runs("normal")), corosync: have.corosync, ..have };
    have.corosync = Some(corosync::render(&want("patient")));
    told(&mut have, "n1", Some(10_000));
    let outcome = plan(&want("patient"), &have, false).unwrap();
    assert_eq!(ids(&outcome), ["cib/cib-bootstrap-options", "sbd", "corosync-reload"]);
    assert_eq!(outcome.plan.steps[2].needs, ["cib/cib-bootstrap-options"]);
    let blind = Have { cib: None, ..have.clone() };
    assert_eq!(ids(&plan(&want("patient"), &blind, false).unwrap()), Vec::<&str>::new());
    // Another address, or another node, is read in the same way.
    let mut other = runs("patient");
    other.nodes.pop_first();
    have.running = Some(other);
    assert!(ids(&plan(&want("patient"), &have, false).unwrap()).contains(&"corosync-reload"));
}

/// Whoever reads it decides by it that fencing may be faster: it is never shorter than what may run.
#[test]
fn a_node_tells_the_longest_token_that_it_may_have() {
    let step = |have: &Have, profile: &str| {
        let outcome = plan(&want(profile), have, false).unwrap();
        let told = outcome.plan.steps.iter().find_map(|step| match step.action {
            Action::TokenTell { token_ms } => Some(token_ms),
            _ => None,
        });
        let write = outcome.plan.steps.iter().find(|step| step.id == "corosync");
        (told, write.map(|step| step.needs.contains(&"token".to_string())))
    };
    let mut normal = Have { running: Some(runs("normal")), ..have("normal", 5) };
    assert_eq!(step(&normal, "normal"), (Some(3000), None));
    told(&mut normal, "n1", Some(3000));
    assert_eq!(step(&normal, "normal"), (None, None));
    // Told before the file has it: from then on anybody's reload puts it in force.
    assert_eq!(step(&normal, "patient"), (Some(10_000), Some(true)));
    let mut patient = Have { running: Some(runs("patient")), ..have("patient", 15) };
    told(&mut patient, "n1", Some(10_000));
    assert_eq!(step(&patient, "normal"), (None, Some(false)), "it runs with the longer one still");
    patient.corosync = Some(corosync::render(&want("normal")));
    assert_eq!(step(&patient, "normal"), (None, None));
    patient.running = Some(runs("normal"));
    assert_eq!(step(&patient, "normal"), (Some(3000), None));
    // It does not say what it runs with: nothing shorter is told, and nothing at all where nobody has told anything.
    patient.running = None;
    assert_eq!(step(&patient, "normal"), (None, None));
    told(&mut patient, "n1", None);
    assert_eq!(step(&patient, "normal"), (None, None));
}

#[test]
fn the_wait_gets_shorter_when_every_running_token_is() {
    let lowered = |tokens: &[(&str, u64)]| {
        let mut have = have("patient", 5);
        for (node, token_ms) in tokens {
            told(&mut have, node, Some(*token_ms));
        }
        let outcome = plan(&want("normal"), &have, true).unwrap();
        (ids(&outcome).contains(&"cib/cib-bootstrap-options"), outcome.faults.join("; "))
    };
    assert_eq!(lowered(&[("n1", 3000), ("n2", 3000), ("n3", 1000)]), (true, String::new()));
    let (changed, fault) = lowered(&[("n1", 3000), ("n2", 10_000)]);
    assert!(!changed);
    let says = "stonith-watchdog-timeout stays 51 s, the file asks for 23 s: the token of n2 is 10000 ms, not 3000, \
                nobody knows the token of n3\n";
    assert!(fault.starts_with(says), "{fault}");
}

#[test]
fn the_driver_of_the_watchdog_is_there_after_a_boot() {
    let mut have = have("normal", 5);
    have.watchdogs[0].module = Some("i6300esb".into());
    let outcome = plan(&want("normal"), &have, false).unwrap();
    assert_eq!(ids(&outcome), ["watchdog-module"]);
    let step = &outcome.plan.steps[0];
    assert_eq!(step.action, Action::WatchdogModule { module: "i6300esb".into() });
    assert_eq!(step.action.to_string(), "/etc/modules-load.d/personal-cluster-watchdog.conf: i6300esb");
    have.boot_modules = ["softdog".into()].into();
    assert_eq!(
        ids(&plan(&want("normal"), &have, false).unwrap()),
        ["watchdog-module"],
        "that of another one"
    );
    have.boot_modules.insert("i6300esb".into());
    assert_eq!(ids(&plan(&want("normal"), &have, false).unwrap()), Vec::<&str>::new(), "whoever says so");
}

#[test]
fn a_watchdog_that_cannot_wait_so_long_is_a_fault() {
    let mut have = have("normal", 5);
    have.sbd = None;
    have.watchdogs[0].max_seconds = Some(4);
    let outcome = plan(&want("normal"), &have, false).unwrap();
    assert_eq!(ids(&outcome), Vec::<&str>::new());
    assert!(outcome.faults[0].contains("cannot be told to wait 5 s\n  write 4 or less"), "{outcome}");
}

/// corosync.conf names the device; its daemon has to be let, and started, or the vote is never given.
#[test]
fn the_third_vote_is_started_where_the_file_asks_for_it() {
    let mut want = want("normal");
    let three = have("normal", 5);
    want.quorum_device = Some("192.0.2.9".into());
    let outcome = plan(&want, &three, false).unwrap();
    assert_eq!(ids(&outcome), ["corosync", "corosync-reload", "quorum-device", "quorum-device-start"]);
    assert_eq!(outcome.plan.steps[3].needs, ["quorum-device", "corosync-reload"]);
    let file = Some(corosync::quorum_device("192.0.2.9"));
    let done = Have { corosync: Some(corosync::render(&want)), quorum_device: file, ..three };
    assert_eq!(ids(&plan(&want, &done, false).unwrap()), ["quorum-device-start"], "it does not vote yet");
    let votes = Have { quorum_device_votes: true, ..done };
    assert_eq!(ids(&plan(&want, &votes, false).unwrap()), Vec::<&str>::new());
    let stopped = Have { corosync_runs: false, quorum_device_votes: false, ..votes };
    assert_eq!(ids(&plan(&want, &stopped, false).unwrap()), Vec::<&str>::new(), "pacemaker.service wants it");
    // Three nodes need none.
    want.quorum_device = None;
    assert_eq!(ids(&plan(&want, &stopped, false).unwrap()), ["corosync", "quorum-device"]);
}
