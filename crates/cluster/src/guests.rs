//! The sections about guests: images, VMs, their backup, and high availability.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::{DiskBus, NicModel};
use crate::names::Name;
use crate::units::Bytes;

/// `[image.NAME]`: where a base image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// An absolute path on the node, or an http(s) URL.
    #[schemars(example = &"/var/lib/images/debian-13.qcow2")]
    pub source: String,
    /// `sha256:HEX` or `sha512:HEX` of the file; required for a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// `[vm.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// Name of an `[image.NAME]`; an empty disk when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Name>,
    /// Virtual CPUs; 1 when absent.
    #[serde(default = "one_cpu")]
    #[schemars(example = 2)]
    pub cpus: u16,
    /// Which processor it sees: a level (`x86-64-v2-aes`), `host`, or a model with features, as `pc-vm baseline` prints it.
    /// What every node should have when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"x86-64-v2-aes")]
    pub cpu: Option<String>,
    /// Memory.
    #[schemars(example = &"2GiB")]
    pub memory: Bytes,
    /// Size of the disk; at least that of the image.
    #[schemars(example = &"20GiB")]
    pub disk: Bytes,
    /// The volume its disk lives on.
    #[schemars(example = &"vms")]
    pub volume: Name,
    /// Networks, one NIC each, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Name>,
    /// By a network of `networks`: networks with a VLAN that come over the same card, tagged. For a VM that routes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trunk: BTreeMap<Name, Vec<Name>>,
    /// Static addresses by network, with prefix length (`10.0.20.5/24`), handed over through cloud-init.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<Name, String>,
    /// The node that starts it, and that it prefers once `[ha]` is enabled; the first node when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Name>,
    /// More important VMs start first and are kept when memory is short; 0 when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(example = 100)]
    pub priority: u32,
    /// VMs that are started before it, and stopped after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
    /// VMs with the same one are kept on different nodes, while there are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"dns")]
    pub apart: Option<Name>,
    /// `bios` (default) or `uefi`.
    #[serde(default, skip_serializing_if = "Firmware::is_bios")]
    pub firmware: Firmware,
    /// With `uefi`: only what Microsoft's keys have signed boots, as Windows and the large distributions are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secure_boot: bool,
    /// What its disk hangs on: `virtio` (default), or `sata` for a guest without a driver for that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disk_bus: DiskBus,
    /// What its network cards are: `virtio` (default), or `e1000e` or `e1000` for a guest without a driver for that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nic_model: NicModel,
    /// It has a screen, a keyboard and a pointer, over VNC on a socket that only root of its node opens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub display: bool,
    /// USB devices of its home, by vendor and product as lsusb(8) tells them: it runs there and nowhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usb: Vec<String>,
    /// PCI devices of its home, by their place as lspci(8) tells it: it runs there and nowhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<String>,
    /// Absolute path of an ISO image, where every node has it: the VM boots from it while its disk does not boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/mnt/vms/iso/opnsense.iso")]
    pub cdrom: Option<String>,
    /// Public SSH keys for the image's default user, through cloud-init.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// Absolute path, on the node, of a cloud-init user-data file to use instead of the generated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// Names of `[backup.NAME]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backup: Vec<Name>,
    /// VMs with the same one are backed up as of one moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shop")]
    pub group: Option<Name>,
    /// How long it may be down, for example `3d/month`; watched and alerted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_budget: Option<String>,
    /// What shows that a rehearsed restore is up: `agent`, `console:TEXT` or `none`; `agent` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"console:login:")]
    pub heartbeat: Option<String>,
}

/// How a VM shows that it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat<'a> {
    /// Its guest agent answers.
    Agent,
    /// This text stands on its serial console.
    Console(&'a str),
    /// It is never rehearsed.
    Never,
}

/// How long a VM may be down within a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So long.
    pub seconds: u64,
    /// `day`, `week`, `month` or `year`.
    pub period: &'static str,
}

impl Vm {
    /// It has devices of a node.
    pub fn has_devices(&self) -> bool {
        !self.usb.is_empty() || !self.pci.is_empty()
    }

