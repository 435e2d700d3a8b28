//! What a set-up by hand gets wrong.

use super::Ours;
use crate::machine::Machine;
use crate::told::Told;

/// Fields of the lines of a table such as fstab(5), comments left out.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect())
}

/// What the boot cannot do without, whatever its line says.
fn is_of_the_system(point: &str) -> bool {
    const PLACES: [&str; 14] = [
        "/boot", "/dev", "/efi", "/etc", "/home", "/nix", "/opt", "/proc", "/root", "/run", "/sys", "/tmp",
        "/usr", "/var",
    ];
    let below =
        |place: &str| point.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !point.starts_with('/') || point == "/" || PLACES.iter().any(|place| below(place))
}

/// Kinds of file system that no disk is needed for: they are always there (filesystems(5), `nodev` in /proc/filesystems).
fn needs_no_disk(kind: &str) -> bool {
    const KINDS: [&str; 17] = [
        "tmpfs",
        "ramfs",
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "hugetlbfs",
        "mqueue",
        "debugfs",
        "tracefs",
        "securityfs",
        "configfs",
        "efivarfs",
        "bpf",
        "binfmt_misc",
    ];
    KINDS.contains(&kind)
}

/// A name that the kernel gives anew at every boot.
fn unstable(device: &str) -> bool {
    ["/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd"].iter().any(|prefix| device.starts_with(prefix))
}

pub fn crypttab(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut told = Vec::new();
    for row in rows(&machine.crypttab) {
        let [name, device, ref rest @ ..] = row[..] else { continue };
        let line = format!("/etc/crypttab: {name}");
        let has =
            |option: &str| rest.get(1).is_some_and(|options| options.split(',').any(|one| one == option));
        if ours.disks.iter().any(|disk| disk == device) {
            told.push(Told::problem(
                format!("{line} opens {device}, which pc-unlock opens"),
                format!("remove the line of {name} from /etc/crypttab"),
            ));
        } else if unstable(device) {
            told.push(Told::problem(
                format!("{line} is {device}, which may be another disk after a reboot"),
                format!("write UUID=..., as `blkid {device}` prints it"),
            ));
        } else if has("_netdev") && !has("nofail") && !has("noauto") {
            told.push(Told::problem(
                format!("{line} lacks nofail: the boot waits for whoever opens {device}"),
                format!("add nofail to the options of {name} in /etc/crypttab"),
            ));
        }
    }
    told
}

pub fn fstab(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut told = Vec::new();
    for row in rows(&machine.fstab) {
        let [device, point, kind, ref rest @ ..] = row[..] else { continue };
        let options: Vec<&str> = rest.first().map(|options| options.split(',').collect()).unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split('=').next() == Some(name));
        let line = format!("/etc/fstab: {point}");
        let waited_for = !has("nofail") && !has("noauto") && !has("x-systemd.automount");
        let volume = ours.volumes.iter().any(|volume| point == format!("/mnt/{volume}"));
        if volume || point.starts_with("/srv/bricks/") {
            told.push(Told::problem(
                format!("{line} is mounted by units of ours as well"),
                format!("remove the line of {point} from /etc/fstab"),
            ));
        } else if kind.contains("glusterfs") && waited_for {
            told.push(Told::problem(
                format!("{line} lacks nofail: without the volume this node does not boot"),
                format!("add nofail to the options of {point} in /etc/fstab"),
            ));
        } else if kind.contains("glusterfs")
            && !has("backup-volfile-servers")
            && !has("backup-volfile-server")
        {
            told.push(Told::warning(
                format!("{line} asks {device} alone: while that node is away it is not mounted"),
                "add backup-volfile-servers=NODE:NODE to its options in /etc/fstab",
            ));
        } else if unstable(device) {
            told.push(Told::warning(
                format!("{line} is {device}, which may be another disk after a reboot"),
                format!("write UUID=..., as `blkid {device}` prints it"),
            ));
        } else if waited_for && kind != "swap" && !needs_no_disk(kind) && !is_of_the_system(point) {
            told.push(Told::warning(
                format!("{line} lacks nofail: a boot without {device} ends in emergency mode"),
                format!("add nofail to the options of {point} in /etc/fstab"),
            ));
        }
    }
    told
}

