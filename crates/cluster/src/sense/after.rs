//! `after` of VMs: which are started first.

use std::collections::BTreeSet;

use super::Sense;
use crate::model::Vm;
use crate::names::Name;
use crate::tree::at;

impl<'a> Sense<'a> {
    pub(super) fn after(&mut self) {
        // VMs of a ring that was told: each of them would tell it again.
        let mut told: BTreeSet<&Name> = BTreeSet::new();
        for (name, vm) in self.ordered("vm", &self.cluster.vms) {
            let mut seen = BTreeSet::new();
            for (index, first) in vm.after.iter().enumerate() {
                let steps = at!["vm", name, "after", index];
                if !self.known(&steps, "vm", first.as_str()) {
                    continue;
                }
                if first == name {
                    self.error(&steps, "is the VM itself", "remove it");
                } else if !seen.insert(first) {
                    self.error(&steps, "is listed twice", "list it once");
                } else if let Some(ring) = self.ring(name, first) {
                    if !told.contains(name) {
                        let way: Vec<&str> = ring.iter().map(|name| name.as_str()).collect();
                        let fault = format!("is started after {name} itself ({})", way.join(" after "));
                        self.error(&steps, fault, "remove one of them: none would be the first");
                        told.extend(ring);
                    }
                } else {
                    self.elsewhere(name, vm, index, first);
                }
            }
        }
    }

    /// The way from `first` back to `name`, both included, when there is one.
    fn ring(&self, name: &'a Name, first: &'a Name) -> Option<Vec<&'a Name>> {
        // Ways that are gone on with, each a chain of VMs that end with the one to look at.
        let mut ways = vec![vec![first]];
        let mut visited = BTreeSet::from([first]);
        while let Some(way) = ways.pop() {
            let last = way.last().and_then(|last| self.cluster.vms.get(*last));
            for next in last.into_iter().flat_map(|vm| &vm.after) {
                let longer: Vec<&Name> = way.iter().copied().chain([next]).collect();
                if next == name {
                    return Some(longer);
                }
                if visited.insert(next) {
                    ways.push(longer);
                }
            }
        }
        None
    }

    /// Nobody orders what two nodes start by themselves.
    fn elsewhere(&mut self, name: &Name, vm: &Vm, index: usize, first: &Name) {
        let there = self.cluster.vms.get(first).and_then(|first| self.cluster.home_of(first));
        let (Some(here), Some(there)) = (self.cluster.home_of(vm), there) else { return };
        if here.name != there.name && self.cluster.ha.is_none() && self.whole {
            let fault = format!("is started by {}, for which {} does not wait", there.name, here.name);
            let remedy = "give both the same home, or add [ha]: pacemaker orders over all nodes";
            self.warn(&at!["vm", name, "after", index], fault, remedy);
        }
    }
}
