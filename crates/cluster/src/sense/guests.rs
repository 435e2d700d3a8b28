//! `[image.NAME]` and `[vm.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Sense;
use super::nodes::of_nobody;
use crate::model::{Cpu, Firmware, Network, Use, Vm};
use crate::names::Name;
use crate::net::is_end;
use crate::room::for_guests;
use crate::tree::{Step, at};
use crate::units::Bytes;
use crate::zones::Gateway;

/// Below this no kernel starts; the usual mistake is a number of MiB without its unit.
const LEAST_MEMORY: Bytes = Bytes(16 << 20);

/// Who has which address on which network.
type Taken<'a> = BTreeMap<(&'a Name, IpAddr), String>;

impl<'a> Sense<'a> {
    pub(super) fn images(&mut self) {
        for (name, image) in &self.cluster.images {
            let source = at!["image", name, "source"];
            if names_user(&image.source) {
                let fault = "has characters that have no place in it: what stands before @, a user or a password, everybody could read";
                let remedy = "write the URL without it, or copy the file to every node and write its path";
                self.secret(&source, fault, remedy);
                continue;
            }
            let is_url = image.source.starts_with("http://") || image.source.starts_with("https://");
            let misplaced = |c: char| c.is_whitespace() || c.is_control() || "\"\\".contains(c);
            if is_url && image.source.contains(misplaced) {
                let remedy = "write them as their bytes, a blank as %20";
                self.error(&source, "has characters that have no place in it", remedy);
            }
            if !is_url && !image.source.starts_with('/') {
                let remedy = "write for example \"/var/lib/images/debian-13.qcow2\"";
                self.error(&source, "is neither an absolute path nor an http(s) URL", remedy);
            } else if !is_url {
                self.file_name(&source, &image.source);
            }
            match &image.digest {
                None if is_url => {
                    let remedy = "add digest = \"sha256:...\", which the publisher lists beside the file";
                    self.error(&source, "a download needs a digest", remedy);
                }
                Some(digest) if !is_digest(digest) => {
                    let remedy = "write \"sha256:\" and 64 hexadecimal digits, or \"sha512:\" and 128";
                    self.error(&at!["image", name, "digest"], "is not a digest", remedy);
                }
                _ => {}
            }
        }
    }

    pub(super) fn guests(&mut self) {
        let mut taken = Taken::new();
        for (name, network) in &self.cluster.networks {
            // A VM that is the gateway has the router's address.
            let router = network.router.filter(|_| !matches!(network.gateway(), Some(Gateway::Vm(_))));
            taken.extend(router.map(|router| ((name, router), "the router".into())));
            let nodes = self.cluster.nodes.iter();
            taken.extend(nodes.filter_map(|node| Some(((name, node.ip()?), node.name.to_string()))));
        }
        for (name, vm) in self.ordered("vm", &self.cluster.vms) {
            if self.declared("node").contains(&name.as_str()) {
                let remedy = "rename one: they would share a host name";
                self.error(&at!["vm", name], "is also the name of a node", remedy);
            }
            self.size(name, vm);
            self.place(name, vm);
            self.references(name, vm);
            self.trunks(name, vm);
            self.firmware(name, vm);
            self.cdrom(name, vm);
            self.addresses(name, vm, &mut taken);
            self.cloud_init(name, vm);
        }
        self.memory_of_nodes();
    }

