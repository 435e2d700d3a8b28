//! Whose keyslot is it? A slot is wiped only when the passphrase of the token that names it was shown to fit.

use anyhow::Result;
use pc_cli::log;
use tang_client::jwk::Key;
use tang_client::{Client, Jwe, Pin, Plaintext, Policy};

use crate::cryptsetup;
use crate::device::{Binding, Device};
use crate::luks2::Header;
use crate::settings::classify;

/// What is known of a token and the slot that it names.
#[derive(Debug)]
pub enum Proof {
    /// The token gives this passphrase, and it fits this slot.
    Fits(Plaintext, u32),
    /// The token gives a passphrase that does not fit: the slot is somebody else's, or gone.
    Other,
    /// Nobody can say now (the servers are down), or ever (the token is damaged).
    Unknown(anyhow::Error),
}

/// Why a token does not open its device, when it gave a passphrase.
pub const OTHER: &str = "the token's passphrase does not fit its keyslot";

/// Asks the servers of a binding, and cryptsetup.
pub fn of(client: &Client, device: &Device, binding: &Binding) -> Proof {
    // Without a slot there is nothing to own.
    if binding.keyslot.is_none() {
        return Proof::Other;
    }
    let opened = match &binding.policy {
        Ok(policy) => pc_run::timed(|| client.decrypt(policy)),
        Err(error) => Err(error.clone()),
    };
    match opened {
        Ok(passphrase) => match slot(device, binding, &passphrase) {
            Ok(Some(slot)) => Proof::Fits(passphrase, slot),
            Ok(None) => Proof::Other,
            Err(error) => Proof::Unknown(error),
        },
        Err(error) => Proof::Unknown(classify(&error)),
    }
}

/// Seals a text. Refused when a server shows keys that it has no more, which a threshold would hide until another server
/// is down; one that is silent may have them.
pub fn seal(client: &Client, pin: &Pin, text: &[u8], known: &[Key]) -> Result<Jwe, tang_client::Error> {
    let (jwe, faults) = sealed(client, pin, text, known)?;
    let (silent, gone): (Vec<_>, Vec<_>) = faults.into_iter().partition(tang_client::Error::is_temporary);
    if let Some(fault) = gone.into_iter().next() {
        return Err(fault);
    }
    for fault in silent {
        log::warning(format_args!("what is sealed now does not open by every server yet: {fault}"));
    }
    Ok(jwe)
}

/// A sealed text, and why single servers do not give their parts of it back.
pub fn sealed(
    client: &Client,
    pin: &Pin,
    text: &[u8],
    known: &[Key],
) -> Result<(Jwe, Vec<tang_client::Error>), tang_client::Error> {
    let jwe = client.encrypt(pin, text, false, known)?;
    let faults = client.faults(&Policy::read(jwe.clone())?);
    Ok((jwe, faults))
}

/// Warns of servers that give nothing to a binding that the others open. What it says stands in the answer of `check` too.
pub fn tell_of_missing(client: &Client, device: &Device, binding: &Binding) -> Vec<String> {
    let Ok(policy) = &binding.policy else { return Vec::new() };
    let missing: Vec<String> =
        pc_run::timed(|| client.faults(policy)).iter().map(ToString::to_string).collect();
    if !missing.is_empty() {
        let slot = binding.keyslot.unwrap_or_default();
        log::warning(format_args!(
            "{}: keyslot {slot} opens, but not by all of {}: {}",
            device.name,
            policy.describe(),
            missing.join("; ")
        ));
    }
    missing
}

/// Which of the slots that a binding names its passphrase fits.
pub fn slot(device: &Device, binding: &Binding, passphrase: &[u8]) -> Result<Option<u32>> {
    for slot in binding.slots() {
        if fits(device, Some(slot), passphrase)? {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// Whether a passphrase fits a slot, any slot when none is named. What kept cryptsetup from finding out is an error, never
/// `false`.
pub fn fits(device: &Device, slot: Option<u32>, passphrase: &[u8]) -> Result<bool> {
    // Without a slot cryptsetup alone is asked: a header that only we cannot read keeps no key from the data.
    let header = slot.map(|_| device.header()).transpose()?;
    if let (Some(slot), Some(Header::Luks2(metadata))) = (slot, header) {
        // cryptsetup takes the passphrase of an unbound keyslot as well: anybody who writes to the disk can add one.
        if !metadata.opening_slots().contains(slot.to_string().as_str()) {
            return Ok(false);
        }
    }
    cryptsetup::fits(&device.path, slot, passphrase)
}
