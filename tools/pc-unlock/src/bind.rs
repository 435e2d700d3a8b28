//! Binding a device to unlockers, safe to be killed anywhere and repeated; [`crate::unbind`] takes bindings away.
//!
//! A binding is made in four steps, each one atomic write of cryptsetup:
//! 1. a token of type `personal-cluster-pending` with the sealed passphrase and the slot it is meant for;
//! 2. the slot; 3. the pending token becomes a `clevis` token; 4. proof, over the network, that it opens.
//!
//! A repeat finds a pending token: when its passphrase fits its slot, it goes on with step 3; when the
//! slot is free, or is somebody else's, only the pending token is removed.

use anyhow::{Context, Result, anyhow, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use pc_cli::{Exit, log, refused, try_again};
use serde_json::{Value, json};
use tang_client::jwk::Key;
use tang_client::{Client, Pin, Policy};
use zeroize::Zeroizing;

use crate::device::{self, Binding, CLEVIS, Device};
use crate::luks2::Metadata;
use crate::proof::{self, Proof};
use crate::settings::classify;
use crate::vouched::Present;
use crate::{cryptsetup, unbind, ways};

const PENDING: &str = "personal-cluster-pending";

/// A new passphrase: 256 random bits as text, without a newline, as Clevis wants it.
pub fn passphrase() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::getrandom(bytes.as_mut()).context("reading random bytes from the kernel")?;
    Ok(Zeroizing::new(Base64UrlUnpadded::encode_string(bytes.as_ref())))
}

/// Binds `device` to `pin`, unless it is bound to it, or to its servers' `present` keys; `existing` is any passphrase it
/// has now, read only when it is needed and every server is there.
pub fn bind(
    client: &Client,
    device: &Device,
    pin: &Pin,
    present: &Present,
    existing: impl FnOnce() -> Result<Zeroizing<Vec<u8>>>,
) -> Result<()> {
    clean(client, device)?;
    for binding in
        device.bindings()?.into_iter().filter(|binding| is_of(binding, pin) || is_of(binding, &present.pin))
    {
        match proof::of(client, device, &binding) {
            Proof::Fits(_, slot) => {
                let pin = binding.policy.as_ref().map(Policy::describe).unwrap_or_default();
                log::info(format_args!("{}: is bound to {pin} already, by keyslot {slot}", device.name));
                proof::tell_of_missing(client, device, &binding);
                return Ok(());
            }
            Proof::Unknown(error) => return Err(unproven(device, binding.keyslot, &error)),
            Proof::Other => log::warning(format_args!(
                "{}: token {} does not work, another binding is made: {}",
                device.name,
                binding.token,
                proof::OTHER
            )),
        }
    }
    let present = present.whole().with_context(|| format!("sealing a passphrase for {}", device.name))?;
    add(client, device, present, &existing()?, &[]).map(drop)
}

/// Whether a binding could be made now, as far as the servers are concerned. Nothing is sealed that anybody keeps.
pub fn would_seal(client: &Client, present: &Present) -> Result<()> {
    let seal = |pin| proof::sealed(client, pin, b"", &[])?.1.into_iter().next().map_or(Ok(()), Err);
    let sealed =
        present.whole().and_then(|pin| pc_run::timed(|| seal(pin)).map_err(|error| classify(&error)));
    sealed.context("asking the unlock servers for a binding")
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
    let jwe = pc_run::timed(|| proof::seal(client, pin, new.as_bytes(), known))
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
    cryptsetup::write_token(&device.path, token, &pending, false)
        .map_err(|error| unwritable(device, error))?;
    if let Err(error) = cryptsetup::add_key(&device.path, slot, existing, new.as_bytes()) {
        if let Err(error) = undo(device, token, slot, new.as_bytes()) {
            log::warning(format_args!(
                "{0}: token {token} and what may be in keyslot {slot} stay: {error:#}\n  pc-unlock bind {0}    (a repeat ends it)",
                device.name
            ));
        }
        return Err(error).with_context(|| format!("adding a passphrase to {}", device.name));
    }
    assign(device, token, slot, &jwe.to_json())?;
    let made = Binding { token, keyslot: Some(slot), more: Vec::new(), policy: Policy::read(jwe) };
    let policy = made.policy.as_ref().map_err(Clone::clone);
    let opened = policy.and_then(|policy| pc_run::timed(|| client.decrypt(policy)));
    // One that never opens anything is taken away again; of one that may, a repeat finds out.
    if opened.as_ref().is_err_and(|error| !error.is_temporary()) {
        let proof = Proof::Fits(new.as_bytes().to_vec().into(), slot);
        unbind::remove(device, vec![(made.clone(), proof)])?;
    }
    let proving = || format!("proving the new binding of {}", device.name);
    let passphrase = opened.map_err(|error| classify(&error)).with_context(proving)?;
    if !proof::fits(device, Some(slot), &passphrase).with_context(proving)? {
        bail!("{}: {}", proving(), proof::OTHER);
    }
    let pin = made.policy.as_ref().map(Policy::describe).unwrap_or_default();
    log::info(format_args!("{}: bound keyslot {slot} to {pin}", device.name));
    Ok(token)
}

