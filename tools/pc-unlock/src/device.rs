//! A LUKS device of this node: where it is, what its mapper is called, what can open it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use cluster::DevicePath;
use pc_cli::{Common, log, refused, try_again};
use serde_json::Value;
use tang_client::{Jwe, Policy};

use crate::luks2::{self, Header, Metadata, Token};
use crate::luksmeta;

/// The token type of Clevis.
pub const CLEVIS: &str = "clevis";

/// How long a disk is waited for unless somebody says how long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than cryptsetup takes from the one copy of a header to the other.
const WRITING: Duration = Duration::from_millis(500);

/// One device.
#[derive(Debug, Clone)]
pub struct Device {
    /// As the file or the administrator calls it.
    pub name: String,
    /// Where it is found (below `--root`).
    pub path: PathBuf,
    /// Name of the open device below `/dev/mapper`.
    pub mapper: String,
    /// Where the kernel tells what mappers there are.
    pub sysfs: PathBuf,
    /// How long it is waited for when it is read.
    pub patience: Duration,
}

/// One way to open a device.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Number of the token.
    pub token: u32,
    /// The slot whose passphrase it holds; none after a half-done removal.
    pub keyslot: Option<u32>,
    /// Further slots that the token names. Neither Clevis nor we write such a token, but Clevis opens with one.
    pub more: Vec<u32>,
    /// What it needs, or why that cannot be read.
    pub policy: Result<Policy, tang_client::Error>,
}

impl Binding {
    /// All slots that may be its own, in the token's order.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.keyslot.iter().chain(&self.more).copied()
    }
}

impl Device {
    /// The device that is named on the command line or in the file.
    pub fn new(common: &Common, name: &str) -> Device {
        let (path, mapper) = if let Ok(device) = DevicePath::try_from(name.to_string()) {
            (common.under_root(name), cluster::mapper_name(&device))
        } else {
            let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
            // No program that we run may take it for an option.
            let path = if name.starts_with('-') { Path::new(".").join(name) } else { PathBuf::from(name) };
            (path, format!("pc-{base}"))
        };
        let sysfs = common.under_root("/sys/block");
        Device { name: name.into(), path, mapper, sysfs, patience: PATIENCE }
    }

    /// The last part of its name: what logs and file names call it.
    pub fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// It is plugged in; so is one that does not answer.
    pub fn is_present(&self) -> bool {
        self.ask(|device| device.path.exists()).unwrap_or(true)
    }

    /// It is plugged in, or the same may succeed later.
    pub fn require_present(&self) -> Result<()> {
        if self.is_present() { Ok(()) } else { Err(try_again(format!("{} is not plugged in", self.name))) }
    }

    /// Refuses to take a binding away that names several slots: one of them could be left without any token.
    pub fn require_one_slot(&self, binding: &Binding) -> Result<()> {
        if binding.more.is_empty() {
            return Ok(());
        }
        let slots: Vec<String> = binding.slots().map(|slot| slot.to_string()).collect();
        Err(refused(format!(
            "{0}: token {1} names the keyslots {2}, and only its own one may go with it\n  \
             pc-unlock check {0}    (tells which one it fits), then for each other one\n  \
             cryptsetup token unassign --token-id {1} --key-slot SLOT {0}",
            self.name,
            binding.token,
            slots.join(", ")
        )))
    }

    /// What stands at its beginning.
    pub fn header(&self) -> Result<Header> {
        self.ask(|device| luks2::read(&device.path))?
    }

    /// The metadata of its LUKS2 header.
    pub fn metadata(&self) -> Result<Metadata> {
        self.require_present()?;
        match self.header()? {
            Header::Luks2(metadata) => Ok(metadata),
            Header::Luks1(Ok(bound)) if bound.is_empty() => {
                bail!("{} is LUKS version 1\n  cryptsetup convert --type luks2 {0}", self.name)
            }
            Header::Luks1(_) => bail!(
                "{} is LUKS version 1, bound by Clevis; what the conversion loses is the binding, so a passphrase is needed\n  \
                 cryptsetup open --test-passphrase {0} && luksmeta nuke -f -d {0} && cryptsetup convert --type luks2 {0}",
                self.name
            ),
            Header::None => bail!("{} is not a LUKS device", self.name),
        }
    }

