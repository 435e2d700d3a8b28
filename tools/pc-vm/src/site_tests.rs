use super::*;
use crate::nodes::Uris;

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "192.168.0.50/24"
"#;

/// Whether `pc-vm start` and its like are refused, and what they say.
fn refusal(ha: bool, marker: bool, by_pacemaker: bool) -> Option<String> {
    let mut cluster = cluster::parse("test", FILE).unwrap();
    cluster.ha = ha.then(|| cluster::parse("test", HA).unwrap().ha.unwrap());
    let root = tempfile::tempdir().unwrap();
    if marker {
        let path = root.path().join("var/lib/personal-cluster/ha-enabled");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let common =
        Common { file: None, applied: false, node: None, json: false, root: root.path().into(), verbose: 0 };
    let uris = Uris { connect: String::new(), connect_peer: String::new() };
    let site = Site { common: &common, nodes: Nodes { view: cluster.view("node1").unwrap(), uris: &uris } };
    let error = site.leave_to_pacemaker(by_pacemaker, "pc-ha status").err()?;
    assert!(error.is::<pc_cli::Refused>());
    Some(error.to_string())
}

const HA: &str = r#"
schema = "personal-cluster/1"
name = "home"
ha = { watchdog = "auto", quorum_device = "192.168.0.2" }

[[node]]
name = "node1"
address = "192.168.0.50/24"

[[node]]
name = "node2"
address = "192.168.0.51/24"
"#;

#[test]
fn pacemaker_is_the_only_starter_once_it_has_taken_over() {
    let said = refusal(true, true, false);
    assert_eq!(said.as_deref(), Some("[ha] is enabled: pacemaker is the only starter\n  pc-ha status"));
    assert_eq!(refusal(true, true, true), None, "its agent");
    assert_eq!(refusal(true, false, false), None, "nobody else would start it");
    assert_eq!(refusal(false, true, false), None, "the marker alone says nothing");
}
