//! The processor that a guest sees (libvirt, docs/formatdomain.rst, "CPU model and topology"). Pure.

use std::fmt::Write;

use cluster::{Cpu, CpuBase};

use crate::domain::escape;
use crate::facts::HostFacts;

/// What nothing but an emulated machine lacks, and no guest can take along to another node: AMD's nested virtualisation.
const STAYS: &str = "    <feature policy='disable' name='svm'/>\n";

/// The processor by the file, or the usual one.
pub fn cpu(chosen: Option<&str>, host: &HostFacts) -> String {
    match chosen.and_then(Cpu::parse) {
        None => usual(host),
        Some(Cpu { base, features }) => chosen_one(base, &features.into_iter().collect::<Vec<_>>(), host),
    }
}

/// libvirt compares it with what the node has, at a start and where a guest is moved to: what is asked for is there, or
/// the error names what is missing. Without that QEMU leaves out what the node lacks.
fn chosen_one(base: CpuBase, features: &[(&str, bool)], host: &HostFacts) -> String {
    let model = match base {
        // An emulator has no host of its own.
        CpuBase::Host if host.domain_type != "kvm" => return whole("maximum", features),
        CpuBase::Host => return whole("host-passthrough", features),
        CpuBase::Plain => "qemu64",
        CpuBase::Model(name) => name,
    };
    let mut xml = String::from("  <cpu mode='custom' match='exact' check='partial'>\n");
    let _ = writeln!(xml, "    <model fallback='forbid'>{}</model>", escape(model));
    xml.push_str(&lines(features));
    if base == CpuBase::Plain && !features.iter().any(|(name, _)| *name == "svm") {
        xml.push_str(STAYS);
    }
    xml.push_str("  </cpu>\n");
    xml
}

/// All that the node has.
fn whole(mode: &str, features: &[(&str, bool)]) -> String {
    if features.is_empty() {
        return format!("  <cpu mode='{mode}' check='none'/>\n");
    }
    format!("  <cpu mode='{mode}' check='none'>\n{}  </cpu>\n", lines(features))
}

fn lines(features: &[(&str, bool)]) -> String {
    features.iter().fold(String::new(), |mut xml, (name, wanted)| {
        let policy = if *wanted { "require" } else { "disable" };
        let _ = writeln!(xml, "    <feature policy='{policy}' name='{}'/>", escape(name));
        xml
    })
}

/// A model that every node of a kind can offer, so that a guest may move: plain qemu64, with the features of
/// x86-64-v2 (x86-64 psABI) where the host has them. AMD's nested virtualisation is left out: it does not migrate.
fn usual(host: &HostFacts) -> String {
    if !host.is_x86() {
        return if host.domain_type == "kvm" {
            "  <cpu mode='host-passthrough'/>\n".into()
        } else {
            "  <cpu mode='custom' match='exact' check='none'>\n    <model>cortex-a57</model>\n  </cpu>\n"
                .into()
        };
    }
    let mut xml = String::from(
        "  <cpu mode='custom' match='exact' check='none'>\n    <model fallback='forbid'>qemu64</model>\n",
    );
    if host.x86_64_v2 {
        let level: Vec<(&str, bool)> =
            cluster::level("x86-64-v2").into_iter().flatten().map(|feature| (feature, true)).collect();
        xml.push_str(&lines(&level));
    }
    xml.push_str(STAYS);
    xml.push_str("  </cpu>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(domain_type: &str) -> HostFacts {
        HostFacts { arch: "x86_64".into(), domain_type: domain_type.into(), x86_64_v2: true }
    }

    /// A level is the same on every node, whatever that node has: one that lacks something refuses the guest.
    #[test]
    fn a_level_is_asked_for_and_compared() {
        let xml = cpu(Some("x86-64-v2-aes,-popcnt"), &host("kvm"));
        let expected = "  <cpu mode='custom' match='exact' check='partial'>
    <model fallback='forbid'>qemu64</model>
    <feature policy='require' name='aes'/>
    <feature policy='require' name='cx16'/>
    <feature policy='require' name='lahf_lm'/>
    <feature policy='require' name='pni'/>
    <feature policy='disable' name='popcnt'/>
    <feature policy='require' name='sse4.1'/>
    <feature policy='require' name='sse4.2'/>
    <feature policy='require' name='ssse3'/>
    <feature policy='disable' name='svm'/>
  </cpu>
";
        assert_eq!(xml, expected);
        assert_eq!(
            cpu(Some("x86-64-v2-aes,-popcnt"), &HostFacts { x86_64_v2: false, ..host("qemu") }),
            expected
        );
        // Somebody who wants nested virtualisation says so.
        assert_eq!(cpu(Some("x86-64-v2,+svm"), &host("kvm")).matches("svm").count(), 1);
    }

    #[test]
    fn a_model_brings_what_it_has() {
        let xml = cpu(Some("EPYC-Rome,-xsaves,+stibp"), &host("kvm"));
        let expected = "  <cpu mode='custom' match='exact' check='partial'>
    <model fallback='forbid'>EPYC-Rome</model>
    <feature policy='require' name='stibp'/>
    <feature policy='disable' name='xsaves'/>
  </cpu>
";
        assert_eq!(xml, expected);
    }

    #[test]
    fn the_node_s_own_is_what_an_emulator_has_at_most() {
        assert_eq!(cpu(Some("host"), &host("kvm")), "  <cpu mode='host-passthrough' check='none'/>\n");
        let emulated = cpu(Some("host,-vmx"), &host("qemu"));
        let expected =
            "  <cpu mode='maximum' check='none'>\n    <feature policy='disable' name='vmx'/>\n  </cpu>\n";
        assert_eq!(emulated, expected);
    }
}
