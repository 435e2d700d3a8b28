//! What else configures a device: files of ifupdown, systemd-networkd, netplan, `NetworkManager`, dhcpcd.
//!
//! The parsers are pure (text in, claims out); `scan` reads the files.

pub mod ifupdown;
mod ini;
pub mod networkd;
pub mod networkmanager;
mod scan;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use scan::{interfaces, scan};

/// Who configures a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// /etc/network/interfaces and what it sources (interfaces(5)).
    Ifupdown,
    /// A .network file (systemd.network(5)).
    Networkd,
    /// /etc/netplan, which writes for networkd or `NetworkManager`.
    Netplan,
    /// A connection profile, or the automatic one.
    NetworkManager,
    /// dhcpcd as a service for all interfaces (dhcpcd.conf(5)).
    Dhcpcd,
    /// A unit or file out of the `NixOS` configuration: only that can change it.
    Nixos,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            By::Ifupdown => "ifupdown",
            By::Networkd => "systemd-networkd",
            By::Netplan => "netplan",
            By::NetworkManager => "NetworkManager",
            By::Dhcpcd => "dhcpcd",
            By::Nixos => "the NixOS configuration",
        })
    }
}

/// One device that one file configures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// The device.
    pub device: String,
    /// Whose file it is.
    pub by: By,
    /// Absolute path.
    pub file: String,
    /// Line of the file; 0 for the whole file.
    pub line: usize,
    /// The device gets its address by DHCP there.
    pub dhcp: bool,
    /// Why `--take-over` cannot do it, with what to do by hand instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<String>,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is configured by {}: {}", self.device, self.by, self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}
