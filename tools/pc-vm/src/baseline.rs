//! Which processor every node can give a guest: what to write as `cpu`, so that a guest moves between unlike nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use pc_cli::{Exit, emit, refused, try_again};
use serde::Serialize;

use crate::facts::HostFacts;
use crate::site::Site;
use crate::virsh::{self, Kind};

/// `pc.vm.baseline/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Baseline {
    /// `pc.vm.baseline/1`.
    pub schema: &'static str,
    /// The levels that every node has, the least first; each may be written as `cpu`.
    pub levels: Vec<String>,
    /// The most that they have in common, as it may be written as `cpu`; null when libvirt finds nothing.
    pub model: Option<String>,
    /// Why it finds nothing.
    pub reason: Option<String>,
    /// Every node, in the order of the file.
    pub nodes: Vec<NodeCpu>,
}

/// A node's processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeCpu {
    /// The node.
    pub name: String,
    /// libvirt's nearest model.
    pub model: String,
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "# {}: {}", node.name, node.model)?;
        }
        match self.levels.last() {
            Some(level) => writeln!(f, "cpu = \"{level}\"")?,
            None => writeln!(f, "# not even x86-64-v2 is on all of them: leave cpu out")?,
        }
        match (&self.model, &self.reason) {
            (Some(model), _) => writeln!(f, "# or the most that they have in common:\n# cpu = \"{model}\""),
            (None, Some(reason)) => writeln!(f, "# no model in common: {reason}"),
            (None, None) => Ok(()),
        }
    }
}

/// A processor as libvirt writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Processor {
    model: String,
    features: BTreeMap<String, bool>,
}

impl Processor {
    /// Reads the answer of `virsh hypervisor-cpu-baseline` (libvirt, docs/formatdomain.rst).
    fn read(xml: &str) -> Result<Processor> {
        let document = roxmltree::Document::parse(xml).context("reading libvirt's processor")?;
        let cpu = document.root_element();
        let model = cpu.children().find(|node| node.has_tag_name("model")).and_then(|model| model.text());
        let model = model.context("reading libvirt's processor: it has no model")?.trim().to_string();
        let features = cpu.children().filter(|node| node.has_tag_name("feature")).filter_map(|node| {
            Some((node.attribute("name")?.to_string(), node.attribute("policy") != Some("disable")))
        });
        Ok(Processor { model, features: features.collect() })
    }

    /// As the file writes it.
    fn line(&self) -> String {
        self.features.iter().fold(self.model.clone(), |line, (name, wanted)| {
            format!("{line},{}{name}", if *wanted { '+' } else { '-' })
        })
    }
}

/// Those levels of which every node has everything.
fn levels(nodes: &[Processor]) -> Vec<String> {
    let has = |node: &Processor, feature: &str| node.features.get(feature) == Some(&true);
    let all = |level: &&str| {
        let features: Vec<&str> = cluster::level(level).into_iter().flatten().collect();
        nodes.iter().all(|node| features.iter().all(|feature| has(node, feature)))
    };
    cluster::LEVELS.iter().map(|(level, _)| *level).filter(all).map(String::from).collect()
}

/// Asks every node, and libvirt here what they have in common.
pub fn baseline(site: &Site) -> Result<Exit> {
    let kind = kind(site)?;
    let here = &site.nodes.uris.connect;
    let (mut own, mut all, mut nodes) = (Vec::new(), String::new(), Vec::new());
    for node in &site.cluster().nodes {
        let of_node = || format!("asking libvirt of {}", node.name);
        let given =
            virsh::domain_capabilities(&site.nodes.uri_from_here(node)?, &kind).with_context(of_node)?;
        let expanded = virsh::cpu_baseline(here, &kind, &given, true).with_context(of_node)?;
        let processor = Processor::read(&expanded).with_context(of_node)?;
        nodes.push(NodeCpu { name: node.name.to_string(), model: processor.model.clone() });
        own.push(processor);
        all.push_str(&given);
    }
    let (model, reason) = match virsh::cpu_baseline(here, &kind, &all, false) {
        Ok(xml) => (Some(Processor::read(&xml)?.line()), None),
        // An answer: processors of two makers have no model in common.
        Err(error @ pc_run::Error::Failed { .. }) => (None, Some(told(error.stderr()))),
        Err(error) => return Err(error).context("asking libvirt what the nodes have in common"),
    };
    let answer = Baseline { schema: "pc.vm.baseline/1", levels: levels(&own), model, reason, nodes };
    emit(site.common.json, &answer)?;
    Ok(Exit::Done)
}

