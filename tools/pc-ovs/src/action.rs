//! What can be done to the switch and to the host.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::claims::Claim;
use crate::model::{Bridge, Port};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// A new bridge with its own port.
    AddBridge {
        /// The bridge, its other ports left out.
        bridge: Bridge,
    },
    /// New settings of a bridge.
    SetBridge {
        /// The bridge, its ports left out.
        bridge: Bridge,
    },
    /// A bridge of ours that the file no longer has.
    RemoveBridge {
        /// Its name.
        name: String,
        /// Its uplink, as its row says.
        uplink: String,
    },
    /// A new port.
    AddPort {
        /// On this bridge.
        bridge: String,
        /// The bridge's uplink.
        uplink: String,
        /// The port.
        port: Port,
    },
    /// New settings of a port.
    SetPort {
        /// On this bridge.
        bridge: String,
        /// The bridge's uplink.
        uplink: String,
        /// The port.
        port: Port,
    },
    /// A port of ours that the file no longer has.
    RemovePort {
        /// On this bridge.
        bridge: String,
        /// Its name.
        name: String,
    },
    /// Takes addresses away from a device.
    Flush {
        /// The device.
        interface: String,
        /// The addresses, with prefix length.
        addresses: Vec<String>,
    },
    /// Sets a device up.
    Up {
        /// The device.
        interface: String,
    },
    /// Gives an internal port the node's address.
    SetAddress {
        /// The internal port.
        interface: String,
        /// With prefix length.
        address: String,
    },
    /// Sets the default router.
    SetRouter {
        /// The internal port it is reached through.
        interface: String,
        /// Its address.
        router: String,
    },
    /// Takes a default route of ours away.
    RemoveRouter {
        /// The device it leads through.
        interface: String,
        /// Its address.
        router: String,
    },
    /// Takes the NICs of an uplink out of somebody else's hands: all of it, or nothing.
    TakeOver {
        /// The uplink.
        uplink: String,
        /// Its NICs.
        nics: Vec<String>,
        /// Files that configure them.
        claims: Vec<Claim>,
        /// Everything that has to happen in the same go.
        actions: Vec<Action>,
    },
}

impl Action {
    /// Part of the transaction; everything else changes the host.
    pub fn is_switch(&self) -> bool {
        use Action::{AddBridge, AddPort, RemoveBridge, RemovePort, SetBridge, SetPort};
        matches!(
            self,
            AddBridge { .. }
                | SetBridge { .. }
                | RemoveBridge { .. }
                | AddPort { .. }
                | SetPort { .. }
                | RemovePort { .. }
        )
    }

    /// The action itself, or those it is made of.
    pub fn parts(&self) -> Vec<&Action> {
        match self {
            Action::TakeOver { actions, .. } => actions.iter().collect(),
            other => vec![other],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::AddBridge { bridge } => write!(f, "add bridge {}", bridge.name),
            Action::SetBridge { bridge } => write!(f, "set bridge {}", bridge.name),
            Action::RemoveBridge { name, .. } => write!(f, "remove bridge {name}"),
            Action::AddPort { bridge, port, .. } => write!(f, "add port {} to {bridge}", port.name),
            Action::SetPort { bridge, port, .. } => write!(f, "set port {} of {bridge}", port.name),
            Action::RemovePort { bridge, name } => write!(f, "remove port {name} from {bridge}"),
            Action::Flush { interface, addresses } => {
                write!(f, "take {} off {interface}", addresses.join(", "))
            }
            Action::Up { interface } => write!(f, "set {interface} up"),
            Action::SetAddress { interface, address } => write!(f, "give {interface} the address {address}"),
            Action::SetRouter { interface, router } => {
                write!(f, "route by default through {router} on {interface}")
            }
            Action::RemoveRouter { interface, router } => {
                write!(f, "remove the default route through {router} on {interface}")
            }
            Action::TakeOver { uplink, nics, claims, actions } => {
                write!(f, "take over {} of uplink {uplink}", nics.join(", "))?;
                for claim in claims {
                    write!(f, "\n    {claim}")?;
                }
                actions.iter().try_for_each(|action| write!(f, "\n    {action}"))
            }
        }
    }
}
