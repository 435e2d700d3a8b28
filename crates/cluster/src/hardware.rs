//! What a VM's virtual hardware may be where the usual one does not do.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a guest's disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// A SATA disk, for which every system has a driver.
    Sata,
}

impl DiskBus {
    /// Its name in the file, which is libvirt's as well.
    pub fn word(self) -> &'static str {
        match self {
            DiskBus::Virtio => "virtio",
            DiskBus::Sata => "sata",
        }
    }
}

/// What a guest's network cards are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NicModel {
    /// virtio-net.
    #[default]
    Virtio,
    /// Intel 82574L: a driver comes with Windows since Vista and with every BSD.
    E1000e,
    /// Intel 82540EM, for what is older than that.
    E1000,
}

impl NicModel {
    /// Its name in the file, which is libvirt's as well.
    pub fn word(self) -> &'static str {
        match self {
            NicModel::Virtio => "virtio",
            NicModel::E1000e => "e1000e",
            NicModel::E1000 => "e1000",
        }
    }
}

/// Which processor a guest sees: `BASE[,+FEATURE|,-FEATURE]...`, as QEMU writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu<'a> {
    /// What it is made from.
    pub base: CpuBase<'a>,
    /// Features in libvirt's words that it has to have, or (`false`) must not have, beside those of a model.
    pub features: BTreeMap<&'a str, bool>,
}

/// What a processor is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuBase<'a> {
    /// The node's own, with all that it has.
    Host,
    /// Nothing but what every x86-64 has.
    Plain,
    /// A model that libvirt knows (`virsh cpu-models x86_64`).
    Model(&'a str),
}

/// Micro-architecture levels (x86-64 psABI) with what each adds to the one before it, in libvirt's words. The one with AES
/// is none of the psABI's: that is what Proxmox VE gives by default.
pub const LEVELS: [(&str, &[&str]); 4] = [
    ("x86-64-v2", &["cx16", "lahf_lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"]),
    ("x86-64-v2-aes", &["aes"]),
    ("x86-64-v3", &["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]),
    ("x86-64-v4", &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]),
];

impl<'a> Cpu<'a> {
    /// Reads it; `None` for what is none. Whether libvirt knows its model and features is not looked at.
    pub fn parse(text: &'a str) -> Option<Cpu<'a>> {
        let mut parts = text.split(',');
        let base = parts.next().filter(|base| is_word(base))?;
        let (base, mut features) = match level(base) {
            Some(features) => (CpuBase::Plain, features.map(|feature| (feature, true)).collect()),
            // A level that does not exist, or not yet.
            None if base.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("x86-64-")) => return None,
            None if base == "host" => (CpuBase::Host, BTreeMap::new()),
            None => (CpuBase::Model(base), BTreeMap::new()),
        };
        for part in parts {
            let wanted = part.strip_prefix('+').map(|name| (name, true));
            let (name, wanted) = wanted.or_else(|| Some((part.strip_prefix('-')?, false)))?;
            features.insert(Some(name).filter(|name| is_word(name))?, wanted);
        }
        Some(Cpu { base, features })
    }
}

/// All features of a level.
pub fn level(name: &str) -> Option<impl Iterator<Item = &'static str>> {
    let place = LEVELS.iter().position(|(level, _)| level.eq_ignore_ascii_case(name))?;
    Some(LEVELS[..=place].iter().flat_map(|(_, features)| features.iter().copied()))
}

fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(plain)
}

/// A USB device by vendor and product, as lsusb(8) tells them: `10c4:ea60`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsbId {
    /// The vendor.
    pub vendor: u16,
    /// Its product.
    pub product: u16,
}

impl UsbId {
    /// Reads it; `None` for what is none.
    pub fn parse(text: &str) -> Option<UsbId> {
        let (vendor, product) = text.split_once(':')?;
        Some(UsbId { vendor: hex(vendor, 4)?, product: hex(product, 4)? })
    }
}

/// A PCI device by its place, as lspci(8) tells it: `03:00.0`, or with its domain `0000:03:00.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddress {
    /// 0 on nearly every PC.
    pub domain: u16,
    /// The bus.
    pub bus: u16,
    /// The slot, at most 31.
    pub slot: u16,
    /// The function, at most 7.
    pub function: u16,
}

impl PciAddress {
    /// Reads it; `None` for what is none.
    pub fn parse(text: &str) -> Option<PciAddress> {
        let (place, function) = text.rsplit_once('.')?;
        let (bus, slot) = place.rsplit_once(':')?;
        let (domain, bus) = bus.split_once(':').unwrap_or(("0000", bus));
        let (slot, function) = (hex(slot, 2)?, hex(function, 1)?);
        let is_one = slot < 32 && function < 8;
        is_one.then_some(PciAddress { domain: hex(domain, 4)?, bus: hex(bus, 2)?, slot, function })
    }
}

/// A hexadecimal number of just so many digits.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_as_lsusb_and_lspci_tell_them() {
        assert_eq!(UsbId::parse("10C4:ea60"), Some(UsbId { vendor: 0x10c4, product: 0xea60 }));
        for bad in
            ["", "10c4", "10c4:", ":ea60", "10c4:ea6", "10c4:ea600", "0x10c4:ea60", "10c4:+a60", "1-2.3"]
        {
            assert_eq!(UsbId::parse(bad), None, "{bad:?}");
        }
        let graphics = PciAddress { domain: 0, bus: 0x3b, slot: 0x1f, function: 7 };
        assert_eq!(PciAddress::parse("3b:1f.7"), Some(graphics));
        assert_eq!(PciAddress::parse("0000:3b:1f.7"), Some(graphics));
        assert_eq!(PciAddress::parse("10000:3b:1f.7"), None, "libvirt takes four digits");
        for bad in
            ["", "3b:1f", "3b.0", "3b:20.0", "3b:1f.8", "3b:1f.00", ":3b:1f.0", "0000:3b:1f:0", "b:1f.0"]
        {
            assert_eq!(PciAddress::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_processor_is_a_level_a_model_or_the_node_s_own() {
        let read = |text| Cpu::parse(text).unwrap();
        assert_eq!(read("host"), Cpu { base: CpuBase::Host, features: BTreeMap::new() });
        let model = read("Skylake-Client-IBRS,+ssbd,-hle,+hle");
        assert_eq!(model.base, CpuBase::Model("Skylake-Client-IBRS"));
        assert_eq!(model.features, BTreeMap::from([("hle", true), ("ssbd", true)]));
        let second = read("x86-64-v2");
        assert_eq!(
            (second.base, second.features.len(), second.features.contains_key("aes")),
            (CpuBase::Plain, 7, false)
        );
        // Written as Proxmox VE writes it.
        assert_eq!(read("x86-64-v2-AES"), read("x86-64-v2,+aes"));
        let third = read("x86-64-v3,-xsave");
        assert_eq!(
            (third.features["avx2"], third.features["ssse3"], third.features["xsave"]),
            (true, true, false)
        );
        assert_eq!(read("x86-64-v4").features.len(), 7 + 1 + 9 + 5);
        let long = "x".repeat(65);
        for bad in
            ["", ",+aes", "host,", "host,aes", "host,+", "EPYC Rome", "a'b", "x86-64-v5", "X86-64-", &long]
        {
            assert_eq!(Cpu::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn words_are_those_of_the_file() {
        for bus in [DiskBus::Virtio, DiskBus::Sata] {
            assert_eq!(serde_json::json!(bus), bus.word());
        }
        for model in [NicModel::Virtio, NicModel::E1000e, NicModel::E1000] {
            assert_eq!(serde_json::json!(model), model.word());
        }
    }
}
