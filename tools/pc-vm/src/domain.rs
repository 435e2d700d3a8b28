//! A VM as a libvirt domain (libvirt, docs/formatdomain.rst). Pure: the same file and the same kind of host
//! give the same text on every node.

use std::collections::BTreeSet;
use std::fmt::Write;

use cluster::{Cluster, DiskBus, Firmware, Name, Network, Vm, bridge_name, identity, zones};
use sha2::{Digest, Sha256};

use crate::cpu;
use crate::devices;
use crate::facts::HostFacts;
use crate::places::Places;

mod over;

pub use over::over;

/// XML namespace of our mark: a domain that carries it was made here.
pub const NAMESPACE: &str = "https://github.com/personal-cluster/personal-cluster/ns/vm/1";

/// What a guest's own disk is called in its definition.
pub const DISK: &str = "vda";

/// A rendered definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The domain's name, which is the VM's.
    pub name: String,
    /// The domain's UUID.
    pub uuid: String,
    /// SHA-256 of everything but the mark itself; the mark carries it.
    pub digest: String,
    /// The whole document.
    pub xml: String,
}

/// One VM of the file.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// The whole file.
    pub cluster: &'a Cluster,
    /// Its name.
    pub name: &'a Name,
    /// Its section.
    pub vm: &'a Vm,
}

impl Guest<'_> {
    /// Its libvirt UUID.
    pub fn uuid(&self) -> String {
        identity::uuid(&self.cluster.name, self.name)
    }

    /// Its MAC address on one of its networks.
    pub fn mac(&self, network: &Name) -> String {
        identity::mac(&self.cluster.name, self.name, network)
    }

    /// Where its files are.
    pub fn places(&self) -> Places {
        Places::of(self.name, &self.vm.volume)
    }
}

/// What may differ between a VM and a copy of it that is only looked at.
struct Own<'a> {
    places: Places,
    networks: &'a [Name],
    /// There is a cloud-init seed.
    seed: bool,
    /// It has the devices of its node.
    devices: bool,
    /// What it boots from while its disk does not boot.
    cdrom: Option<&'a str>,
}

/// A copy of a VM for a rehearsal: the same machine, and nothing that could be taken for the VM itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal<'a> {
    /// What libvirt calls it: no VM's name, for it has a dot.
    pub name: &'a str,
    /// Where all of its files are.
    pub directory: &'a str,
    /// Its cloud-init seed is among them.
    pub seed: bool,
    /// Where its serial console is written to: by virtlogd, which stands still for all guests with the volume it writes to.
    pub console: &'a str,
}

/// Renders a copy: another name, a UUID that libvirt draws, files of its own, no network card, and no mark, for it is
/// not pc-vm's to look after.
pub fn render_copy(guest: &Guest, host: &HostFacts, copy: &Rehearsal) -> String {
    let places = Places { serial_log: copy.console.into(), ..Places::of_copy(copy.directory) };
    let own = Own { places, networks: &[], seed: copy.seed, devices: false, cdrom: None };
    let kind = escape(&host.domain_type);
    let body = body(guest, host, &own);
    format!("<domain type='{kind}'>\n  <name>{}</name>\n{body}</domain>\n", escape(copy.name))
}

/// Renders the definition for a host.
pub fn render(guest: &Guest, host: &HostFacts) -> Definition {
    let vm = guest.vm;
    let own = Own {
        places: guest.places(),
        networks: &vm.networks,
        seed: true,
        devices: true,
        cdrom: vm.cdrom.as_deref(),
    };
    let uuid = guest.uuid();
    let head = format!(
        "<domain type='{}'>\n  <name>{}</name>\n  <uuid>{uuid}</uuid>\n",
        escape(&host.domain_type),
        guest.name
    );
    let body = body(guest, host, &own);
    let mut hash = Sha256::new();
    hash.update(&head);
    hash.update(&body);
    let digest = format!("{:x}", hash.finalize());
    let mark =
        format!("  <metadata>\n    <pc:vm xmlns:pc='{NAMESPACE}' digest='{digest}'/>\n  </metadata>\n");
    Definition { name: guest.name.to_string(), uuid, digest, xml: format!("{head}{mark}{body}</domain>\n") }
}

