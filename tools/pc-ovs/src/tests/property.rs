//! Whatever a machine looks like: what is planned, done, and planned again is nothing; what is not ours stays.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::planning::{after, wanted};
use crate::claims::{By, Claim};
use crate::model::{Bridge, Have, HaveBridge, Interface, Link, Port, Route};
use crate::plan::{Planned, plan};

/// xorshift: the same sequence on every machine, and a seed in every failure.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn one_of<'a>(&mut self, options: &[&'a str]) -> &'a str {
        options[usize::try_from(self.roll(options.len() as u64)).unwrap()]
    }
}

fn file(dice: &mut Dice) -> String {
    let nics = ["eth0", "eth1", "eth2", "eth3"];
    let split = usize::try_from(1 + dice.roll(3)).unwrap();
    let list = |names: &[&str]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let mut file = format!(
        "schema = \"personal-cluster/1\"\nname = \"t\"\n[[node]]\nname = \"node1\"\naddress = \"10.0.0.{}\"\nnics.lan = [{}]\n",
        5 + dice.roll(3),
        list(&nics[..split])
    );
    let wan = dice.chance(50);
    if wan {
        let _ = writeln!(file, "nics.wan = [{}]", list(&nics[split..]));
    }
    file += "[network.lan]\nuplink = \"lan\"\nsubnet = \"10.0.0.0/24\"\n";
    if dice.chance(50) {
        let _ = writeln!(file, "vlan = {}", 10 + dice.roll(3));
    }
    if dice.chance(60) {
        file += dice.one_of(&["router = \"10.0.0.1\"\n", "router = \"10.0.0.2\"\n"]);
    }
    if dice.chance(30) {
        file += "mtu = 9000\n";
    }
    if wan {
        file += "[network.out]\nuplink = \"wan\"\n";
    }
    file
}

fn link(dice: &mut Dice, index: u64) -> Link {
    let mut link = Link { mac: format!("52:54:00:00:00:0{index}"), up: dice.chance(50), ..Link::default() };
    if dice.chance(20) {
        link.addresses.push(dice.one_of(&["10.0.0.5/24", "10.0.0.6/24", "172.16.0.1/16"]).into());
    }
    if dice.chance(10) {
        link.advertised.push("fd00::5/64".into());
    }
    link
}

fn bridge(dice: &mut Dice, name: &str) -> HaveBridge {
    let uplink = name.trim_start_matches("br-").to_string();
    let own = Interface { name: name.into(), internal: true, mac: None, mtu_bytes: None, address: None };
    let port = |interface: Interface| Port {
        name: interface.name.clone(),
        tag: None,
        bond_mode: None,
        interfaces: vec![interface],
    };
    let mut ports = vec![port(own)];
    if dice.chance(50) {
        let name = dice.one_of(&["h-lan", "h-old"]).to_string();
        let address = dice.chance(50).then(|| "10.0.0.77/24".to_string());
        ports.push(port(Interface { name, internal: true, mac: None, mtu_bytes: None, address }));
    }
    let mut foreign = BTreeMap::new();
    if dice.chance(40) {
        foreign.insert("vnet0".into(), vec!["vnet0".into()]);
    }
    let bridge = Bridge {
        name: name.into(),
        uplink,
        hwaddr: dice.chance(50).then(|| "52:54:00:00:00:99".into()),
        fail_mode: dice.one_of(&["", "standalone", "secure"]).into(),
        datapath: String::new(),
        ports,
    };
    HaveBridge { ours: dice.chance(80), bridge, foreign }
}

fn machine(dice: &mut Dice) -> Have {
    let mut have = Have::default();
    for (index, nic) in ["eth0", "eth1", "eth2", "eth3"].into_iter().enumerate() {
        if dice.chance(90) {
            have.links.insert(nic.into(), link(dice, index as u64));
        }
        if dice.chance(15) {
            have.claims.push(Claim {
                device: nic.into(),
                by: By::Ifupdown,
                file: "/etc/network/interfaces".into(),
                line: 1,
                dhcp: false,
                by_hand: dice.chance(10).then(|| "by hand".into()),
            });
        }
    }
    for name in ["br-lan", "br-wan", "br-old"] {
        if dice.chance(40) {
            let bridge = bridge(dice, name);
            for port in &bridge.bridge.ports {
                let mut link = Link { up: dice.chance(50), ..Link::default() };
                link.addresses.extend(dice.chance(20).then(|| "10.0.0.5/24".to_string()));
                have.links.insert(port.name.clone(), link);
            }
            have.bridges.push(bridge);
        }
    }
    if dice.chance(30) {
        let (interface, ours) = if dice.chance(50) { ("eth0", false) } else { ("br-old", true) };
        let router = Some(dice.one_of(&["10.0.0.1", "10.0.0.9"]).parse().unwrap());
        have.routes.push(Route {
            destination: "default".into(),
            router,
            interface: interface.into(),
            metric: None,
            ours,
        });
    }
    have
}

fn not_ours(have: &Have) -> Vec<(String, Vec<String>, Option<Bridge>)> {
    let mut found: Vec<_> = have
        .bridges
        .iter()
        .filter(|have| !have.ours || !have.foreign.is_empty())
        .map(|have| {
            let foreign = have.foreign.keys().cloned().collect();
            (have.bridge.name.clone(), foreign, (!have.ours).then(|| have.bridge.clone()))
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Every step has a name of its own, and needs only steps that are there.
fn well_formed(planned: &Planned) -> bool {
    let mut ids: Vec<&str> = planned.steps.iter().map(|step| step.id.as_str()).collect();
    let present = |need: &String| planned.steps.iter().any(|step| step.id == *need);
    let complete =
        planned.steps.iter().all(|step| step.needs.iter().all(present) && !step.needs.contains(&step.id));
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    complete && ids.len() == count
}

#[test]
fn done_once_is_done() {
    let (mut planned_something, mut refused) = (0, 0);
    for seed in 1..=6000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let want = wanted(&file(&mut dice));
        let have = machine(&mut dice);
        let take_over = dice.chance(60);
        let first = plan(&want, &have, take_over);
        assert!(well_formed(&first), "seed {seed}: {:#?}", first.steps);
        let done = after(&have, &first);
        let second = plan(&want, &done, take_over);
        assert!(
            second.steps.is_empty(),
            "seed {seed}: {:#?}\nafter {:#?}\n{:#?}",
            second.steps,
            first.steps,
            first.refusals
        );
        assert_eq!(not_ours(&have), not_ours(&done), "seed {seed}");
        planned_something += u32::from(!first.steps.is_empty());
        refused += u32::from(!first.refusals.is_empty());
    }
    assert!(planned_something > 2000 && refused > 500, "{planned_something} plans, {refused} refusals");
}
