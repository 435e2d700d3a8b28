//! What the cluster file asks of corosync, sbd and pacemaker.

use cluster::room::for_guests;
use cluster::timing::Timing;
use cluster::{Cluster, Name, NodeView, Use};
use sha2::{Digest, Sha256};

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name: host name, corosync's and pacemaker's node name.
    pub name: String,
    /// corosync's number for it: made of its name, so that it stays when nodes are added, removed or put in another order.
    pub id: u16,
    /// The address of its only link: a second network card is the bond's.
    pub address: String,
    /// MiB of its memory that guests may have, when the file says how much it has.
    pub memory_mib: Option<u64>,
}

/// A volume that VMs live on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Nodes that never have it; only a local volume has such.
    pub absent_on: Vec<String>,
}

/// A VM that pacemaker is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// Its volume.
    pub volume: String,
    /// Where it runs when it can choose.
    pub home: String,
    /// More important ones start first and stay when something has to give way.
    pub priority: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its disk, or a device of it, is on one node only.
    pub pinned: bool,
    /// It has devices of its home.
    pub devices: bool,
    /// VMs that are started before it.
    pub after: Vec<String>,
    /// It is kept apart from other VMs with the same one.
    pub apart: Option<String>,
}

impl Vm {
    /// Its memory as pacemaker counts it.
    pub fn memory_mib(&self) -> u64 {
        self.memory_bytes.div_ceil(1 << 20)
    }
}

/// Everything this tool wants, seen from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// This node.
    pub node: String,
    /// The cluster's name.
    pub cluster: String,
    /// All nodes, in the order of the file.
    pub members: Vec<Member>,
    /// The numbers.
    pub timing: Timing,
    /// `auto`, or a device.
    pub watchdog: String,
    /// The host of the third vote, with two nodes.
    pub quorum_device: Option<String>,
    /// Volumes of VMs.
    pub volumes: Vec<Volume>,
    /// The VMs.
    pub vms: Vec<Vm>,
    /// Whether pacemaker counts memory, `placement-strategy`; none: what stands in the CIB stays.
    pub placement: Option<&'static str>,
    /// What stands in the CIB for `stonith-watchdog-timeout` is left as it is.
    pub fencing_stays: bool,
    /// Every node hangs on one switch, or nobody said that there are two.
    pub one_switch: bool,
}

/// Derives what is wanted. Fails when the file does not ask for high availability, or with unsafe numbers (which the
/// loader refuses as well).
pub fn want(view: &NodeView<'_>) -> Result<Want, String> {
    let file = view.cluster;
    let Some(ha) = &file.ha else {
        return Err(
            "the file has no [ha]\n  add it (docs/cluster-file.md) and distribute it: pc-config push".into(),
        );
    };
    let timing =
        Timing::of(ha, file.nodes.len()).map_err(|fault| format!("ha: {fault}\n  {}", fault.remedy()))?;
    let mut members = Vec::new();
    for node in &file.nodes {
        let address =
            node.ip().ok_or_else(|| format!("node {}: {:?} is no address", node.name, node.address))?;
        let id = node_id(&file.name, &node.name);
        let memory_mib = node.memory.map(|memory| for_guests(memory.0) >> 20);
        members.push(Member { name: node.name.to_string(), id, address: address.to_string(), memory_mib });
    }
    for (index, member) in members.iter().enumerate() {
        if let Some(twin) = members[..index].iter().find(|other| other.id == member.id) {
            return Err(format!(
                "nodes {} and {} get the same corosync id {} out of their names\n  give one of them another name",
                twin.name, member.name, member.id
            ));
        }
    }
    let vms: Vec<Vm> = file.vms.iter().map(|(name, vm)| wanted_vm(file, name, vm)).collect();
    Ok(Want {
        node: view.node.name.to_string(),
        cluster: file.name.to_string(),
        members,
        timing,
        watchdog: ha.watchdog.clone(),
        quorum_device: (file.nodes.len() == 2).then(|| ha.quorum_device.clone()).flatten(),
        volumes: volumes(file, &vms),
        vms,
        placement: None,
        fencing_stays: false,
        one_switch: file.nodes.iter().all(|node| node.switch == file.nodes[0].switch),
    })
}

fn wanted_vm(file: &Cluster, name: &Name, vm: &cluster::Vm) -> Vm {
    Vm {
        name: name.to_string(),
        volume: vm.volume.to_string(),
        home: file.home_of(vm).map(|node| node.name.to_string()).unwrap_or_default(),
        priority: vm.priority,
        memory_bytes: vm.memory.0,
        after: vm.after.iter().map(Name::to_string).collect(),
        apart: vm.apart.as_ref().map(Name::to_string),
        pinned: file.stays_home(vm),
        devices: vm.has_devices(),
    }
}

fn volumes(file: &Cluster, vms: &[Vm]) -> Vec<Volume> {
    let used = file.volumes.iter().filter(|(name, _)| vms.iter().any(|vm| vm.volume == name.as_str()));
    used.map(|(name, volume)| {
        let lacks = |node: &&cluster::Node| volume.purpose == Use::Local && !node.disks.contains_key(name);
        Volume {
            name: name.to_string(),
            absent_on: file.nodes.iter().filter(lacks).map(|node| node.name.to_string()).collect(),
        }
    })
    .collect()
}

/// 1 to 65535, all that knet takes: the first 16 bits of a hash.
fn node_id(cluster: &Name, node: &Name) -> u16 {
    let hash = Sha256::digest(format!("personal-cluster/node/{cluster}/{node}"));
    u16::from_be_bytes([hash[0], hash[1]]).max(1)
}

impl Want {
    /// A node of the file.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// A VM of the file.
    pub fn vm(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name == name)
    }
}