/// A wrong passphrase leaves the header as it was. But a cryptsetup that was ended, or whose disk failed, after it had written has
/// made the slot all the same: without its token, the only one that knows its passphrase, it would pass for a person's.
fn undo(device: &Device, token: u32, slot: u32, new: &[u8]) -> Result<()> {
    if device.metadata()?.keyslots.contains_key(&slot.to_string()) && proof::fits(device, Some(slot), new)? {
        cryptsetup::kill_slot(&device.path, slot)?;
    }
    cryptsetup::remove_token(&device.path, token)
}

fn unproven(device: &Device, slot: Option<u32>, error: &anyhow::Error) -> anyhow::Error {
    let text = format!("proving the binding of {}: {error:#}", device.name);
    if Exit::of(error) == Exit::TryAgain {
        return try_again(text);
    }
    let slot = slot.unwrap_or_default();
    anyhow!("{text}\n  pc-unlock unbind {} --slot {slot}    (when it is to be replaced)", device.name)
}

/// cryptsetup says only that it failed.
fn unwritable(device: &Device, error: anyhow::Error) -> anyhow::Error {
    match std::fs::File::options().write(true).open(&device.path) {
        Ok(_) => error.context(format!("writing a token to {}", device.name)),
        Err(why) => {
            refused(format!("{0} cannot be written: {why}\n  lsblk --output NAME,RO {0}", device.name))
        }
    }
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

/// What interrupted runs have begun: the slot only when there is one.
pub fn pending(metadata: &Metadata) -> Vec<Binding> {
    let of_kind = metadata.of_kind(PENDING).map(|(number, token)| {
        let slot = token.rest.get("slot").and_then(Value::as_str).and_then(|slot| slot.parse::<u32>().ok());
        let keyslot = slot.filter(|slot| metadata.keyslots.contains_key(&slot.to_string()));
        Binding { token: number, keyslot, more: Vec::new(), policy: device::policy(token) }
    });
    of_kind.collect()
}

/// Names what an interrupted run has left, to whoever only looks.
pub fn tell_of_unfinished(device: &Device) {
    for begun in device.metadata().iter().flat_map(pending) {
        log::warning(format_args!(
            "{0}: an interrupted run left token {1}; `bind`, `rotate` and `unbind` end it or take it away\n  pc-unlock bind {0}",
            device.name, begun.token
        ));
    }
}

/// Ends what an interrupted run has begun. What cannot be ended now (its servers are down, or gone for good) is told and
/// left: it is in nobody's way.
pub fn clean(client: &Client, device: &Device) -> Result<()> {
    let metadata = device.metadata()?;
    for begun in pending(&metadata) {
        let (name, token) = (&device.name, begun.token);
        let jwe = metadata.tokens.get(&token.to_string()).and_then(|token| token.rest.get("jwe"));
        match (proof::of(client, device, &begun), begun.keyslot, jwe) {
            (Proof::Fits(..), Some(slot), Some(jwe)) => {
                assign(device, token, slot, jwe)?;
                log::info(format_args!("{name}: completed the interrupted binding of keyslot {slot}"));
            }
            (Proof::Unknown(error), slot, _) => {
                // A slot that another token names is not what the remedy may wipe.
                let named = |slot: &u32| {
                    metadata.tokens.values().any(|token| token.keyslots.contains(&slot.to_string()))
                };
                let begun = Binding { keyslot: slot.filter(|slot| !named(slot)), ..begun.clone() };
                log::warning(format_args!(
                    "{name}: token {token}, which an interrupted run left, can be neither completed nor taken away: {error:#}{}",
                    ways::remedy(device, &begun, None)
                ));
            }
            _ => {
                cryptsetup::remove_token(&device.path, token)?;
                log::info(format_args!("{name}: removed what an interrupted run left in token {token}"));
            }
        }
    }
    ways::clean(device).map(drop)
}
