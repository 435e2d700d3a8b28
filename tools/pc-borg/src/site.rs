//! Where a verb acts: the file, this node, the policies' places on it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use cluster::{Cluster, Name, NodeView, paths};
use pc_cli::{Common, try_again};
use serde::Deserialize;
use time::OffsetDateTime;

use crate::child::Interrupts;
use crate::lock::{self, LockFiles, Me};
use crate::records::Records;
use crate::want::{Policy, unknown};

/// Where runs do their work, below a tmpfs: the same paths on every node, for borg's cache knows files by them.
pub const STAGE: &str = "/run/personal-cluster/borg";

/// Whether a volume has to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heal {
    /// A backup reads everything: it waits until the volume has mended itself.
    Awaited,
    /// Nobody who wants his data back is told to wait.
    Ignored,
}

/// Everything a verb needs to begin.
pub struct Site<'a> {
    /// Flags of the command line; `root` is the machine.
    pub common: &'a Common,
    /// The node's view of the file.
    pub view: NodeView<'a>,
    /// Every policy of the file.
    pub policies: Vec<Policy<'a>>,
    /// SIGTERM and SIGINT.
    pub interrupts: Interrupts,
}

impl<'a> Site<'a> {
    /// The whole file.
    pub fn cluster(&self) -> &'a Cluster {
        self.view.cluster
    }

    /// This node.
    pub fn node(&self) -> &'a str {
        self.view.node.name.as_str()
    }

    /// Finds a policy.
    pub fn policy(&self, name: &str) -> Result<&Policy<'a>> {
        let found = self.policies.iter().find(|policy| policy.name.as_str() == name);
        found.ok_or_else(|| unknown("backup", name, self.cluster().backups.keys()))
    }

    /// An absolute path of the machine, below `--root`.
    pub fn at(&self, path: &str) -> PathBuf {
        self.common.under_root(path)
    }

    /// The policy's records.
    pub fn records(&self, policy: &Policy) -> Records {
        Records(self.at(&policy.state.directory))
    }

    /// The policy's lock.
    pub fn lock_files(&self, policy: &Policy) -> LockFiles {
        let directory = self.at(&policy.state.directory);
        let boots = directory.with_file_name(".boots");
        // Processes are the kernel's, whatever the root.
        LockFiles { directory, boots, proc: "/proc".into() }
    }

    /// This process on this node.
    pub fn me(&self) -> Result<Me> {
        let path = self.at("/proc/sys/kernel/random/boot_id");
        let boot_id = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let pid = std::process::id();
        let started_ticks =
            lock::started(Path::new("/proc"), pid).ok_or_else(|| anyhow!("finding this process in /proc"))?;
        Ok(Me { node: self.node().into(), boot_id: boot_id.trim().into(), pid, started_ticks })
    }

    /// What is mounted.
    pub fn mounts(&self) -> Result<Mounts> {
        let path = self.at("/proc/self/mountinfo");
        let table = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Mounts(table))
    }

    /// 75 with the reason unless each of these volumes is mounted and writable, and, where it is awaited, whole.
    pub fn require_volumes<'n>(&self, volumes: impl IntoIterator<Item = &'n Name>, heal: Heal) -> Result<()> {
        let mounts = self.mounts()?;
        let storage = Storage::read(&self.at("/run/personal-cluster/storage.json"))?;
        for volume in volumes {
            let mount = paths::volume_mount(volume);
            if !mounts.has(&mount) {
                return Err(try_again(format!("{mount} is not mounted\n  pc-gluster status")));
            }
            if let Some(reason) = storage.as_ref().and_then(|storage| storage.why_not(volume, heal)) {
                return Err(try_again(format!("volume {volume}: {reason}\n  pc-gluster status")));
            }
        }
        Ok(())
    }

    /// Everything that `policy` needs before its repository is touched.
    pub fn require_policy(&self, policy: &Policy, heal: Heal) -> Result<()> {
        self.require_volumes(policy.volumes(), heal).with_context(|| format!("backup.{}", policy.name))
    }

    /// The policy's repository as borg on this node is told.
    pub fn repository(&self, policy: &Policy) -> String {
        let repository = policy.repository();
        if repository.starts_with('/') { self.at(&repository).display().to_string() } else { repository }
    }
}

/// The time, whole seconds.
pub fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

/// Progress for whoever looks at the unit.
pub fn tell(status: &str) {
    pc_cli::log::debug(status);
    // No NOTIFY_SOCKET: nobody listens, which is fine.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(status)]);
}

