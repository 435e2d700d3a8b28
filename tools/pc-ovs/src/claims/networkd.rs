//! systemd-networkd's .network files: systemd.network(5).

use super::ini::{entries, matches};
use super::{By, Claim};
use crate::model::Link;

/// What we write for a device that is ours: sorts before everyone else's file, and the first match wins.
pub fn our_file(device: &str, carries_address: bool) -> (String, String) {
    // An unmanaged device with an address still counts for systemd-networkd-wait-online; a bare NIC never gets one.
    let required = if carries_address { "yes" } else { "no" };
    let text = format!(
        "# Written by pc-ovs apply --take-over: pc-ovs configures this device from now on.\n[Match]\nName={device}\n\n\
         [Link]\nUnmanaged=yes\nRequiredForOnline={required}\n"
    );
    (format!("/etc/systemd/network/00-pc-{device}.network"), text)
}

/// What one file says about a device: `None` when it does not match.
pub fn verdict(
    file: &str,
    text: &str,
    device: &str,
    link: Option<&Link>,
) -> Option<Result<Claim, Unmanaged>> {
    let found = entries(text);
    let conditions: Vec<_> = found.iter().filter(|entry| entry.section == "Match").collect();
    if !conditions.iter().all(|entry| holds(entry.key, entry.value, device, link)) {
        return None;
    }
    let value = |section: &str, key: &str| {
        found.iter().rev().find(|entry| entry.section == section && entry.key == key).map(|entry| entry.value)
    };
    if value("Link", "Unmanaged").is_some_and(truth) {
        return Some(Err(Unmanaged));
    }
    let dhcp =
        value("Network", "DHCP").is_some_and(|value| value != "no" && value != "false" && value != "none");
    let first = conditions.first().map_or(0, |entry| entry.line);
    Some(Ok(Claim {
        device: device.into(),
        by: By::Networkd,
        file: file.into(),
        line: first,
        dhcp,
        by_hand: None,
    }))
}

/// The first matching file says that networkd leaves the device alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmanaged;

/// Whether one condition holds. What cannot be judged from here (Driver=, Path=, Host= ...) is taken to hold:
/// a claim too many is a question to a person, one too few is two masters of one device.
fn holds(key: &str, value: &str, device: &str, link: Option<&Link>) -> bool {
    let words: Vec<&str> = value.split_whitespace().collect();
    let listed = |text: &str| match words.first().and_then(|first| first.strip_prefix('!')) {
        Some(first) => {
            let mut rest = std::iter::once(first).chain(words[1..].iter().copied());
            !rest.any(|pattern| matches(pattern, text))
        }
        None => words.iter().any(|pattern| matches(pattern, text)),
    };
    match key {
        "Name" => {
            // An interface matches by its other names, too.
            let names = link.map(|link| link.other_names.as_slice()).unwrap_or_default();
            let mut all = std::iter::once(device).chain(names.iter().map(String::as_str));
            if value.starts_with('!') { all.all(listed) } else { all.any(listed) }
        }
        // Our devices are network cards and Open vSwitch ports: both of type ether, never wlan.
        "Type" => listed("ether"),
        "MACAddress" | "PermanentMACAddress" => {
            link.is_none_or(|link| words.iter().any(|mac| mac.eq_ignore_ascii_case(&link.mac)))
        }
        // A card has no kind; Open vSwitch ports are "openvswitch", which no shipped file asks for.
        "Kind" => words.iter().all(|word| word.starts_with('!')),
        _ => true,
    }
}

fn truth(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str, device: &str) -> Option<Result<(usize, bool), Unmanaged>> {
        let other_names = vec!["enx525400123456".into()];
        let link = Link { mac: "52:54:00:12:34:56".into(), other_names, ..Link::default() };
        let verdict = verdict("/f", text, device, Some(&link))?;
        Some(verdict.map(|claim| (claim.line, claim.dhcp)))
    }

    #[test]
    fn files_match_as_networkd_matches() {
        assert_eq!(claim("[Match]\nName=en* eth0\n[Network]\nDHCP=yes\n", "enp1s0"), Some(Ok((2, true))));
        assert_eq!(
            claim("[Match]\nName=en*\n[Network]\nAddress=10.0.0.1/24\n", "enp1s0"),
            Some(Ok((2, false)))
        );
        assert_eq!(claim("[Match]\nName=!en* wl*\n", "enp1s0"), None);
        assert_eq!(claim("[Match]\nName=!wl*\n", "enp1s0"), Some(Ok((2, false))));
        assert_eq!(
            claim("[Match]\nName=enx525400123456\n", "enp1s0"),
            Some(Ok((2, false))),
            "another name of it"
        );
        assert_eq!(claim("[Match]\nName=!enx*\n", "enp1s0"), None);
        assert_eq!(claim("[Match]\nMACAddress=52:54:00:12:34:56\n", "enp1s0"), Some(Ok((2, false))));
        assert_eq!(claim("[Match]\nMACAddress=52:54:00:00:00:00\n", "enp1s0"), None);
        assert_eq!(claim("[Network]\nDHCP=ipv4\n", "enp1s0"), Some(Ok((0, true))), "no [Match] matches all");
        assert_eq!(claim("[Match]\nName=en*\n[Link]\nUnmanaged=yes\n", "enp1s0"), Some(Err(Unmanaged)));
    }

    #[test]
    fn files_that_systemd_ships_match_no_network_card() {
        for (text, matched) in [
            ("[Match]\nKind=veth\nName=host0\nVirtualization=container\n", false),
            ("[Match]\nName=vt-*\nDriver=tun\n", false),
            ("[Match]\nType=wlan\nWLANInterfaceType=ad-hoc\n", false),
            ("[Match]\nKind=!*\nType=ether\n[Network]\nDHCP=yes\n", true),
        ] {
            assert_eq!(claim(text, "enp1s0").is_some(), matched, "{text}");
        }
    }

    #[test]
    fn our_own_file_makes_a_device_unmanaged() {
        let (path, text) = our_file("enp1s0", false);
        assert_eq!(path, "/etc/systemd/network/00-pc-enp1s0.network");
        assert_eq!(claim(&text, "enp1s0"), Some(Err(Unmanaged)));
        assert_eq!(claim(&text, "enp1s1"), None);
    }
}
