//! What can be told without asking a server: what is open, what would open the rest.

use std::fmt;
use std::io::{self, ErrorKind};

use anyhow::{Context, Result};
use pc_cli::{Common, Exit};
use serde::Serialize;
use tang_client::Policy;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::device::{self, Binding, Device};
use crate::luks2::Header;
use crate::mapper::Mapper;
use crate::secrets::Secrets;
use crate::silent;

/// `pc.unlock.status/1`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `pc.unlock.status/1`.
    pub schema: &'static str,
    /// When it was looked at.
    pub time: String,
    /// Every listed disk and every sealed secret is open.
    pub healthy: bool,
    /// The node's disks.
    pub devices: Vec<DeviceStatus>,
    /// The node's secrets.
    pub secrets: Vec<SecretStatus>,
}

/// One disk.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceStatus {
    /// The device.
    pub device: String,
    /// Its name below `/dev/mapper`.
    pub mapper: String,
    /// `open`, `locked`, `unbound` (locked, and nothing opens it by itself), `not_luks`, `damaged` (its header), `unreadable`
    /// (the disk), `missing` or `silent` (it does not answer).
    pub state: &'static str,
    /// What opens it.
    pub bindings: Vec<BindingStatus>,
    /// Why the last attempt failed, or the header cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One binding.
#[derive(Debug, Clone, Serialize)]
pub struct BindingStatus {
    /// Number of the token.
    pub token: u32,
    /// Number of the slot.
    pub keyslot: u32,
    /// `tang(http://192.168.0.2)`.
    pub pin: String,
}

/// One secret.
#[derive(Debug, Clone, Serialize)]
pub struct SecretStatus {
    /// Its name.
    pub name: String,
    /// `open` or `sealed`.
    pub state: &'static str,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Status {
    /// Looks at the machine.
    pub fn look(devices: &[Device], secrets: &Secrets) -> Result<Status> {
        Status::of(silent::at_once(devices, DeviceStatus::look, DeviceStatus::unknown), secrets)
    }

    /// With devices that were looked at before: one that hangs does not hold up the others.
    pub fn of(devices: Vec<DeviceStatus>, secrets: &Secrets) -> Result<Status> {
        let secrets: Vec<SecretStatus> = secrets
            .names()?
            .into_iter()
            .map(|name| {
                let state = if secrets.is_open(&name) { "open" } else { "sealed" };
                SecretStatus { name, state, reason: None }
            })
            .collect();
        let healthy = devices.iter().all(|device| device.state == "open" && device.reason.is_none())
            && secrets.iter().all(|secret| secret.state == "open");
        let time = OffsetDateTime::now_utc().replace_nanosecond(0).context("asking for the time")?;
        let time = time.format(&Rfc3339).context("writing the time")?;
        Ok(Status { schema: "pc.unlock.status/1", time, healthy, devices, secrets })
    }

    /// Adds why the last attempt failed.
    pub fn explain(&mut self, disks: &[(String, String)], secrets: &[(String, String)]) {
        for device in &mut self.devices {
            if let Some((_, reason)) = disks.iter().find(|(name, _)| *name == device.device) {
                device.reason = Some(reason.clone());
            }
        }
        for secret in &mut self.secrets {
            secret.reason =
                secrets.iter().find(|(name, _)| *name == secret.name).map(|(_, reason)| reason.clone());
        }
    }

    /// Leaves it for the other tools.
    pub fn leave(&self, common: &Common) -> Result<()> {
        pc_cli::write_status(&common.root, "unlock", self)
    }
}

/// A header that was read and says nothing is `damaged`; a disk that does not give it is `unreadable`.
fn fault(error: &anyhow::Error) -> &'static str {
    match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
        // The disk, or what it holds, is too short.
        None | Some(ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => "damaged",
        Some(_) => "unreadable",
    }
}

fn binding_status(binding: &Binding) -> Option<BindingStatus> {
    let pin = match &binding.policy {
        Ok(policy) => Policy::describe(policy),
        Err(error) => format!("damaged({error})"),
    };
    binding.keyslot.map(|keyslot| BindingStatus { token: binding.token, keyslot, pin })
}

