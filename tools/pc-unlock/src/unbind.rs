//! Taking bindings away: a keyslot is wiped only when it was shown to be the token's own, no other token names it, and
//! another one is somebody's way in.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pc_cli::{Common, log, refused};
use tang_client::Client;

use crate::device::{Binding, Device};
use crate::luks2::Metadata;
use crate::proof::Proof;
use crate::settings::as_lasting_as;
use crate::ways::{self, Way, Ways};
use crate::{cryptsetup, recover};

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
        // Who asked for this has shown that somebody opens another one.
        let is_last = metadata.opening_slots().iter().all(|other| *other == slot.to_string());
        let stays = |why: &str| {
            log::warning(format_args!("{name}: only token {token} is removed, keyslot {slot} stays: {why}"));
        };
        match (other_name(&metadata, tokens, slot), proof) {
            (Some(other), _) => stays(&format!("token {other} names it too")),
            (None, Proof::Other) => stays("its passphrase is another one"),
            (None, Proof::Unknown(error)) => {
                stays(&format!(
                    "whose it is cannot be shown, and from now on it counts as a person's: {error:#}"
                ));
            }
            (None, Proof::Fits(..)) if is_last => return Err(nothing_else(device, token, &[])),
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
pub fn other_name<'a>(metadata: &'a Metadata, tokens: &BTreeSet<u32>, slot: u32) -> Option<&'a str> {
    let slot = slot.to_string();
    let is_ours = |number: &str| number.parse().is_ok_and(|number: u32| tokens.contains(&number));
    let mut others = metadata.tokens.iter().filter(|(number, _)| !is_ours(number));
    others.find(|(_, other)| other.keyslots.contains(&slot)).map(|(number, _)| number.as_str())
}

/// Nobody else has a passphrase, as far as it can be shown: the one that the token holds is what lets another one in.
fn nothing_else(device: &Device, token: u32, doubts: &[String]) -> anyhow::Error {
    let name = &device.name;
    let said = if doubts.is_empty() {
        format!(
            "{name} has no other keyslot that opens its data: without its bindings nobody could ever open it"
        )
    } else {
        let doubts = doubts.join("; ");
        format!("{name} has no other keyslot that opens its data and is known to be anybody's: {doubts}")
    };
    refused(format!(
        "{said}\n  \
         cryptsetup luksAddKey --key-file <(cryptsetup token export --token-id {token} {name} | pc-unlock decrypt) {name}    \
         (bash: adds a passphrase, while its servers answer)"
    ))
}

/// Removes all bindings, and what interrupted runs left; or those of one slot, which is then taken as the token's own when
/// its servers cannot be asked: somebody has named it.
pub fn unbind(common: &Common, client: &Client, device: &Device, only: Option<u32>) -> Result<()> {
    let finished = ways::clean(device)?;
    let ways = Ways::of(client, device)?;
    let is_chosen = |way: &Way| only.is_none_or(|slot| way.names(slot));
    let chosen: Vec<&Way> = ways.all.iter().filter(|way| is_chosen(way)).collect();
    if let (Some(slot), true) = (only, chosen.is_empty()) {
        let is_gone = !ways.metadata.keyslots.contains_key(&slot.to_string());
        return if finished && is_gone { Ok(()) } else { Err(no_binding(&ways, slot)) };
    }
    // Everything that needs the network comes before the first change.
    for way in &chosen {
        device.require_one_slot(&way.binding)?;
        if let (Some(slot), Proof::Unknown(_)) = (only, way.proof(client, device)) {
            not_the_recovery_key_s(common, device, way.binding.token, slot)?;
        }
    }
    let tokens: BTreeSet<u32> = chosen.iter().map(|way| way.binding.token).collect();
    // What may be nobody's any more when all of them are gone, and who knows its passphrase.
    let mut gone = BTreeMap::new();
    for way in &chosen {
        if let Some(slot) = lost(&ways, way, &tokens, only.is_some())? {
            gone.entry(slot).or_insert(way.binding.token);
        }
    }
    if let Some(token) = gone.values().next() {
        if let Some(doubts) = ways.doubts(&gone.keys().copied().collect()) {
            return Err(nothing_else(device, *token, &doubts));
        }
    }
    let work = ways.all.into_iter().filter(|way| is_chosen(way)).map(|way| work(way, only.is_some()));
    remove(device, work.collect())
}

