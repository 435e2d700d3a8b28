//! The directory that one VM's run works in: what borg stores of it lies in `disks` (the view) and `vm` (its definition
//! and small files). The same path on every node and in every night, for borg's cache knows files by their paths.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{Cluster, Name, paths};
use pc_cli::{log, try_again};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::hypervisor;
use crate::queue::Kind;
use crate::site::{STAGE, Site};
use crate::want::Pair;

/// What is stored, in this order.
pub const STORED: [&str; 2] = ["disks", "vm"];

/// The directory of one VM's run.
#[derive(Debug)]
pub struct Stage {
    /// Its top.
    pub directory: PathBuf,
    vm: Name,
}

/// A VM's files on its volume; pc-vm's names.
#[derive(Debug)]
pub struct GuestFiles {
    /// Its directory.
    pub directory: PathBuf,
}

/// When the disk was written to, its size, and who started the VM.
pub type Fingerprint = (i128, u64, Option<Vec<u8>>);

/// Small files of a VM that go into its archive as they are, when they are there.
const SMALL: [&str; 4] = ["domain.xml", "nvram.fd", "owner.json", "seed.img"];
/// How the files begin that hold what a guest overwrites during a backup.
const SCRATCH: &str = "backup-scratch";
/// No such file is larger: UEFI variables take 64 MiB on arm64.
const SMALL_LIMIT: u64 = 128 << 20;

impl GuestFiles {
    /// The files of a VM.
    pub fn of(site: &Site, vm: &Name, volume: &Name) -> GuestFiles {
        GuestFiles { directory: site.at(&format!("{}/vms/{vm}", paths::volume_mount(volume))) }
    }

    /// Makes the directory, as pc-vm does, whatever the umask says: QEMU passes through, and nobody lists.
    pub fn make(&self) -> Result<()> {
        let failed = || format!("making {}", self.directory.display());
        for directory in self.directory.parent().into_iter().chain([self.directory.as_path()]) {
            if !directory.exists() {
                fs::create_dir_all(directory).with_context(failed)?;
                fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).with_context(failed)?;
            }
        }
        Ok(())
    }

    /// The disk, raw.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// What the guest overwrites while a backup to `policy` reads.
    pub fn scratch(&self, policy: &Name) -> PathBuf {
        self.directory.join(format!("{SCRATCH}.{policy}.img"))
    }

    /// Removes what a node that died during a backup left beside the disk: libvirt begins no job over such a file.
    ///
    /// # Errors
    /// 75 when a QEMU still has one open, on whichever node: it locks its images.
    pub fn sweep(&self) -> Result<()> {
        let reading = || format!("reading {}", self.directory.display());
        for entry in fs::read_dir(&self.directory).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with(SCRATCH) || !name.ends_with(".img") {
                continue;
            }
            let path = entry.path();
            let file = fs::OpenOptions::new().write(true).open(&path);
            let file = file.with_context(|| format!("opening {}", path.display()))?;
            if !Kind::Posix.now(&file).with_context(|| format!("locking {}", path.display()))? {
                return Err(try_again(format!("{}: a QEMU still uses it", path.display())));
            }
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            log::info(format_args!("{}: removed, after a backup that was cut off", path.display()));
        }
        Ok(())
    }

    /// Changes when somebody starts the VM or writes to its disk: a stopped VM's archive is good only when this is the
    /// same before and after.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        use std::os::unix::fs::MetadataExt;
        let disk = self.disk();
        let meta = fs::metadata(&disk).with_context(|| format!("reading {}", disk.display()))?;
        let written = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Ok((written, meta.len(), fs::read(self.directory.join("owner.json")).ok()))
    }
}

/// `vm/archive.json`: what this archive is.
#[derive(Debug, Serialize)]
pub struct About<'a> {
    /// `pc.borg.archive/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: &'a str,
    /// The policy.
    pub policy: &'a str,
    /// The node that made it.
    pub node: &'a str,
    /// When the data was taken, RFC 3339 UTC.
    pub taken_at: &'a str,
    /// `stopped`, `frozen` or `crash`.
    pub consistency: &'a str,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// The group whose VMs were saved as of the same moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'a str>,
    /// How changes were found.
    pub method: &'a str,
    /// Version of pc-borg.
    pub version: &'static str,
}

impl Stage {
    /// The directory of a pair.
    pub fn of(site: &Site, pair: &Pair) -> Stage {
        let directory = site.at(&format!("{STAGE}/{}/{}", pair.policy, pair.vm));
        Stage { directory, vm: pair.vm.clone() }
    }

    /// Where the view is mounted.
    pub fn view(&self) -> PathBuf {
        self.directory.join("disks")
    }

