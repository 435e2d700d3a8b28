//! From any file to any other: what is planned, once done, is done; and a plan names nothing twice and nothing unknown.

use std::collections::BTreeSet;
use std::fmt::Write;

use cluster::Cluster;

use super::explain::{Source, Verdict, explain};
use super::kept;
use super::plan::{Change, Found, Have, Planned, plan};
use super::want::want;

/// xorshift64: the same sequence on every machine, so a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

const HEAD: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\n";

fn file(dice: &mut Dice) -> Cluster {
    let mut text = HEAD.to_string();
    let networks = ["a", "b-c", "d", "e"];
    for (number, name) in networks.iter().enumerate() {
        let _ = writeln!(text, "[network.{name}]\nuplink = \"lan\"\nsubnet = \"10.0.{number}.0/24\"");
        let _ = writeln!(text, "router = \"10.0.{number}.1\"");
        for line in [
            dice.pick(&["", "gateway = \"cluster\"", "gateway = \"external\"", "gateway = \"vm:v0\""]),
            dice.pick(&["", "isolated = true"]),
            dice.pick(&["", "dhcp = false"]),
            &dice.pick(&["", "subnet6 = \"fd00:N::/64\""]).replace('N', &number.to_string()),
            &dice.pick(&["", "vlan = 7N"]).replace('N', &number.to_string()),
        ] {
            let _ = writeln!(text, "{line}");
        }
    }
    for number in 0..dice.roll(6) {
        let (one, other) = (dice.pick(&networks), dice.pick(&networks));
        let second = if one == other { String::new() } else { format!(", \"{other}\"") };
        let _ = writeln!(
            text,
            "[vm.v{number}]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"v\"\nnetworks = [\"{one}\"{second}]"
        );
    }
    for _ in 0..dice.roll(5) {
        let ends = ["any", "network:a", "network:b-c", "network:d", "vm:v0", "vm:v1", "vm:v2"];
        let (from, to) = (dice.pick(&ends), dice.pick(&ends));
        let ports = dice.pick(&["", "\"tcp/25\"", "\"udp/53\", \"tcp/8000-8010\"", "\"icmp\""]);
        let _ = writeln!(text, "[[route]]\nfrom = \"{from}\"\nto = \"{to}\"\nports = [{ports}]");
    }
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The database after a plan, as a pure function.
fn after(have: &Have, planned: &Planned) -> Have {
    let mut have = have.clone();
    for step in &planned.steps {
        match &step.action {
            Change::Add { row } => {
                let found = Found { uuid: format!("u/{}", step.id), row: row.clone(), is_shared: false };
                assert!(have.rows.insert(step.id.clone(), found).is_none(), "{} is added twice", step.id);
            }
            Change::Set { row } => have.rows.get_mut(&step.id).unwrap().row = row.clone(),
            Change::Remove { .. } => assert!(have.rows.remove(&step.id).is_some(), "{}", step.id),
        }
    }
    have
}

fn planned(cluster: &Cluster, have: &Have) -> Planned {
    plan(&want(cluster, &kept(have)).unwrap(), have)
}

/// What rows refer to is there, and no two rows of a table share a name.
fn well_formed(have: &Have) {
    let mut names = BTreeSet::new();
    for (key, found) in &have.rows {
        let parent = found.row.parent.as_deref();
        for other in parent.into_iter().chain(found.row.references().map(|(_, other)| other)) {
            assert!(have.rows.contains_key(other), "{key} refers to {other}");
        }
        let name = found.row.text_of("name");
        assert!(name.is_empty() || names.insert((found.row.table.clone(), name.to_string())), "{name}");
    }
}

#[test]
fn done_once_is_done() {
    let mut steps = 0;
    for seed in 1..=400_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut have = Have::default();
        for _ in 0..4 {
            let cluster = file(&mut dice);
            let first = planned(&cluster, &have);
            have = after(&have, &first);
            well_formed(&have);
            let second = planned(&cluster, &have);
            assert!(second.steps.is_empty(), "seed {seed}: {:#?}", second.steps);
            steps += first.steps.len();
        }
        let none: Cluster = toml::from_str(HEAD).unwrap();
        assert!(after(&have, &planned(&none, &have)).rows.is_empty(), "seed {seed}");
    }
    assert!(steps > 10_000, "{steps}");
}