    /// `downtime_budget` as a number; none when there is none.
    pub fn budget(&self) -> Option<Budget> {
        let (time, period) = self.downtime_budget.as_deref()?.split_once('/')?;
        let period = ["day", "week", "month", "year"].into_iter().find(|known| *known == period)?;
        let unit = time.trim_start_matches(|c: char| c.is_ascii_digit());
        let number: u64 = time.strip_suffix(unit)?.parse().ok()?;
        let factor = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return None,
        };
        Some(Budget { seconds: number.checked_mul(factor)?, period })
    }

    /// `heartbeat` as it is meant; none when it means nothing.
    pub fn heartbeat(&self) -> Option<Heartbeat<'_>> {
        match self.heartbeat.as_deref() {
            None | Some("agent") => Some(Heartbeat::Agent),
            Some("none") => Some(Heartbeat::Never),
            // One line of a console, as it is printed: an end of a line would never be met.
            Some(text) => text
                .strip_prefix("console:")
                .filter(|text| !text.trim().is_empty() && !text.contains(char::is_control))
                .map(Heartbeat::Console),
        }
    }
}

fn one_cpu() -> u16 {
    1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a VM boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// `SeaBIOS`.
    #[default]
    Bios,
    /// OVMF or AAVMF.
    Uefi,
}

impl Firmware {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_bios(&self) -> bool {
        *self == Firmware::Bios
    }
}

/// `[backup.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// A path, `ssh://user@host/path`, or `disk:LABEL=label`.
    #[schemars(example = &"/mnt/backup/borg/daily")]
    pub repository: String,
    /// systemd.time(7) calendar expression, or `on-plug` for a removable disk.
    #[schemars(example = &"daily")]
    pub schedule: String,
    /// Archives kept per interval.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
    /// How much may be sent to a server each second; as much as the line takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2MiB")]
    pub limit: Option<Bytes>,
}

/// How many archives are kept per interval (borg-prune(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Daily archives; 7 when absent.
    #[serde(default = "seven")]
    pub daily: u32,
    /// Weekly archives; 4 when absent.
    #[serde(default = "four")]
    pub weekly: u32,
    /// Monthly archives; 12 when absent.
    #[serde(default = "twelve")]
    pub monthly: u32,
}

fn seven() -> u32 {
    7
}
fn four() -> u32 {
    4
}
fn twelve() -> u32 {
    12
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { daily: 7, weekly: 4, monthly: 12 }
    }
}

impl Keep {
    fn is_default(&self) -> bool {
        *self == Keep::default()
    }
}

/// `[ha]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ha {
    /// `auto`, or the watchdog device, `/dev/watchdog1`.
    #[serde(default = "auto")]
    pub watchdog: String,
    /// With two nodes: the host of the third vote (corosync-qnetd), usually the tang box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum_device: Option<String>,
    /// How fast a silent node is taken for dead: `normal` (default), `fast` or `patient`.
    #[serde(default, skip_serializing_if = "Profile::is_normal")]
    pub profile: Profile,
    /// Instead of the profile's: milliseconds without a sign before a node counts as lost, 1000 to 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3000, range(min = 1000, max = 60000))]
    pub token_ms: Option<u32>,
    /// Instead of the profile's: seconds after which a watchdog that is not fed resets its node, 3 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 5, range(min = 3, max = 120))]
    pub watchdog_seconds: Option<u32>,
    /// Instead of the shortest safe one: seconds that the others wait for a lost node's watchdog before they take its
    /// VMs over, at most 600. Refused when it is not safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 600))]
    pub fencing_seconds: Option<u32>,
}

/// How fast a silent node is taken for dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// For ordinary PCs on one switch.
    #[default]
    Normal,
    /// As fast as the rule allows: a switch that is busy for a second has a node reset.
    Fast,
    /// For slow or emulated machines.
    Patient,
}

impl Profile {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_normal(&self) -> bool {
        *self == Profile::Normal
    }
}

fn auto() -> String {
    "auto".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_one_of_three() {
        let of = |text: Option<&str>| {
            let vm =
                serde_json::json!({"memory": "1GiB", "disk": "1GiB", "volume": "vms", "heartbeat": text});
            let vm: Vm = serde_json::from_value(vm).unwrap();
            vm.heartbeat().map(|sign| format!("{sign:?}"))
        };
        assert_eq!(of(None).as_deref(), Some("Agent"));
        assert_eq!(of(Some("agent")).as_deref(), Some("Agent"));
        assert_eq!(of(Some("none")).as_deref(), Some("Never"));
        assert_eq!(of(Some("console:mail login:")).as_deref(), Some("Console(\"mail login:\")"));
        for bad in ["", "console:", "console:  ", "console:a\nb", "tcp:22", "Agent"] {
            assert_eq!(of(Some(bad)), None, "{bad:?}");
        }
    }
}
