//! Taking a NIC out of somebody else's hands: their file is kept and neutralised, their DHCP client ended.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pc_cli::log;

use crate::action::Action;
use crate::claims::{self, By, Claim, ifupdown, networkd, networkmanager};
use crate::dns::{self, Fate};
use crate::host::Host;
use crate::record::FileChange;
use crate::systemd::Bus;

/// cloud-init would write the neutralised files anew for a new instance.
const CLOUD_INIT: (&str, &str) = (
    "/etc/cloud/cloud.cfg.d/99-pc-ovs-network.cfg",
    "# Written by pc-ovs apply --take-over: pc-ovs configures the network from now on.\nnetwork: {config: disabled}\n",
);

/// A file with its new content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Absolute path.
    pub path: String,
    /// New content.
    pub content: String,
}

/// Edits that take what these actions take over out of everybody else's hands.
pub fn edits(host: &Host, actions: &[&Action]) -> Vec<Edit> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for action in actions {
        let Action::TakeOver { claims, nics, .. } = action else { continue };
        let devices: Vec<String> =
            nics.iter().cloned().chain(claims.iter().map(|claim| claim.device.clone())).collect();
        for by in claims.iter().map(|claim| claim.by) {
            match by {
                By::Ifupdown => comment_out(host, &devices, &mut found),
                By::Networkd => unmanage_networkd(&devices, nics, &mut found),
                By::NetworkManager => unmanage_networkmanager(host, &devices, &mut found),
                // Which of the two netplan writes for is a setting of its own: leave it nothing in either.
                By::Netplan => {
                    unmanage_networkd(&devices, nics, &mut found);
                    if host.path("/etc/NetworkManager").exists() {
                        unmanage_networkmanager(host, &devices, &mut found);
                    }
                }
                // Refused before it comes to this.
                By::Dhcpcd | By::Nixos => {}
            }
        }
    }
    if !found.is_empty() && host.path("/etc/cloud/cloud.cfg").exists() {
        found.insert(CLOUD_INIT.0.into(), CLOUD_INIT.1.into());
    }
    if !found.is_empty() {
        match dns::fate(host) {
            Fate::Kept(edit) => drop(found.insert(edit.path, edit.content)),
            Fate::Lost(writer) => log::warning(format_args!(
                "{writer} will write /etc/resolv.conf without the name servers that this NIC brought\n  name them there"
            )),
            Fate::Stays => {}
        }
    }
    found.into_iter().map(|(path, content)| Edit { path, content }).collect()
}

fn comment_out(host: &Host, devices: &[String], found: &mut BTreeMap<String, String>) {
    for (path, text) in claims::interfaces(&host.root) {
        let start = found.get(&path).cloned().unwrap_or(text);
        let without = |text: String, device: &String| ifupdown::without(&text, device).unwrap_or(text);
        let end = devices.iter().fold(start.clone(), without);
        if end != start {
            found.insert(path, end);
        }
    }
}

fn unmanage_networkd(devices: &[String], nics: &[String], found: &mut BTreeMap<String, String>) {
    for device in devices {
        let (path, content) = networkd::our_file(device, !nics.contains(device));
        found.insert(path, content);
    }
}

fn unmanage_networkmanager(host: &Host, devices: &[String], found: &mut BTreeMap<String, String>) {
    let path = networkmanager::OUR_FILE;
    let present = found.get(path).cloned();
    let present = present.or_else(|| std::fs::read_to_string(host.path(path)).ok()).unwrap_or_default();
    let mut all = networkmanager::listed(&present);
    all.extend(devices.iter().cloned());
    all.sort();
    all.dedup();
    found.insert(path.into(), networkmanager::our_file(&all));
}

/// Where the former content of each file will be kept; nothing is written yet.
pub fn file_changes(host: &Host, edits: &[Edit], kept: &str) -> Vec<FileChange> {
    let change = |edit: &Edit| {
        let exists = host.path(&edit.path).symlink_metadata().is_ok();
        FileChange { path: edit.path.clone(), backup: exists.then(|| format!("{kept}{}", edit.path)) }
    };
    edits.iter().map(change).collect()
}

