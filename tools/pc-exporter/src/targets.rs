//! `pc-exporter targets`: what Prometheus should scrape, out of the cluster file, so that a new node needs no other edit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use cluster::{Cluster, Node};
use serde::Serialize;

/// Our port: node-exporter's, and beyond the range in which exporters of all kinds are registered.
pub const PORT: u16 = 19100;
/// node-exporter's port.
pub const NODE_EXPORTER: u16 = 9100;

/// Which exporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// Both, and node-exporter of the Tang servers
    All,
    /// Prometheus' node-exporter on nodes and Tang servers
    NodeExporter,
    /// pc-exporter on the nodes
    PcExporter,
}

/// One entry of `file_sd_configs` (Prometheus' documentation, "Configuration").
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Group {
    targets: Vec<String>,
    labels: BTreeMap<&'static str, String>,
}

/// The file for `file_sd_configs`.
pub fn text(file: &Cluster, of: Of) -> Result<String> {
    let mut groups = Vec::new();
    let tls = file.exporter.as_ref().is_some_and(|exporter| exporter.tls);
    let mut group = |target: String, role: &str, node: &str| {
        let labels = [("cluster", file.name.as_str()), ("role", role), ("node", node)];
        // What Prometheus takes for the target's scheme, and drops afterwards.
        let scheme = (tls && role == "pc-exporter").then_some(("__scheme__", "https"));
        let labels = labels.into_iter().chain(scheme).map(|(key, value)| (key, value.to_string())).collect();
        groups.push(Group { targets: vec![target], labels });
    };
    for node in &file.nodes {
        let address = address(node)?;
        if of != Of::PcExporter {
            group(SocketAddr::new(address, NODE_EXPORTER).to_string(), "node", node.name.as_str());
        }
        if of != Of::NodeExporter {
            group(SocketAddr::new(address, PORT).to_string(), "pc-exporter", node.name.as_str());
        }
    }
    if of != Of::PcExporter {
        for host in tang_hosts(file)? {
            let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            group(format!("{bracketed}:{NODE_EXPORTER}"), "tang", &host);
        }
    }
    let mut text = serde_json::to_string_pretty(&groups).context("writing targets as JSON")?;
    text.push('\n');
    Ok(text)
}

/// A node's address without its prefix length.
pub fn address(node: &Node) -> Result<IpAddr> {
    let bare = node.address.split('/').next().unwrap_or_default();
    bare.parse().with_context(|| format!("node {}: {bare:?} is no address", node.name))
}

/// Hosts of the Tang servers, each once; a Tang on a node is no machine of its own.
fn tang_hosts(file: &Cluster) -> Result<BTreeSet<String>> {
    let nodes: BTreeSet<String> = file
        .nodes
        .iter()
        .map(|node| address(node).map(|address| address.to_string()))
        .collect::<Result<_>>()?;
    let servers = file.unlock.iter().flat_map(|unlock| &unlock.tang);
    let hosts = servers.map(|server| {
        let url = tang_client::url::Url::parse(&server.url);
        url.map(|url| url.host).with_context(|| format!("[unlock] tang {:?}", server.url))
    });
    let hosts: BTreeSet<String> = hosts.collect::<Result<_>>()?;
    Ok(hosts.difference(&nodes).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, of: Of) -> serde_json::Value {
        let file = std::fs::read_to_string(format!("../../examples/{name}.toml")).unwrap();
        serde_json::from_str(&text(&cluster::parse(name, &file).unwrap(), of).unwrap()).unwrap()
    }

    #[test]
    fn all_is_both() {
        let groups = |name| of("home", name).as_array().unwrap().clone();
        let (all, mut both) = (groups(Of::All), groups(Of::NodeExporter));
        both.extend(groups(Of::PcExporter));
        assert_eq!(all.len(), 7);
        assert!(both.len() == 7 && both.iter().all(|group| all.contains(group)), "{all:?}");
        assert_eq!(all[6]["labels"]["role"], "tang");
    }

    #[test]
    fn only_ours() {
        let ours = of("one-pc", Of::PcExporter);
        assert_eq!(ours.as_array().unwrap().len(), 1);
        assert!(ours[0]["targets"][0].as_str().unwrap().ends_with(":19100"));
        assert_eq!(ours[0]["labels"]["role"], "pc-exporter");
    }

    #[test]
    fn tls_is_the_scheme_of_ours_alone() {
        let text = "schema = \"personal-cluster/1\"\nname = \"t\"\n[exporter]\ntls = true\n[[node]]\nname = \"node1\"\naddress = \"192.168.0.50\"\n";
        let groups: serde_json::Value =
            serde_json::from_str(&super::text(&cluster::parse("t", text).unwrap(), Of::All).unwrap())
                .unwrap();
        assert_eq!(groups[0]["labels"].get("__scheme__"), None, "{groups}");
        assert_eq!(
            (&groups[1]["labels"]["role"], &groups[1]["labels"]["__scheme__"]),
            (&"pc-exporter".into(), &"https".into())
        );
    }

    #[test]
    fn an_ipv6_address_is_bracketed() {
        let text = "schema = \"personal-cluster/1\"\nname = \"six\"\n[[node]]\nname = \"node1\"\naddress = \"fd00::50/64\"\n";
        let file = cluster::parse("six", text).unwrap();
        assert!(super::text(&file, Of::NodeExporter).unwrap().contains("\"[fd00::50]:9100\""));
    }
}
