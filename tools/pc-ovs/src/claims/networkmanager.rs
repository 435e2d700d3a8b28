//! `NetworkManager`'s profiles and configuration: NetworkManager.conf(5), nm-settings-keyfile(5).

use super::ini::{entries, matches};

/// Where our list of devices goes that `NetworkManager` leaves alone.
pub const OUR_FILE: &str = "/etc/NetworkManager/conf.d/90-pc-ovs.conf";

/// The content of that file. `+=` adds to what other files say.
pub fn our_file(devices: &[String]) -> String {
    let listed: Vec<String> = devices.iter().map(|device| format!("interface-name:{device}")).collect();
    format!(
        "# Written by pc-ovs apply --take-over: pc-ovs configures these devices from now on.\n[keyfile]\n\
         unmanaged-devices+={}\n",
        listed.join(";")
    )
}

/// The devices in a file of ours.
pub fn listed(text: &str) -> Vec<String> {
    let lists = entries(text).into_iter().filter(|entry| entry.key.starts_with("unmanaged-devices"));
    let names = lists.flat_map(|entry| entry.value.split(';'));
    names.filter_map(|name| name.strip_prefix("interface-name:")).map(str::to_string).collect()
}

/// Whether a configuration file takes a device out of `NetworkManager`'s hands.
pub fn unmanaged(text: &str, device: &str, mac: Option<&str>) -> bool {
    entries(text)
        .iter()
        .filter(|entry| entry.section == "keyfile" && entry.key.trim_end_matches('+') == "unmanaged-devices")
        .any(|entry| covers(entry.value, device, mac))
}

/// A device list: entries of `interface-name:`, `mac:`, `*`, and `except:` before any of them.
fn covers(list: &str, device: &str, mac: Option<&str>) -> bool {
    let mut covered = false;
    for entry in list.split([';', ',']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let (except, spec) = entry.strip_prefix("except:").map_or((false, entry), |spec| (true, spec));
        let hit = if let Some(pattern) = spec.strip_prefix("interface-name:") {
            matches(pattern.trim_start_matches('='), device)
        } else if let Some(address) = spec.strip_prefix("mac:") {
            mac.is_some_and(|mac| mac.eq_ignore_ascii_case(address))
        } else {
            spec == "*" || spec == device || spec == "type:ethernet"
        };
        if hit && except {
            return false;
        }
        covered |= hit;
    }
    covered
}

/// The line of a profile that binds it to this device, and whether it asks DHCP.
pub fn profile(text: &str, device: &str) -> Option<(usize, bool)> {
    let found = entries(text);
    let bound = found.iter().find(|entry| {
        entry.section == "connection" && entry.key == "interface-name" && entry.value == device
    })?;
    let automatic = found.iter().any(|entry| {
        entry.section.starts_with("ipv") && entry.key == "method" && ["auto", "dhcp"].contains(&entry.value)
    });
    Some((bound.line, automatic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_lists_are_understood() {
        let list = |value: &str| format!("[keyfile]\nunmanaged-devices={value}\n");
        for yes in
            ["interface-name:enp*", "*", "mac:52:54:00:12:34:56", "*;except:interface-name:wl*", "enp1s0"]
        {
            assert!(unmanaged(&list(yes), "enp1s0", Some("52:54:00:12:34:56")), "{yes}");
        }
        for no in ["interface-name:eth*", "*;except:interface-name:enp1s0", "", "mac:52:54:00:00:00:00"] {
            assert!(!unmanaged(&list(no), "enp1s0", Some("52:54:00:12:34:56")), "{no}");
        }
        let ours = our_file(&["enp1s0".into(), "br-lan".into()]);
        assert!(unmanaged(&ours, "br-lan", None) && unmanaged(&ours, "enp1s0", None));
        assert!(!unmanaged(&ours, "enp2s0", None));
    }

    #[test]
    fn profiles_name_their_device() {
        let text = "[connection]\nid=Wired\ntype=ethernet\ninterface-name=enp1s0\n\n[ipv4]\nmethod=auto\n";
        assert_eq!(profile(text, "enp1s0"), Some((4, true)));
        assert_eq!(profile(text, "enp2s0"), None);
        assert_eq!(profile(&text.replace("auto", "manual"), "enp1s0"), Some((4, false)));
    }
}
