//! Binding a device to unlockers, and taking bindings away; safe to be killed anywhere and repeated.
//!
//! A binding is made in four steps, each one atomic write of cryptsetup:
//! 1. a token of type `personal-cluster-pending` with the sealed passphrase and the slot it is meant for;
//! 2. the slot; 3. the pending token becomes a `clevis` token; 4. proof, over the network, that it opens.
//!
//! A repeat finds a pending token: when its passphrase fits its slot, it goes on with step 3; when the
//! slot is free, or is somebody else's, only the pending token is removed. A slot is wiped only when it
//! was shown to be ours.

use anyhow::{Context, Result, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use pc_cli::{log, refused};
use serde_json::{Value, json};
use tang_client::jwk::Key;
use tang_client::{Client, Pin, Policy};
use zeroize::Zeroizing;

use crate::cryptsetup;
use crate::device::{self, Binding, CLEVIS, Device};
use crate::luks2::Metadata;
use crate::open::{self, Outcome};
use crate::settings::classify;

const PENDING: &str = "personal-cluster-pending";

/// A new passphrase: 256 random bits as text, without a newline, as Clevis wants it.
pub fn passphrase() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::getrandom(bytes.as_mut()).context("reading random bytes from the kernel")?;
    Ok(Zeroizing::new(Base64UrlUnpadded::encode_string(bytes.as_ref())))
}

/// Binds `device`; `existing` is any passphrase it has now, read only when it is needed. `true` when
/// something was changed.
pub fn bind(
    client: &Client,
    device: &Device,
    pin: &Pin,
    existing: impl FnOnce() -> Result<Zeroizing<Vec<u8>>>,
) -> Result<bool> {
    let finished = clean(client, device)?;
    let mine = device.bindings()?.into_iter().filter(|binding| is_of(binding, pin));
    for binding in mine {
        let line = open::prove(client, device, &binding);
        match (line.outcome, line.temporary) {
            (Outcome::Proven, _) => return Ok(finished),
            (_, true) => {
                return Err(pc_cli::try_again(line.reason.unwrap_or_default()))
                    .with_context(|| format!("proving the binding of {}", device.name));
            }
            (_, false) => log::warning(format_args!(
                "{}: token {} does not work and is replaced: {}",
                device.name,
                binding.token,
                line.reason.unwrap_or_default()
            )),
        }
    }
    add(client, device, pin, &existing()?, &[])?;
    Ok(true)
}

/// Whether a binding to `pin` could be made now, as far as the servers are concerned. Nothing is sealed that anybody keeps.
pub fn would_seal(client: &Client, pin: &Pin) -> Result<()> {
    let sealed = pc_run::timed(|| client.encrypt(pin, b"", false, &[]));
    sealed.map(drop).map_err(|error| classify(&error)).context("asking the unlock servers for a binding")
}

fn is_of(binding: &Binding, pin: &Pin) -> bool {
    binding.policy.as_ref().is_ok_and(|policy| policy.is_of(pin))
}

/// Makes a new binding and proves it. Gives its token's number.
pub fn add(client: &Client, device: &Device, pin: &Pin, existing: &[u8], known: &[Key]) -> Result<u32> {
    if existing.is_empty() {
        return Err(refused("standard input holds no passphrase of the device"));
    }
    let new = passphrase()?;
    // Everything that needs the network comes before the first change.
    let jwe = pc_run::timed(|| client.encrypt(pin, new.as_bytes(), false, known))
        .map_err(|error| classify(&error))
        .with_context(|| format!("sealing a passphrase for {}", device.name))?;
    let metadata = device.metadata()?;
    let (Some(slot), Some(token)) = (metadata.free_keyslot(), metadata.free_token()) else {
        bail!("{} has no free keyslot or token", device.name);
    };
    let pending = json!({"type": PENDING, "keyslots": [], "slot": slot.to_string(), "jwe": jwe.to_json()});
    let needed = size(&pending);
    if needed > metadata.room {
        bail!(
            "{0} has room for {1} bytes of metadata, and this binding needs {needed} beside those that it has: make room with\n  \
             pc-unlock unbind {0}, then pc-unlock bind {0} with a passphrase or the recovery key on standard input",
            device.name,
            metadata.room
        );
    }
    cryptsetup::write_token(&device.path, token, &pending, false)?;
    if let Err(error) = cryptsetup::add_key(&device.path, slot, existing, new.as_bytes()) {
        // A wrong passphrase must leave the header as it was; if even that fails, a repeat does it.
        if let Err(error) = cryptsetup::remove_token(&device.path, token) {
            log::warning(format_args!("{}: removing token {token}: {error:#}", device.name));
        }
        return Err(error).with_context(|| format!("adding a passphrase to {}", device.name));
    }
    assign(device, token, slot, &jwe.to_json())?;
    let policy = Policy::read(jwe);
    let line = open::prove(client, device, &Binding { token, keyslot: Some(slot), policy });
    if line.outcome != Outcome::Proven {
        bail!("proving the new binding of {}: {}", device.name, line.reason.unwrap_or_default());
    }
    log::info(format_args!("{}: bound keyslot {slot} to {}", device.name, line.pin.unwrap_or_default()));
    Ok(token)
}

