//! iproute2: every call of `ip`. Reads JSON, changes in one `ip -batch`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_run::run;
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::model::{Link, Route};

/// `protocol` of routes that are ours: a number that iproute2 has no name for.
pub const PROTOCOL: &str = "112";
/// Metric of our default route: one of its own, so that we never replace somebody else's route.
const METRIC: &str = "50";

const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct IpLink {
    ifname: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    permaddr: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    altnames: Vec<String>,
    #[serde(default)]
    addr_info: Vec<IpAddress>,
}

#[derive(Debug, Deserialize)]
struct IpAddress {
    // `-details` and tunnels print empty objects.
    local: Option<IpAddr>,
    prefixlen: Option<u8>,
    scope: Option<String>,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    mngtmpaddr: bool,
    #[serde(default)]
    temporary: bool,
}

#[derive(Debug, Deserialize)]
struct IpRoute {
    dst: Option<String>,
    gateway: Option<IpAddr>,
    dev: Option<String>,
    metric: Option<u32>,
    #[serde(default)]
    protocol: String,
}

#[derive(Debug, Deserialize)]
struct IpNeighbour {
    dst: Option<IpAddr>,
    lladdr: Option<String>,
    #[serde(default)]
    state: Vec<String>,
}

/// All devices.
pub fn links() -> Result<BTreeMap<String, Link>> {
    let sh = Shell::new()?;
    let text = run(cmd!(sh, "ip -json address show")).deadline(DEADLINE).read()?;
    parse_links(&text)
}

fn parse_links(text: &str) -> Result<BTreeMap<String, Link>> {
    let links: Vec<IpLink> = serde_json::from_str(text).context("reading what ip address says")?;
    Ok(links.into_iter().filter(|link| !link.ifname.is_empty()).map(link).collect())
}

fn link(link: IpLink) -> (String, Link) {
    let mut addresses = Vec::new();
    let mut advertised = Vec::new();
    for address in link.addr_info {
        let (Some(local), Some(prefix)) = (address.local, address.prefixlen) else { continue };
        // What is left: global, and the site-local addresses of old.
        if matches!(address.scope.as_deref(), None | Some("link" | "host")) {
            continue;
        }
        let made = address.mngtmpaddr || address.temporary || address.protocol == "kernel_ra";
        if made { &mut advertised } else { &mut addresses }.push(format!("{local}/{prefix}"));
    }
    let flag = |wanted: &str| link.flags.iter().any(|flag| flag == wanted);
    let (up, carrier) = (flag("UP"), flag("LOWER_UP"));
    let mac = link.permaddr.unwrap_or(link.address);
    (link.ifname, Link { mac, up, carrier, addresses, advertised, other_names: link.altnames })
}

/// Routes of the main tables that somebody made, neither the kernel nor a router advertisement.
pub fn routes() -> Result<Vec<Route>> {
    let sh = Shell::new()?;
    let four = run(cmd!(sh, "ip -json -4 route show table main")).deadline(DEADLINE).read()?;
    let six = run(cmd!(sh, "ip -json -6 route show table main")).deadline(DEADLINE).read()?;
    let mut routes = parse_routes(&four)?;
    routes.extend(parse_routes(&six)?);
    Ok(routes)
}

fn parse_routes(text: &str) -> Result<Vec<Route>> {
    // An empty table is printed as nothing at all by some versions.
    let text = if text.is_empty() { "[]" } else { text };
    let routes: Vec<IpRoute> = serde_json::from_str(text).context("reading what ip route says")?;
    let made = routes.into_iter().filter(|route| route.protocol != "kernel" && route.protocol != "ra");
    Ok(made
        .filter_map(|route| {
            Some(Route {
                destination: route.dst?,
                router: route.gateway,
                interface: route.dev?,
                metric: route.metric,
                ours: route.protocol == PROTOCOL,
            })
        })
        .collect())
}

/// Neighbours on a device that have answered lately.
pub fn answering_neighbours(device: &str) -> Result<Vec<IpAddr>> {
    let sh = Shell::new()?;
    let text = run(cmd!(sh, "ip -json neighbour show dev {device}")).deadline(DEADLINE).read()?;
    parse_neighbours(&text)
}

