//! Who opens a device? A keyslot counts as somebody's way in when no token names it (a person's, as far as anybody can tell),
//! when another program's does, or when a binding of ours opens it now. One that only a dead, silent or unfinished binding
//! names may be nobody's.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use anyhow::Result;
use tang_client::Client;

use crate::device::{self, Binding, CLEVIS, Device};
use crate::luks2::Metadata;
use crate::proof::{self, Proof};
use crate::{bind, cryptsetup};

/// A token of ours. Its servers are asked once, when somebody wants to know.
pub struct Way {
    pub binding: Binding,
    /// An interrupted run left it: its slot is what it was meant for, which may be anybody's.
    pub begun: bool,
    proof: OnceCell<Proof>,
}

impl Way {
    fn new(binding: Binding, begun: bool) -> Way {
        Way { binding, begun, proof: OnceCell::new() }
    }

    pub fn proof(&self, client: &Client, device: &Device) -> &Proof {
        self.proof.get_or_init(|| proof::of(client, device, &self.binding))
    }

    pub fn names(&self, slot: u32) -> bool {
        self.binding.slots().any(|named| named == slot)
    }

    /// It was asked, and opens this slot for good.
    pub fn opens(&self, slot: u32) -> bool {
        !self.begun && matches!(self.proof.get(), Some(Proof::Fits(_, fits)) if *fits == slot)
    }

    /// With its proof, or with `assumed` where there is none.
    pub fn into_work(self, assumed: Proof) -> (Binding, Proof) {
        (self.binding, self.proof.into_inner().unwrap_or(assumed))
    }
}

/// All keyslots of a device that open its data, and all tokens of ours.
pub struct Ways<'a> {
    pub client: &'a Client,
    pub device: &'a Device,
    pub metadata: Metadata,
    pub all: Vec<Way>,
}

impl<'a> Ways<'a> {
    pub fn of(client: &'a Client, device: &'a Device) -> Result<Ways<'a>> {
        let metadata = device.metadata()?;
        let bound = device::bindings(&metadata).into_iter().map(|binding| Way::new(binding, false));
        let begun = bind::pending(&metadata).into_iter().map(|binding| Way::new(binding, true));
        let all = bound.chain(begun).collect();
        Ok(Ways { client, device, metadata, all })
    }

    fn slots(&self, gone: &BTreeSet<u32>) -> Vec<u32> {
        let all = self.metadata.opening_slots().into_iter().filter_map(|slot| slot.parse().ok());
        all.filter(|slot| !gone.contains(slot)).collect()
    }

    fn is_others(&self, slot: u32) -> bool {
        let text = slot.to_string();
        let mut tokens = self.metadata.tokens.values();
        tokens.any(|token| token.kind != CLEVIS && token.keyslots.contains(&text))
            || !self.all.iter().any(|way| way.names(slot))
    }

    /// Without these slots there is one that no command of ours ever wipes.
    pub fn others_stay(&self, gone: &BTreeSet<u32>) -> bool {
        self.slots(gone).into_iter().any(|slot| self.is_others(slot))
    }

    /// Without these slots, why none of the others is known to be anybody's; `None` when one is. Servers are asked only when
    /// the header does not say it.
    pub fn doubts(&self, gone: &BTreeSet<u32>) -> Option<Vec<String>> {
        if self.others_stay(gone) {
            return None;
        }
        let mut doubts = Vec::new();
        for slot in self.slots(gone) {
            let (mut why, mut opens) = (Vec::new(), false);
            for way in self.all.iter().filter(|way| way.names(slot)) {
                let token = way.binding.token;
                match way.proof(self.client, self.device) {
                    Proof::Fits(..) if way.begun => {
                        let name = &self.device.name;
                        why.push(format!(
                            "keyslot {slot}: token {token} is unfinished, `pc-unlock bind {name}` ends it"
                        ));
                    }
                    Proof::Fits(..) => opens |= way.opens(slot),
                    // Somebody else's, then.
                    Proof::Other => {}
                    Proof::Unknown(error) => why.push(format!("keyslot {slot}: token {token}: {error:#}")),
                }
            }
            if opens || why.is_empty() {
                return None;
            }
            doubts.append(&mut why);
        }
        Some(doubts)
    }

    /// A token of ours, not this one, was shown to open the slot.
    pub fn is_shown_for_another(&self, slot: u32, token: u32) -> bool {
        self.all.iter().any(|way| way.binding.token != token && way.opens(slot))
    }

    /// The token of a binding that opens another slot now.
    pub fn beside(&self, slot: u32) -> Option<u32> {
        let other = |way: &&Way| way.binding.keyslot.is_some_and(|own| own != slot && way.opens(own));
        self.all.iter().find(other).map(|way| way.binding.token)
    }
}

/// Tokens whose keyslots are gone, as a killed run leaves them. Whether there were any.
pub fn clean(device: &Device) -> Result<bool> {
    let metadata = device.metadata()?;
    let all = device::bindings(&metadata).into_iter().chain(bind::pending(&metadata));
    let mut found = false;
    for binding in all.filter(|binding| binding.slots().next().is_none()) {
        cryptsetup::remove_token(&device.path, binding.token)?;
        pc_cli::log::info(format_args!(
            "{}: removed token {}, which had lost its keyslot",
            device.name, binding.token
        ));
        found = true;
    }
    Ok(found)
}

/// What a person can do about an unfinished binding whose servers are gone for good. Each line shows by itself that somebody
/// has a passphrase: of the keyslot that stays, or beside the one that goes. `by` is a binding that opens another slot.
pub fn remedy(device: &Device, begun: &Binding, by: Option<u32>) -> String {
    let (name, token) = (&device.name, begun.token);
    let removed = format!("cryptsetup token remove --token-id {token} {name}");
    let Some(slot) = begun.keyslot else {
        return format!("\n  {removed}");
    };
    let (pipe, key) = by.map_or_else(Default::default, |by| {
        (format!("cryptsetup token export --token-id {by} {name} | pc-unlock decrypt | "), "--key-file - ")
    });
    let asks = if by.is_some() { "" } else { ": it asks for another passphrase" };
    format!(
        "\n  cryptsetup open --test-passphrase --key-slot {slot} {name} && {removed}    \
         (its servers are gone for good, keyslot {slot} has a passphrase of yours)\n  \
         {pipe}cryptsetup luksKillSlot {key}{name} {slot} && {removed}    \
         (they are gone, keyslot {slot} is nobody's{asks})"
    )
}
