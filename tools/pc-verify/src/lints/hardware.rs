//! Disks, power supplies and unlock servers, by what they say of themselves. The numbers are those of the alerts
//! (telemetry/rules/storage.yml and nodes.yml).

use super::Ours;
use crate::machine::{Disk, Machine, Server, Supply};
use crate::told::Told;

/// Used part of an SSD's rated life.
const WORN: f64 = 0.9;

pub fn disks(machine: &Machine, _: &Ours) -> Vec<Told> {
    machine.disks.iter().filter_map(disk).collect()
}

/// The gravest thing of each.
fn disk(disk: &Disk) -> Option<Told> {
    let name = &disk.name;
    let smart = format!("smartctl --all /dev/disk/by-id/{name}");
    let lost = disk.pending_sectors + disk.uncorrectable_sectors;
    if disk.passed == Some(false) || disk.critical_warning > 0 {
        let fault = format!("disk {name} expects to fail: replace it while the other copies are whole");
        return Some(Told::problem(fault, smart));
    }
    if lost > 0 {
        return Some(Told::warning(format!("disk {name} cannot read {lost} sectors"), smart));
    }
    let wear = disk.wear.filter(|wear| *wear > WORN)?;
    Some(Told::warning(format!("disk {name} has used {:.0} % of its rated life", wear * 100.0), smart))
}

/// The status words of NUT: docs/new-drivers.txt of its source.
pub fn supplies(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut told = Vec::new();
    for Supply { name, status } in &machine.supplies {
        let look = format!("upsc {}", name.as_deref().unwrap_or("-l"));
        let name = name.as_deref().unwrap_or("any power supply");
        let status = match status {
            Ok(status) => status,
            Err(why) => {
                let fault = format!("NUT knows nothing of {name}: {why}");
                told.push(Told::warning(fault, look));
                continue;
            }
        };
        let is = |word: &str| status.split_whitespace().any(|other| other == word);
        match (is("OB"), is("LB")) {
            (true, true) => {
                let fault =
                    format!("the battery of {name} is nearly empty: what it feeds goes off within minutes");
                // Where pacemaker is the starter, it would start again what pc-vm stops.
                let remedy = if ours.ha {
                    "pc-ha shutdown --all".to_string()
                } else {
                    format!("pc-vm stop --all, then poweroff, on each node that {name} feeds")
                };
                told.push(Told::problem(fault, remedy));
            }
            (true, false) => {
                told.push(Told::warning(format!("{name} has no mains and feeds out of its battery"), &look));
            }
            _ => {}
        }
        if is("RB") {
            let fault =
                format!("the battery of {name} has to be replaced: it will not last through a power cut");
            told.push(Told::warning(fault, look));
        }
    }
    told
}

pub fn servers(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let all = &machine.servers;
    let answering = all.iter().filter(|server| server.fault.is_none()).count();
    let remedy = |server: &Server| format!("curl -m 5 {}/adv", server.url.trim_end_matches('/'));
    let mut down = all.iter().filter_map(|server| Some((server, server.fault.as_deref()?))).peekable();
    let Some((first, why)) = down.peek().copied() else { return Vec::new() };
    if answering < ours.threshold {
        let of =
            if all.len() == 1 { String::new() } else { format!(", {answering} of {} answer", all.len()) };
        let fault =
            format!("would stay locked if it were rebooted now{of}: unlock server {}: {why}", first.url);
        return vec![Told::problem(fault, remedy(first))];
    }
    down.map(|(server, why)| Told::warning(format!("unlock server {}: {why}", server.url), remedy(server)))
        .collect()
}