/// Keeps the former content of every file, then writes the new one.
pub fn write(host: &Host, edits: &[Edit], changes: &[FileChange]) -> Result<()> {
    for change in changes {
        let Some(backup) = &change.backup else { continue };
        let (from, to) = (host.path(&change.path), host.path(backup));
        make_parent(&to)?;
        keep(&from, &to)
            .with_context(|| format!("keeping a copy of {} at {}", from.display(), to.display()))?;
    }
    for edit in edits {
        let path = host.path(&edit.path);
        make_parent(&path)?;
        let mode = std::fs::metadata(&path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
        pc_cli::write_atomic(&path, edit.content.as_bytes(), mode)?;
        log::info(format_args!("{}: taken over", edit.path));
    }
    Ok(())
}

/// The whole copy or none: one that was cut short would be put back over what was never changed.
fn keep(from: &Path, to: &Path) -> Result<()> {
    let mode = std::fs::metadata(from)?.permissions().mode() & 0o7777;
    pc_cli::write_atomic(to, &std::fs::read(from)?, mode)
}

/// Puts every file back as it was; one that was not there goes away. One that fails does not stop the others.
pub fn put_back(host: &Host, changes: &[FileChange]) -> Result<()> {
    pc_cli::together(changes.iter().filter_map(|change| put_one_back(host, change).err()))
}

fn put_one_back(host: &Host, change: &FileChange) -> Result<()> {
    let path = host.path(&change.path);
    let Some(backup) = &change.backup else {
        return match std::fs::remove_file(&path) {
            Ok(()) => {
                log::info(format_args!("{}: removed", change.path));
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
        };
    };
    let kept = host.path(backup);
    let content = match std::fs::read(&kept) {
        Ok(content) => content,
        // Interrupted before its copy was made, and so before it was changed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", kept.display())),
    };
    if std::fs::read(&path).ok().as_ref() != Some(&content) {
        let mode = std::fs::metadata(&kept).map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
        pc_cli::write_atomic(&path, &content, mode)?;
        log::info(format_args!("{}: put back", change.path));
    }
    Ok(())
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))
}

/// Tells those who are running that their files have changed.
pub fn reload(bus: Option<&Bus>, claims: &[Claim], files: &[FileChange]) -> Result<()> {
    let Some(bus) = bus else { return Ok(()) };
    let has = |wanted: By| claims.iter().any(|claim| claim.by == wanted);
    if files.iter().any(|file| file.path == dns::KEPT) {
        bus.reload_resolved()?;
    }
    if has(By::Networkd) || has(By::Netplan) {
        bus.reload_networkd()?;
    }
    if has(By::NetworkManager) {
        bus.reload_networkmanager()?;
    }
    Ok(())
}

/// Ends DHCP clients of these NICs. With SIGKILL: at SIGTERM they would take the address away themselves, and
/// with it the name servers in /etc/resolv.conf.
pub fn end_dhcp_clients(nics: &[String]) {
    for (pid, name) in dhcp_clients(nics) {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) => log::info(format_args!("ended {name} (process {pid})")),
            Err(error) => log::warning(format_args!("ending {name} (process {pid}): {error}")),
        }
    }
}

/// DHCP clients of these NICs in this network namespace.
fn dhcp_clients(nics: &[String]) -> Vec<(i32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = namespace("self");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let name = client_of(&line, nics)?;
        (namespace(&pid.to_string()) == own).then_some((pid, name))
    })
    .collect()
}

/// The client's name, when a command line is that of a DHCP client for one of these NICs. dhcpcd rewrites its
/// own into one string: `dhcpcd: [BPF ARP] ens3 192.168.0.50`.
fn client_of(line: &[u8], nics: &[String]) -> Option<String> {
    let text = String::from_utf8_lossy(line).replace('\0', " ");
    let mut words = text.split_whitespace();
    let program = words.next()?.trim_end_matches(':').rsplit('/').next()?.to_string();
    let known = ["dhclient", "dhcpcd", "udhcpc"].contains(&program.as_str());
    (known && words.any(|word| nics.iter().any(|nic| nic == word))).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dhcp_clients_are_recognised() {
        let nics = ["ens3".to_string()];
        for yes in [
            &b"dhclient\0-4\0-v\0-i\0-pf\0/run/dhclient.ens3.pid\0ens3\0"[..],
            b"/usr/sbin/dhcpcd\0ens3\0",
            b"dhcpcd: [BPF ARP] ens3 192.168.0.50",
            b"dhcpcd: ens3 [ip4]\0\0\0",
            b"udhcpc\0-i\0ens3\0",
        ] {
            assert!(client_of(yes, &nics).is_some(), "{}", String::from_utf8_lossy(yes));
        }
        for no in [&b"dhclient\0ens4\0"[..], b"ping\0ens3\0", b"", b"dhcpcd: [manager] [ip4] [ip6]"] {
            assert!(client_of(no, &nics).is_none(), "{}", String::from_utf8_lossy(no));
        }
    }
}