fn parse_neighbours(text: &str) -> Result<Vec<IpAddr>> {
    let text = if text.is_empty() { "[]" } else { text };
    let found: Vec<IpNeighbour> = serde_json::from_str(text).context("reading what ip neighbour says")?;
    let answers = |one: &IpNeighbour| {
        one.lladdr.is_some() && one.state.iter().any(|state| ["REACHABLE", "DELAY"].contains(&state.as_str()))
    };
    Ok(found.into_iter().filter(answers).filter_map(|one| one.dst).collect())
}

/// Lines for one `ip -batch`: all of a change in one process, in order.
#[derive(Debug, Default)]
pub struct Batch(Vec<String>);

impl Batch {
    /// Sets a device up.
    pub fn up(&mut self, device: &str) {
        self.0.push(format!("link set dev {device} up"));
    }

    /// Adds an address; one that is there stays. No duplicate address detection: the address is ours already.
    pub fn add(&mut self, device: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.0.push(format!("address replace {address} dev {device}{nodad}"));
    }

    /// Takes an address away.
    pub fn remove(&mut self, device: &str, address: &str) {
        self.0.push(format!("address delete {address} dev {device}"));
    }

    /// Sets our default route.
    pub fn route(&mut self, device: &str, router: &str) {
        self.0.push(format!(
            "route replace default via {router} dev {device} proto {PROTOCOL} metric {METRIC}"
        ));
    }

    /// Takes our default route away.
    pub fn unroute(&mut self, device: &str, router: &str) {
        self.0
            .push(format!("route delete default via {router} dev {device} proto {PROTOCOL} metric {METRIC}"));
    }

    /// Puts back a route that somebody else had.
    pub fn restore(&mut self, route: &Route) {
        let via = route.router.map(|router| format!(" via {router}")).unwrap_or_default();
        let metric = route.metric.map(|metric| format!(" metric {metric}")).unwrap_or_default();
        let protocol = if route.ours { format!(" proto {PROTOCOL}") } else { String::new() };
        self.0.push(format!(
            "route replace {}{via} dev {}{protocol}{metric}",
            route.destination, route.interface
        ));
    }

    /// Runs all lines. With `force` a line that fails does not stop the rest.
    pub fn run(self, force: bool) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let sh = Shell::new()?;
        let flag = force.then_some("-force");
        let lines = self.0.join("\n") + "\n";
        pc_cli::log::debug(format_args!("ip -batch: {}", self.0.join("; ")));
        run(cmd!(sh, "ip {flag...} -batch -")).stdin(lines).deadline(DEADLINE).output()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_addresses_are_read() {
        let links = parse_links(include_str!("../tests/fixtures/ip-address.json")).unwrap();
        let nic = &links["ens3"];
        assert_eq!((nic.mac.as_str(), nic.up), ("52:54:00:12:34:56", true));
        assert_eq!(nic.addresses, ["192.168.0.50/24"]);
        assert!(nic.carrier && nic.other_names == ["enp0s3"]);
        assert_eq!(nic.advertised, ["fec0::5054:ff:fe12:3456/64"]);
        assert!(links["lo"].addresses.is_empty());
        assert!(!links["ens4"].up);
    }

    #[test]
    fn routes_of_the_kernel_and_of_advertisements_are_left_out() {
        let routes = parse_routes(include_str!("../tests/fixtures/ip-route.json")).unwrap();
        let seen: Vec<_> = routes.iter().map(|route| (route.destination.as_str(), route.ours)).collect();
        assert_eq!(seen, [("default", false), ("default", true), ("10.8.0.0/16", false)]);
        assert!(parse_routes("").unwrap().is_empty());
    }

    #[test]
    fn only_neighbours_that_answered_count() {
        let text = r#"[{"dst":"10.0.0.1","lladdr":"52:54:00:00:00:01","state":["REACHABLE"]},
            {"dst":"10.0.0.2","state":["FAILED"]},{"dst":"10.0.0.3","lladdr":"52:54:00:00:00:03","state":["STALE"]}]"#;
        assert_eq!(parse_neighbours(text).unwrap(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
