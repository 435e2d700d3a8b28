//! `[unlock]`, `[ha]` and `[exporter]`: what must answer before anything opens, who may decide that a node is dead, and who is told.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::{Sense, count};
use crate::model::{Node, Tang, Unlock, Use, Volume};
use crate::names::Name;
use crate::timing::Timing;
use crate::tree::{Step, at};

impl Sense<'_> {
    pub(super) fn unlock(&mut self) {
        let Some(unlock) = &self.cluster.unlock else {
            let with_disks = self.cluster.nodes.iter().position(|node| !node.disks.is_empty());
            if let Some(index) = with_disks.filter(|_| self.original.get("unlock").is_none()) {
                let remedy = "add [unlock] with a tang server, or open the disks by hand after every start";
                self.warn(
                    &at!["node", index, "disks"],
                    "disks without [unlock]: nothing opens them at boot",
                    remedy,
                );
            }
            return;
        };
        self.threshold(unlock);
        let mut urls = BTreeMap::new();
        for (index, tang) in unlock.tang.iter().enumerate() {
            if let Some(first) = urls.insert(normal(&tang.url), index) {
                let fault = format!("is already unlock.tang[{first}]");
                self.error(
                    &at!["unlock", "tang", index, "url"],
                    fault,
                    "list every server once: it answers once",
                );
            }
            self.tang(index, tang);
        }
    }

    fn threshold(&mut self, unlock: &Unlock) {
        let (servers, needed) = (unlock.tang.len(), usize::from(unlock.threshold));
        let steps = at!["unlock", "threshold"];
        if needed == 0 {
            self.error(&steps, "would open the disks for anybody", "write threshold = 1");
        } else if servers == 0 && self.whole {
            let remedy =
                "add tang = [{ url = \"http://...\", thumbprint = \"...\" }]; `pc-unlock adv URL` prints it";
            self.error(&at!["unlock"], "names no tang server", remedy);
        } else if needed > servers && self.whole {
            let fault = format!("is more than there are servers ({servers})");
            self.error(&steps, fault, "lower it, or add servers");
        } else if needed == servers && servers > 1 {
            let fault = "every server must answer: one that is down keeps all disks closed";
            self.warn(&steps, fault, format!("add a server, or write threshold = {}", servers - 1));
        }
    }

    fn tang(&mut self, index: usize, tang: &Tang) {
        let steps = at!["unlock", "tang", index, "url"];
        match place(&tang.url).map(|place| place.host) {
            Err(fault) => {
                self.error(&steps, fault, "write for example \"http://192.168.0.2\" or \"http://tang:7500\"");
            }
            Ok(host) => {
                let ip = host.parse().ok();
                let own = |node: &&Node| *node.name.as_str() == *host || (ip.is_some() && node.ip() == ip);
                if let Some(node) = self.cluster.nodes.iter().find(own) {
                    let fault = format!("is {}: its thief has a disk and the key together", node.name);
                    self.warn(&steps, fault, "run tang on a box that is no node, in another room");
                }
            }
        }
        if !is_thumbprint(&tang.thumbprint) {
            let fault = "is not the thumbprint of a key (43 letters, digits, - and _)";
            let remedy = "copy it from `pc-unlock adv URL`";
            self.error(&at!["unlock", "tang", index, "thumbprint"], fault, remedy);
        }
    }

    /// Whoever listens on the way would have the token.
    pub(super) fn exporter(&mut self) {
        if self.cluster.exporter.as_ref().is_some_and(|exporter| exporter.token && !exporter.tls) {
            let fault = "without tls the token crosses the network in clear";
            self.error(&at!["exporter", "token"], fault, "add tls = true");
        }
    }

    pub(super) fn ha(&mut self) {
        let Some(ha) = &self.cluster.ha else { return };
        if ha.watchdog != "auto" && !ha.watchdog.starts_with("/dev/watchdog") {
            let remedy = "write \"auto\", or the device, \"/dev/watchdog1\"";
            self.error(&at!["ha", "watchdog"], "is not a watchdog", remedy);
        }
        let nodes = self.declared("node").len();
        if nodes < 2 {
            let remedy = "remove [ha] until there are three nodes: VMs then start on their home node";
            self.error(
                &at!["ha"],
                format!("{} cannot be taken over by another", count(nodes, "node")),
                remedy,
            );
        } else if nodes == 2 && ha.quorum_device.is_none() {
            let remedy = "add a third node, or quorum_device = \"HOST\" with personal-cluster-tang on it";
            self.error(
                &at!["ha"],
                "two nodes without a third vote: each would take the other for dead",
                remedy,
            );
        } else if nodes == 2 {
            self.arbiters();
        }
        if let Err(fault) = Timing::of(ha, nodes) {
            let found = ha.fencing_seconds.is_some();
            let at: &[Step] = if found { &at!["ha", "fencing_seconds"] } else { &at!["ha"] };
            self.error(at, &fault, fault.remedy());
        }
    }

    /// The third vote decides who is dead, and the storage needs one as well: of two bricks each may be the older.
    fn arbiters(&mut self) {
        let lacking = |volume: &&Volume| volume.purpose == Use::Vm && !volume.arbiter;
        let lacking: Vec<&Name> =
            self.cluster.volumes.iter().filter(|(_, volume)| lacking(volume)).map(|(name, _)| name).collect();
        for name in lacking {
            let fault =
                "two nodes without an arbiter brick: after a fail-over nobody knows which copy is the newer";
            let remedy = "add a third node with a small disk for it and write arbiter = true, or remove [ha]";
            self.error(&at!["volume", name.as_str()], fault, remedy);
        }
    }
}

