//! What is worth asking on this node, and what the file itself warns of: pure functions of the cluster file.

use cluster::{Cluster, NodeView, Use};

/// What of the machine decides beside the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Here {
    /// The node belongs to a cluster's CA.
    pub member: bool,
    /// Pacemaker has taken over.
    pub ha: bool,
}

/// The tools that the file has work for on this node.
pub fn tools(view: &NodeView<'_>, here: Here) -> Vec<&'static str> {
    let file = view.cluster;
    let bricks = !view.bricks().is_empty();
    let replicated = file.volumes.values().any(|volume| volume.purpose != Use::Local);
    let all = [
        ("config", true),
        ("ovs", !view.node.nics.is_empty()),
        ("trust", here.member || file.nodes.len() > 1),
        ("unlock", file.unlock.is_some() || bricks),
        ("brick", bricks),
        ("gluster", replicated),
        ("vm", !file.vms.is_empty()),
        ("ha", here.ha || file.ha.is_some()),
        ("borg", !file.backups.is_empty()),
    ];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
}

/// What the file risks: each fault, and what would be better.
pub fn warnings(file: &Cluster) -> Vec<(String, String)> {
    let mut warnings: Vec<(String, String)> = cluster::check(file)
        .into_iter()
        .map(|fault| {
            let value = fault.value.map(|value| format!(" = {value}")).unwrap_or_default();
            let place = if fault.key.is_empty() { String::new() } else { format!("{}{value}: ", fault.key) };
            (format!("{place}{}", fault.fault), fault.remedy.unwrap_or_else(|| "pc-config check".into()))
        })
        .collect();
    if let Some([server]) = file.unlock.as_ref().map(|unlock| unlock.tang.as_slice()) {
        let fault = format!(
            "unlock.tang names {} alone: while it is off, no node that starts opens its disks",
            server.url
        );
        warnings.push((fault, "name a second server beside it; `pc-unlock adv URL` prints its line".into()));
    }
    let near = near(file);
    if !near.is_empty() {
        let fault = format!(
            "every backup of {} is on the nodes themselves: what takes them takes it too",
            near.join(", ")
        );
        warnings.push((
            fault,
            "add a [backup.NAME] with repository = \"ssh://USER@HOST/PATH\" or \"disk:LABEL=LABEL\"".into(),
        ));
    }
    // Whoever does without says so by having one machine, or no VM.
    if file.ha.is_none() && file.nodes.len() > 2 && !file.vms.is_empty() {
        let fault = "there is no [ha]: when a node dies, its VMs wait for it".to_string();
        warnings.push((fault, "add [ha], then pc-ha enable on every node".into()));
    }
    if !file.vms.is_empty() && file.vms.values().all(|vm| vm.backup.is_empty()) {
        warnings.push((
            "no VM has a backup".into(),
            "add a [backup.NAME], and backup = [\"NAME\"] to each VM".into(),
        ));
    }
    warnings
}

/// VMs whose backups are all on volumes of the cluster.
fn near(file: &Cluster) -> Vec<&str> {
    let own = |policy: &cluster::Name| {
        let repository =
            file.backups.get(policy).map(|backup| backup.repository.as_str()).unwrap_or_default();
        let volume = repository.strip_prefix("/mnt/").and_then(|rest| rest.split('/').next());
        volume.is_some_and(|volume| file.volumes.contains_key(volume))
    };
    let near = file.vms.iter().filter(|(_, vm)| !vm.backup.is_empty() && vm.backup.iter().all(own));
    near.map(|(name, _)| name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50/24"
disks.vms = ["/dev/disk/by-id/nvme-A"]
nics.lan = ["eth0"]
[volume.vms]
use = "vm"
replicas = 1
[network.lan]
uplink = "lan"
[vm.mail]
memory = "1GiB"
disk = "1GiB"
volume = "vms"
networks = ["lan"]
"#;
    const BARE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"node1\"\naddress = \"192.168.0.50\"\n";

    fn asked(text: &str, here: Here) -> Vec<&'static str> {
        let file = cluster::parse("test", text).unwrap();
        tools(&file.view("node1").unwrap(), here)
    }

    #[test]
    fn only_what_the_file_has_is_asked_for() {
        let all = ["config", "ovs", "trust", "unlock", "brick", "gluster", "vm", "ha"];
        assert_eq!(asked(FULL, Here { member: true, ha: true }), all);
        assert_eq!(asked(BARE, Here::default()), ["config"]);
    }

    #[test]
    fn the_files_own_warnings_and_what_it_does_without() {
        let warnings = |text: &str| warnings(&cluster::parse("test", text).unwrap());
        assert_eq!(warnings(BARE), []);
        let told = warnings(FULL);
        let says = |words: &str| told.iter().filter(|(fault, _)| fault.contains(words)).count();
        assert_eq!(says("volume.vms.replicas = 1: one copy"), 1, "{told:?}");
        assert_eq!(says("disks without [unlock]"), 1, "{told:?}");
        assert_eq!(says("no VM has a backup"), 1, "{told:?}");
        assert_eq!(says("there is no [ha]"), 0, "{told:?}");
        assert_eq!(says("is on the nodes themselves") + says("names http"), 0, "{told:?}");
        let one = "[unlock]\ntang = [{ url = \"http://192.168.0.2\", thumbprint = \"oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs\" }]\n[[node]]";
        let near = FULL.replacen("[[node]]", one, 1)
            + "backup = [\"daily\"]\n[backup.daily]\nrepository = \"/mnt/vms/borg\"\nschedule = \"daily\"\n";
        let told = warnings(&near);
        let says = |words: &str| told.iter().filter(|(fault, _)| fault.contains(words)).count();
        assert_eq!(says("unlock.tang names http://192.168.0.2 alone"), 1, "{told:?}");
        assert_eq!(says("every backup of mail is on the nodes themselves"), 1, "{told:?}");
        // A place that somebody has mounted may be anywhere.
        let told = warnings(&near.replace("/mnt/vms/borg", "/media/nas/borg"));
        assert!(!told.iter().any(|(fault, _)| fault.contains("themselves")), "{told:?}");
        let three = FULL.replace(
            "[volume.vms]",
            "[[node]]\nname = \"node2\"\naddress = \"192.168.0.51/24\"\nnics.lan = [\"eth0\"]\n[[node]]\nname = \"node3\"\naddress = \"192.168.0.52/24\"\nnics.lan = [\"eth0\"]\n[volume.vms]",
        );
        let told = super::warnings(&cluster::parse("test", &three).unwrap());
        assert!(told.iter().any(|(fault, _)| fault.starts_with("there is no [ha]")), "{told:?}");
    }
}
