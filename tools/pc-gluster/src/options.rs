//! Volume options: the content of Gluster's option group `virt`, made explicit so that a difference can be
//! seen and is set in one call, plus what we add with the reason beside it.
//!
//! The list is ours, not read from the machine: an upgrade of Gluster changes no running volume. A test
//! compares it with the group that the installed version ships.

use std::collections::BTreeMap;

use cluster::Use;

/// What every replicated volume gets: `virt` of Gluster 10 and 11 without sharding.
const BASE: [(&str, &str); 24] = [
    ("performance.quick-read", "off"),
    ("performance.read-ahead", "off"),
    ("performance.io-cache", "off"),
    ("performance.low-prio-threads", "32"),
    ("network.remote-dio", "disable"),
    ("performance.strict-o-direct", "on"),
    ("cluster.eager-lock", "enable"),
    ("cluster.quorum-type", "auto"),
    ("cluster.server-quorum-type", "server"),
    ("cluster.data-self-heal-algorithm", "full"),
    ("cluster.locking-scheme", "granular"),
    ("cluster.shd-max-threads", "8"),
    ("cluster.shd-wait-qlength", "10000"),
    ("user.cifs", "off"),
    ("cluster.choose-local", "off"),
    ("client.event-threads", "4"),
    ("server.event-threads", "4"),
    ("performance.client-io-threads", "on"),
    ("server.keepalive-time", "10"),
    ("server.keepalive-interval", "2"),
    ("server.keepalive-count", "5"),
    ("cluster.lookup-optimize", "off"),
    // Upstream's `virt` says 20: so long, or twice, a dead node freezes every client. docs/decisions/gluster.md; pc-ha's
    // worst case and its probe count on the value.
    ("network.ping-timeout", "10"),
    // Locks of a dead client end after this: pc-ha's timing rule counts on the value.
    ("server.tcp-user-timeout", "20"),
];

/// Only for `use = "vm"`: an image heals shard by shard instead of as one locked whole.
const SHARDED: [(&str, &str); 2] = [("features.shard", "on"), ("features.shard-block-size", "64MB")];

const SWITCHES: [&str; 2] = ["client.ssl", "server.ssl"];
/// Names in certificates that may connect.
pub const ALLOW: &str = "auth.ssl-allow";

/// The options a volume shall have; `tls` holds the names of the nodes when the cluster has certificates.
pub fn wanted(purpose: Use, set_size: usize, tls: Option<&[&str]>) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut add = |pairs: &[(&str, &str)]| {
        let fitting = pairs.iter().filter(|(key, _)| set_size > 1 || !only_replicated(key));
        options.extend(fitting.map(|(key, value)| ((*key).to_string(), (*value).to_string())));
    };
    add(&BASE);
    if set_size == 1 {
        // Replicated volumes are born with it; a single brick that later grows to three must have it before.
        add(&[("cluster.granular-entry-heal", "on")]);
    }
    if purpose == Use::Vm {
        add(&SHARDED);
    }
    if let Some(names) = tls {
        add(&SWITCHES.map(|key| (key, "on")));
        options.insert(ALLOW.into(), names.join(","));
    }
    options
}

/// Options of `wanted` that `set` lacks or has otherwise. Gluster keeps a switch as it was written, so `on`,
/// `enable`, `true` and `yes` are the same.
pub fn differing(
    wanted: &BTreeMap<String, String>,
    set: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let same = |key: &str, value: &str| set.get(key).is_some_and(|have| canonical(have) == canonical(value));
    let differs = |(key, value): &(&String, &String)| !same(key, value);
    wanted.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether an option takes effect only when the bricks start, so that clients and bricks of a running volume
/// would no longer understand each other.
pub fn needs_stopped_volume(key: &str) -> bool {
    SWITCHES.contains(&key)
}

/// Whether an option can be set only before the volume is started (afterwards Gluster wants its own command).
pub fn only_at_birth(key: &str) -> bool {
    key == "cluster.granular-entry-heal"
}

/// Whether Gluster refuses the option for a volume of single bricks.
pub fn only_replicated(key: &str) -> bool {
    key.starts_with("cluster.shd-")
}

fn canonical(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        "on" | "enable" | "true" | "yes" | "1" => "on".into(),
        "off" | "disable" | "false" | "no" | "0" => "off".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `key=value` lines, as option groups are written.
    fn parse_group(text: &str) -> BTreeMap<String, String> {
        let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
        pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn holds_all_of_the_group_virt_that_is_installed() {
        let path = "/var/lib/glusterd/groups/virt";
        let group = std::fs::read_to_string(path).expect("install glusterfs-server");
        let mut group = parse_group(&group);
        // The one that is ours: docs/decisions/gluster.md.
        assert_eq!(group.remove("network.ping-timeout").as_deref(), Some("20"));
        assert_eq!(differing(&group, &wanted(Use::Vm, 3, None)), BTreeMap::new());
    }

    /// pc-ha computes with the same numbers, and knows nothing else of Gluster.
    #[test]
    fn the_timings_of_fencing_are_those_of_the_volumes() {
        use cluster::timing::{LOCKS_MS, PING_MS};
        let vm = wanted(Use::Vm, 3, None);
        assert_eq!(vm["network.ping-timeout"], (PING_MS / 1000).to_string());
        assert_eq!(vm["server.tcp-user-timeout"], (LOCKS_MS / 1000).to_string());
    }

    #[test]
    fn shards_are_for_images_only_and_tls_needs_names() {
        let vm = wanted(Use::Vm, 3, Some(&["node1", "node2"]));
        assert_eq!(vm["cluster.quorum-type"], "auto");
        assert_eq!(vm["features.shard-block-size"], "64MB");
        assert_eq!((vm["client.ssl"].as_str(), vm[ALLOW].as_str()), ("on", "node1,node2"));
        let backup = wanted(Use::Backup, 3, None);
        assert!(!backup.keys().any(|key| key.contains("shard") || key.contains("ssl")));
        assert!(!backup.contains_key("cluster.granular-entry-heal"));
        assert!(wanted(Use::Vm, 1, None).contains_key("cluster.granular-entry-heal"));
    }

    #[test]
    fn switches_compare_by_meaning_and_other_options_of_an_administrator_are_left_alone() {
        let wanted = parse_group("a=on\nb=disable\nc=20");
        let set = parse_group("a=enable\nb=off\nc=42\nz=1");
        assert_eq!(differing(&wanted, &set), parse_group("c=20"));
    }
}
