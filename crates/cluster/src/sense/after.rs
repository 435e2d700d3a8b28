//! `after` of VMs: which are started first.

use std::collections::{BTreeMap, BTreeSet};

use super::Sense;
use crate::model::Vm;
use crate::names::Name;
use crate::tree::at;

impl<'a> Sense<'a> {
    pub(super) fn after(&mut self) {
        // VMs of a ring that was told: each of them would tell it again.
        let mut told: BTreeSet<&Name> = BTreeSet::new();
        let rings = self.between_rings();
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
                } else if told.contains(name) {
                    // It is one of a ring, and what comes before it is told once that is mended.
                } else if let Some(ring) = self.ring(name, first, &rings) {
                    let way: Vec<&str> = ring.iter().map(|name| name.as_str()).collect();
                    let fault = format!("is started after {name} itself ({})", way.join(" after "));
                    self.error(&steps, fault, "remove one of them: none would be the first");
                    told.extend(ring);
                } else {
                    self.elsewhere(name, vm, index, first);
                }
            }
        }
    }

    /// The VMs that are in a ring, or between two: taken away, again and again, is whoever comes after nobody, and then whoever
    /// comes before nobody. Each step of a long file costs the same.
    fn between_rings(&self) -> BTreeSet<&'a Name> {
        let vms = &self.cluster.vms;
        let mut left: BTreeSet<&Name> = vms.keys().collect();
        let mut befores: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
        let mut afters: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
        for (name, vm) in vms {
            let known: BTreeSet<&Name> =
                vm.after.iter().filter_map(|first| Some(vms.get_key_value(first)?.0)).collect();
            for first in known {
                befores.entry(name).or_default().push(first);
                afters.entry(first).or_default().push(name);
            }
        }
        for (needs, gives) in [(&befores, &afters), (&afters, &befores)] {
            let open = |name: &Name| {
                needs.get(name).into_iter().flatten().filter(|other| left.contains(*other)).count()
            };
            let mut missing: BTreeMap<&Name, usize> = left.iter().map(|name| (*name, open(name))).collect();
            let mut free: Vec<&Name> =
                missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
            while let Some(name) = free.pop() {
                left.remove(name);
                for other in gives.get(name).into_iter().flatten() {
                    if let Some(count) = missing.get_mut(other) {
                        *count -= 1;
                        if *count == 0 {
                            free.push(other);
                        }
                    }
                }
            }
        }
        left
    }

    /// The way from `first` back to `name`, both included, when there is one.
    fn ring(&self, name: &'a Name, first: &'a Name, rings: &BTreeSet<&'a Name>) -> Option<Vec<&'a Name>> {
        if !rings.contains(name) || !rings.contains(first) {
            return None;
        }
        // From where each was reached.
        let mut from: BTreeMap<&Name, Option<&'a Name>> = BTreeMap::from([(first, None)]);
        let mut open = vec![first];
        while let Some(last) = open.pop() {
            for next in self.cluster.vms.get(last).into_iter().flat_map(|vm| &vm.after) {
                if next == name {
                    let mut way = vec![next];
                    let mut step = Some(last);
                    while let Some(name) = step {
                        way.push(name);
                        step = from.get(name).copied().flatten();
                    }
                    way.reverse();
                    return Some(way);
                }
                if rings.contains(next) && !from.contains_key(next) {
                    from.insert(next, Some(last));
                    open.push(next);
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