/// A binding of a slot that somebody has named is taken as its owner. An unfinished one never is: its slot is a wish.
fn work(way: Way, named: bool) -> (Binding, Proof) {
    let begun = way.begun;
    match way.into_work(Proof::Other) {
        (binding, Proof::Unknown(_)) if named && !begun => {
            let slot = binding.keyslot.unwrap_or_default();
            (binding, Proof::Fits(Vec::new().into(), slot))
        }
        other => other,
    }
}

/// The slot that nobody may open any more without this token, unless the token has to stay.
fn lost(ways: &Ways<'_>, way: &Way, tokens: &BTreeSet<u32>, named: bool) -> Result<Option<u32>> {
    let (device, binding) = (ways.device, &way.binding);
    let Some(slot) = binding.keyslot else { return Ok(None) };
    let error = match way.proof(ways.client, device) {
        // Whoever made the other token has the same passphrase.
        Proof::Fits(..) => return Ok(other_name(&ways.metadata, tokens, slot).is_none().then_some(slot)),
        Proof::Other => return Ok(None),
        Proof::Unknown(error) => error,
    };
    if way.begun {
        if ways.is_shown_for_another(slot, binding.token) {
            return Ok(None);
        }
        // A slot that no token names any more would count as a person's for ever after.
        let is_named = other_name(&ways.metadata, &BTreeSet::from([binding.token]), slot).is_some();
        let may_go = is_named || named && ways.others_stay(&BTreeSet::from([slot]));
        if !may_go {
            return Err(unfinished(ways, binding, error));
        }
    } else if !named {
        return Err(unproven(ways, binding, tokens, error));
    }
    if named {
        log::warning(format_args!("{}: token {}: {error:#}", device.name, binding.token));
    }
    Ok(Some(slot))
}

/// A token may name any keyslot. One whose servers are silent is not taken at its word against the recovery key.
fn not_the_recovery_key_s(common: &Common, device: &Device, token: u32, slot: u32) -> Result<()> {
    match recover::at_hand(common) {
        Some(Ok(key)) if recover::opens(device, Some(slot), &key)? => Err(refused(format!(
            "{0}: keyslot {slot} is the recovery key's, whatever token {token} says\n  \
             cryptsetup token remove --token-id {token} {0}",
            device.name
        ))),
        _ => Ok(()),
    }
}

fn no_binding(ways: &Ways<'_>, slot: u32) -> anyhow::Error {
    let slots: BTreeSet<u32> = ways.all.iter().filter_map(|way| way.binding.keyslot).collect();
    let slots: Vec<String> = slots.iter().map(u32::to_string).collect();
    let name = &ways.device.name;
    refused(if slots.is_empty() {
        format!("{name} has no binding of keyslot {slot}, nor of any other")
    } else {
        format!(
            "{name} has no binding of keyslot {slot}, only of {}\n  pc-unlock check {name}    (tells what each one is)",
            slots.join(", ")
        )
    })
}

/// Its servers may be there later, or never: then somebody has to name the slot, unless nobody is known to open another.
fn unproven(
    ways: &Ways<'_>,
    binding: &Binding,
    tokens: &BTreeSet<u32>,
    error: &anyhow::Error,
) -> anyhow::Error {
    let (name, token) = (&ways.device.name, binding.token);
    let may_go = |slot: &u32| ways.doubts(&BTreeSet::from([*slot])).is_none();
    let remedy = binding.keyslot.filter(may_go).map_or_else(String::new, |slot| {
        let does = match other_name(&ways.metadata, tokens, slot) {
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

/// Neither its token nor its slot may go alone: the slot that stays would pass for a person's.
fn unfinished(ways: &Ways<'_>, binding: &Binding, error: &anyhow::Error) -> anyhow::Error {
    let (name, token, slot) = (&ways.device.name, binding.token, binding.keyslot.unwrap_or_default());
    let remedy = ways::remedy(ways.device, binding, ways.beside(slot));
    let text = format!(
        "{name}: an interrupted run left token {token}, and whose keyslot {slot} is cannot be shown: {error:#}{remedy}"
    );
    as_lasting_as(error, text)
}
