//! `pc-ovs explain FROM TO PORT`: which line of the file decides. Pure, and made of the file's words alone: the tests
//! hold it against what OVN does with the rows.

use std::fmt;
use std::net::IpAddr;

use anyhow::Result;
use cluster::{Cluster, End, Name, Network, Ports, Vm};
use pc_cli::refused;
use serde::Serialize;

/// What becomes of the first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It arrives, and so do replies.
    Allowed,
    /// It does not.
    Refused,
    /// Neither end is a VM on a zone: nothing of the file decides.
    Open,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `pc.ovs.explain/1`.
    pub schema: &'static str,
    /// Where the packet comes from.
    pub from: Place,
    /// Where it goes to.
    pub to: Place,
    /// Protocol and port.
    pub port: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The key that decides, `route[0]`; null when none does.
    pub key: Option<String>,
    /// Its line in the file; null when the file was not read as text.
    pub line: Option<u32>,
    /// Why, for people.
    pub reason: String,
    /// Name of the file, for people.
    #[serde(skip)]
    pub file: String,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As it was asked for.
    pub asked: String,
    /// The VM; null for another machine.
    pub vm: Option<String>,
    /// The network that it speaks on; null when the file has none for it.
    pub network: Option<String>,
    /// The address that was asked for.
    #[serde(skip)]
    address: Option<IpAddr>,
}

/// The file as text, for lines.
pub struct Source<'a> {
    /// Its name.
    pub name: String,
    /// What it says; absent for the applied file.
    pub text: Option<&'a str>,
}

