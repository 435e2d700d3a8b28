//! Rebinding to the servers' current keys and the file's present servers: new first, proven, then the old
//! ones away. A device is either done or as it was.

use anyhow::{Context, Result, anyhow};
use pc_cli::{Common, log};
use tang_client::jwk::Key;
use tang_client::{Client, Pin, Policy};

use crate::device::{Binding, Device};
use crate::proof::{self, Proof};
use crate::settings::{as_lasting_as, classify};
use crate::{bind, chosen, recover, unbind};

/// Keys that servers showed earlier: they vouch for the present ones after a rotation.
pub fn known(policies: &[&Policy]) -> Vec<Key> {
    policies.iter().flat_map(|policy| policy.servers()).flat_map(|sealed| sealed.keys.clone()).collect()
}

/// It was made from `pin`, and every server still advertises the key it was sealed to.
pub fn is_up_to_date(client: &Client, policy: &Policy, pin: &Pin) -> Result<bool> {
    if !policy.is_of(pin) {
        return Ok(false);
    }
    pc_run::timed(|| client.is_current(policy)).map_err(|error| classify(&error))
}

/// Rebinds one device. `wanted` is the file's pin; without a file each binding keeps the servers it has. A binding with a
/// pin that is not of the network (a TPM, a stick), or was made with `--pin` for other servers, was chosen by somebody:
/// it stays what it is, with its servers' present keys; without any server there is nothing to do.
pub fn rotate(common: &Common, client: &Client, device: &Device, wanted: Option<&Pin>) -> Result<()> {
    bind::clean(client, device)?;
    let mut sound = device.bindings()?;
    sound.retain(|binding| binding.policy.is_ok());
    let is_any = !sound.is_empty();
    let (network, kept): (Vec<Binding>, Vec<Binding>) = sound
        .into_iter()
        .filter(|binding| binding.policy.as_ref().is_ok_and(|policy| !policy.servers().is_empty()))
        .partition(|binding| wanted.is_some() && binding.policy.as_ref().is_ok_and(Policy::is_network_only));
    if network.is_empty() && kept.is_empty() {
        if is_any {
            log::info(format_args!("{}: bound without any server, nothing to rotate", device.name));
            return Ok(());
        }
        return Err(anyhow!("{} has no binding to rotate\n  pc-unlock bind {0}", device.name));
    }
    let (files, chosen) = match wanted {
        Some(pin) => parted(common, device, network, pin)?,
        None => (network, Vec::new()),
    };
    let groups: Vec<_> = alike(kept)?.into_iter().chain(alike(chosen)?).collect();
    // One whose server is gone keeps none of the others from the keys that are theirs.
    let mut failed = Vec::new();
    if let (Some(pin), false) = (wanted, files.is_empty()) {
        failed.extend(rebind(common, client, device, &files, Some(pin)).err());
    }
    failed.extend(groups.iter().filter_map(|group| rebind(common, client, device, group, None).err()));
    if let Some(pin) = wanted {
        chosen::tidy(common, device, &chosen::servers(pin.clone()))?;
    }
    pc_cli::together(failed)
}

/// The bindings that are the file's, or were, and those that somebody made with other servers.
fn parted(
    common: &Common,
    device: &Device,
    bindings: Vec<Binding>,
    pin: &Pin,
) -> Result<(Vec<Binding>, Vec<Binding>)> {
    let (servers, noted) = (chosen::servers(pin.clone()), chosen::noted(common, device)?);
    let is_files = |binding: &Binding| chosen::is_of(binding, &servers);
    let is_chosen = |binding: &Binding| noted.iter().any(|pin| chosen::is_of(binding, pin));
    let (chosen, files): (Vec<_>, Vec<_>) =
        bindings.into_iter().partition(|binding| !is_files(binding) && is_chosen(binding));
    let tell = |binding: &Binding, what: &str| {
        let described = binding.policy.as_ref().map(Policy::describe).unwrap_or_default();
        log::info(format_args!("{}: token {}, bound to {described}, {what}", device.name, binding.token));
    };
    for binding in &chosen {
        tell(binding, "was made with --pin and stays");
    }
    for binding in files.iter().filter(|binding| !is_files(binding)) {
        tell(binding, "gives way to the servers that the file names");
    }
    Ok((files, chosen))
}

/// Bindings to the same servers, whatever their keys were: a run that was interrupted leaves the one that it made beside
/// the one that it was made from.
fn alike(bindings: Vec<Binding>) -> Result<Vec<Vec<Binding>>> {
    let mut groups: Vec<(Pin, Vec<Binding>)> = Vec::new();
    for binding in bindings {
        let servers = chosen::servers(binding.policy.as_ref().map_err(Clone::clone)?.pin()?);
        match groups.iter_mut().find(|(pin, _)| *pin == servers) {
            Some((_, group)) => group.push(binding),
            None => groups.push((servers, vec![binding])),
        }
    }
    Ok(groups.into_iter().map(|(_, group)| group).collect())
}

