//! Taking bindings away: a keyslot is wiped only when it was shown to be the token's own, no other token names it, and
//! another one opens the data.

use std::collections::BTreeSet;

use anyhow::Result;
use pc_cli::{log, refused};
use tang_client::Client;

use crate::device::{self, Binding, Device};
use crate::luks2::Metadata;
use crate::proof::{self, Proof};
use crate::settings::as_lasting_as;
use crate::{bind, cryptsetup};

/// Removes a binding: its slot first, then its token. A token without a slot is recognised and removed by a repeat, a slot
/// without a token would stay unknown. Of a slot that is not shown to be the token's own only the token is removed.
pub fn remove(device: &Device, binding: &Binding, proof: &Proof) -> Result<()> {
    device.require_one_slot(binding)?;
    let metadata = device.metadata()?;
    let (name, token) = (&device.name, binding.token);
    let mut wiped = None;
    if let Some(slot) = binding.keyslot.filter(|slot| metadata.keyslots.contains_key(&slot.to_string())) {
        let stays = |why: &str| {
            log::warning(format_args!("{name}: only token {token} is removed, keyslot {slot} stays: {why}"));
        };
        match (other_name(&metadata, token, slot), proof) {
            (Some(other), _) => stays(&format!("token {other} names it too")),
            (None, Proof::Other) => stays("its passphrase is another one"),
            (None, Proof::Unknown(error)) => stays(&format!(
                "whose it is cannot be shown: {error:#}\n  \
                 cryptsetup luksKillSlot {name} {slot}    (when it is nobody's)"
            )),
            (None, Proof::Fits(..)) if remaining(&metadata, &BTreeSet::from([slot])) == 0 => {
                return Err(nothing_else(device));
            }
            (None, Proof::Fits(..)) => {
                cryptsetup::kill_slot(&device.path, slot)?;
                wiped = Some(slot);
            }
        }
    }
    cryptsetup::remove_token(&device.path, token)?;
    match wiped {
        Some(slot) => {
            log::info(format_args!("{name}: removed keyslot {slot} and token {token}, its binding"));
        }
        None => log::info(format_args!("{name}: removed token {token}")),
    }
    Ok(())
}

/// A token of any type but this one that names the slot.
fn other_name(metadata: &Metadata, token: u32, slot: u32) -> Option<String> {
    let (token, slot) = (token.to_string(), slot.to_string());
    let mut others = metadata.tokens.iter().filter(|(number, _)| **number != token);
    others.find(|(_, other)| other.keyslots.contains(&slot)).map(|(number, _)| number.clone())
}

/// How many slots open the data without these.
fn remaining(metadata: &Metadata, gone: &BTreeSet<u32>) -> usize {
    let is_gone = |slot: &&&str| slot.parse().is_ok_and(|slot: u32| gone.contains(&slot));
    metadata.opening_slots().iter().filter(|slot| !is_gone(slot)).count()
}

fn nothing_else(device: &Device) -> anyhow::Error {
    refused(format!(
        "{} has no other keyslot that opens its data: without its bindings nobody could ever open it\n  \
         cryptsetup luksAddKey {0}",
        device.name
    ))
}

/// Removes all bindings, and what interrupted runs left; or that of one slot, which is then taken as the token's own when
/// its servers cannot be asked: somebody has named it.
pub fn unbind(client: &Client, device: &Device, only: Option<u32>) -> Result<()> {
    let metadata = device.metadata()?;
    let chosen = |binding: &Binding| only.is_none() || binding.slots().any(|slot| Some(slot) == only);
    let bound = device::bindings(&metadata).into_iter().filter(chosen).map(|binding| (binding, false));
    let begun = bind::pending(&metadata).into_iter().filter(chosen).map(|binding| (binding, true));
    let mut work = Vec::new();
    // Everything that needs the network comes before the first change.
    for (binding, begun) in bound.chain(begun) {
        device.require_one_slot(&binding)?;
        let proof = match proof::of(client, device, &binding) {
            Proof::Unknown(error) if only.is_some() => {
                log::warning(format_args!("{}: token {}: {error:#}", device.name, binding.token));
                Proof::Fits(Vec::new().into(), binding.keyslot.unwrap_or_default())
            }
            Proof::Unknown(error) if !begun && needs_proof(&metadata, &binding) => {
                let remedy = binding.keyslot.map_or_else(String::new, |slot| {
                    format!("\n  pc-unlock unbind {} --slot {slot}    (wipes it all the same)", device.name)
                });
                let text = format!(
                    "{}: token {} cannot be shown to own its keyslot: {error:#}{remedy}",
                    device.name, binding.token
                );
                return Err(as_lasting_as(&error, text));
            }
            proof => proof,
        };
        work.push((binding, proof));
    }
    if let (Some(slot), true) = (only, work.is_empty()) {
        return Err(refused(format!(
            "{} has no binding of keyslot {slot}\n  pc-unlock status    (tells which it has)",
            device.name
        )));
    }
    let of_others = |proof: &Proof| matches!(proof, Proof::Other);
    let gone = work.iter().filter(|(_, proof)| !of_others(proof)).filter_map(|(binding, _)| binding.keyslot);
    let wipes = work.iter().any(|(_, proof)| matches!(proof, Proof::Fits(..)));
    if wipes && remaining(&metadata, &gone.collect()) == 0 {
        let unknown = work.iter().find(|(_, proof)| matches!(proof, Proof::Unknown(_)));
        return Err(unknown.map_or_else(
            || nothing_else(device),
            |(binding, _)| {
                refused(format!(
                    "{0}: whether anybody else has a keyslot cannot be shown while token {1} is there, which an interrupted run left\n  \
                     cryptsetup token remove --token-id {1} {0}    (when its servers are gone for good)",
                    device.name, binding.token
                ))
            },
        ));
    }
    for (binding, proof) in &work {
        remove(device, binding, proof)?;
    }
    Ok(())
}

/// It names a slot, and alone.
fn needs_proof(metadata: &Metadata, binding: &Binding) -> bool {
    binding.keyslot.is_some_and(|slot| other_name(metadata, binding.token, slot).is_none())
}