    /// Notes of this run that are not stored.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Takes back what an earlier run left here, and begins anew.
    pub fn begin(&self, site: &Site) -> Result<()> {
        self.clear(site)?;
        for directory in [self.view(), self.work(), self.directory.join("vm")] {
            // A seed may hold secrets of cloud-init.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(())
    }

    /// Ends a job, unmounts a view: nothing of a run stays behind, however it ended.
    pub fn clear(&self, site: &Site) -> Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        hypervisor::recover(self.vm.as_str(), &self.work())?;
        let view = self.view();
        if site.mounts()?.has(&view.display().to_string()) {
            unmount(&view)?;
            log::info(format_args!("{}: unmounted, after a backup that was cut off", view.display()));
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }

    /// Puts the VM's small files and its part of the cluster file into `vm`.
    pub fn fill(&self, cluster: &Cluster, files: &GuestFiles, about: &About) -> Result<()> {
        let into = self.directory.join("vm");
        for name in SMALL {
            let (from, to) = (files.directory.join(name), into.join(name));
            let meta = match fs::metadata(&from) {
                Ok(meta) => meta,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("reading {}", from.display())),
            };
            if meta.len() > SMALL_LIMIT {
                anyhow::bail!("{}: {} bytes, no such file is that large", from.display(), meta.len());
            }
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        write_json(&into.join("cluster.json"), &slice(cluster, &self.vm)?)?;
        write_json(&into.join("archive.json"), about)
    }
}

/// `umount`, and if somebody still holds it open, out of sight.
pub fn unmount(path: &Path) -> Result<()> {
    let mut plain = Command::new("umount");
    plain.arg("--").arg(path);
    if pc_run::run(plain).deadline(Duration::from_secs(30)).output().is_ok() {
        return Ok(());
    }
    let mut lazy = Command::new("umount");
    lazy.arg("--lazy").arg("--").arg(path);
    pc_run::run(lazy).deadline(Duration::from_secs(30)).output().map(drop).context("unmounting a view")
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).context("writing JSON")?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The part of the cluster file that one VM needs: a cluster file of its own, which `pc-config check` accepts the shape of.
fn slice(cluster: &Cluster, vm: &Name) -> Result<Value> {
    let whole = serde_json::to_value(cluster).context("writing the cluster file as JSON")?;
    let section = &whole["vm"][vm.as_str()];
    let names = |key: &str| -> Vec<String> {
        match &section[key] {
            Value::String(name) => vec![name.clone()],
            Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(Into::into)).collect(),
            _ => Vec::new(),
        }
    };
    let mut part = Map::new();
    for key in ["schema", "name", "domain"] {
        part.insert(key.into(), whole[key].clone());
    }
    part.insert("vm".into(), serde_json::json!({ vm.as_str(): section }));
    for (table, key) in
        [("image", "image"), ("volume", "volume"), ("network", "networks"), ("backup", "backup")]
    {
        let entries: Map<String, Value> = names(key)
            .into_iter()
            .filter_map(|name| whole[table].get(&name).map(|entry| (name.clone(), entry.clone())))
            .collect();
        if !entries.is_empty() {
            part.insert(table.into(), Value::Object(entries));
        }
    }
    Ok(Value::Object(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vms_part_of_the_file_is_a_file() {
        let cluster: Cluster = serde_json::from_str(
            r#"{"schema": "personal-cluster/1", "name": "home",
                "volume": {"vms": {"use": "vm"}, "b": {"use": "backup"}},
                "network": {"lan": {"uplink": "lan"}, "other": {"uplink": "lan", "vlan": 7}},
                "vm": {"mail": {"memory": "1GiB", "disk": "2GiB", "volume": "vms", "networks": ["lan"], "backup": ["daily"]},
                       "web": {"memory": "1GiB", "disk": "2GiB", "volume": "vms"}},
                "backup": {"daily": {"repository": "/mnt/b/r", "schedule": "daily"},
                           "other": {"repository": "/mnt/b/s", "schedule": "daily"}}}"#,
        )
        .unwrap();
        let name = |text: &str| Name::try_from(text.to_string()).unwrap();
        let part = slice(&cluster, &name("mail")).unwrap();
        let read: Cluster = serde_json::from_value(part).unwrap();
        assert_eq!(read.vms.keys().collect::<Vec<_>>(), [&name("mail")]);
        assert_eq!(read.networks.keys().collect::<Vec<_>>(), [&name("lan")]);
        assert_eq!(read.volumes.keys().collect::<Vec<_>>(), [&name("vms")]);
        assert_eq!(read.backups.keys().collect::<Vec<_>>(), [&name("daily")]);
        assert_eq!(read.vms[&name("mail")], cluster.vms[&name("mail")]);
    }
}