/// What kind of guest every node runs.
fn kind(site: &Site) -> Result<Kind> {
    let mut silent = Vec::new();
    let mut kinds: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (node, told) in site.nodes.everywhere(crate::hypervisor::Hypervisor::capabilities) {
        match told.and_then(|told| HostFacts::parse(&told, "")) {
            Ok(facts) => kinds.entry((facts.arch, facts.domain_type)).or_default().push(node.name.as_str()),
            Err(error) => silent.push(format!("{}: {error:#}", node.name)),
        }
    }
    if !silent.is_empty() {
        return Err(try_again(format!("not every node answers: {}\n  pc-vm list", silent.join("; "))));
    }
    let unlike: BTreeSet<String> = kinds
        .iter()
        .map(|((arch, domain), nodes)| format!("{} ({arch}, {domain})", nodes.join(", ")))
        .collect();
    let mut kinds = kinds.into_keys();
    match (kinds.next(), kinds.next()) {
        (Some((arch, _)), None) if !matches!(arch.as_str(), "x86_64" | "i686") => {
            Err(refused(format!("on {arch} a guest sees the node's own processor\n  leave cpu out")))
        }
        (Some((arch, domain_type)), None) => Ok(Kind { arch, domain_type }),
        _ => {
            let unlike: Vec<String> = unlike.into_iter().collect();
            Err(refused(format!("no guest moves between {}\n  leave cpu out", unlike.join(" and "))))
        }
    }
}

/// virsh's message without its own words for "error".
fn told(stderr: &str) -> String {
    let line =
        stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("libvirt does not say why");
    line.trim().trim_start_matches("error: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_reads_and_is_written_as_the_file_has_it() {
        let xml = "<cpu mode='custom' match='exact'>
  <model fallback='forbid'>EPYC-Rome</model>
  <vendor>AMD</vendor>
  <feature policy='require' name='x2apic'/>
  <feature policy='disable' name='xsaves'/>
  <feature policy='require' name='cmp_legacy'/>
</cpu>";
        let line = Processor::read(xml).unwrap().line();
        assert_eq!(line, "EPYC-Rome,+cmp_legacy,+x2apic,-xsaves");
        assert!(cluster::Cpu::parse(&line).is_some(), "the file takes it");
        assert!(Processor::read("<cpu/>").is_err() && Processor::read("").is_err());
    }

    #[test]
    fn a_level_is_had_when_every_node_has_all_of_it() {
        let node = |features: &str| Processor {
            model: "x".into(),
            features: features
                .split(' ')
                .map(|name| (name.trim_start_matches('-').into(), !name.starts_with('-')))
                .collect(),
        };
        let second = "cx16 lahf_lm pni popcnt sse4.1 sse4.2 ssse3";
        let third = format!("{second} aes abm avx avx2 bmi1 bmi2 f16c fma movbe xsave");
        assert_eq!(levels(&[node(&third)]), ["x86-64-v2", "x86-64-v2-aes", "x86-64-v3"]);
        assert_eq!(levels(&[node(&third), node(second)]), ["x86-64-v2"]);
        assert_eq!(
            levels(&[node(&third), node(&third.replace("movbe", "-movbe"))]),
            ["x86-64-v2", "x86-64-v2-aes"]
        );
        assert_eq!(levels(&[node("pni"), node(&third)]), Vec::<String>::new());
    }

    #[test]
    fn people_read_lines_of_the_file() {
        let node = |name: &str, model: &str| NodeCpu { name: name.into(), model: model.into() };
        let mut answer = Baseline {
            schema: "pc.vm.baseline/1",
            levels: vec!["x86-64-v2".into(), "x86-64-v2-aes".into()],
            model: Some("Westmere,+x2apic".into()),
            reason: None,
            nodes: vec![node("node1", "Westmere"), node("node2", "Skylake-Client-IBRS")],
        };
        let head = "# node1: Westmere\n# node2: Skylake-Client-IBRS\n";
        let model = "# or the most that they have in common:\n# cpu = \"Westmere,+x2apic\"\n";
        assert_eq!(answer.to_string(), format!("{head}cpu = \"x86-64-v2-aes\"\n{model}"));
        answer.levels.clear();
        (answer.model, answer.reason) =
            (None, Some(told("\nerror: internal error: CPU vendors do not match\n")));
        let nothing = "# not even x86-64-v2 is on all of them: leave cpu out\n";
        let why = "# no model in common: internal error: CPU vendors do not match\n";
        assert_eq!(answer.to_string(), format!("{head}{nothing}{why}"));
    }
}
