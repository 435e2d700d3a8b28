//! What passes and what does not, by ovn-trace, and that `explain` says the same. What is expected stands here by hand.

use crate::ovn::{Card, FILE, Ovn};

const PORTS: [&str; 9] =
    ["tcp/24", "tcp/25", "tcp/80", "tcp/443", "tcp/8005", "tcp/8011", "udp/25", "udp/53", "icmp"];
/// MAC address of a machine outside.
const OUTSIDE: &str = "02:00:00:00:00:99";

/// Which connections the file opens between VMs on zones of OVN's router, said once more by hand.
fn is_open(from: &str, to: &str, port: &str) -> bool {
    match (from, to) {
        ("www1", "www2") | ("www2", "www1") => true,
        ("www1" | "www2", "mx") => ["tcp/25", "udp/53", "tcp/8005", "icmp"].contains(&port),
        ("imap", "mx") => port == "tcp/24",
        ("mx", "www1") => port == "tcp/443" || port == "tcp/80",
        ("imap", "www1") => port == "tcp/443",
        ("mx", _) => port == "tcp/80",
        _ => false,
    }
}

fn destination(port: &str, is_v6: bool, from: u16) -> String {
    match port.split_once('/') {
        Some((protocol, number)) => format!("{protocol}.src == {from} && {protocol}.dst == {number}"),
        None if is_v6 => "icmp6.type == 128 && icmp6.code == 0".into(),
        None => "icmp4.type == 8 && icmp4.code == 0".into(),
    }
}

/// The packet of a card, to an address behind a MAC address.
fn packet(card: &Card, to_mac: &str, ends: (&str, &str), rest: &str) -> String {
    let family = if ends.0.contains(':') { "ip6" } else { "ip4" };
    format!(
        "inport == \"{}\" && eth.src == {} && eth.dst == {to_mac} && {family}.src == {} && {family}.dst == {} \
         && ip.ttl == 64 && {rest}",
        card.port, card.mac, ends.0, ends.1
    )
}

fn arrives(trace: &str, card: &Card) -> bool {
    trace.contains(&format!("output to \"{}\"", card.port))
}

fn router_mac(ovn: &Ovn, zone: &str) -> String {
    let port = format!("pc-router-{zone}");
    ovn.nbctl(&["get", "Logical_Router_Port", &port, "mac"]).trim().trim_matches('"').to_string()
}

fn verdict(ovn: &Ovn, from: &str, to: &str, port: &str) -> String {
    let answer = ovn.pc(&["explain", from, to, port, "--json"]).with(0).out;
    serde_json::from_str::<serde_json::Value>(&answer).unwrap()["verdict"].as_str().unwrap().to_string()
}

#[test]
fn a_route_opens_exactly_that() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    let cards: Vec<Card> =
        ovn.cards().into_iter().filter(|card| ["web", "mail"].contains(&card.zone.as_str())).collect();
    let macs = [("web", router_mac(&ovn, "web")), ("mail", router_mac(&ovn, "mail"))];
    let mac = |zone: &str| &macs.iter().find(|(name, _)| *name == zone).unwrap().1;
    assert_eq!(cards.len(), 4);
    let mut passed = 0;
    for from in &cards {
        for to in cards.iter().filter(|to| to.vm != from.vm) {
            let next = if from.zone == to.zone { &to.mac } else { mac(&from.zone) };
            for port in PORTS {
                let open = is_open(&from.vm, &to.vm, port);
                let said = verdict(&ovn, &format!("vm:{}", from.vm), &format!("vm:{}", to.vm), port);
                assert_eq!(said == "allowed", open, "explain {} {} {port}: {said}", from.vm, to.vm);
                let (v6, to6) = (from.v6.as_deref().unwrap(), to.v6.as_deref().unwrap());
                for ends in [(from.v4.as_str(), to.v4.as_str()), (v6, to6)] {
                    let rest = destination(port, ends.0.contains(':'), 40000);
                    let trace =
                        ovn.trace(&format!("pc-{}", from.zone), "new", &packet(from, next, ends, &rest));
                    let shown = format!("{} to {} {port} over {}: {trace}", from.vm, to.vm, ends.0);
                    assert_eq!(arrives(&trace, to), open, "{shown}");
                    passed += u32::from(open);
                }
            }
        }
    }
    // 2 * 9 within web, 2 * 4 to mx, 1 + 2 + 1 + 1 + 1 others; both families.
    assert_eq!(passed, 2 * (18 + 8 + 1 + 2 + 1 + 1 + 1));

    // The reply to what a route opened, though no route leads back.
    let card = |vm: &str| cards.iter().find(|card| card.vm == vm).unwrap();
    let (mx, www) = (card("mx"), card("www2"));
    for (from, to) in [(&mx.v4, &www.v4), (mx.v6.as_ref().unwrap(), www.v6.as_ref().unwrap())] {
        let back = "tcp.src == 25 && tcp.dst == 40000";
        let reply = packet(mx, mac("mail"), (from, to), back);
        assert!(arrives(&ovn.trace("pc-mail", "est,rpl", &reply), www));
        assert!(!arrives(&ovn.trace("pc-mail", "new", &reply), www));
    }
}

