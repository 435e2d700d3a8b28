//! Names and device paths: strings that were checked once and are safe to use in paths and unit names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of a node, volume, network, VM, backup or image: a DNS label (RFC 1123: lower-case letters, digits
/// and inner hyphens, at most 63), so that it is safe as a host name, a path and a unit instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> Result<Name, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > 63 {
            return Err("a name has 1 to 63 characters".into());
        }
        if !text.bytes().all(inner) || text.starts_with('-') || text.ends_with('-') {
            return Err("a name is lower-case letters, digits and inner hyphens".into());
        }
        Ok(Name(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

/// Why nobody would find a machine of this name: it leads elsewhere wherever it is looked up.
pub(crate) fn leads_elsewhere(name: &str) -> Option<&'static str> {
    // inet_aton(3): one number is a whole address, and getaddrinfo(3) takes it before it looks anywhere.
    let hexadecimal = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || name.strip_prefix("0x").is_some_and(hexadecimal) {
        return Some("is a number, which programs take for an address");
    }
    match name {
        // RFC 6761.
        "localhost" => Some("means the machine itself, on every machine"),
        // Debian's /etc/hosts.
        "ip6-localhost" | "ip6-loopback" | "ip6-localnet" | "ip6-mcastprefix" | "ip6-allnodes"
        | "ip6-allrouters" => Some("has another address in every /etc/hosts of Debian"),
        _ => None,
    }
}

/// A disk by a path that still names the same disk after a reboot: below `/dev/disk/by-id/`
/// (udev's 60-persistent-storage.rules). `/dev/sdX` may name another disk tomorrow and is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DevicePath(String);

impl DevicePath {
    /// The directory all disks are named in.
    pub const BY_ID: &'static str = "/dev/disk/by-id/";

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the path, `ata-WDC_WD40-XYZ`: the name of the brick made of this disk.
    pub fn id(&self) -> &str {
        &self.0[Self::BY_ID.len()..]
    }
}

impl TryFrom<String> for DevicePath {
    type Error = String;
    fn try_from(text: String) -> Result<DevicePath, String> {
        let Some(id) = text.strip_prefix(Self::BY_ID) else {
            if text.starts_with("/dev/") && !text.starts_with("/dev/disk/") {
                return Err("may name another disk after a reboot".into());
            }
            return Err("is not a path below /dev/disk/by-id/".into());
        };
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
        if id.is_empty() || id.len() > 100 || !id.bytes().all(safe) || id.starts_with(['.', '-']) {
            return Err("is not a usable /dev/disk/by-id name (letters, digits, and any of - _ . : +)".into());
        }
        Ok(DevicePath(text))
    }
}

impl From<DevicePath> for String {
    fn from(path: DevicePath) -> String {
        path.0
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