    /// Every VM fits somewhere; whether those that one node starts fit together is a risk, not a fault.
    fn memory_of_nodes(&mut self) {
        let largest = self.cluster.nodes.iter().filter_map(|node| node.memory).max();
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            let Some(memory) = node.memory else { continue };
            // One that fits nowhere was told before.
            let own = self.cluster.vms.values().filter(|vm| Some(vm.memory) <= largest);
            let own = own.filter(|vm| self.cluster.home_of(vm).is_some_and(|home| home.name == node.name));
            let wanted = own.fold(0_u64, |sum, vm| sum.saturating_add(vm.memory.0));
            // Pacemaker starts none beyond that.
            let room = if self.cluster.ha.is_some() { for_guests(memory.0) } else { memory.0 };
            if wanted > room {
                let of = if wanted > memory.0 {
                    String::new()
                } else {
                    format!(", and may have {}", Bytes(room >> 20 << 20))
                };
                let fault = format!("the VMs that it starts want {} together{of}", Bytes(wanted));
                let remedy = "give some of them another home, or less memory";
                self.warn(&at!["node", index, "memory"], fault, remedy);
            }
        }
    }

    fn size(&mut self, name: &Name, vm: &Vm) {
        if vm.cpus == 0 {
            self.error(&at!["vm", name, "cpus"], "no machine runs without a CPU", "write cpus = 1");
        }
        if vm.cpu.as_deref().is_some_and(|cpu| Cpu::parse(cpu).is_none()) {
            let remedy = "write a level (x86-64-v2, x86-64-v2-aes, x86-64-v3, x86-64-v4), host, or what `pc-vm baseline` prints";
            self.error(&at!["vm", name, "cpu"], "is not a processor", remedy);
        }
        if vm.disk.0 == 0 {
            self.error(&at!["vm", name, "disk"], "a disk of no size", "write for example disk = \"20GiB\"");
        }
        let memory = at!["vm", name, "memory"];
        if vm.memory < LEAST_MEMORY {
            let remedy = "a number alone is bytes: write for example memory = \"2GiB\"";
            self.error(&memory, "is too little to start anything", remedy);
        }
        let known: Option<Vec<Bytes>> = self.cluster.nodes.iter().map(|node| node.memory).collect();
        let largest = known.and_then(|all| all.into_iter().max());
        if let Some(largest) = largest.filter(|largest| vm.memory > *largest) {
            let remedy = format!("write less than {largest}, or correct the nodes' memory");
            self.error(&memory, format!("is more than any node has (at most {largest})"), remedy);
        } else if let Some(room) =
            largest.map(|largest| for_guests(largest.0)).filter(|room| vm.memory.0 > *room)
        {
            if self.cluster.ha.is_some() {
                let room = Bytes(room >> 20 << 20);
                let fault = format!(
                    "is more than any node has for guests (at most {room}): pacemaker starts it nowhere"
                );
                let remedy =
                    format!("write at most {room}: a sixteenth of a node, at least 512MiB, stays the host's");
                self.warn(&memory, fault, remedy);
            }
        }
    }

    fn place(&mut self, name: &Name, vm: &Vm) {
        let steps = at!["vm", name, "volume"];
        if let Some(home) = &vm.home {
            self.known(&at!["vm", name, "home"], "node", home.as_str());
        }
        self.known(&steps, "volume", vm.volume.as_str());
        let Some(volume) = self.cluster.volumes.get(&vm.volume) else { return };
        match volume.purpose {
            Use::Vm => {}
            Use::Backup => {
                let fault = "is for backups: the VM and its backup would die together";
                self.error(&steps, fault, "name a volume with use = \"vm\" or \"local\"");
            }
            Use::Local => {
                let home = self.cluster.home_of(vm).filter(|_| self.whole);
                if let Some(home) = home.filter(|home| !home.disks.contains_key(&vm.volume)) {
                    let fault = format!("is local, and the VM's home {} has no disk for it", home.name);
                    self.error(&steps, fault, format!("set home to a node with disks.{}", vm.volume));
                }
                if self.cluster.ha.is_some() {
                    let remedy = "name a replicated volume, unless the guest replicates itself";
                    self.warn(&steps, "is local: [ha] cannot restart the VM on another node", remedy);
                }
            }
        }
    }

    fn references(&mut self, name: &Name, vm: &Vm) {
        if let Some(image) = &vm.image {
            self.known(&at!["vm", name, "image"], "image", image.as_str());
        }
        for (index, backup) in vm.backup.iter().enumerate() {
            self.known(&at!["vm", name, "backup", index], "backup", backup.as_str());
        }
        let mut seen = BTreeSet::new();
        for (index, network) in vm.networks.iter().enumerate() {
            let steps = at!["vm", name, "networks", index];
            self.known(&steps, "network", network.as_str());
            if !seen.insert(network) {
                self.error(&steps, "is listed twice", "one network card per network: list it once");
            }
        }
        if vm.downtime_budget.is_some() && vm.budget().is_none() {
            let remedy = "write for example \"3d/month\": s, min, h or d, per day, week, month or year";
            self.error(&at!["vm", name, "downtime_budget"], "is not a time per period", remedy);
        }
        if vm.heartbeat().is_none() {
            let remedy =
                "write \"agent\", \"console:TEXT\" with a text that its serial console shows, or \"none\"";
            self.error(&at!["vm", name, "heartbeat"], "is no sign of life", remedy);
        }
    }

    fn addresses(&mut self, name: &'a Name, vm: &'a Vm, taken: &mut Taken<'a>) {
        for (network, text) in &vm.addresses {
            let steps = at!["vm", name, "addresses", network];
            if !vm.networks.contains(network) {
                let remedy = format!("add \"{network}\" to networks, or remove the address");
                self.error(&steps, "the VM has no network card there", remedy);
                continue;
            }
            let Ok(address) = text.parse::<IpNet>() else {
                let remedy = "write address and prefix length, for example \"10.0.20.5/24\"";
                self.error(&steps, "is not an address with a prefix length", remedy);
                continue;
            };
            let net = self.cluster.networks.get(network).and_then(Network::net);
            if let Some(net) = net.filter(|net| address.trunc() != net.trunc()) {
                let fault = format!("is outside the subnet {net} of [network.{network}]");
                self.error(&steps, fault, format!("write an address of {net}, with /{}", net.prefix_len()));
            } else if is_end(&address, address.addr()) {
                self.error(&steps, of_nobody(&address.trunc()), "use one between them");
            }
            if let Some(first) = taken.insert((network, address.addr()), format!("VM {name}")) {
                let fault = format!("is already the address of {first}");
                self.error(&steps, fault, "give every machine its own address");
            }
        }
    }

    fn firmware(&mut self, name: &Name, vm: &Vm) {
        // A firmware that was faulty is the usual one now, but was not meant to be.
        let section = self.original.get("vm").and_then(|all| all.get(name.as_str()));
        let is_left_out =
            section.and_then(|own| own.get("firmware")?.text()).is_some_and(|text| text != "bios");
        if vm.secure_boot && vm.firmware == Firmware::Bios && !is_left_out {
            let remedy = "add firmware = \"uefi\", or remove it";
            self.error(&at!["vm", name, "secure_boot"], "is a feature of UEFI", remedy);
        }
    }

    fn cdrom(&mut self, name: &Name, vm: &Vm) {
        let Some(path) = &vm.cdrom else { return };
        let steps = at!["vm", name, "cdrom"];
        if path.starts_with('/') {
            self.file_name(&steps, path);
        } else {
            let remedy =
                format!("write where every node has it, for example \"/mnt/{}/iso/it.iso\"", vm.volume);
            self.error(&steps, "is not an absolute path", remedy);
        }
    }

    /// No file of anybody's, and no XML, has a name with control characters; a directory is no file.
    fn file_name(&mut self, steps: &[Step], path: &str) {
        if path.contains(char::is_control) {
            self.error(steps, "holds control characters", "write the name of a file without them");
        } else if path.ends_with('/') {
            self.error(steps, "is a directory", "write the name of a file in it");
        }
    }

    fn cloud_init(&mut self, name: &Name, vm: &Vm) {
        if vm.user_data.as_ref().is_some_and(|path| !path.starts_with('/')) {
            let remedy =
                "write where the file is on every node, for example \"/etc/personal-cluster/mail.yaml\"";
            self.error(&at!["vm", name, "user_data"], "is not an absolute path", remedy);
        } else if let Some(path) = &vm.user_data {
            self.file_name(&at!["vm", name, "user_data"], path);
        }
        for (index, key) in vm.ssh_keys.iter().enumerate() {
            if key.contains("PRIVATE KEY") {
                // A message must not repeat a secret: the fault stands at the list.
                let remedy = "write the public one, `cat ~/.ssh/id_ed25519.pub`, and make a new pair";
                self.error(
                    &at!["vm", name, "ssh_keys"],
                    format!("number {} is a private key", index + 1),
                    remedy,
                );
            } else if !is_public_key(key) {
                let remedy = "write the one line of `cat ~/.ssh/id_ed25519.pub`";
                self.error(&at!["vm", name, "ssh_keys", index], "is not a public SSH key", remedy);
            }
        }
    }
}

/// `scheme://user@host` and `scheme://user:password@host`, which curl would show in its arguments. An @ in the path is none.
fn names_user(source: &str) -> bool {
    let rest = source.split_once("://").map(|(_, rest)| rest).filter(|_| !source.starts_with('/'));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#', '\\']).next());
    authority.is_some_and(|authority| authority.contains('@'))
}

fn is_public_key(line: &str) -> bool {
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| line.starts_with(kind));
    known && line.split(' ').count() >= 2 && !line.contains(['\n', '\r'])
}

fn is_digest(text: &str) -> bool {
    let hex =
        |digits: &str, length| digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.split_once(':') {
        Some(("sha256", digits)) => hex(digits, 64),
        Some(("sha512", digits)) => hex(digits, 128),
        _ => false,
    }
}