/// Where `http://host[:port][/path]` leads, in one spelling whatever the file's is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// In lower case, IPv6 without brackets as RFC 5952 writes it.
    host: String,
    port: u16,
    path: String,
}

/// What is no URL, which is told elsewhere, is compared as a text.
fn normal(url: &str) -> Result<Place, &str> {
    place(url).map_err(|_| url.trim_end_matches('/'))
}

fn place(url: &str) -> Result<Place, &'static str> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => {
            return Err("is https: pc-unlock asks over http, as what Tang answers is no secret");
        }
        _ => return Err("is not an http URL"),
    };
    if rest.contains(|c: char| !c.is_ascii_graphic() || "?#@\"\\".contains(c)) {
        return Err("has characters that have no place in it");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err("names no host");
    }
    // Digits only: a number may have a sign.
    let digits = port.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|port| port.parse::<u16>().ok());
    if !port.is_empty() && number.is_none_or(|port| port == 0) {
        return Err("has a port that is not between 1 and 65535");
    }
    let host = host.parse::<Ipv6Addr>().map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string());
    Ok(Place { host, port: number.unwrap_or(80), path: path.trim_end_matches('/').into() })
}

/// RFC 7638 in base64url: S256 is 43 characters, the legacy S1 27.
fn is_thumbprint(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    [43, 27].contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::{normal, place};

    #[test]
    fn urls_read() {
        for (url, name) in [
            ("http://tang", "tang"),
            ("http://10.0.0.2:7500/x", "10.0.0.2"),
            ("http://[fd00::1]:80", "fd00::1"),
        ] {
            assert_eq!(place(url).map(|place| place.host).as_deref(), Ok(name), "{url}");
        }
        for bad in [
            "tang",
            "ftp://x",
            "https://tang",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:99999",
            "http://a:+80",
            "http://a:",
            "http://a/\u{e4}",
            "http://a b",
            "http://u@h",
            "http://h/?q",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_server_has_many_names() {
        for (one, others) in [
            ("http://tang", ["http://TANG", "http://tang:80", "http://Tang:080//"]),
            (
                "http://[fd00::1]:81/a",
                ["http://[FD00::1]:81/a/", "http://[fd00:0::1]:81/a", "http://[fd00::0001]:81/a"],
            ),
            ("tang", ["tang/", "tang", "tang//"]),
        ] {
            for other in others {
                assert_eq!(normal(one), normal(other), "{one} {other}");
            }
        }
        for other in ["http://tang:81", "http://tang/a", "http://tang2", "tang"] {
            assert_ne!(normal("http://tang"), normal(other), "{other}");
        }
        assert_ne!(normal("http://tang/a"), normal("http://tang/A"));
    }
}
