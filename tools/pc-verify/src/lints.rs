//! Rules over the machine, each about one thing that a set-up by hand gets wrong and no tool's status tells. Pure.

use crate::machine::{Machine, Unit};
use crate::told::Told;

/// What of the cluster file the rules need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// This node's disks, by path.
    pub disks: Vec<String>,
    /// Names of the volumes.
    pub volumes: Vec<String>,
}

/// One rule.
pub type Rule = fn(&Machine, &Ours) -> Vec<Told>;

/// All rules.
pub static RULES: &[Rule] =
    &[masked, failed, target, stopped, clock, swap, crypttab, fstab, confinement, insecure, readable];

const TARGET: &str = "personal-cluster.target";
/// Services of the target that stay active once they have started, whatever the file has.
const LASTING: [&str; 3] = ["pc-ovs.service", "pc-vm.service", "pc-exporter.service"];

fn units(machine: &Machine) -> &[Unit] {
    match &machine.units {
        Some(Ok(units)) => units,
        _ => &[],
    }
}

fn masked(machine: &Machine, _: &Ours) -> Vec<Told> {
    let masked = units(machine).iter().filter(|unit| unit.file.starts_with("masked"));
    let problem = |unit: &Unit| {
        Told::problem(
            format!("{} is masked: it never starts", unit.name),
            format!("systemctl unmask {}", unit.name),
        )
    };
    masked.map(problem).collect()
}

fn failed(machine: &Machine, _: &Ours) -> Vec<Told> {
    let failed = units(machine).iter().filter(|unit| unit.active == "failed");
    failed
        .map(|unit| {
            Told::problem(format!("{} has failed", unit.name), format!("journalctl -b -u {}", unit.name))
        })
        .collect()
}

fn target(machine: &Machine, _: &Ours) -> Vec<Told> {
    let Some(target) = units(machine).iter().find(|unit| unit.name == TARGET) else { return Vec::new() };
    match (target.file.as_str(), target.active.as_str()) {
        ("disabled", _) => vec![Told::problem(
            format!("{TARGET} is disabled: nothing of this node starts at the next boot"),
            format!("systemctl enable --now {TARGET}"),
        )],
        (file, active) if active != "active" && !file.starts_with("masked") => {
            vec![Told::problem(format!("{TARGET} is not active"), format!("systemctl start {TARGET}"))]
        }
        _ => Vec::new(),
    }
}

/// While the target is active, its timers and what stays active run, unless somebody has stopped them.
fn stopped(machine: &Machine, _: &Ours) -> Vec<Told> {
    let all = units(machine);
    let runs = all.iter().any(|unit| unit.name == TARGET && unit.active == "active");
    if !runs || !machine.applied {
        return Vec::new();
    }
    let timer = |unit: &Unit| unit.name.rsplit('.').next() == Some("timer");
    all.iter()
        .filter(|unit| unit.active == "inactive" && !unit.file.starts_with("masked"))
        .filter(|unit| timer(unit) || LASTING.contains(&unit.name.as_str()))
        .map(|unit| {
            Told::problem(format!("{} was stopped", unit.name), format!("systemctl start {}", unit.name))
        })
        .collect()
}

fn clock(machine: &Machine, _: &Ours) -> Vec<Told> {
    match machine.clock {
        Some(Ok(clock)) if !clock.enabled => {
            vec![Told::warning("no service sets the clock", "timedatectl set-ntp true")]
        }
        Some(Ok(clock)) if !clock.synchronised => {
            vec![Told::warning("the clock is not in step with a time server", "timedatectl timesync-status")]
        }
        _ => Vec::new(),
    }
}

fn swap(machine: &Machine, _: &Ours) -> Vec<Told> {
    let one = |swap: &crate::machine::Swap| {
        let (path, remedy) = (&swap.path, swap.remedy());
        match swap.encrypted {
            Some(true) => None,
            Some(false) => Some(Told::problem(
                format!("swap {path} is not encrypted: memory of guests ends up on it"),
                remedy,
            )),
            None => Some(Told::warning(format!("whether swap {path} is encrypted cannot be told"), remedy)),
        }
    };
    machine.swaps.iter().filter_map(one).collect()
}

/// Fields of the lines of a table such as fstab(5), comments left out.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect())
}

/// A name that the kernel gives anew at every boot.
fn unstable(device: &str) -> bool {
    ["/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd"].iter().any(|prefix| device.starts_with(prefix))
}

fn crypttab(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut told = Vec::new();
    for row in rows(&machine.crypttab) {
        let [name, device, ..] = row[..] else { continue };
        let line = format!("/etc/crypttab: {name}");
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
        }
    }
    told
}

fn fstab(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut told = Vec::new();
    for row in rows(&machine.fstab) {
        let [device, point, kind, ref rest @ ..] = row[..] else { continue };
        let options: Vec<&str> = rest.first().map(|options| options.split(',').collect()).unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split('=').next() == Some(name));
        let line = format!("/etc/fstab: {point}");
        let volume = ours.volumes.iter().any(|volume| point == format!("/mnt/{volume}"));
        if volume || point.starts_with("/srv/bricks/") {
            told.push(Told::problem(
                format!("{line} is mounted by units of ours as well"),
                format!("remove the line of {point} from /etc/fstab"),
            ));
        } else if kind.contains("glusterfs") && !has("nofail") && !has("noauto") {
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
        }
    }
    told
}

/// `security_driver = "none"` or `[ "none" ]` in qemu.conf.
fn confinement(machine: &Machine, _: &Ours) -> Vec<Told> {
    let mut settings = machine.qemu_conf.lines().filter_map(|line| line.trim().split_once('='));
    let off = settings.any(|(key, value)| key.trim() == "security_driver" && value.contains("\"none\""));
    let fault = "security_driver = \"none\" in /etc/libvirt/qemu.conf: a guest that breaks out of QEMU is confined by nothing";
    if off {
        vec![Told::problem(fault, "remove that line, then systemctl restart libvirtd.service")]
    } else {
        Vec::new()
    }
}

/// Clients on any port, which is what Gluster asks for instead of root.
fn insecure(machine: &Machine, _: &Ours) -> Vec<Told> {
    let on = |value: &str| ["on", "true", "yes", "enable", "1"].contains(&value.trim());
    let allowing = |text: &str| {
        text.lines()
            .filter_map(|line| line.trim().split_once('='))
            .any(|(key, value)| key.trim() == "server.allow-insecure" && on(value))
    };
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
        matches!(line.split_whitespace().collect::<Vec<_>>()[..], ["option", "rpc-auth-allow-insecure", value] if on(value))
    });
    if daemon {
        told.push(Told::problem(
            "glusterd takes orders from any program of any user (rpc-auth-allow-insecure)",
            "remove that option from /etc/glusterfs/glusterd.vol, then systemctl restart glusterd.service",
        ));
    }
    told
}

fn readable(machine: &Machine, _: &Ours) -> Vec<Told> {
    let open = machine.keys.iter().filter(|key| key.mode & 0o007 != 0);
    open.map(|key| {
        let fault = format!("every user may read the key {} (mode {:04o})", key.path, key.mode & 0o7777);
        Told::problem(fault, format!("chmod o= {}", key.path))
    })
    .collect()
}

#[cfg(test)]
#[path = "lints_tests.rs"]
mod tests;
