//! Whose keyslot is it? A slot is wiped only when the passphrase of the token that names it was shown to fit.

use anyhow::{Result, anyhow};
use pc_run::Error;
use tang_client::{Client, Plaintext};

use crate::cryptsetup;
use crate::device::{Binding, Device};
use crate::luks2::{self, Header};
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
    if let (Some(slot), Header::Luks2(metadata)) = (slot, luks2::read(&device.path)?) {
        if !metadata.keyslots.contains_key(&slot.to_string()) {
            return Ok(false);
        }
    }
    cryptsetup::fits(&device.path, slot, passphrase).map_err(|error| for_later(&error))
}

/// A program that was too slow may be faster next time.
fn for_later(error: &anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::TimedOut { .. }) => pc_cli::try_again(format!("{error:#}")),
        _ => anyhow!("{error:#}"),
    }
}
