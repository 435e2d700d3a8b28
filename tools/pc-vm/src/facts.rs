//! What this host can run, out of libvirt's capabilities (libvirt, docs/formatcaps.rst) and /proc/cpuinfo.

use anyhow::{Context, Result};

/// What matters of a host when a definition is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// libvirt's name of the architecture: `x86_64`, `aarch64`.
    pub arch: String,
    /// `kvm` when libvirt can use it, else `qemu` (emulation).
    pub domain_type: String,
    /// The processor has the features of x86-64-v2.
    pub x86_64_v2: bool,
}

impl HostFacts {
    /// A PC, not an ARM board.
    pub fn is_x86(&self) -> bool {
        matches!(self.arch.as_str(), "x86_64" | "i686")
    }

    /// Reads libvirt's answer and the kernel's.
    pub fn parse(capabilities: &str, cpuinfo: &str) -> Result<HostFacts> {
        let document = roxmltree::Document::parse(capabilities).context("reading libvirt's capabilities")?;
        let arch = document
            .descendants()
            .find(|node| node.has_tag_name("host"))
            .and_then(|host| host.descendants().find(|node| node.has_tag_name("arch")))
            .and_then(|arch| arch.text())
            .context("libvirt's capabilities name no host architecture")?
            .to_string();
        let types: Vec<&str> = document
            .descendants()
            .filter(|node| node.has_tag_name("guest"))
            .filter(|guest| {
                guest.children().any(|node| node.has_tag_name("os_type") && node.text() == Some("hvm"))
            })
            .flat_map(|guest| guest.children().filter(|node| node.has_tag_name("arch")))
            .filter(|node| node.attribute("name") == Some(arch.as_str()))
            .flat_map(|node| node.children().filter(|child| child.has_tag_name("domain")))
            .filter_map(|domain| domain.attribute("type"))
            .collect();
        let domain_type = ["kvm", "qemu"]
            .into_iter()
            .find(|wanted| types.contains(wanted))
            .or(types.first().copied())
            .with_context(|| format!("libvirt can run no {arch} guest\n  apt-get install qemu-system"))?;
        // Emulation has all of them, whatever the host is.
        let x86_64_v2 = domain_type == "qemu" || has_x86_64_v2(cpuinfo);
        Ok(HostFacts { domain_type: domain_type.into(), x86_64_v2: arch == "x86_64" && x86_64_v2, arch })
    }
}

/// The kernel's names of what x86-64-v2 adds (x86-64 psABI, micro-architecture levels).
fn has_x86_64_v2(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"]
        .iter()
        .all(|wanted| flags.split_ascii_whitespace().any(|flag| flag == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from libvirt 9.0 and 11.3 (`virsh capabilities`), shortened to the elements that are read.
    const CAPABILITIES: &str = "<capabilities>
      <host><uuid>2e1a5c10-0c4d-4b36-9e7e-0d2f6a5c8b11</uuid><cpu><arch>x86_64</arch><model>EPYC</model></cpu></host>
      <guest><os_type>hvm</os_type><arch name='i686'><wordsize>32</wordsize>
        <emulator>/usr/bin/qemu-system-i386</emulator><domain type='qemu'/></arch></guest>
      <guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize>
        <emulator>/usr/bin/qemu-system-x86_64</emulator><machine maxCpus='255'>pc-q35-10.0</machine>
        <domain type='qemu'/><domain type='kvm'/></arch></guest>
    </capabilities>";

    const V2: &str = "processor\t: 0\nflags\t\t: fpu pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm\n";

    #[test]
    fn kvm_is_preferred_and_the_level_comes_from_the_kernel() {
        let facts = HostFacts::parse(CAPABILITIES, V2).unwrap();
        assert_eq!(facts, HostFacts { arch: "x86_64".into(), domain_type: "kvm".into(), x86_64_v2: true });
        assert!(!HostFacts::parse(CAPABILITIES, "flags : fpu pni cx16\n").unwrap().x86_64_v2);
        let emulated = CAPABILITIES.replace("<domain type='kvm'/>", "");
        let facts = HostFacts::parse(&emulated, "").unwrap();
        assert_eq!((facts.domain_type.as_str(), facts.x86_64_v2), ("qemu", true));
    }

    #[test]
    fn a_host_without_qemu_says_so() {
        let none = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host></capabilities>";
        let error = HostFacts::parse(none, "").unwrap_err().to_string();
        assert_eq!(error, "libvirt can run no x86_64 guest\n  apt-get install qemu-system");
        assert!(HostFacts::parse("<capabilities/>", "").is_err());
        assert!(HostFacts::parse("nonsense", "").is_err());
    }
}
