//! `trunk` of a VM: which networks come tagged over one of its cards.

use std::collections::BTreeSet;

use super::Sense;
use crate::model::{Network, Vm};
use crate::names::Name;
use crate::tree::at;

impl Sense<'_> {
    pub(super) fn trunks(&mut self, vm_name: &Name, vm: &Vm) {
        // Of two cards one alone may bring a network: a guest that bridges them would send its frames round.
        let mut seen = BTreeSet::new();
        for (card, tagged) in &vm.trunk {
            let steps = at!["vm", vm_name, "trunk", card];
            if !vm.networks.contains(card) {
                let remedy = format!("add \"{card}\" to networks, or name one of those");
                self.error(&steps, "the VM has no network card there", remedy);
                continue;
            }
            if tagged.is_empty() {
                let remedy = "name the networks that come tagged, or remove it";
                self.error(&steps, "names no network", remedy);
            }
            let Some(of_card) = self.cluster.networks.get(card) else { continue };
            if of_card.is_zone() {
                let remedy = "put the trunk on a card of a network without gateway";
                self.error(&steps, "is a zone, where OVN lets no tagged frame through", remedy);
                continue;
            }
            for (index, network) in tagged.iter().enumerate() {
                let steps = at!["vm", vm_name, "trunk", card, index];
                if !self.known(&steps, "network", network.as_str()) {
                    continue;
                }
                if !seen.insert(network) {
                    self.error(&steps, "is listed twice", "list it once");
                    continue;
                }
                let Some((fault, remedy)) = self.cannot_come_tagged(vm, (card, of_card), network) else {
                    continue;
                };
                self.error(&steps, fault, remedy);
            }
        }
    }

    /// Why a network cannot come tagged over this card, and what to do.
    fn cannot_come_tagged(
        &self,
        vm: &Vm,
        (card, of_card): (&Name, &Network),
        network: &Name,
    ) -> Option<(String, String)> {
        let of_tagged = self.cluster.networks.get(network)?;
        // A vlan that was faulty is none now, but was not meant to be none.
        let section = self.original.get("network").and_then(|all| all.get(network.as_str()));
        let was_left_out = section.is_some_and(|own| own.get("vlan").is_some());
        let told = |fault: &str, remedy: String| Some((fault.to_string(), remedy));
        if network == card {
            return told("is what comes untagged over this card", "remove it here".into());
        }
        if vm.networks.contains(network) {
            return told(
                "has a card of its own: two ways into one network are a loop",
                format!("remove \"{network}\" here, or from networks"),
            );
        }
        if of_tagged.is_zone() {
            return told(
                "is a zone, which no card but OVN's own reaches",
                format!("remove gateway from [network.{network}], or add \"{network}\" to networks"),
            );
        }
        if of_tagged.vlan.is_none() && !was_left_out {
            return told("has no vlan: it comes untagged", format!("add \"{network}\" to networks"));
        }
        if of_tagged.uplink != of_card.uplink {
            let fault =
                format!("leaves through {}, and the card through {}", of_tagged.uplink, of_card.uplink);
            return told(
                &fault,
                format!("put it on a card of a network with uplink = \"{}\"", of_tagged.uplink),
            );
        }
        let (own, tagged) = (mtu(of_card), mtu(of_tagged));
        if tagged > own {
            let fault = format!("has frames of {tagged} bytes, and the card takes {own}");
            return told(&fault, format!("write mtu = {tagged} in [network.{card}]"));
        }
        None
    }
}

fn mtu(network: &Network) -> u16 {
    network.mtu.unwrap_or(1500)
}
