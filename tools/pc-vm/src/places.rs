//! Where a VM's files are.

use cluster::{Name, paths};

/// Rendered definitions, on the node's own disk.
pub const DEFINITIONS: &str = "/var/lib/personal-cluster/vm";
/// Images that were downloaded, by digest.
pub const IMAGE_CACHE: &str = "/var/cache/personal-cluster/images";

/// Absolute paths of one VM's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Mount point of its volume.
    pub mount: String,
    /// Its directory on the volume.
    pub directory: String,
    /// The disk, raw and sparse.
    pub disk: String,
    /// The cloud-init seed.
    pub seed: String,
    /// UEFI variables.
    pub nvram: String,
    /// What a guest writes while pc-borg still copies its disk out of an archive.
    pub overlay: String,
    /// There while that is so: `pc.borg.instant/1`.
    pub unfinished: String,
    /// Held by pc-borg while it copies.
    pub copier: String,
    /// States of the disk to come back to.
    pub snapshots: String,
    /// Copy of the definition, so that the directory alone is enough to bring the VM back.
    pub definition: String,
    /// Who may start it.
    pub owner: String,
    /// Held while somebody starts, stops or moves it.
    pub lock: String,
    /// What the serial console said, on the node's own disk.
    pub serial_log: String,
}

impl Places {
    /// The places of a VM on a volume.
    pub fn of(vm: &Name, volume: &Name) -> Places {
        let mount = paths::volume_mount(volume);
        let directory = format!("{mount}/vms/{vm}");
        let serial_log = format!("/var/log/libvirt/qemu/{vm}-serial.log");
        Places { mount, serial_log, ..Places::of_copy(&directory) }
    }

    /// The places of a copy whose files all lie in one directory: nothing of the VM's own is among them.
    pub fn of_copy(directory: &str) -> Places {
        let at = |file: &str| format!("{directory}/{file}");
        Places {
            disk: at("disk.img"),
            seed: at("seed.img"),
            nvram: at("nvram.fd"),
            overlay: at("instant.qcow2"),
            unfinished: at("instant.json"),
            copier: at("instant.lock"),
            snapshots: at("snapshots"),
            definition: at("domain.xml"),
            owner: at("owner.json"),
            lock: at("lock"),
            serial_log: at("console.log"),
            mount: directory.into(),
            directory: directory.into(),
        }
    }
}

/// There once a VM has had its disk on a local volume of this node.
pub fn had_disk(vm: &str) -> String {
    format!("{DEFINITIONS}/{vm}.had-disk")
}

/// The definition of a VM on the node's own disk.
pub fn own_definition(vm: &str) -> String {
    format!("{DEFINITIONS}/{vm}.xml")
}
