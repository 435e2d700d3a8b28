//! `apart` of VMs: those that must not die together have homes of their own.

use std::collections::BTreeMap;

use super::{Sense, count};
use crate::model::{Node, Vm};
use crate::names::Name;
use crate::tree::at;

/// What of a node several may hang on.
type Domain = fn(&Node) -> Option<&str>;

impl Sense<'_> {
    pub(super) fn apart(&mut self) {
        let mut groups: BTreeMap<&Name, Vec<(&Name, &Vm)>> = BTreeMap::new();
        for (name, vm) in self.ordered("vm", &self.cluster.vms) {
            if let Some(group) = &vm.apart {
                groups.entry(group).or_default().push((name, vm));
            }
        }
        // A part that was left out may be what is missing here.
        if !self.whole {
            return;
        }
        for (group, members) in groups {
            if let [(only, _)] = members[..] {
                let remedy = "write the same one at those that it is to be kept apart from, or remove it";
                self.warn(&at!["vm", only, "apart"], "no other VM has it", remedy);
                continue;
            }
            self.homes(group, &members);
            self.domains(&members);
        }
    }

    /// What feeds and connects two homes should not be the same either, while another node is there to choose.
    fn domains(&mut self, members: &[(&Name, &Vm)]) {
        let cluster = self.cluster;
        let homes: Vec<Option<&Node>> = members.iter().map(|(_, vm)| cluster.home_of(vm)).collect();
        let is_home = |node: &&Node| homes.iter().flatten().any(|home| home.name == node.name);
        let free: Vec<&Node> = cluster.nodes.iter().filter(|node| !is_home(node)).collect();
        let domains: [(&str, Domain); 3] = [
            ("site", |node| node.site.as_deref()),
            ("power", |node| node.power.as_deref()),
            ("switch", |node| node.switch.as_deref()),
        ];
        for (index, (name, _)) in members.iter().enumerate() {
            let Some(home) = homes[index] else { continue };
            let shared = domains.iter().find_map(|(kind, domain)| {
                let own = domain(home)?;
                let earlier = homes[..index].iter().zip(members);
                let (_, (first, _)) = earlier
                    .filter_map(|(home, member)| Some(((*home)?, member)))
                    .find(|(other, _)| other.name != home.name && domain(other) == Some(own))?;
                let better = free.iter().find(|node| domain(node).is_some_and(|other| other != own))?;
                Some((kind, own, *first, better))
            });
            if let Some((kind, own, first, better)) = shared {
                let fault = format!("VM {first} has it too, and both homes have {kind} = \"{own}\"");
                let remedy = format!("write for example home = \"{}\"", better.name);
                self.warn(&at!["vm", *name, "apart"], fault, remedy);
            }
        }
    }

    fn homes(&mut self, group: &Name, members: &[(&Name, &Vm)]) {
        let cluster = self.cluster;
        let nodes = &cluster.nodes;
        let mut taken: BTreeMap<&Name, &Name> = BTreeMap::new();
        for &(name, vm) in members {
            let Some(home) = cluster.home_of(vm).map(|node| &node.name) else { return };
            let Some(first) = taken.get(home).copied() else {
                taken.insert(home, name);
                continue;
            };
            let steps = at!["vm", name, "apart"];
            let homes: Vec<&Name> =
                members.iter().filter_map(|(_, vm)| cluster.home_of(vm).map(|node| &node.name)).collect();
            if let Some(free) = nodes.iter().map(|node| &node.name).find(|node| !homes.contains(node)) {
                let fault = format!("VM {first} has it too, and both are at home on {home}");
                self.error(&steps, fault, format!("write for example home = \"{free}\""));
            } else {
                let (vms, nodes) = (members.len(), count(nodes.len(), "node"));
                let fault = format!(
                    "{vms} VMs have it, and there are {nodes}: {first} and {name} are both at home on {home}"
                );
                self.warn(&steps, fault, format!("take a VM out of group {group}, or add a node"));
            }
        }
    }
}
