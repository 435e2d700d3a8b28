//! Who may use which address on a zone. The file's addresses are taken as they are; a VM without one gets a lease that
//! follows from its name, and keeps the one it has. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use cluster::{Cluster, Name, Network, identity, zones::eui64};
use ipnet::IpNet;

use crate::want::fnv;

/// One network card on a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address, where the zone has IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, where the zone has IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl Guest {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// MAC and IP addresses, as columns of `Logical_Switch_Port` have them.
    pub fn as_column(&self) -> String {
        let words = self.addresses().map(|address| address.to_string());
        std::iter::once(self.mac.clone()).chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// Addresses that VMs have now, by network and VM.
pub type Kept = BTreeMap<(String, String), Ipv4Addr>;

/// The network cards on one zone, by VM.
pub fn guests<'a>(
    cluster: &'a Cluster,
    name: &Name,
    network: &Network,
    kept: &Kept,
) -> Result<BTreeMap<&'a Name, Guest>> {
    let mut guests = BTreeMap::new();
    let mut open = Vec::new();
    let mut taken: BTreeSet<IpAddr> = network.router.into_iter().collect();
    taken.extend(cluster.nodes.iter().filter_map(cluster::Node::ip));
    for (vm, section) in cluster.guests_of(name) {
        let mac = identity::mac(&cluster.name, vm, name);
        let mut guest = Guest { ipv4: None, ipv6: network.net6().map(|net| eui64(net, &mac)), mac };
        match section.address_on(name) {
            Some(IpAddr::V4(address)) => guest.ipv4 = Some(address),
            Some(IpAddr::V6(address)) => guest.ipv6 = Some(address),
            None => {}
        }
        taken.extend(guest.ipv4.map(IpAddr::V4));
        if guest.ipv4.is_none() {
            open.push(vm);
        }
        guests.insert(vm, guest);
    }
    let Some(IpNet::V4(net)) = network.net() else { return Ok(guests) };
    let is_free = |address: Ipv4Addr, taken: &BTreeSet<IpAddr>| {
        net.contains(&address)
            && address != net.network()
            && address != net.broadcast()
            && !taken.contains(&IpAddr::V4(address))
    };
    // Leases that are held come first: a new VM takes no address away.
    let (held, new): (Vec<&Name>, Vec<&Name>) =
        open.into_iter().partition(|vm| kept.contains_key(&(name.to_string(), vm.to_string())));
    let first = u32::from(net.network()).saturating_add(1);
    let count = u32::from(net.broadcast()).saturating_sub(first).max(1);
    for vm in held.into_iter().chain(new) {
        let old = kept.get(&(name.to_string(), vm.to_string())).copied();
        let start = fnv(&format!("{}/{vm}/{name}", cluster.name)) % count;
        let candidates = (0..count).map(|step| {
            let place = (u64::from(start) + u64::from(step)) % u64::from(count);
            Ipv4Addr::from(first.saturating_add(u32::try_from(place).unwrap_or(0)))
        });
        let mut candidates = old.into_iter().chain(candidates);
        let Some(address) = candidates.find(|address| is_free(*address, &taken)) else {
            bail!("{net} of [network.{name}] has no address left for VM {vm}\n  give it a larger subnet");
        };
        taken.insert(IpAddr::V4(address));
        if let Some(guest) = guests.get_mut(vm) {
            guest.ipv4 = Some(address);
        }
    }
    Ok(guests)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn leases(vms: &[&str], subnet: &str, kept: &Kept) -> Result<BTreeMap<String, String>> {
        let mut text = format!(
            "schema = \"personal-cluster/1\"\nname = \"home\"\n[network.web]\nuplink = \"lan\"\n\
             subnet = \"{subnet}\"\nrouter = \"10.0.10.1\"\ngateway = \"cluster\"\n"
        );
        for vm in vms {
            let (name, address) = vm.split_once('=').unwrap_or((vm, ""));
            let _ = writeln!(
                text,
                "[vm.{name}]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"v\"\nnetworks = [\"web\"]"
            );
            if !address.is_empty() {
                let _ = writeln!(text, "addresses = {{ web = \"{address}\" }}");
            }
        }
        let cluster: Cluster = toml::from_str(&text).unwrap();
        let (name, network) = cluster.networks.iter().next().unwrap();
        let guests = guests(&cluster, name, network, kept)?;
        Ok(guests.into_iter().map(|(vm, guest)| (vm.to_string(), guest.ipv4.unwrap().to_string())).collect())
    }

    #[test]
    fn addresses_of_the_file_stay_and_nobody_gets_one_twice() {
        // 10.0.10.0/29 has six: the router's, one in the file, four leases.
        let found = leases(&["a", "b", "c=10.0.10.4/29", "d", "e"], "10.0.10.0/29", &Kept::new()).unwrap();
        assert_eq!(found["c"], "10.0.10.4");
        let all: BTreeSet<&String> = found.values().collect();
        assert_eq!(all.len(), 5);
        for (address, last) in all.iter().map(|address| (*address, address.rsplit('.').next().unwrap())) {
            assert!((2..=6).contains(&last.parse::<u8>().unwrap()), "{address}");
        }
        let error = leases(&["a", "b", "c", "d", "e", "f"], "10.0.10.0/29", &Kept::new()).unwrap_err();
        assert!(error.to_string().starts_with("10.0.10.0/29 of [network.web] has no address left for VM"));
    }

    #[test]
    fn a_lease_is_kept_while_vms_come_and_go() {
        let kept = |vm: &str, address: &str| {
            Kept::from([(("web".to_string(), vm.to_string()), address.parse().unwrap())])
        };
        let alone = leases(&["zoe"], "10.0.10.0/29", &Kept::new()).unwrap()["zoe"].clone();
        for others in [&["a", "b", "c", "d", "zoe"][..], &["zoe"]] {
            let found = leases(others, "10.0.10.0/29", &kept("zoe", &alone)).unwrap();
            assert_eq!(found["zoe"], alone);
        }
        // Not one that the file gives to somebody else, or that left the subnet.
        let found = leases(&["a=10.0.10.3/29", "zoe"], "10.0.10.0/29", &kept("zoe", "10.0.10.3")).unwrap();
        assert_ne!(found["zoe"], "10.0.10.3");
        let found = leases(&["zoe"], "10.0.10.0/29", &kept("zoe", "10.0.11.3")).unwrap();
        assert_eq!(found["zoe"], alone);
    }
}
