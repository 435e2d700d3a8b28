//! Devices of its node that a guest has for itself (libvirt, docs/formatdomain.rst, "Host device assignment"). Pure.

use std::fmt::Write;

use cluster::{PciAddress, UsbId, Vm};

/// What the loader refused is left out.
pub fn hostdevs(vm: &Vm) -> String {
    let usb = vm.usb.iter().filter_map(|text| UsbId::parse(text));
    let pci = vm.pci.iter().filter_map(|text| PciAddress::parse(text));
    usb.map(of_usb).chain(pci.map(of_pci)).collect()
}

/// A stick that is not plugged in when the guest starts is left out: what else the guest does goes on without it.
fn of_usb(id: UsbId) -> String {
    let mut xml = String::from("    <hostdev mode='subsystem' type='usb' managed='yes'>\n");
    xml.push_str("      <source startupPolicy='optional'>\n");
    let _ = writeln!(
        xml,
        "        <vendor id='0x{:04x}'/>\n        <product id='0x{:04x}'/>",
        id.vendor, id.product
    );
    xml.push_str("      </source>\n    </hostdev>\n");
    xml
}

/// libvirt takes it from its driver when the guest starts, and gives it back.
fn of_pci(address: PciAddress) -> String {
    let PciAddress { domain, bus, slot, function } = address;
    format!(
        "    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n        \
         <address domain='0x{domain:04x}' bus='0x{bus:02x}' slot='0x{slot:02x}' function='0x{function:x}'/>\n      \
         </source>\n    </hostdev>\n"
    )
}