/// Packets of machines that are no VMs: of the physical network, of the gateway, of the world behind it.
#[test]
fn what_comes_from_outside_is_judged_where_it_arrives() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    let cards = ovn.cards();
    let card = |vm: &str| cards.iter().find(|card| card.vm == vm).unwrap();
    let from_uplink = |to: &Card, mac: &str, source: &str, port: &str| {
        let rest = destination(port, source.contains(':'), 40000);
        let outside = Card { port: format!("pc-{}-uplink", to.zone), mac: OUTSIDE.into(), ..to.clone() };
        let address = if source.contains(':') { to.v6.as_ref().unwrap() } else { &to.v4 };
        let trace =
            ovn.trace(&format!("pc-{}", to.zone), "new", &packet(&outside, mac, (source, address), &rest));
        arrives(&trace, to)
    };
    for (source, vm, port, open) in [
        ("192.168.0.7", "mx", "tcp/993", true),
        ("192.168.0.7", "mx", "tcp/25", false),
        ("192.168.1.7", "mx", "tcp/993", false),
        ("192.168.0.7", "www1", "tcp/443", true),
        ("192.168.0.7", "www2", "tcp/443", false),
        ("203.0.113.9", "www1", "tcp/443", true),
        ("2001:db8::9", "www1", "tcp/443", true),
        ("203.0.113.9", "mx", "tcp/993", false),
        ("2001:db8::9", "mx", "tcp/993", false),
        // A machine of the VLAN itself: inside web, not inside mail, which is isolated.
        ("10.0.10.200", "www2", "tcp/22", true),
        ("10.0.20.200", "mx", "tcp/22", false),
        // Through the router VM, and through the router outside.
        ("10.0.40.7", "till", "udp/7", true),
        ("10.0.10.5", "till", "udp/7", false),
        ("10.0.40.200", "cam", "tcp/80", true),
        ("10.0.30.200", "cam", "tcp/443", false),
    ] {
        let to = card(vm);
        assert_eq!(from_uplink(to, &to.mac, source, port), open, "{source} to {vm} {port}");
        let said = verdict(&ovn, source, &format!("vm:{vm}"), port);
        assert_eq!(said == "allowed", open, "explain {source} vm:{vm} {port}: {said}");
    }
    // A source of web that comes out of mail was never sent by a machine of web.
    let (www, mac) = (card("www2"), router_mac(&ovn, "mail"));
    for (source, to, open) in [("10.0.10.200", &www.v4, false), ("10.0.20.200", &card("www1").v4, true)] {
        let outside = Card { port: "pc-mail-uplink".into(), mac: OUTSIDE.into(), ..www.clone() };
        let target = cards.iter().find(|card| card.v4 == *to).unwrap();
        let rest = destination("tcp/443", false, 40000);
        let trace = ovn.trace("pc-mail", "new", &packet(&outside, &mac, (source, to), &rest));
        assert_eq!(arrives(&trace, target), open, "{source} through mail: {trace}");
    }
}

/// A VM speaks for itself alone, and gives no addresses away; asking for one works where the zone has DHCP.
#[test]
fn nobody_speaks_for_another() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    let cards = ovn.cards();
    let card = |vm: &str| cards.iter().find(|card| card.vm == vm).unwrap();
    let (www1, www2, fw) = (card("www1"), card("www2"), card("fw"));
    let rest = destination("tcp/22", false, 40000);
    let sent = |from: &Card, to: &Card, source: &str| {
        let address = if source.contains(':') { to.v6.as_deref().unwrap() } else { &to.v4 };
        let switch = format!("pc-{}", from.zone);
        arrives(&ovn.trace(&switch, "new", &packet(from, &to.mac, (source, address), &rest)), to)
    };
    let (own, own6) = (www1.v4.as_str(), www1.v6.as_deref().unwrap());
    assert!(sent(www1, www2, own) && sent(www1, www2, own6));
    assert!(!sent(www1, www2, "10.0.10.77") && !sent(www1, www2, "fd00:10::77"));
    assert!(!sent(www1, www2, &card("mx").v4));
    let other = Card { mac: OUTSIDE.into(), ..www1.clone() };
    assert!(!sent(&other, www2, own));
    // The VM that routes a zone carries packets of others: within the zone it is one of them.
    assert!(sent(fw, card("till"), "10.0.40.7") && !sent(fw, card("till"), "192.168.0.7"));

    // ARP for another's address.
    let arp = |address: &str| {
        let packet = format!(
            "inport == \"{}\" && eth.src == {mac} && eth.dst == ff:ff:ff:ff:ff:ff && arp.op == 2 \
             && arp.sha == {mac} && arp.spa == {address} && arp.tha == ff:ff:ff:ff:ff:ff && arp.tpa == {address}",
            www1.port,
            mac = www1.mac
        );
        arrives(&ovn.trace("pc-web", "new", &packet), www2)
    };
    assert!(arp(own) && !arp("10.0.10.1"));

    let server = packet(www1, &www2.mac, (own, &www2.v4), "udp.src == 67 && udp.dst == 68");
    assert!(!arrives(&ovn.trace("pc-web", "new", &server), www2));
    let discover = |card: &Card| {
        let rest = "udp.src == 68 && udp.dst == 67";
        let packet = packet(card, "ff:ff:ff:ff:ff:ff", ("0.0.0.0", "255.255.255.255"), rest);
        ovn.trace(&format!("pc-{}", card.zone), "new", &packet).contains("put_dhcp_opts")
    };
    assert!(discover(www1) && discover(card("imap")) && discover(card("till")));
    assert!(!discover(card("cam")), "cams has dhcp = false");
}