    /// Of the two copies of its header, the one that is damaged, or older. cryptsetup writes one after the other, and whoever only looks
    /// holds no lock: what is so a moment later as well was not being written.
    pub fn damaged_copy(&self) -> Option<&'static str> {
        let copy = |device: &Device| luks2::damaged_copy(&mut luks2::open(&device.path).ok()?);
        let found = self.ask(copy).ok().flatten()?;
        std::thread::sleep(WRITING);
        self.ask(copy).ok().flatten().filter(|again| *again == found)
    }

    /// One sound copy is enough to open it, but a disk that loses the other will lose more.
    pub fn tell_of_damage(&self, which: Option<&str>) {
        if let Some(which) = which {
            log::warning(format_args!(
                "{0}: the {which} of the two copies of its LUKS header is damaged, or older than the other; cryptsetup mends it from the other one, unless something else was written over it\n  \
                 smartctl --all {0}    (tells how the disk is)",
                self.name
            ));
        }
    }

    /// All Clevis bindings that open a slot, of either version of LUKS.
    pub fn bindings(&self) -> Result<Vec<Binding>> {
        self.require_present()?;
        if let Header::Luks1(slots) = self.header()? {
            return slots.map(of_luks1).map_err(|why| anyhow!(why));
        }
        Ok(bindings(&self.metadata()?).into_iter().filter(|binding| binding.keyslot.is_some()).collect())
    }
}

/// The bindings of a LUKS1 device: its slots have no tokens, the slot's number stands for one.
pub fn of_luks1(slots: Vec<luksmeta::Slot>) -> Vec<Binding> {
    slots
        .into_iter()
        .map(|(slot, jwe)| Binding {
            token: slot,
            keyslot: Some(slot),
            more: Vec::new(),
            policy: jwe
                .map_err(tang_client::Error::Holder)
                .and_then(|jwe| Jwe::parse(&jwe))
                .and_then(Policy::read),
        })
        .collect()
}

/// All Clevis tokens of a header.
pub fn bindings(metadata: &Metadata) -> Vec<Binding> {
    metadata
        .of_kind(CLEVIS)
        .map(|(number, token)| Binding {
            token: number,
            keyslot: token.keyslots.first().and_then(|slot| slot.parse().ok()),
            more: more(metadata, token),
            policy: policy(token),
        })
        .collect()
}

fn more(metadata: &Metadata, token: &Token) -> Vec<u32> {
    let named = token.keyslots.iter().skip(1).filter(|slot| metadata.keyslots.contains_key(*slot));
    let mut slots: Vec<u32> = Vec::new();
    for slot in named.filter(|slot| token.keyslots.first() != Some(slot)).filter_map(|slot| slot.parse().ok())
    {
        if !slots.contains(&slot) {
            slots.push(slot);
        }
    }
    slots
}

/// The policy of a token's `jwe`.
pub fn policy(token: &Token) -> Result<Policy, tang_client::Error> {
    let jwe = token.rest.get("jwe").and_then(Value::as_object);
    let jwe = jwe.ok_or(tang_client::Error::Missing { what: "the token", key: "jwe" })?;
    Jwe::from_json(jwe).and_then(Policy::read)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use xshell::{Shell, cmd};

    /// A disk called ata-A, a file of 24 MiB, on a machine that has its root here.
    pub fn disk(root: &Path) -> (Common, Device) {
        let common =
            Common { file: None, applied: false, node: None, json: false, root: root.into(), verbose: 0 };
        let device = Device::new(&common, "/dev/disk/by-id/ata-A");
        std::fs::create_dir_all(device.path.parent().unwrap()).unwrap();
        std::fs::File::create(&device.path).unwrap().set_len(24 << 20).unwrap();
        (common, device)
    }

    /// Formats it, quickly.
    pub fn format(device: &Device, passphrase: &[u8]) {
        let (sh, path) = (Shell::new().unwrap(), &device.path);
        let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
        let format = cmd!(sh, "cryptsetup luksFormat -q --type luks2 {quick...} --key-file - {path}");
        format.stdin(passphrase).run().unwrap();
    }
}