impl DeviceStatus {
    /// Before it has been looked at.
    pub fn unknown(device: &Device) -> DeviceStatus {
        let (device, mapper) = (device.name.clone(), device.mapper.clone());
        DeviceStatus { device, mapper, state: "locked", bindings: Vec::new(), reason: None }
    }

    /// Reads its header.
    pub fn look(device: &Device) -> DeviceStatus {
        let (mut bindings, mut reason) = (Vec::new(), None);
        let mut state = "missing";
        if device.is_present() {
            let found = match device.header() {
                Ok(Header::Luks2(metadata)) => Ok(device::bindings(&metadata)),
                Ok(Header::Luks1(Ok(slots))) => Ok(device::of_luks1(slots)),
                // The header of LUKS is sound: what is lost is what opened it.
                Ok(Header::Luks1(Err(why))) => {
                    reason = Some(why.to_string());
                    Ok(Vec::new())
                }
                Ok(Header::None) => Err("not_luks"),
                Err(error) if Exit::of(&error) == Exit::TryAgain => {
                    reason = Some(silent::SAID.to_string());
                    Err("silent")
                }
                Err(error) => {
                    reason = Some(format!("{error:#}"));
                    Err(fault(&error))
                }
            };
            bindings = found.iter().flatten().filter_map(binding_status).collect();
            state = match found {
                Ok(_) if bindings.is_empty() => "unbound",
                Ok(_) => "locked",
                Err(state) => state,
            };
        }
        // Its data is there until it is closed.
        match device.mapper_state() {
            Mapper::Open => {
                if state == "not_luks" {
                    reason = Some("its LUKS header is gone".into());
                }
                state = "open";
            }
            Mapper::Changed => {
                reason = Some("another LUKS header was written to it since it was opened".into());
                (state, bindings) = ("open", Vec::new());
            }
            Mapper::Closed | Mapper::Stale | Mapper::Foreign | Mapper::Silent => {}
        }
        DeviceStatus { device: device.name.clone(), mapper: device.mapper.clone(), state, bindings, reason }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for device in &self.devices {
            let pins: Vec<&str> = device.bindings.iter().map(|binding| binding.pin.as_str()).collect();
            write!(f, "{:<10} {}", device.state, device.device)?;
            if !pins.is_empty() {
                write!(f, "  {}", pins.join(", "))?;
            }
            if let Some(reason) = &device.reason {
                write!(f, "  ({reason})")?;
            }
            writeln!(f)?;
        }
        for secret in &self.secrets {
            write!(f, "{:<10} secret {}", secret.state, secret.name)?;
            if let Some(reason) = &secret.reason {
                write!(f, "  ({reason})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done about a disk that gives an I/O error is not what is done about one that holds something else.
    #[test]
    fn a_disk_that_cannot_be_read_is_not_one_without_a_header() {
        let root = tempfile::tempdir().unwrap();
        let damaged = crate::luks2::tests::header("{}").into_inner();
        let cut = damaged[..4096].to_vec();
        let damaged = damaged.into_iter().map(|byte| if byte == b'}' { b' ' } else { byte }).collect();
        for (name, bytes) in [("blank", vec![0; 8192]), ("damaged", damaged), ("cut", cut)] {
            std::fs::write(root.path().join(name), bytes).unwrap();
        }
        // Nothing is mapped at its beginning: the kernel says EIO.
        std::os::unix::fs::symlink("/proc/self/mem", root.path().join("dead")).unwrap();
        for (name, state, why) in [
            ("blank", "not_luks", None),
            ("damaged", "damaged", Some("its checksum is wrong")),
            ("cut", "damaged", Some("the device ends before its header does")),
            ("dead", "unreadable", Some("Input/output error")),
            ("gone", "missing", None),
        ] {
            let device = Device {
                name: name.into(),
                path: root.path().join(name),
                mapper: "pc-none".into(),
                sysfs: root.path().into(),
                patience: std::time::Duration::from_secs(30),
            };
            let found = DeviceStatus::look(&device);
            assert_eq!(found.state, state, "{name}: {:?}", found.reason);
            assert_eq!(found.reason.is_some(), why.is_some(), "{name}");
            assert!(found.reason.unwrap_or_default().contains(why.unwrap_or_default()), "{name}");
        }
    }
}
