//! Reads the files that the parsers understand. A file that cannot be read is no claim, and is logged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{By, Claim, ifupdown, ini, networkd, networkmanager};
use crate::model::Link;

/// Where systemd looks for .network files, most important first.
const NETWORKD: [&str; 4] = [
    "etc/systemd/network",
    "run/systemd/network",
    "usr/local/lib/systemd/network",
    "usr/lib/systemd/network",
];
/// Any of these exists where networkd runs, or will at the next boot.
const NETWORKD_RUNS: [&str; 4] = [
    "run/systemd/netif/state",
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
    "etc/systemd/system/sockets.target.wants/systemd-networkd.socket",
    "etc/systemd/system/dbus-org.freedesktop.network1.service",
];
const NETWORKMANAGER_RUNS: [&str; 2] = [
    "run/NetworkManager/NetworkManager.pid",
    "etc/systemd/system/multi-user.target.wants/NetworkManager.service",
];
const NETWORKMANAGER_CONF: [&str; 3] =
    ["usr/lib/NetworkManager/conf.d", "run/NetworkManager/conf.d", "etc/NetworkManager/conf.d"];
const PROFILES: [&str; 2] =
    ["etc/NetworkManager/system-connections", "run/NetworkManager/system-connections"];
const DHCPCD_RUNS: &str = "etc/systemd/system/multi-user.target.wants/dhcpcd.service";

/// Everything that configures one of `nics`, or one of our own `ports`, on the machine at `root`.
pub fn scan(root: &Path, nics: &[String], ports: &[String], links: &BTreeMap<String, Link>) -> Vec<Claim> {
    let interfaces = interfaces(root);
    let networks = networks(root);
    let mut found = Vec::new();
    for device in nics.iter().chain(ports) {
        let before = found.len();
        for (file, text) in &interfaces {
            found.extend(ifupdown::claims(file, text, device));
        }
        let by_ifupdown = found.len() > before;
        let verdicts =
            networks.iter().map(|(file, text)| networkd::verdict(file, text, device, links.get(device)));
        if let Some(Ok(claim)) = verdicts.flatten().next() {
            found.push(origin(root, claim));
        }
        // Debian's NetworkManager leaves alone what ifupdown names.
        if !by_ifupdown {
            found.extend(by_networkmanager(root, device, links.get(device), nics.contains(device)));
        }
        found.extend(by_dhcpcd(root, device));
        found.extend(by_nixos(root, device));
    }
    for claim in &mut found {
        if claim.by_hand.is_none() && out_of_nixos(root, &claim.file) {
            claim.by_hand = Some(nixos_remedy(&claim.device));
        }
    }
    found
}

/// Scripted networking of `NixOS` has a unit per interface (nixos/modules/tasks/network-interfaces-scripted.nix).
fn by_nixos(root: &Path, device: &str) -> Option<Claim> {
    let unit = format!("etc/systemd/system/network-addresses-{device}.service");
    exists(root, &unit).then(|| Claim {
        device: device.into(),
        by: By::Nixos,
        file: format!("/{unit}"),
        line: 0,
        dhcp: false,
        by_hand: Some(nixos_remedy(device)),
    })
}

/// The file lies in the store: writing it is impossible, and it would come back anyway.
fn out_of_nixos(root: &Path, file: &str) -> bool {
    let path = root.join(file.trim_start_matches('/'));
    std::fs::canonicalize(path).is_ok_and(|real| real.starts_with("/nix/store"))
}

fn nixos_remedy(device: &str) -> String {
    format!(
        "take {device} out of networking.interfaces and systemd.network.networks, and set networking.useDHCP = false"
    )
}

/// The interfaces file and everything it sources, by path as the machine sees it.
pub fn interfaces(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut queue = vec!["/etc/network/interfaces".to_string()];
    while let Some(path) = queue.pop() {
        if found.len() >= 200 || found.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let Some(text) = read(&root.join(path.trim_start_matches('/'))) else { continue };
        let base = Path::new(&path).parent().unwrap_or(Path::new("/"));
        for (pattern, directory) in ifupdown::sources(&text) {
            let pattern = base.join(pattern);
            queue.extend(if directory {
                listed(root, &pattern, "*", true)
            } else {
                expanded(root, &pattern)
            });
        }
        found.push((path, text));
    }
    found
}

/// A pattern in the last part of a path, expanded.
fn expanded(root: &Path, pattern: &Path) -> Vec<String> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    listed(root, directory, &name.to_string_lossy(), false)
}