fn body(guest: &Guest, host: &HostFacts, own: &Own) -> String {
    let vm = guest.vm;
    let mut xml = String::new();
    // Whole KiB, never less than asked for.
    let _ = writeln!(xml, "  <memory unit='KiB'>{}</memory>", vm.memory.0.div_ceil(1024));
    let _ = writeln!(xml, "  <vcpu placement='static'>{}</vcpu>", vm.cpus);
    xml.push_str(&os(guest, host, own));
    // Only what runs in system management mode writes the variables that Secure Boot believes.
    let features = match (host.is_x86(), vm.secure_boot) {
        (true, false) => "    <acpi/>\n    <apic/>\n",
        (true, true) => "    <acpi/>\n    <apic/>\n    <smm state='on'/>\n",
        (false, _) => "    <acpi/>\n",
    };
    let _ = writeln!(xml, "  <features>\n{features}  </features>");
    xml.push_str(&cpu::cpu(vm.cpu.as_deref(), host));
    xml.push_str(if host.is_x86() { CLOCK_X86 } else { "  <clock offset='utc'/>\n" });
    xml.push_str(
        "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>\n  <on_crash>restart</on_crash>\n",
    );
    xml.push_str("  <devices>\n");
    xml.push_str(&disk(&own.places, vm.disk_bus));
    if own.seed {
        xml.push_str(&seed(&own.places));
    }
    xml.push_str(&cdrom(own, host, vm.disk_bus));
    let has_usb = vm.display || own.devices && !vm.usb.is_empty();
    let usb = if has_usb { "qemu-xhci" } else { "none" };
    let _ = writeln!(xml, "    <controller type='usb' model='{usb}'/>");
    for network in own.networks {
        xml.push_str(&interface(guest, network));
    }
    xml.push_str(&serial(&own.places, host));
    if vm.display {
        xml.push_str(if host.is_x86() { DISPLAY_X86 } else { DISPLAY_ARM });
    }
    if own.devices {
        xml.push_str(&devices::hostdevs(vm));
    }
    xml.push_str(DEVICES);
    xml.push_str("  </devices>\n");
    xml
}

/// Lost ticks are caught up, and the costly emulated timer is left out (libvirt's own advice for Linux guests).
const CLOCK_X86: &str = "  <clock offset='utc'>\n    <timer name='rtc' tickpolicy='catchup'/>\n    \
    <timer name='pit' tickpolicy='delay'/>\n    <timer name='hpet' present='no'/>\n  </clock>\n";

/// Guest agent, entropy, and a balloon that reports how much memory is really used.
const DEVICES: &str = "    <channel type='unix'>\n      \
    <target type='virtio' name='org.qemu.guest_agent.0'/>\n    </channel>\n    \
    <memballoon model='virtio'>\n      <stats period='10'/>\n    </memballoon>\n    \
    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n";

/// A screen without a network listener: libvirt makes the socket below the domain's own directory. The pointer is absolute,
/// so that it is where the viewer's is; a PC has a keyboard by itself.
const DISPLAY_X86: &str = "    <input type='tablet' bus='usb'/>\n    \
    <graphics type='vnc'>\n      <listen type='socket'/>\n    </graphics>\n    \
    <video>\n      <model type='vga'/>\n    </video>\n";

const DISPLAY_ARM: &str = "    <input type='tablet' bus='usb'/>\n    <input type='keyboard' bus='usb'/>\n    \
    <graphics type='vnc'>\n      <listen type='socket'/>\n    </graphics>\n    \
    <video>\n      <model type='virtio'/>\n    </video>\n";

fn os(guest: &Guest, host: &HostFacts, own: &Own) -> String {
    // The virt machine of arm64 has no other firmware.
    let uefi = guest.vm.firmware == Firmware::Uefi || !host.is_x86();
    let arch = escape(&host.arch);
    let machine = if host.is_x86() { "q35" } else { "virt" };
    let kind = format!("    <type arch='{arch}' machine='{machine}'>hvm</type>\n");
    // What has been installed boots from its disk, an empty one lets the CD-ROM have its turn.
    let cdrom = if own.cdrom.is_some() { "    <boot dev='cdrom'/>\n" } else { "" };
    let boot = format!("    <boot dev='hd'/>\n{cdrom}");
    if !uefi {
        return format!("  <os>\n{kind}{boot}  </os>\n");
    }
    // Said either way: libvirt would otherwise pick the image with Microsoft's keys, which boots no home-made kernel.
    let secure = if guest.vm.secure_boot {
        "      <feature enabled='yes' name='enrolled-keys'/>\n      <feature enabled='yes' name='secure-boot'/>\n"
    } else {
        "      <feature enabled='no' name='secure-boot'/>\n"
    };
    format!(
        "  <os firmware='efi'>\n{kind}    <firmware>\n{secure}    </firmware>\n    <nvram>{}</nvram>\n{boot}  </os>\n",
        escape(&own.places.nvram)
    )
}

/// The disk bypasses the host's page cache, so that what a guest has flushed is on the volume when another node
/// opens it. An I/O error stops the guest instead of reaching it. QEMU's image lock (its default) stays on. Its name is the
/// same on every bus: archives and checkpoints know it by that.
fn disk(places: &Places, bus: DiskBus) -> String {
    format!(
        "    <disk type='file' device='disk'>\n      \
         <driver name='qemu' type='raw' cache='none' error_policy='stop' io='threads' discard='unmap'/>\n      \
         <source file='{}'/>\n      <target dev='{DISK}' bus='{}'/>\n    </disk>\n",
        escape(&places.disk),
        bus.word()
    )
}

