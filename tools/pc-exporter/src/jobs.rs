//! Which facts are worth asking on this node: a pure function of the cluster file and of what is there.

use std::time::Duration;

use cluster::{NodeView, Use};

/// Something to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Name of the fact.
    pub name: String,
    /// So often it is asked.
    pub every: Duration,
    /// What is asked.
    pub work: Work,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A program, and how its answer is to be taken.
    Program {
        /// The program and its arguments.
        argv: Vec<String>,
        /// The answer is text or XML, not JSON.
        text: bool,
        /// Exit codes beside 0 that are answers.
        codes: Vec<i32>,
    },
    /// Versions of programs, by the flag that makes them tell.
    Versions(Vec<(&'static str, &'static str)>),
}

/// Programs that the cluster stands on.
const PROGRAMS: &[(&str, &str)] = &[
    ("borg", "--version"),
    ("corosync", "-v"),
    ("glusterfs", "--version"),
    ("libvirtd", "--version"),
    ("ovs-vsctl", "--version"),
    ("pacemakerd", "--version"),
    ("pc-config", "--version"),
    ("qemu-img", "--version"),
    ("systemctl", "--version"),
];

const MINUTE: Duration = Duration::from_secs(60);

/// So often a fact is asked for. What changes within minutes is asked each minute; what changes slowly, or what its tool
/// leaves behind by itself whenever it runs (pc-gluster each minute, pc-unlock whenever something opens), seldom: the
/// question costs more than the answer is worth. docs/tools/pc-exporter.md has the table.
pub fn every(fact: &str) -> Duration {
    match fact {
        "vm" | "corosync" | "pacemaker" | "storage" => MINUTE,
        "ovs" => 2 * MINUTE,
        "trust" => 15 * MINUTE,
        "versions" => 60 * MINUTE,
        _ if fact.starts_with("smart-") => 15 * MINUTE,
        _ => 5 * MINUTE,
    }
}

impl Job {
    /// A program whose answer is JSON.
    pub fn program(name: &str, every: Duration, argv: &[&str]) -> Job {
        let argv = argv.iter().map(ToString::to_string).collect();
        let work = Work::Program { argv, text: false, codes: Vec::new() };
        Job { name: name.into(), every, work }
    }

    fn text(name: &str, argv: &[&str], codes: &[i32]) -> Job {
        let argv = argv.iter().map(ToString::to_string).collect();
        let work = Work::Program { argv, text: true, codes: codes.to_vec() };
        Job { work, ..Job::program(name, every(name), &[]) }
    }
}

/// What of the machine decides beside the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Here {
    /// The node belongs to a cluster's CA.
    pub member: bool,
    /// Pacemaker has taken over.
    pub ha: bool,
    /// It was stopped, as `pc-ha maintenance on` does: nothing of its own can be asked.
    pub ha_stopped: bool,
}

/// The jobs of this node; `flags` are handed to the siblings.
pub fn jobs(view: &NodeView<'_>, here: Here, flags: &[String]) -> Vec<Job> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let sibling = |program: &str, verb: &str, name: &str, every: Duration| {
        let argv = [&[program, verb, "--json"], flags.as_slice()].concat();
        Job::program(name, every, &argv)
    };
    let file = view.cluster;
    let bricks = view.bricks();
    let mut jobs = vec![sibling("pc-config", "status", "config", every("config"))];
    if file.unlock.is_some() || !bricks.is_empty() {
        jobs.push(sibling("pc-unlock", "status", "unlock", every("unlock")));
    }
    if !bricks.is_empty() {
        jobs.push(sibling("pc-brick", "status", "brick", every("brick")));
    }
    if file.volumes.values().any(|volume| volume.purpose != Use::Local) {
        jobs.push(sibling("pc-gluster", "status", "gluster", every("gluster")));
    }
    if !view.node.nics.is_empty() {
        jobs.push(sibling("pc-ovs", "status", "ovs", every("ovs")));
    }
    if !file.vms.is_empty() {
        jobs.push(sibling("pc-vm", "status", "vm", every("vm")));
        jobs.push(sibling("pc-vm", "list", "vm-list", every("vm-list")));
    }
    if !file.backups.is_empty() {
        jobs.push(sibling("pc-borg", "status", "borg", every("borg")));
    }
    if here.member {
        jobs.push(sibling("pc-trust", "status", "trust", every("trust")));
    }
    if here.ha {
        // 1 and 2: the node has no quorum, which is an answer.
        jobs.push(Job::text("corosync", &["corosync-quorumtool", "-s"], &[1, 2]));
    }
    // Also before it has taken over: whoever asks by hand leaves an answer, which would grow old.
    if file.ha.is_some() {
        jobs.push(sibling("pc-ha", "status", "ha", every("ha")));
    }
    if here.ha && !here.ha_stopped {
        let crm_mon = ["crm_mon", "--one-shot", "--output-as=xml", "--inactive", "--fence-history=1"];
        jobs.push(Job::text("pacemaker", &crm_mon, &[]));
    }
    jobs.extend(bricks.iter().map(|brick| smart(brick.name(), brick.device.as_str())));
    let work = Work::Versions(PROGRAMS.to_vec());
    jobs.push(Job { work, ..Job::program("versions", every("versions"), &[]) });
    jobs
}