/// What leaves a zone is judged where it is sent, whatever routes it.
#[test]
fn nothing_leaves_that_no_route_names() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    let cards = ovn.cards();
    let card = |vm: &str| cards.iter().find(|card| card.vm == vm).unwrap();
    let leaves = |from: &Card, to_mac: &str, address: &str, rest: &str, through: &str| {
        let packet = packet(from, to_mac, (from.v4.as_str(), address), rest);
        let trace = ovn.trace(&format!("pc-{}", from.zone), "new", &packet);
        trace.contains(&format!("output to \"{through}\""))
    };
    let (cam, till, fw, mx) = (card("cam"), card("till"), card("fw"), card("mx"));
    let outside =
        |address, port| leaves(cam, OUTSIDE, address, &destination(port, false, 40000), "pc-cams-uplink");
    assert!(outside(&till.v4, "tcp/9100") && outside(&card("www1").v4, "tcp/443"));
    assert!(!outside(&mx.v4, "tcp/25") && !outside("203.0.113.9", "tcp/443"));
    let through_vm = |rest: &str| leaves(till, &fw.mac, "203.0.113.9", rest, &fw.port);
    assert!(!through_vm("tcp.src == 40000 && tcp.dst == 443"));
    assert!(!through_vm("udp.src == 68 && udp.dst == 67"), "a question for an address is no way out");
    assert!(leaves(till, &fw.mac, &fw.v4, "tcp.src == 40000 && tcp.dst == 443", &fw.port));

    // No other protocol is a way around: neither inside an isolated zone nor out of one.
    let raw = |from: &Card, to: &Card| {
        let packet = format!(
            "inport == \"{}\" && eth.src == {} && eth.dst == {} && eth.type == 0x88b5",
            from.port, from.mac, to.mac
        );
        arrives(&ovn.trace(&format!("pc-{}", from.zone), "new", &packet), to)
    };
    let imap = card("imap");
    let outside = Card { port: "pc-mail-uplink".into(), mac: OUTSIDE.into(), ..mx.clone() };
    assert!(!raw(imap, mx) && !raw(&outside, mx));

    // A zone that no route touches is closed as well, and its machines are still found.
    let solicitation = |from: &Card, to: &Card, source: &str| {
        let target = to.v6.as_deref().unwrap();
        let rest = format!(
            "icmp6.type == 135 && icmp6.code == 0 && nd.target == {target} && nd.sll == {}",
            from.mac
        );
        let packet = packet(from, &to.mac, (source, target), &rest).replace("ip.ttl == 64", "ip.ttl == 255");
        // OVN answers for VMs that are there, and passes on what it has no answer for.
        let trace = ovn.trace("pc-mail", "new", &packet);
        arrives(&trace, to) || trace.contains("nd_na")
    };
    let own = imap.v6.as_deref().unwrap();
    for file in [FILE, FILE.split("[[route]]").next().unwrap()] {
        let vms = &FILE[FILE.find("[vm.www1]").unwrap()..];
        ovn.write(&if file == FILE { FILE.to_string() } else { [file, vms].concat() });
        ovn.pc(&["zones", "apply"]).with(0);
        assert!(solicitation(imap, mx, own) && !solicitation(imap, mx, "fd00:20::77"));
        assert!(!raw(imap, mx) && !raw(&outside, mx));
        let mail = packet(imap, &mx.mac, (imap.v4.as_str(), &mx.v4), "tcp.src == 40000 && tcp.dst == 24");
        assert_eq!(arrives(&ovn.trace("pc-mail", "new", &mail), mx), file == FILE);
    }
}