/// `security_driver = "none"` or `[ "none" ]` in qemu.conf.
pub fn confinement(machine: &Machine, _: &Ours) -> Vec<Told> {
    let mut settings = machine.qemu_conf.lines().filter_map(|line| line.trim().split_once('='));
    let off = settings.any(|(key, value)| key.trim() == "security_driver" && value.contains("\"none\""));
    let fault = "security_driver = \"none\" in /etc/libvirt/qemu.conf: a guest that breaks out of QEMU is confined by nothing";
    if off {
        vec![Told::problem(fault, "remove that line, then systemctl restart libvirtd.service")]
    } else {
        Vec::new()
    }
}

/// `key=value` lines of a volume in glusterd's store.
fn value<'a>(options: &'a str, key: &str) -> Option<&'a str> {
    let pairs = options.lines().filter_map(|line| line.trim().split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value.trim()).next_back()
}

/// Gluster keeps a switch as it was written.
fn is_on(value: &str) -> bool {
    ["on", "true", "yes", "enable", "1"].contains(&value)
}

/// Clients on any port, which is what Gluster asks for instead of root.
pub fn insecure(machine: &Machine, _: &Ours) -> Vec<Told> {
    let allowing = |options: &str| value(options, "server.allow-insecure").is_some_and(is_on);
    let mut told: Vec<Told> = machine
        .volumes
        .iter()
        .filter(|(_, options)| allowing(options))
        .map(|(volume, _)| {
            Told::problem(
                format!("volume {volume} has server.allow-insecure: any program of any user may connect"),
                format!("gluster volume reset {volume} server.allow-insecure"),
            )
        })
        .collect();
    let daemon = machine.glusterd.lines().any(|line| {
        matches!(line.split_whitespace().collect::<Vec<_>>()[..], ["option", "rpc-auth-allow-insecure", value] if is_on(value))
    });
    if daemon {
        told.push(Told::problem(
            "glusterd takes orders from any program of any user (rpc-auth-allow-insecure)",
            "remove that option from /etc/glusterfs/glusterd.vol, then systemctl restart glusterd.service",
        ));
    }
    told
}

/// What of Gluster's option group `virt` keeps disks of VMs whole; a node that has no such volume has nothing to say.
pub fn profile(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut told = Vec::new();
    for (volume, options) in machine.volumes.iter().filter(|(name, _)| ours.replicated_for_vms.contains(name))
    {
        let lacks = |key: &str, fits: fn(&str) -> bool| !value(options, key).is_some_and(fits);
        let mut without = Vec::new();
        without.extend(lacks("features.shard", is_on).then_some("features.shard"));
        without.extend(lacks("cluster.quorum-type", |set| set == "auto").then_some("cluster.quorum-type"));
        let server = lacks("cluster.server-quorum-type", |set| set == "server");
        without.extend(server.then_some("cluster.server-quorum-type"));
        if !without.is_empty() && !options.is_empty() {
            told.push(Told::problem(
                format!(
                    "volume {volume} has disks of VMs without the options for them: {}",
                    without.join(", ")
                ),
                "pc-gluster apply",
            ));
        }
    }
    told
}

/// A snapshot that nobody removed grows in the thin pool, and stands in the way of the next one of its name.
pub fn snapshots(machine: &Machine, _: &Ours) -> Vec<Told> {
    let one = |snapshot: &String| {
        let fault =
            format!("Gluster's snapshot {snapshot} is there: it takes more and more of the thin pools");
        Told::warning(fault, format!("gluster snapshot delete {snapshot}"))
    };
    machine.snapshots.iter().map(one).collect()
}

pub fn readable(machine: &Machine, _: &Ours) -> Vec<Told> {
    let open = machine.keys.iter().filter(|key| key.mode & 0o007 != 0);
    open.map(|key| {
        let fault = format!("every user may read the key {} (mode {:04o})", key.path, key.mode & 0o7777);
        Told::problem(fault, format!("chmod o= {}", key.path))
    })
    .collect()
}
