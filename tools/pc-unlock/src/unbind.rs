//! Taking bindings away: a keyslot is wiped only when it was shown to be the token's own, no other token names it, and
//! another one opens the data.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pc_cli::{log, refused};
use tang_client::Client;

use crate::device::{self, Binding, Device};
use crate::luks2::Metadata;
use crate::proof::{self, Proof};
use crate::settings::as_lasting_as;
use crate::{bind, cryptsetup};

/// Removes bindings, as far as each is proven.
pub fn remove(device: &Device, mut work: Vec<(Binding, Proof)>) -> Result<()> {
    // A slot goes with the first of its tokens that fits: the others find it gone.
    work.sort_by_key(|(_, proof)| !matches!(proof, Proof::Fits(..)));
    let tokens = tokens(&work);
    work.iter().try_for_each(|(binding, proof)| remove_one(device, binding, proof, &tokens))
}

/// The slot first, then the token: a token without a slot is recognised and removed by a repeat, a slot without a token
/// would stay unknown. Of a slot that is not shown to be the token's own only the token is removed.
fn remove_one(device: &Device, binding: &Binding, proof: &Proof, tokens: &BTreeSet<u32>) -> Result<()> {
    device.require_one_slot(binding)?;
    let metadata = device.metadata()?;
    let (name, token) = (&device.name, binding.token);
    let mut wiped = None;
    if let Some(slot) = binding.keyslot.filter(|slot| metadata.keyslots.contains_key(&slot.to_string())) {
        let is_last = remaining(&metadata, &BTreeSet::from([slot])) == 0;
        let stays = |why: &str| {
            log::warning(format_args!("{name}: only token {token} is removed, keyslot {slot} stays: {why}"));
        };
        match (other_name(&metadata, tokens, slot), proof) {
            (Some(other), _) => stays(&format!("token {other} names it too")),
            (None, Proof::Other) => stays("its passphrase is another one"),
            (None, Proof::Unknown(error)) => {
                let remedy = format!("\n  cryptsetup luksKillSlot {name} {slot}    (when it is nobody's)");
                let remedy = if is_last { "" } else { &remedy };
                stays(&format!("whose it is cannot be shown: {error:#}{remedy}"));
            }
            (None, Proof::Fits(..)) if is_last => return Err(nothing_else(device, token)),
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

fn tokens(work: &[(Binding, Proof)]) -> BTreeSet<u32> {
    work.iter().map(|(binding, _)| binding.token).collect()
}

/// A token of any type, but none of these, that names the slot.
fn other_name<'a>(metadata: &'a Metadata, tokens: &BTreeSet<u32>, slot: u32) -> Option<&'a str> {
    let slot = slot.to_string();
    let is_ours = |number: &str| number.parse().is_ok_and(|number: u32| tokens.contains(&number));
    let mut others = metadata.tokens.iter().filter(|(number, _)| !is_ours(number));
    others.find(|(_, other)| other.keyslots.contains(&slot)).map(|(number, _)| number.as_str())
}

/// How many slots open the data without these.
fn remaining(metadata: &Metadata, gone: &BTreeSet<u32>) -> usize {
    let is_gone = |slot: &&&str| slot.parse().is_ok_and(|slot: u32| gone.contains(&slot));
    metadata.opening_slots().iter().filter(|slot| !is_gone(slot)).count()
}

/// Nobody else has a passphrase: the one that the token holds is what lets another one in.
fn nothing_else(device: &Device, token: u32) -> anyhow::Error {
    refused(format!(
        "{0} has no other keyslot that opens its data: without its bindings nobody could ever open it\n  \
         cryptsetup luksAddKey --key-file <(cryptsetup token export --token-id {token} {0} | pc-unlock decrypt) {0}    \
         (bash: adds a passphrase, while its servers answer)",
        device.name
    ))
}

/// Removes all bindings, and what interrupted runs left; or that of one slot, which is then taken as the token's own when
/// its servers cannot be asked: somebody has named it.
pub fn unbind(client: &Client, device: &Device, only: Option<u32>) -> Result<()> {
    let metadata = device.metadata()?;
    let chosen = |binding: &Binding| only.is_none() || binding.slots().any(|slot| Some(slot) == only);
    let bound: Vec<Binding> = device::bindings(&metadata).into_iter().filter(chosen).collect();
    let begun: Vec<Binding> = bind::pending(&metadata).into_iter().filter(chosen).collect();
    if let (Some(slot), true, true) = (only, bound.is_empty(), begun.is_empty()) {
        return Err(no_binding(device, &metadata, slot));
    }
    let tokens = bound.iter().chain(&begun).map(|binding| binding.token).collect();
    let mut work = Vec::new();
    // What may be nobody's any more when all of them are gone.
    let mut lost = BTreeMap::new();
    let begun = begun.into_iter().map(|binding| (binding, true));
    // Everything that needs the network comes before the first change.
    for (binding, begun) in bound.into_iter().map(|binding| (binding, false)).chain(begun) {
        device.require_one_slot(&binding)?;
        let proof = proof::of(client, device, &binding);
        let known_to_others = |slot: &u32| other_name(&metadata, &tokens, *slot).is_some();
        let own = binding.keyslot.filter(|slot| match &proof {
            // Whoever made the other token has the same passphrase.
            Proof::Fits(..) => !known_to_others(slot),
            Proof::Other => false,
            Proof::Unknown(_) => true,
        });
        if let Some(slot) = own {
            let left = begun && matches!(proof, Proof::Unknown(_));
            lost.entry(slot).or_insert((binding.token, left));
        }
        let proof = match proof {
            Proof::Unknown(error) if only.is_some() => {
                log::warning(format_args!("{}: token {}: {error:#}", device.name, binding.token));
                Proof::Fits(Vec::new().into(), binding.keyslot.unwrap_or_default())
            }
            Proof::Unknown(error) if !begun => {
                return Err(unproven(device, &metadata, &tokens, &binding, &error));
            }
            proof => proof,
        };
        work.push((binding, proof));
    }
    if !lost.is_empty() && remaining(&metadata, &lost.keys().copied().collect()) == 0 {
        let left = lost.values().find(|(_, left)| *left && only.is_none());
        let first = lost.values().next().map_or(0, |(token, _)| *token);
        return Err(left.map_or_else(|| nothing_else(device, first), |(token, _)| in_the_way(device, *token)));
    }
    remove(device, work)
}

fn no_binding(device: &Device, metadata: &Metadata, slot: u32) -> anyhow::Error {
    let all = device::bindings(metadata).into_iter().chain(bind::pending(metadata));
    let slots: BTreeSet<u32> = all.filter_map(|binding| binding.keyslot).collect();
    let slots: Vec<String> = slots.iter().map(u32::to_string).collect();
    let name = &device.name;
    refused(if slots.is_empty() {
        format!("{name} has no binding of keyslot {slot}, nor of any other")
    } else {
        format!(
            "{name} has no binding of keyslot {slot}, only of {}\n  pc-unlock check {name}    (tells what each one is)",
            slots.join(", ")
        )
    })
}

/// Its servers may be there later, or never: then somebody has to name the slot, unless it is the last one.
fn unproven(
    device: &Device,
    metadata: &Metadata,
    tokens: &BTreeSet<u32>,
    binding: &Binding,
    error: &anyhow::Error,
) -> anyhow::Error {
    let (name, token) = (&device.name, binding.token);
    let may_go = |slot: &u32| remaining(metadata, &BTreeSet::from([*slot])) > 0;
    let remedy = binding.keyslot.filter(may_go).map_or_else(String::new, |slot| {
        let does = match other_name(metadata, tokens, slot) {
            Some(other) => {
                &format!("removes the token all the same, and leaves the keyslot to token {other}")
            }
            None => "wipes it all the same",
        };
        format!("\n  pc-unlock unbind {name} --slot {slot}    ({does})")
    });
    as_lasting_as(
        error,
        format!("{name}: token {token} cannot be shown to own its keyslot: {error:#}{remedy}"),
    )
}

fn in_the_way(device: &Device, token: u32) -> anyhow::Error {
    refused(format!(
        "{0}: whether anybody else has a keyslot cannot be shown while token {token} is there, which an interrupted run left\n  \
         cryptsetup token remove --token-id {token} {0}    (when its servers are gone for good)",
        device.name
    ))
}