/// One binding to `wanted`, or to the servers they have, instead of these: the first of them that is that already, else a
/// new one.
fn rebind(
    common: &Common,
    client: &Client,
    device: &Device,
    bindings: &[Binding],
    wanted: Option<&Pin>,
) -> Result<()> {
    let policies: Vec<&Policy> = bindings.iter().filter_map(|binding| binding.policy.as_ref().ok()).collect();
    let mut keep = None;
    for (binding, policy) in bindings.iter().zip(&policies) {
        if keep.is_some() {
            break;
        }
        let is_current = match wanted {
            Some(pin) => is_up_to_date(client, policy, pin)?,
            None => is_up_to_date(client, policy, &policy.pin()?)?,
        };
        if is_current && works(client, device, binding)? {
            proof::tell_of_missing(client, device, binding);
            keep = Some(binding.token);
        }
    }
    for binding in bindings.iter().filter(|binding| Some(binding.token) != keep) {
        device.require_one_slot(binding)?;
    }
    let keep = if let Some(token) = keep {
        token
    } else {
        let (existing, known) = (passphrase(common, client, device, bindings)?, known(&policies));
        let pin = match wanted {
            Some(pin) => pin.clone(),
            None => trusted(client, &policies, &known)?,
        };
        bind::add(client, device, &pin, &existing, &known)?
    };
    let (mut old, mut left) = (Vec::new(), Vec::new());
    for binding in bindings.iter().filter(|binding| binding.token != keep) {
        match proof::of(client, device, binding) {
            // Its stick is elsewhere, or its TPM was in another state: who made it has made it for that, while what a run of ours
            // has left opens now.
            Proof::Unknown(error) if wanted.is_none() => log::warning(format_args!(
                "{}: token {} stays as it is: {error:#}",
                device.name, binding.token
            )),
            Proof::Unknown(error) => left.push(stays(device, binding, &error)),
            proof => old.push((binding.clone(), proof)),
        }
    }
    unbind::remove(device, old)?;
    pc_cli::together(left)
}

/// Its slot without its token would pass for a person's: both stay until its servers answer, or until somebody names it.
fn stays(device: &Device, binding: &Binding, error: &anyhow::Error) -> anyhow::Error {
    let (name, token, slot) = (&device.name, binding.token, binding.keyslot.unwrap_or_default());
    let text = format!(
        "{name}: the new binding is made, but token {token} and keyslot {slot} of the old one stay: {error:#}\n  \
         pc-unlock rotate {name}    (once more, when its servers answer)\n  \
         pc-unlock unbind {name} --slot {slot}    (when they are gone for good)"
    );
    as_lasting_as(error, text)
}

/// The servers of these bindings, by the keys for which they still vouch.
fn trusted(client: &Client, policies: &[&Policy], known: &[Key]) -> Result<Pin> {
    let pins = policies.iter().map(|policy| policy.pin()).collect::<Result<Vec<_>, _>>()?;
    let vouched = |pin: &&Pin| pins.len() == 1 || client.encrypt(pin, b"", false, known).is_ok();
    let pin = pins.iter().find(vouched).or(pins.first());
    pin.cloned().context("it has no binding to rotate")
}

fn works(client: &Client, device: &Device, binding: &Binding) -> Result<bool> {
    match proof::of(client, device, binding) {
        Proof::Fits(..) => Ok(true),
        Proof::Other => Ok(false),
        Proof::Unknown(error) => Err(error),
    }
}

/// Any passphrase that the present bindings hold; when their servers are gone, the recovery key if it is at hand.
fn passphrase(
    common: &Common,
    client: &Client,
    device: &Device,
    bindings: &[Binding],
) -> Result<tang_client::Plaintext> {
    let mut last = anyhow!("it has no binding");
    for binding in bindings {
        match proof::of(client, device, binding) {
            Proof::Fits(passphrase, _) => return Ok(passphrase),
            Proof::Other => last = anyhow!(proof::OTHER),
            Proof::Unknown(error) => last = error,
        }
    }
    if let Some(Ok(key)) = recover::at_hand(common) {
        if proof::fits(device, None, key.bytes())? {
            log::warning(format_args!("{}: opened with the recovery key: {last:#}", device.name));
            return Ok(key.bytes().to_vec().into());
        }
    }
    Err(last).with_context(|| format!("opening {} with its present bindings", device.name))
}