#[test]
fn what_holds_rows_of_others_stays() {
    let mut dice = Dice(7);
    let cluster =
        std::iter::repeat_with(|| file(&mut dice)).find(|cluster| cluster.zones().count() > 1).unwrap();
    let mut have = after(&Have::default(), &planned(&cluster, &Have::default()));
    let (zone, _) = cluster.zones().next().unwrap();
    let key = format!("zone/{zone}");
    have.rows.get_mut(&key).unwrap().is_shared = true;
    let none: Cluster = toml::from_str(HEAD).unwrap();
    let last = planned(&none, &have);
    assert_eq!(after(&have, &last).rows.keys().collect::<Vec<_>>(), [&key]);
    assert_eq!(last.notes, [format!("Logical_Switch pc-{zone} stays: it holds rows of somebody else")]);
}

#[test]
fn a_name_that_others_have_is_refused() {
    let mut dice = Dice(7);
    let cluster =
        std::iter::repeat_with(|| file(&mut dice)).find(|cluster| cluster.zones().count() > 0).unwrap();
    let (zone, _) = cluster.zones().next().unwrap();
    let name = format!("pc-{zone}-uplink");
    let have =
        Have { foreign: [("Logical_Switch_Port".to_string(), name.clone())].into(), ..Have::default() };
    let told = format!(
        "Logical_Switch_Port {name} exists and is not ours\n  look at it: ovn-nbctl find Logical_Switch_Port name={name}"
    );
    assert_eq!(planned(&cluster, &have).refusals, [told]);
}

const EXPLAINED: &str = r#"schema = "personal-cluster/1"
name = "home"
[network.lan]
uplink = "lan"
subnet = "192.168.0.0/24"
[network.mail]
uplink = "lan"
vlan = 20
subnet = "10.0.20.0/24"
router = "10.0.20.1"
gateway = "external"
isolated = true
[[route]]
from = "network:lan"
to = "vm:mx"
ports = ["tcp/25", "tcp/8000-8010"]
[vm.mx]
memory = "1GiB"
disk = "1GiB"
volume = "v"
networks = ["mail"]
addresses = { mail = "10.0.20.5/24" }
[vm.imap]
memory = "1GiB"
disk = "1GiB"
volume = "v"
networks = ["mail"]
[vm.old]
memory = "1GiB"
disk = "1GiB"
volume = "v"
networks = ["lan"]
"#;

#[test]
fn the_line_that_decides_is_named() {
    let cluster: Cluster = toml::from_str(EXPLAINED).unwrap();
    let source = Source { name: "cluster.toml".into(), text: Some(EXPLAINED) };
    let ask = |from: &str, to: &str, port: &str| {
        let answer = explain(&cluster, &source, (from, to), port).unwrap();
        (answer.verdict, answer.key.unwrap_or_default(), answer.line)
    };
    let allowed = (Verdict::Allowed, "route[0]".to_string(), Some(13));
    assert_eq!(ask("192.168.0.7", "vm:mx", "tcp/25"), allowed);
    assert_eq!(ask("vm:old", "10.0.20.5", "tcp/8010"), allowed);
    let closed = (Verdict::Refused, "network.mail.gateway".to_string(), Some(11));
    assert_eq!(ask("192.168.0.7", "vm:mx", "udp/25"), closed);
    assert_eq!(ask("vm:mx", "203.0.113.9", "tcp/443"), closed);
    let isolated = (Verdict::Refused, "network.mail.isolated".to_string(), Some(12));
    assert_eq!(ask("vm:imap", "vm:mx", "tcp/25"), isolated);
    assert_eq!(ask("vm:old", "203.0.113.9", "icmp"), (Verdict::Open, String::new(), None));
    for (from, to, port, told) in [
        ("vm:mxx", "any", "tcp/1", "\"vm:mxx\" is no VM of the file"),
        ("vm:mx", "network:x", "tcp/1", "\"network:x\" is no network of the file"),
        ("vm:mx", "mail", "tcp/1", "\"mail\" is no end of a connection"),
        ("vm:mx", "vm:old", "25", "\"25\" is not a protocol and port"),
        ("vm:mx", "vm:old", "tcp/1-9", "\"tcp/1-9\" is several ports"),
    ] {
        let error = explain(&cluster, &source, (from, to), port).unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
}