/// What a token and its keyslot take in the header: cryptsetup writes each `/` with a backslash before it, and 512 bytes
/// are more than a pbkdf2 keyslot has.
fn size(token: &Value) -> usize {
    let text = token.to_string();
    text.len() + text.matches('/').count() + 512
}

fn assign(device: &Device, token: u32, slot: u32, jwe: &Value) -> Result<()> {
    let clevis = json!({"type": CLEVIS, "keyslots": [slot.to_string()], "jwe": jwe});
    cryptsetup::write_token(&device.path, token, &clevis, true)
}

/// Ends what an interrupted run has begun. `true` when it completed a binding.
pub fn clean(client: &Client, device: &Device) -> Result<bool> {
    let metadata = device.metadata()?;
    let mut completed = false;
    for (number, token) in metadata.of_kind(PENDING) {
        let slot = token.rest.get("slot").and_then(Value::as_str).and_then(|slot| slot.parse::<u32>().ok());
        let slot = slot.filter(|slot| metadata.keyslots.contains_key(&slot.to_string()));
        let ours = match slot {
            Some(slot) => opens(client, device, &device::policy(token), slot)?.then_some(slot),
            None => None,
        };
        if let (Some(slot), Some(jwe)) = (ours, token.rest.get("jwe")) {
            assign(device, number, slot, jwe)?;
            log::info(format_args!("{}: completed the interrupted binding of keyslot {slot}", device.name));
            completed = true;
        } else {
            cryptsetup::remove_token(&device.path, number)?;
            log::info(format_args!(
                "{}: removed what an interrupted run left in token {number}",
                device.name
            ));
        }
    }
    for binding in device::bindings(&metadata).iter().filter(|binding| binding.keyslot.is_none()) {
        cryptsetup::remove_token(&device.path, binding.token)?;
        log::info(format_args!(
            "{}: removed clevis token {}, which had lost its keyslot",
            device.name, binding.token
        ));
    }
    Ok(completed)
}

/// The pending passphrase fits the slot. Unknown (the servers are down) is an error.
fn opens(
    client: &Client,
    device: &Device,
    policy: &Result<Policy, tang_client::Error>,
    slot: u32,
) -> Result<bool> {
    let Ok(policy) = policy else { return Ok(false) };
    match pc_run::timed(|| client.decrypt(policy)) {
        Ok(passphrase) => cryptsetup::fits(&device.path, Some(slot), &passphrase),
        Err(error) => Err(classify(&error))
            .with_context(|| format!("completing an interrupted binding of {}", device.name)),
    }
}

/// Wipes the slot of a binding, then its token: a token without a slot is recognised and removed by a
/// repeat, a slot without a token would stay unknown.
pub fn remove(device: &Device, binding: &Binding) -> Result<()> {
    if let Some(slot) = binding.keyslot {
        cryptsetup::kill_slot(&device.path, slot)?;
    }
    cryptsetup::remove_token(&device.path, binding.token)?;
    log::info(format_args!("{}: removed binding {}", device.name, binding.token));
    Ok(())
}

/// Removes all bindings, or the one of a slot. `true` when something was changed.
pub fn unbind(device: &Device, only: Option<u32>) -> Result<bool> {
    let metadata = device.metadata()?;
    let chosen: Vec<Binding> = device::bindings(&metadata)
        .into_iter()
        .filter(|binding| only.is_none() || binding.keyslot == only)
        .collect();
    if others(&metadata, &chosen) == 0 {
        return Err(refused(format!(
            "{} has no other keyslot: without its bindings nobody could ever open it\n  \
             cryptsetup luksAddKey {0}",
            device.name
        )));
    }
    for binding in &chosen {
        remove(device, binding)?;
    }
    Ok(!chosen.is_empty())
}

fn others(metadata: &Metadata, chosen: &[Binding]) -> usize {
    let gone = |slot: &String| {
        chosen.iter().any(|binding| binding.keyslot.map(|slot| slot.to_string()).as_ref() == Some(slot))
    };
    metadata.keyslots.keys().filter(|slot| !gone(slot)).count()
}
