//! The cloud-init seed: a small FAT image labelled `CIDATA` with three documents (cloud-init, `NoCloud` data
//! source; network configuration version 2). Same file, same bytes. The documents are JSON, which is YAML.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::net::IpAddr;

use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use pc_cli::log;
use serde_json::{Value, json};

use crate::domain::Guest;

/// The three documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// `meta-data`: who this instance is.
    pub meta_data: String,
    /// `user-data`: what is done at the first boot. Text as a rule; cloud-init takes it compressed, too.
    pub user_data: Vec<u8>,
    /// `network-config`.
    pub network_config: String,
}

/// The documents of a VM; `user_data` is the administrator's own file when the VM names one.
pub fn documents(guest: &Guest, user_data: Option<Vec<u8>>) -> Documents {
    let name = guest.name.as_str();
    let meta_data = json!({ "instance-id": guest.uuid(), "local-hostname": name });
    let generated = || {
        let mut user = json!({ "hostname": name, "fqdn": format!("{name}.{}", guest.cluster.domain) });
        if !guest.vm.ssh_keys.is_empty() {
            user["ssh_authorized_keys"] = json!(guest.vm.ssh_keys);
        }
        format!("#cloud-config\n{user}\n").into_bytes()
    };
    Documents {
        meta_data: format!("{meta_data}\n"),
        user_data: user_data.unwrap_or_else(generated),
        network_config: format!("{}\n", network_config(guest)),
    }
}

/// One entry per NIC, found by its MAC address. Without an address of its own a NIC asks DHCP; the first static
/// one whose network has a router gets the default route and asks that router for names.
fn network_config(guest: &Guest) -> Value {
    let mut ethernets: BTreeMap<String, Value> = BTreeMap::new();
    let mut routed = false;
    for name in &guest.vm.networks {
        let mut entry = json!({ "match": { "macaddress": guest.mac(name) } });
        let network = guest.cluster.networks.get(name);
        if let Some(address) = guest.vm.addresses.get(name) {
            entry["addresses"] = json!([address]);
            if let Some(router) = network.and_then(|network| network.router).filter(|_| !routed) {
                let everywhere = if matches!(router, IpAddr::V4(_)) { "0.0.0.0/0" } else { "::/0" };
                entry["routes"] = json!([{ "to": everywhere, "via": router }]);
                entry["nameservers"] = json!({ "addresses": [router], "search": [guest.cluster.domain] });
                routed = true;
            }
        } else {
            entry["dhcp4"] = json!(true);
        }
        if let Some(mtu) = network.and_then(|network| network.mtu) {
            entry["mtu"] = json!(mtu);
        }
        ethernets.insert(name.to_string(), entry);
    }
    json!({ "version": 2, "ethernets": ethernets })
}

const MIB: usize = 1 << 20;

/// The documents as a disk image.
pub fn image(documents: &Documents, serial: u32) -> Result<Vec<u8>> {
    let files = [
        ("meta-data", documents.meta_data.as_bytes()),
        ("network-config", documents.network_config.as_bytes()),
        ("user-data", &documents.user_data[..]),
    ];
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut disk = Cursor::new(vec![0; (content / MIB + 2) * MIB]);
    let options = FormatVolumeOptions::new().volume_id(serial).volume_label(*b"CIDATA     ");
    fatfs::format_volume(&mut disk, options).context("making the seed's file system")?;
    {
        let filesystem =
            FileSystem::new(&mut disk, FsOptions::new()).context("opening the seed's file system")?;
        for (name, bytes) in files {
            let mut file = filesystem
                .root_dir()
                .create_file(name)
                .with_context(|| format!("adding {name} to the seed"))?;
            file.write_all(bytes).with_context(|| format!("writing {name} to the seed"))?;
        }
        filesystem.unmount().context("finishing the seed")?;
    }
    Ok(disk.into_inner())
}

/// The seed of a VM: the volume's serial number is part of the VM's UUID, so that it never changes. `None` when the one
/// that is `there` has to do: `user_data` names a file that is on another node only, which must not keep a VM from being
/// started on this one.
pub fn render(guest: &Guest, there: bool) -> Result<Option<Vec<u8>>> {
    let name = guest.name;
    let user_data = match guest.vm.user_data.as_deref().map(|path| (path, fs::read(path))) {
        None => None,
        Some((_, Ok(bytes))) => Some(bytes),
        Some((path, Err(error))) if there && error.kind() == std::io::ErrorKind::NotFound => {
            log::warning(format_args!(
                "vm {name}: its seed stays as it was: user_data {path} is no file on this node"
            ));
            return Ok(None);
        }
        Some((path, Err(error))) => {
            return Err(error).with_context(|| format!("vm {name}: reading user_data {path}"));
        }
    };
    let uuid = guest.uuid();
    let serial = u32::from_str_radix(&uuid[..8], 16).context("reading a UUID")?;
    image(&documents(guest, user_data), serial).map(Some)
}

#[cfg(test)]
#[path = "seed_tests.rs"]
mod tests;
