//! What the file says about backups: policies, their targets, and which VM goes where. Pure.

use cluster::{Backup, Cluster, Name, Use, paths};
use pc_cli::refused;

/// The kind of place that `repository` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A directory; `volume` when it lies on a volume of the file, which has to be mounted then.
    Path {
        /// Where the repository is.
        path: String,
        /// The volume it is on.
        volume: Option<Name>,
    },
    /// `ssh://user@host/path`, as borg reads it.
    Ssh(String),
    /// A removable disk, mounted while the run lasts.
    Disk {
        /// The file system's label.
        label: String,
    },
}

/// Where removable disks are mounted: always the same place, or borg would take the repository for a moved one.
pub const DISKS: &str = "/run/personal-cluster/borg-disks";

/// One `[backup.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its section.
    pub settings: &'a Backup,
    /// Where its repository is.
    pub target: Target,
    /// Where pc-borg keeps what belongs to it: lock, records, sealed passphrase, borg's base directory.
    pub state: State,
}

/// The directory of a policy's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Absolute.
    pub directory: String,
    /// The volume it is on; `None` is this node's own disk.
    pub volume: Option<Name>,
}

impl Policy<'_> {
    /// The repository as borg is told.
    pub fn repository(&self) -> String {
        match &self.target {
            Target::Path { path, .. } => path.clone(),
            Target::Ssh(url) => url.clone(),
            Target::Disk { label } => format!("{DISKS}/{label}/borg"),
        }
    }

    /// The volumes that must be there and whole before anything is written.
    pub fn volumes(&self) -> Vec<&Name> {
        let target = if let Target::Path { volume, .. } = &self.target { volume.as_ref() } else { None };
        let mut volumes: Vec<&Name> = target.into_iter().chain(self.state.volume.as_ref()).collect();
        volumes.dedup();
        volumes
    }

    /// Whether all nodes see the same records: they lie on a replicated volume. Else each node has its own.
    pub fn is_shared(&self, cluster: &Cluster) -> bool {
        let volume = self.state.volume.as_ref().and_then(|name| cluster.volumes.get(name));
        volume.is_some_and(|volume| volume.purpose != Use::Local)
    }
}

/// Every policy of the file, by name.
///
/// # Errors
/// When two of them share a repository: each has its own lock, so that they would write at once.
pub fn policies(cluster: &Cluster) -> anyhow::Result<Vec<Policy<'_>>> {
    let found: Vec<Policy> = cluster
        .backups
        .iter()
        .map(|(name, settings)| {
            let target = target(cluster, &settings.repository);
            let state = state(cluster, name, &target);
            Policy { name, settings, target, state }
        })
        .collect();
    for (index, policy) in found.iter().enumerate() {
        if let Some(twin) = found[..index].iter().find(|other| other.repository() == policy.repository()) {
            return Err(refused(format!(
                "backup.{} and backup.{} have the same repository {:?}\n  give each its own",
                twin.name, policy.name, policy.settings.repository
            )));
        }
    }
    Ok(found)
}

fn target(cluster: &Cluster, repository: &str) -> Target {
    if repository.starts_with("ssh://") {
        return Target::Ssh(repository.into());
    }
    if let Some(label) = repository.strip_prefix("disk:LABEL=") {
        return Target::Disk { label: label.into() };
    }
    Target::Path { path: repository.into(), volume: volume_of(cluster, repository) }
}

fn volume_of(cluster: &Cluster, path: &str) -> Option<Name> {
    let on = |name: &&Name| {
        let mount = paths::volume_mount(name);
        path.strip_prefix(&mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    cluster.volumes.keys().find(on).cloned()
}

/// On the volume of the repository; else on the first replicated one, for backups rather than for VMs: a VM that moved
/// finds its files cache there, and whoever takes over finds the lock. Else on this node.
fn state(cluster: &Cluster, policy: &Name, target: &Target) -> State {
    let replicated =
        |name: &Name, wanted: Use| cluster.volumes.get(name).is_some_and(|volume| volume.purpose == wanted);
    let own = if let Target::Path { volume: Some(volume), .. } = target { Some(volume) } else { None };
    let first = |wanted: Use| cluster.volumes.keys().find(|name| replicated(name, wanted));
    let volume = own.or_else(|| first(Use::Backup)).or_else(|| first(Use::Vm));
    let root = volume.map_or_else(
        || format!("{}/borg", paths::STATE),
        |name| format!("{}/pc-borg", paths::volume_mount(name)),
    );
    State { directory: format!("{root}/{policy}"), volume: volume.cloned() }
}

/// One VM that is to be backed up to one policy's repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The policy.
    pub policy: Name,
    /// The VM.
    pub vm: Name,
}

/// The pairs of the file, policy by policy; `vms` and `policy` narrow them down.
///
/// # Errors
/// When a VM or policy is not in the file, or a VM that was asked for has no such policy.
pub fn pairs(cluster: &Cluster, vms: &[String], policy: Option<&str>) -> anyhow::Result<Vec<Pair>> {
    for vm in vms {
        let Some(section) = cluster.vms.get(vm.as_str()) else {
            return Err(unknown("vm", vm, cluster.vms.keys()));
        };
        if section.backup.is_empty() {
            let first = cluster.backups.keys().next().map_or("daily", Name::as_str);
            return Err(refused(format!(
                "vm.{vm} names no backup\n  write in the file under [vm.{vm}]: backup = [\"{first}\"]"
            )));
        }
    }
    if let Some(policy) = policy {
        if !cluster.backups.contains_key(policy) {
            return Err(unknown("backup", policy, cluster.backups.keys()));
        }
    }
    let mut pairs = Vec::new();
    for (name, vm) in &cluster.vms {
        if !vms.is_empty() && !vms.iter().any(|wanted| wanted == name.as_str()) {
            continue;
        }
        let mine = vm.backup.iter().filter(|own| policy.is_none_or(|wanted| wanted == own.as_str()));
        pairs.extend(mine.map(|policy| Pair { policy: policy.clone(), vm: name.clone() }));
    }
    if let (Some(policy), [_, ..], true) = (policy, vms, pairs.is_empty()) {
        return Err(refused(format!("{} is not in backup.{policy}\n  pc-borg status", vms.join(", "))));
    }
    pairs.sort();
    Ok(pairs)
}

/// Something that the file has not got, and what it has.
pub fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a Name>) -> anyhow::Error {
    let known: Vec<&str> = known.map(Name::as_str).collect();
    let known = if known.is_empty() { format!("no {kind}") } else { known.join(", ") };
    refused(format!("no [{kind}] is called {name:?}: the file has {known}"))
}

#[cfg(test)]
#[path = "want_tests.rs"]
mod tests;