fn listed(root: &Path, directory: &Path, pattern: &str, plain_names: bool) -> Vec<String> {
    let inside = root.join(directory.strip_prefix("/").unwrap_or(directory));
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    names(&inside)
        .into_iter()
        .filter(|name| !name.starts_with('.') && ini::matches(pattern, name) && (!plain_names || plain(name)))
        .map(|name| directory.join(name).display().to_string())
        .collect()
}

/// .network files in the order in which networkd tries them; a name found in an earlier directory hides the
/// same name in later ones.
fn networks(root: &Path) -> Vec<(String, String)> {
    if !NETWORKD_RUNS.iter().any(|path| exists(root, path)) {
        return Vec::new();
    }
    let mut by_name = BTreeMap::new();
    for directory in NETWORKD {
        for name in names(&root.join(directory)).into_iter().filter(|name| name.ends_with(".network")) {
            let path = root.join(directory).join(&name);
            by_name.entry(name.clone()).or_insert_with(|| (format!("/{directory}/{name}"), read(&path)));
        }
    }
    // An empty file, or a link to /dev/null, masks the name.
    by_name
        .into_values()
        .filter_map(|(path, text)| Some((path, text.filter(|text| !text.is_empty())?)))
        .collect()
}

/// Files that netplan wrote are claimed by the file a person edits.
fn origin(root: &Path, claim: Claim) -> Claim {
    if !claim.file.starts_with("/run/systemd/network/10-netplan-") {
        return claim;
    }
    for name in names(&root.join("etc/netplan")) {
        let Some(text) = read(&root.join("etc/netplan").join(&name)) else { continue };
        let key = format!("{}:", claim.device);
        if let Some(index) =
            text.lines().position(|line| line.trim_start().trim_matches('"').starts_with(&key))
        {
            return Claim { by: By::Netplan, file: format!("/etc/netplan/{name}"), line: index + 1, ..claim };
        }
    }
    Claim { by: By::Netplan, ..claim }
}

fn by_networkmanager(root: &Path, device: &str, link: Option<&Link>, nic: bool) -> Option<Claim> {
    if !NETWORKMANAGER_RUNS.iter().any(|path| exists(root, path)) {
        return None;
    }
    let mac = link.map(|link| link.mac.as_str());
    let main = root.join("etc/NetworkManager/NetworkManager.conf");
    let in_directory = |directory: &&str| {
        let directory = root.join(directory);
        names(&directory).into_iter().map(move |name| directory.join(name)).collect::<Vec<_>>()
    };
    let mut files: Vec<PathBuf> = NETWORKMANAGER_CONF.iter().flat_map(in_directory).collect();
    files.push(main);
    if files.iter().filter_map(|file| read(file)).any(|text| networkmanager::unmanaged(&text, device, mac)) {
        return None;
    }
    let claim = |file: String, line, dhcp| Claim {
        device: device.into(),
        by: By::NetworkManager,
        file,
        line,
        dhcp,
        by_hand: None,
    };
    for directory in PROFILES {
        for name in names(&root.join(directory)) {
            let text = read(&root.join(directory).join(&name)).unwrap_or_default();
            if let Some((line, dhcp)) = networkmanager::profile(&text, device) {
                return Some(claim(format!("/{directory}/{name}"), line, dhcp));
            }
        }
    }
    // Without a profile it makes an automatic one for every network card; Open vSwitch ports it leaves alone.
    nic.then(|| claim("/etc/NetworkManager/NetworkManager.conf".into(), 0, true))
}

fn by_dhcpcd(root: &Path, device: &str) -> Option<Claim> {
    if !exists(root, DHCPCD_RUNS) {
        return None;
    }
    let text = read(&root.join("etc/dhcpcd.conf")).unwrap_or_default();
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let denied = words
        .filter(|words| words.first() == Some(&"denyinterfaces"))
        .any(|words| words[1..].iter().any(|pattern| ini::matches(pattern, device)));
    let by_hand = format!("add `denyinterfaces {device}` to /etc/dhcpcd.conf and restart dhcpcd.service");
    (!denied).then(|| Claim {
        device: device.into(),
        by: By::Dhcpcd,
        file: "/etc/dhcpcd.conf".into(),
        line: 0,
        dhcp: true,
        by_hand: Some(by_hand),
    })
}

fn exists(root: &Path, path: &str) -> bool {
    root.join(path).symlink_metadata().is_ok()
}

/// Names in a directory, sorted; none when there is no such directory.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> Option<String> {
    match std::fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            pc_cli::log::warning(format_args!("reading {}: {error}", path.display()));
            None
        }
    }
}