/// Answers; an end that the file does not have, and a port that is none, are refused.
pub fn explain(cluster: &Cluster, source: &Source, ends: (&str, &str), port: &str) -> Result<Explanation> {
    let (mut from, mut to) = (place(cluster, ends.0)?, place(cluster, ends.1)?);
    let ports =
        Ports::parse(port).map_err(|fault| refused(format!("{port:?} {fault}\n  tcp/25, udp/53, icmp")))?;
    if let Ports::Tcp(first, last) | Ports::Udp(first, last) = ports {
        if first != last {
            return Err(refused(format!("{port:?} is several ports: ask for one of them\n  tcp/{first}")));
        }
    }
    meet(cluster, &mut from, &mut to);
    let (verdict, path, reason) = judge(cluster, &from, &to, ports);
    let key = path.as_ref().map(|path| path.join(".").replace(".[", "["));
    let line = path.zip(source.text).and_then(|(path, text)| {
        cluster::line_of(text, &path.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let (schema, port, file) = ("pc.ovs.explain/1", port.to_string(), source.name.clone());
    Ok(Explanation { schema, from, to, port, verdict, key, line, reason, file })
}

fn place(cluster: &Cluster, text: &str) -> Result<Place> {
    let unknown =
        |what: &str| Err(refused(format!("{text:?} is {what}\n  write vm:NAME, network:NAME or an address")));
    let (mut vm, mut network, mut address) = (None, None, None);
    match (End::parse(text), text.parse::<IpAddr>()) {
        (Some(End::Vm(name)), _) if cluster.vms.contains_key(name) => vm = Some(name.to_string()),
        (Some(End::Network(name)), _) if cluster.networks.contains_key(name) => {
            network = Some(name.to_string());
        }
        (Some(End::Vm(_)), _) => return unknown("no VM of the file"),
        (Some(End::Network(_)), _) => return unknown("no network of the file"),
        (_, Ok(ip)) => {
            address = Some(ip);
            let owner = |(name, section): (&Name, &Vm)| {
                let on = section.networks.iter().find(|network| section.address_on(network) == Some(ip))?;
                Some((name.to_string(), on.to_string()))
            };
            let holds = |network: &Network| network.nets().iter().any(|net| net.contains(&ip));
            if let Some((name, on)) = cluster.vms.iter().find_map(owner) {
                (vm, network) = (Some(name), Some(on));
            } else {
                let found = cluster.networks.iter().find(|(_, network)| holds(network));
                network = found.map(|(name, _)| name.to_string());
            }
        }
        _ => return unknown("no end of a connection"),
    }
    Ok(Place { asked: text.into(), vm, network, address })
}

/// A VM with several network cards speaks on the one that it shares with the other end, else on its first zone.
fn meet(cluster: &Cluster, from: &mut Place, to: &mut Place) {
    let cards = |place: &Place| -> Vec<String> {
        let vm = place.vm.as_deref().and_then(|vm| cluster.vms.get(vm));
        match (&place.network, vm) {
            (Some(network), _) => vec![network.clone()],
            (None, Some(vm)) => vm.networks.iter().map(ToString::to_string).collect(),
            (None, None) => Vec::new(),
        }
    };
    let (of_from, of_to) = (cards(from), cards(to));
    let shared = of_from.iter().find(|network| of_to.contains(network)).cloned();
    let first = |cards: &[String]| {
        let is_zone = |name: &&String| is_zone(cluster, name);
        shared.clone().or_else(|| cards.iter().find(is_zone).or_else(|| cards.first()).cloned())
    };
    from.network = first(&of_from);
    to.network = first(&of_to);
}

fn is_zone(cluster: &Cluster, name: &str) -> bool {
    cluster.networks.get(name).is_some_and(Network::is_zone)
}

/// Its packets are judged: it is a VM on a zone, and not the one that routes it.
fn is_judged(cluster: &Cluster, place: &Place) -> bool {
    let (Some(vm), Some(network)) = (&place.vm, &place.network) else { return false };
    let (vm, network) =
        (cluster.vms.get_key_value(vm.as_str()), cluster.networks.get_key_value(network.as_str()));
    vm.zip(network)
        .is_some_and(|((vm, _), (name, network))| network.is_zone() && !cluster.is_gateway(vm, name))
}

type Decision = (Verdict, Option<Vec<String>>, String);

fn judge(cluster: &Cluster, from: &Place, to: &Place, ports: Ports) -> Decision {
    let (leaves, arrives) = (is_judged(cluster, from), is_judged(cluster, to));
    if !leaves && !arrives {
        return (Verdict::Open, None, "neither end is a VM on a zone: nothing in the file decides".into());
    }
    let path = |parts: &[&str]| Some(parts.iter().map(ToString::to_string).collect());
    let shared = from.network.as_deref().filter(|network| to.network.as_deref() == Some(*network));
    let zone = shared.and_then(|name| Some((name, cluster.networks.get(name)?)));
    if let Some((name, _)) = zone.filter(|(_, network)| !network.isolated) {
        let reason = format!("both are on zone {name}, which is not isolated");
        return (Verdict::Allowed, path(&["network", name]), reason);
    }
    for (index, route) in cluster.routes.iter().enumerate() {
        let ends = End::parse(&route.from).zip(End::parse(&route.to));
        let leads = ends.is_some_and(|(begin, end)| is_at(cluster, begin, from) && is_at(cluster, end, to));
        let covers = |text: &String| Ports::parse(text).is_ok_and(|own| own.covers(ports));
        if leads && (route.ports.is_empty() || route.ports.iter().any(covers)) {
            let what = if route.ports.is_empty() { "every port".into() } else { route.ports.join(", ") };
            let reason = format!("it opens {what} from {} to {}", route.from, route.to);
            return (Verdict::Allowed, path(&["route", &format!("[{index}]")]), reason);
        }
    }
    if let Some((name, _)) = zone {
        let reason = format!("both are on zone {name}, which is isolated, and no route names this");
        return (Verdict::Refused, path(&["network", name, "isolated"]), reason);
    }
    let closed = if arrives { &to.network } else { &from.network };
    let name = closed.as_deref().unwrap_or_default();
    let reason = format!("a zone is closed, and no route names this: {name}");
    (Verdict::Refused, path(&["network", name, "gateway"]), reason)
}

fn is_at(cluster: &Cluster, end: End, place: &Place) -> bool {
    match end {
        End::Any => true,
        End::Vm(name) => place.vm.as_deref() == Some(name),
        End::Network(name) => match (&place.network, place.address) {
            (Some(network), _) => network == name,
            (None, Some(address)) => {
                let nets = cluster.networks.get(name).map(Network::nets).unwrap_or_default();
                nets.iter().any(|net| net.contains(&address))
            }
            (None, None) => false,
        },
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Refused => "refused",
            Verdict::Open => "not decided here",
        };
        write!(f, "{} from {} to {}: {verdict}", self.port, self.from.asked, self.to.asked)?;
        if let Some(key) = &self.key {
            let line = self.line.map(|line| format!("{line}:")).unwrap_or_default();
            write!(f, "\n  {}:{line} {key}", self.file)?;
        }
        writeln!(f, "\n  {}", self.reason)
    }
}
