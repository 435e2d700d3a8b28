use super::*;
use crate::nodes::Uris;

/// One node, one VM.
pub const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "192.168.0.50/24"
disks.vms = ["/dev/disk/by-id/virtio-a"]

[volume.vms]
use = "local"

[vm.mail]
memory = "2GiB"
disk = "20GiB"
volume = "vms"
"#;

/// Acts on a site of this file, whose libvirt is reached at `connect`.
pub fn on_site<T>(
    cluster: &Cluster,
    root: &std::path::Path,
    connect: &str,
    act: impl FnOnce(&Site) -> T,
) -> T {
    let common =
        Common { file: None, applied: false, node: None, json: false, root: root.into(), verbose: 0 };
    let uris = Uris { connect: connect.into(), connect_peer: String::new() };
    act(&Site { common: &common, nodes: Nodes { view: cluster.view("node1").unwrap(), uris: &uris } })
}

/// What `pc-vm start` and its like say where they are refused.
fn refusal(ha: bool, marker: bool, by_pacemaker: bool) -> Option<String> {
    let mut cluster = cluster::parse("test", FILE).unwrap();
    cluster.ha = ha.then(|| cluster::parse("test", HA).unwrap().ha.unwrap());
    let root = tempfile::tempdir().unwrap();
    if marker {
        let path = root.path().join("var/lib/personal-cluster/ha-enabled");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let answer =
        on_site(&cluster, root.path(), "", |site| site.leave_to_pacemaker(by_pacemaker, "pc-ha status"));
    let error = answer.err()?;
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

#[test]
fn a_libvirt_that_does_not_answer_is_told() {
    let cluster = cluster::parse("test", FILE).unwrap();
    let root = tempfile::tempdir().unwrap();
    let status = on_site(&cluster, root.path(), "test:///no/such/file", crate::gather::status).unwrap();
    assert!(!status.healthy && !status.reachable_by_peers);
    let problem = &status.problems[0];
    assert!(
        problem.starts_with("libvirt does not answer: connecting to libvirt of this node: "),
        "{problem}"
    );
    assert!(problem.ends_with("\n  systemctl status libvirtd.socket libvirtd.service"), "{problem}");
    let mail = &status.vms[0];
    assert_eq!(
        (mail.name.as_str(), mail.state.as_str(), mail.should_run_here),
        ("mail", "unknown", Some(true))
    );
    assert!(!mail.here && !mail.defined);
}

#[test]
fn who_is_silent_is_named_with_the_way_out() {
    let silent = |nodes: &[&str]| -> Vec<(String, String)> {
        nodes.iter().map(|node| (node.to_string(), "cut off".into())).collect()
    };
    let error = unreachable("mail", Clue::Record, &silent(&["n1"]), false);
    assert!(error.is::<pc_cli::TryAgain>());
    assert_eq!(
        error.to_string(),
        "vm mail: n1 owns it and does not answer, it may still run there: cut off\n  \
         when n1 is switched off for certain: pc-vm start mail --here --owner-is-dead n1"
    );
    let error = unreachable("mail", Clue::NoRecord, &silent(&["n2", "n3"]), false).to_string();
    assert!(
        error.starts_with("vm mail: no owner.json beside its disk, and n2 does not answer, it may run there")
    );
    let remedy = "\n  when n2 and n3 are switched off for certain: \
                  pc-vm start mail --here --owner-is-dead n2 --owner-is-dead n3";
    assert!(error.ends_with(remedy), "{error}");
    // Where pacemaker starts VMs, the verb is pc-ha's.
    for clue in [Clue::Record, Clue::NoRecord, Clue::OwnVolumes] {
        let error = unreachable("mail", clue, &silent(&["n2"]), true).to_string();
        assert!(error.ends_with("for certain: pc-ha start mail --owner-is-dead n2"), "{error}");
    }
}