/// A disk that sleeps is let sleep. Bits 2 to 7 of smartctl's exit code tell of the disk, 0 and 1 of a failed call.
fn smart(disk: &str, device: &str) -> Job {
    let argv = ["smartctl", "--json", "--all", "--nocheck=standby,0", device].map(str::to_string).to_vec();
    let codes = (4..=252).step_by(4).collect();
    let work = Work::Program { argv, text: false, codes };
    let name = format!("smart-{disk}");
    Job { work, ..Job::program(&name, every(&name), &[]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
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

    fn names(file: &str, here: Here) -> Vec<String> {
        let cluster = cluster::parse("test", file).unwrap();
        let jobs = jobs(&cluster.view("node1").unwrap(), here, &["--applied".into()]);
        jobs.into_iter().map(|job| job.name).collect()
    }

    #[test]
    fn only_what_the_file_has_is_asked_for() {
        let all = ["config", "unlock", "brick", "gluster", "ovs", "vm", "vm-list", "trust", "corosync"];
        let here = Here { member: true, ha: true, ha_stopped: false };
        let node = |n: u8| {
            format!("[[node]]\nname = \"node{n}\"\naddress = \"192.168.0.5{n}/24\"\nnics.lan = [\"eth0\"]\n")
        };
        let with_ha = format!("{FILE}{}{}[ha]\n", node(2), node(3));
        let full = names(&with_ha, here);
        assert_eq!(full[..9], all);
        assert_eq!(full[9..], ["ha", "pacemaker", "smart-nvme-A", "versions"]);
        let stopped = names(&with_ha, Here { ha_stopped: true, ..here });
        assert_eq!(stopped[9..], ["ha", "smart-nvme-A", "versions"]);
        assert!(names(&with_ha, Here::default()).contains(&"ha".into()));
        assert!(!names(FILE, Here::default()).contains(&"ha".into()));
        let saved = format!("{FILE}[backup.daily]\nrepository = \"/srv/borg\"\nschedule = \"daily\"\n");
        assert!(!full.contains(&"borg".into()) && names(&saved, Here::default()).contains(&"borg".into()));
        let bare = "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"node1\"\naddress = \"192.168.0.50\"\n";
        assert_eq!(names(bare, Here::default()), ["config", "versions"]);
    }

    #[test]
    fn siblings_are_asked_for_the_applied_file() {
        let cluster = cluster::parse("test", FILE).unwrap();
        let jobs = jobs(&cluster.view("node1").unwrap(), Here::default(), &["--applied".into()]);
        let Work::Program { argv, text, .. } = &jobs[3].work else { panic!("no program") };
        assert_eq!((argv.join(" ").as_str(), *text), ("pc-gluster status --json --applied", false));
    }

    #[test]
    fn smartctl_that_tells_of_a_failing_disk_has_answered() {
        let Work::Program { codes, .. } = smart("a", "/dev/disk/by-id/a").work else { panic!("no program") };
        assert!(codes.contains(&8) && codes.contains(&64) && codes.contains(&200));
        assert!(!codes.contains(&1) && !codes.contains(&2) && !codes.contains(&10));
    }
}
