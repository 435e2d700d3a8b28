//! `usb` and `pci` of VMs: devices that one node has, and one VM at a time.

use std::collections::BTreeMap;

use super::Sense;
use crate::hardware::{PciAddress, UsbId};
use crate::model::Vm;
use crate::names::Name;
use crate::tree::at;

impl Sense<'_> {
    pub(super) fn devices(&mut self) {
        // Who has which device of which node.
        let mut taken: BTreeMap<(&Name, String), &Name> = BTreeMap::new();
        for (name, vm) in self.ordered("vm", &self.cluster.vms) {
            let home = self.cluster.home_of(vm).map(|node| &node.name);
            let lists = [("usb", &vm.usb), ("pci", &vm.pci)];
            for (key, list) in lists {
                for (index, text) in list.iter().enumerate() {
                    let steps = at!["vm", name, key, index];
                    let Some(device) = device(key, text) else {
                        let (what, remedy) = match key {
                            "usb" => (
                                "is no USB device",
                                "write vendor and product as lsusb tells them, for example \"10c4:ea60\"",
                            ),
                            _ => (
                                "is no PCI device",
                                "write its place as lspci tells it, for example \"03:00.0\"",
                            ),
                        };
                        self.error(&steps, what, remedy);
                        continue;
                    };
                    let Some(home) = home else { continue };
                    if let Some(first) = taken.insert((home, device), name) {
                        let fault = format!("VM {first} has it already, on {home}");
                        self.error(&steps, fault, "remove it from one of them");
                    }
                }
            }
            if let Some((key, _)) = lists.into_iter().find(|(_, list)| !list.is_empty()) {
                self.only_at_home(name, vm, key);
            }
        }
    }

    fn only_at_home(&mut self, name: &Name, vm: &Vm, key: &str) {
        let steps = at!["vm", name, key];
        let nodes = &self.cluster.nodes;
        if let (None, Some(first), true) = (&vm.home, nodes.first(), nodes.len() > 1) {
            let remedy = format!("add the node that has it, for example home = \"{}\"", first.name);
            self.error(&steps, "a device is on one node, and the VM has no home", remedy);
        } else if self.cluster.ha.is_some() {
            let remedy = "have the guest reach the device over the network, if it can";
            self.warn(&steps, "is on one node: [ha] cannot restart the VM on another one", remedy);
        }
    }
}

/// The device as it is compared: however it is written, it is one.
fn device(key: &str, text: &str) -> Option<String> {
    match key {
        "usb" => UsbId::parse(text).map(|id| format!("{id:?}")),
        _ => PciAddress::parse(text).map(|address| format!("{address:?}")),
    }
}
