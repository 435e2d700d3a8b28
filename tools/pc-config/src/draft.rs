//! draft: probes this machine and writes a first cluster file, with a comment wherever a person decides.
//!
//! It only looks. A disk on which anything is found is named in a comment with what is on it, and is not
//! part of the draft.

use std::fmt;
use std::fmt::Write;

use anyhow::{Context, Result};
use cluster::{Bytes, Name};
use ipnet::IpNet;
use pc_cli::{Common, Exit};
use serde::Serialize;

use crate::ip::{Net, Own};
use crate::lsblk::Disk;
use crate::{ip, lsblk};

/// What was found out about this machine.
struct Machine {
    node: String,
    /// Memory that Linux can use, in bytes.
    memory_bytes: Option<u64>,
    disks: Vec<Disk>,
    net: Net,
}

/// `pc.config.draft/1`: the draft, and what it was made from.
#[derive(Debug, Serialize)]
struct Draft {
    schema: &'static str,
    node: String,
    /// The cluster file; `pc-config merge` takes it from here.
    file: serde_json::Value,
    disks: Vec<Disk>,
    network: Net,
    #[serde(skip)]
    text: String,
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `pc-config draft`.
pub fn draft(common: &Common, name: &Name) -> Result<Exit> {
    let host = common.node_name()?;
    let machine = Machine {
        node: host.split('.').next().unwrap_or_default().to_lowercase(),
        memory_bytes: memory(
            &std::fs::read_to_string(common.under_root("/proc/meminfo")).unwrap_or_default(),
        ),
        disks: lsblk::disks(&common.root)?,
        net: ip::net()?,
    };
    let text = render(&machine, name);
    let file = toml::from_str(&text).context("reading the draft back")?;
    let schema = "pc.config.draft/1";
    let Machine { node, disks, net: network, .. } = machine;
    pc_cli::emit(common.json, &Draft { schema, node, file, disks, network, text })?;
    Ok(Exit::Done)
}

/// `MemTotal` of /proc/meminfo (proc(5)).
fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The draft as TOML.
fn render(machine: &Machine, name: &Name) -> String {
    let mut out = format!(
        "# Drafted by pc-config on {}. Read it, decide, then: pc-config check --file FILE\n\
         schema = \"{}\"\nname = \"{name}\"\n\n\
         # How disks and secrets open themselves at boot; without it, by hand after every start.\n\
         # `pc-unlock adv http://ADDRESS`, with the address of the tang box, prints the line to put here:\n\
         # [unlock]\n# tang = [{{ url = \"http://ADDRESS\", thumbprint = \"...\" }}]\n\n",
        machine.node,
        cluster::SCHEMA
    );
    // Writing to a String cannot fail, here and below.
    let _ = node(&mut out, machine);
    if machine.disks.iter().any(|disk| disk.usable) {
        out.push_str("\n[volume.vms]\nuse = \"vm\"\nreplicas = 1 # one node, one copy; `pc-config merge` raises it to 3 with the nodes\n");
    }
    let _ = network(&mut out, machine);
    out
}

fn node(out: &mut String, machine: &Machine) -> fmt::Result {
    writeln!(out, "[[node]]")?;
    if Name::try_from(machine.node.clone()).is_err() || machine.node == "localhost" {
        writeln!(
            out,
            "# FILL IN: this machine has no name of its own; `hostnamectl hostname node1` gives it one"
        )?;
        writeln!(out, "name = \"node1\"")?;
    } else {
        writeln!(out, "name = \"{}\"", machine.node)?;
    }
    match &machine.net.own {
        Some(own) => {
            if own.from_dhcp {
                writeln!(out, "# Lent by DHCP until now; the file makes it fixed: reserve it in the router")?;
            }
            writeln!(out, "address = \"{}\"", own.address)?;
        }
        None => writeln!(out, "# FILL IN: this machine has no address yet\naddress = \"192.0.2.1\"")?,
    }
    nics(out, machine)?;
    disks(out, &machine.disks)?;
    if let Some(bytes) = machine.memory_bytes {
        // Whole GiB read better, and less than there is errs on the safe side.
        let unit = if bytes >> 30 >= 2 { 30 } else { 20 };
        writeln!(out, "memory = \"{}\"", Bytes(bytes >> unit << unit))?;
    }
    Ok(())
}

fn nics(out: &mut String, machine: &Machine) -> fmt::Result {
    let own = machine.net.own.as_ref().map(|own| own.interface.as_str());
    let is_card = machine.net.nics.iter().any(|nic| Some(nic.name.as_str()) == own);
    let mut others = String::new();
    for nic in machine.net.nics.iter().filter(|nic| Some(nic.name.as_str()) != own) {
        let cable = if nic.carrier { "connected" } else { "no cable" };
        write!(others, "{}{} ({cable})", if others.is_empty() { "" } else { ", " }, nic.name)?;
    }
    if !others.is_empty() {
        writeln!(out, "# Other network cards: {others}; two names in one list make a bond")?;
    }
    match own {
        Some(own) if is_card => writeln!(out, "nics.lan = [\"{own}\"]"),
        Some(own) => {
            writeln!(
                out,
                "# FILL IN: the address is on {own}, which is no network card; name the card beneath it"
            )?;
            let card = machine.net.nics.first().map_or("enp1s0", |nic| nic.name.as_str());
            writeln!(out, "nics.lan = [\"{card}\"]")
        }
        None => {
            let card = machine.net.nics.first().map_or("enp1s0", |nic| nic.name.as_str());
            writeln!(
                out,
                "# FILL IN: the network card that leads to the other nodes\nnics.lan = [\"{card}\"]"
            )
        }
    }
}

fn disks(out: &mut String, disks: &[Disk]) -> fmt::Result {
    let rejected = disks.iter().filter(|disk| !disk.usable);
    for (index, disk) in rejected.enumerate() {
        if index == 0 {
            writeln!(out, "# Disks that are not blank are never formatted, and so not offered:")?;
        }
        let path = disk.path.clone().unwrap_or_else(|| format!("/dev/{}", disk.kernel_name));
        writeln!(out, "#   {path} ({}): {}", size(disk), disk.reasons.join(", "))?;
    }
    let usable: Vec<&Disk> = disks.iter().filter(|disk| disk.usable).collect();
    if usable.is_empty() {
        return writeln!(
            out,
            "# No blank disk was found: `pc-brick wipe` empties one, if it is really to be lost"
        );
    }
    writeln!(out, "# Blank disks, one brick each; give some to other volumes (disks.backup) if you like.")?;
    writeln!(out, "disks.vms = [")?;
    for disk in usable {
        writeln!(out, "    \"{}\", # {}", disk.path.as_deref().unwrap_or_default(), size(disk))?;
    }
    writeln!(out, "]")
}

/// `931 GiB Samsung SSD 980 1TB`.
fn size(disk: &Disk) -> String {
    format!("{} GiB {}", disk.size_bytes >> 30, disk.model).trim().to_string()
}

fn network(out: &mut String, machine: &Machine) -> fmt::Result {
    writeln!(out, "\n[network.lan]\nuplink = \"lan\"")?;
    let Some(own) = &machine.net.own else {
        return writeln!(out, "# FILL IN: the subnet of the nodes' addresses\nsubnet = \"192.0.2.0/24\"");
    };
    if let Some(net) = subnet(own) {
        writeln!(out, "subnet = \"{net}\"")?;
    }
    match own.router {
        Some(router) => writeln!(out, "router = \"{router}\"")?,
        None => writeln!(out, "# No default router was found: router = \"...\" if there is one")?,
    }
    let card = machine.net.nics.iter().find(|nic| nic.name == own.interface);
    match card.filter(|nic| nic.mtu_bytes != 1500) {
        Some(nic) => writeln!(out, "mtu = {}", nic.mtu_bytes),
        None => Ok(()),
    }
}

fn subnet(own: &Own) -> Option<IpNet> {
    IpNet::new(own.address, own.prefix_length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::Nic;

    fn disk(name: &str, reasons: &[&str]) -> Disk {
        Disk {
            path: Some(format!("/dev/disk/by-id/{name}")),
            kernel_name: "vdb".into(),
            size_bytes: 4 << 30,
            model: "Disk \"quoted\"".into(),
            usable: reasons.is_empty(),
            reasons: reasons.iter().map(ToString::to_string).collect(),
        }
    }

    fn machine() -> Machine {
        let nic = |name: &str, mtu_bytes| Nic { name: name.into(), carrier: mtu_bytes == 1500, mtu_bytes };
        Machine {
            node: "node1".into(),
            memory_bytes: memory("MemTotal:        4022832 kB\nMemFree: 1 kB\n"),
            disks: vec![
                disk("virtio-root", &["partition table gpt", "in use at /"]),
                disk("virtio-d1", &[]),
                disk("virtio-d2", &[]),
            ],
            net: Net {
                nics: vec![nic("enp1s0", 1500), nic("enp2s0", 9000)],
                own: Some(Own {
                    interface: "enp1s0".into(),
                    address: "10.10.0.1".parse().unwrap(),
                    prefix_length: 24,
                    from_dhcp: true,
                    router: Some("10.10.0.254".parse().unwrap()),
                }),
            },
        }
    }

    fn faults(text: &str) -> Vec<String> {
        let report = cluster::parse_report("draft.toml", text);
        report.errors().map(ToString::to_string).collect()
    }

    #[test]
    fn a_draft_passes_the_check() {
        let text = render(&machine(), &Name::try_from("home".to_string()).unwrap());
        assert_eq!(faults(&text), [""; 0]);
        assert_eq!(text, include_str!("../tests/draft/node1.toml"));
    }

    #[test]
    fn what_it_could_not_know_is_marked() {
        let name = Name::try_from("home".to_string()).unwrap();
        let bare = Machine {
            node: "LOCALHOST".into(),
            memory_bytes: None,
            disks: Vec::new(),
            net: Net { nics: Vec::new(), own: None },
        };
        let text = render(&Machine { node: "localhost".into(), ..bare }, &name);
        assert_eq!(text.matches("FILL IN").count(), 4);
        assert_eq!(faults(&text), [""; 0]);
        let mut bridged = machine();
        bridged.net.own.as_mut().unwrap().interface = "br0".into();
        let text = render(&bridged, &name);
        assert!(text.contains("FILL IN: the address is on br0") && text.contains("nics.lan = [\"enp1s0\"]"));
        assert_eq!(faults(&text), [""; 0]);
    }
}