/// On virtio whatever the disk is on: who runs cloud-init has a driver for that, and Windows installs its own when it finds
/// such a disk, after which the VM's may be one too.
fn seed(places: &Places) -> String {
    format!(
        "    <disk type='file' device='disk'>\n      \
         <driver name='qemu' type='raw' cache='none'/>\n      \
         <source file='{}'/>\n      <target dev='vdb' bus='virtio'/>\n      <readonly/>\n    </disk>\n",
        escape(&places.seed)
    )
}

/// Any system can boot from this one. A file that is missing when the guest starts is left out: nothing that was installed
/// needs it.
fn cdrom(own: &Own, host: &HostFacts, disk: DiskBus) -> String {
    let Some(path) = own.cdrom else { return String::new() };
    let (path, bus) = (escape(path), if host.is_x86() { "sata" } else { "scsi" });
    // libvirt makes the port on the bus out of the letter: the first one is the disk's.
    let name = if disk == DiskBus::Sata { "sdb" } else { "sda" };
    format!(
        "    <disk type='file' device='cdrom'>\n      <driver name='qemu' type='raw'/>\n      \
         <source file='{path}' startupPolicy='optional'/>\n      <target dev='{name}' bus='{bus}'/>\n      \
         <readonly/>\n    </disk>\n"
    )
}

/// An access port of the frames that carry no tag (ovs-vswitchd.conf.db(5), `tag`).
const UNTAGGED: u16 = 0;

fn interface(guest: &Guest, name: &Name) -> String {
    let network: Option<&Network> = guest.cluster.networks.get(name);
    // On a zone OVN decides what passes: its own bridge, on which nothing does before its controller is there.
    let zone = network.is_some_and(Network::is_zone);
    let bridge = match network {
        Some(_) if zone => zones::BRIDGE.into(),
        Some(network) => bridge_name(&network.uplink),
        None => String::new(),
    };
    let mut xml = format!(
        "    <interface type='bridge'>\n      <mac address='{}'/>\n      <source bridge='{bridge}'/>\n",
        guest.mac(name)
    );
    if let Some(network) = network.filter(|_| !zone) {
        xml.push_str(&vlan(guest, name, network));
    }
    let port = identity::interface_id(&guest.cluster.name, guest.name, name);
    let _ = writeln!(
        xml,
        "      <virtualport type='openvswitch'>\n        <parameters interfaceid='{port}'/>\n      </virtualport>"
    );
    let _ = writeln!(xml, "      <model type='{}'/>", guest.vm.nic_model.word());
    if let Some(mtu) = network.and_then(|network| network.mtu) {
        let _ = writeln!(xml, "      <mtu size='{mtu}'/>");
    }
    xml.push_str("    </interface>\n");
    xml
}

/// What a port lets through. Never all: Open vSwitch takes a port without a tag for a trunk, which hears and speaks on
/// every VLAN. So a trunk names its VLANs, and what comes untagged is the card's own network.
fn vlan(guest: &Guest, name: &Name, network: &Network) -> String {
    let own = network.vlan.unwrap_or(UNTAGGED);
    let tagged = guest.vm.trunk.get(name).into_iter().flatten();
    let tagged = tagged.filter_map(|network| guest.cluster.networks.get(network)?.vlan);
    let tagged: BTreeSet<u16> = tagged.collect();
    if tagged.is_empty() {
        return format!("      <vlan>\n        <tag id='{own}'/>\n      </vlan>\n");
    }
    let mut xml = format!("      <vlan trunk='yes'>\n        <tag id='{own}' nativeMode='untagged'/>\n");
    for tag in tagged {
        let _ = writeln!(xml, "        <tag id='{tag}'/>");
    }
    xml.push_str("      </vlan>\n");
    xml
}

/// The serial port is the console; virtlogd keeps and rotates what it says.
fn serial(places: &Places, host: &HostFacts) -> String {
    let log = escape(&places.serial_log);
    let target = if host.is_x86() { "      <target type='isa-serial' port='0'/>\n" } else { "" };
    format!("    <serial type='pty'>\n      <log file='{log}' append='on'/>\n{target}    </serial>\n")
}

/// Text that stands in an XML attribute or element.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

/// The digest that our mark in a domain's definition carries; `None` when the domain was made by someone else.
pub fn mark_of(xml: &str) -> Option<String> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let mark = document.descendants().find(|node| node.has_tag_name((NAMESPACE, "vm")))?;
    Some(mark.attribute("digest").unwrap_or_default().to_string())
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