/// The table of mounts.
#[derive(Debug)]
pub struct Mounts(String);

impl Mounts {
    /// Whether something is mounted exactly there (proc(5), mountinfo: the fifth field; a space reads `\040`).
    pub fn has(&self, mount: &str) -> bool {
        self.line(mount).is_some()
    }

    /// Whether what is mounted there came from another table of mounts, as in a unit that has one of its own: unmounted here, it
    /// stays there (`mount_namespaces(7)`: `master:`, among the optional fields).
    pub fn is_received(&self, mount: &str) -> bool {
        self.line(mount).is_some_and(|line| {
            line.split(' ')
                .skip(6)
                .take_while(|field| *field != "-")
                .any(|field| field.starts_with("master:"))
        })
    }

    fn line(&self, mount: &str) -> Option<&str> {
        self.0.lines().find(|line| line.split(' ').nth(4) == Some(mount))
    }
}

/// `/run/personal-cluster/storage.json`, the seam to whatever keeps the volumes (pc.storage/1).
#[derive(Debug, Deserialize)]
struct Storage {
    schema: String,
    volumes: Vec<StorageVolume>,
}

#[derive(Debug, Deserialize)]
struct StorageVolume {
    name: String,
    quorum: bool,
    heal_pending: Option<u64>,
}

impl Storage {
    /// `None` where nobody wrote it: a machine whose volumes are its own business.
    fn read(path: &Path) -> Result<Option<Storage>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let storage: Storage =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
        if storage.schema != "pc.storage/1" {
            anyhow::bail!("{}: its schema is {:?}, not pc.storage/1", path.display(), storage.schema);
        }
        Ok(Some(storage))
    }

    fn why_not(&self, volume: &Name, heal: Heal) -> Option<String> {
        let volume = self.volumes.iter().find(|entry| entry.name == volume.as_str())?;
        match volume {
            StorageVolume { quorum: false, .. } => Some("has no quorum".into()),
            _ if heal == Heal::Ignored => None,
            // Reading everything is the last thing that a volume under repair needs.
            StorageVolume { heal_pending: Some(pending @ 1..), .. } => {
                Some(format!("{pending} entries wait for healing: a backup waits for them"))
            }
            StorageVolume { heal_pending: None, .. } => {
                Some("nobody knows whether a heal is pending: a backup waits".into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// /proc/self/mountinfo of a shell, and of a unit with a private /tmp.
    #[test]
    fn a_mount_of_another_table_is_known() {
        let path = "/run/personal-cluster/instant/mail/disk";
        let seen = |fields: &str| {
            let mounts = Mounts(format!(
                "31 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n612 25 0:55 / {path} rw,nosuid {fields}- fuse pc-segments rw\n"
            ));
            (mounts.has(path), mounts.is_received(path))
        };
        assert_eq!(seen("shared:310 "), (true, false));
        assert_eq!(seen("shared:410 master:310 "), (true, true));
        assert_eq!(seen("master:310 "), (true, true));
        assert_eq!(seen(""), (true, false));
    }

    #[test]
    fn a_volume_is_whole_or_the_reason_is_told() {
        let golden = include_bytes!("../../pc-gluster/tests/golden/storage.json");
        let mut storage: Storage = serde_json::from_slice(golden).unwrap();
        let vms = Name::try_from("vms".to_string()).unwrap();
        let other = Name::try_from("other".to_string()).unwrap();
        assert_eq!(storage.why_not(&vms, Heal::Awaited), None);
        assert_eq!(
            storage.why_not(&other, Heal::Awaited),
            None,
            "not the storage engine's: its mount is all there is"
        );
        storage.volumes[0].heal_pending = Some(3);
        assert_eq!(
            storage.why_not(&vms, Heal::Awaited).unwrap(),
            "3 entries wait for healing: a backup waits for them"
        );
        assert_eq!(storage.why_not(&vms, Heal::Ignored), None);
        storage.volumes[0].heal_pending = None;
        assert!(storage.why_not(&vms, Heal::Awaited).unwrap().starts_with("nobody knows"));
        storage.volumes[0].quorum = false;
        assert_eq!(storage.why_not(&vms, Heal::Awaited).unwrap(), "has no quorum");
        assert_eq!(storage.why_not(&vms, Heal::Ignored).unwrap(), "has no quorum");
    }
}
