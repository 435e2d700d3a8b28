//! Rebinding to the servers' current keys and the file's present servers: new first, proven, then the old
//! ones away. A device is either done or as it was.

use anyhow::{Context, Result, anyhow};
use pc_cli::{Common, log};
use tang_client::jwk::Key;
use tang_client::pin::Tang;
use tang_client::{Client, Pin, Policy, url};

use crate::device::{Binding, Device};
use crate::proof::{self, Proof};
use crate::settings::{as_lasting_as, classify};
use crate::{bind, recover, unbind};

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

/// Rebinds one device. `wanted` is the file's pin, and every binding to Tang alone is the file's; without a file each one keeps
/// the servers it has. A binding with a pin that is not of the network (a TPM, a stick) was chosen by somebody: it stays what
/// it is, with its servers' present keys; without any server there is nothing to do.
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
    // One whose server is gone keeps none of the others from the keys that are theirs.
    let mut failed = Vec::new();
    if let (Some(pin), false) = (wanted, network.is_empty()) {
        failed.extend(rebind(common, client, device, &network, Some(pin)).err());
    }
    let (kept, unreadable) = alike(if wanted.is_some() { kept } else { [network, kept].concat() });
    failed.extend(unreadable.into_iter().map(|(token, error)| of_token(device, token, &error)));
    for group in &kept {
        let done = rebind(common, client, device, group, None);
        failed.extend(done.err().map(|error| of_token(device, group[0].token, &error)));
    }
    pc_cli::together(failed)
}

/// Says which one it was, and what its owner can do.
fn of_token(device: &Device, token: u32, error: &anyhow::Error) -> anyhow::Error {
    as_lasting_as(error, format!("{}: token {token}: {error:#}", device.name))
}

/// Names a binding that is not to the file's servers before it goes: somebody may have made it on purpose.
fn tell_of_other(device: &Device, binding: &Binding, pin: &Pin) {
    if let Some(policy) =
        binding.policy.as_ref().ok().filter(|policy| !policy.is_of(&without_keys(pin.clone())))
    {
        log::warning(format_args!(
            "{}: token {}, bound to {}, gives way to the servers that the file names\n  \
             put its server into [unlock], or bind it together with a TPM or a stick, when it is to stay",
            device.name,
            binding.token,
            policy.describe()
        ));
    }
}

/// Bindings to the same servers, whatever their keys were: a run that was interrupted leaves the one that it made beside
/// the one that it was made from. And those of which nobody can tell.
fn alike(bindings: Vec<Binding>) -> (Vec<Vec<Binding>>, Vec<(u32, anyhow::Error)>) {
    let (mut groups, mut unreadable): (Vec<(Pin, Vec<Binding>)>, Vec<_>) = Default::default();
    for binding in bindings {
        match binding.policy.as_ref().map_err(Clone::clone).and_then(Policy::pin).map(without_keys) {
            Err(error) => unreadable.push((binding.token, classify(&error))),
            Ok(servers) => match groups.iter_mut().find(|(pin, _)| *pin == servers) {
                Some((_, group)) => group.push(binding),
                None => groups.push((servers, vec![binding])),
            },
        }
    }
    (groups.into_iter().map(|(_, group)| group).collect(), unreadable)
}

/// The servers of a pin, each in one spelling, whatever their keys are.
pub fn without_keys(pin: Pin) -> Pin {
    match pin {
        Pin::Tang(tang) => {
            Pin::Tang(Tang { url: url::normal(&tang.url), thumbprint: None, advertisement: None })
        }
        Pin::Sss(threshold, pins) => Pin::Sss(threshold, pins.into_iter().map(without_keys).collect()),
        other @ Pin::Other(..) => other,
    }
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
        match wanted {
            Some(pin) => {
                let existing = passphrase(common, client, device, bindings)?;
                bind::add(client, device, pin, &existing, &known(&policies))?
            }
            None => again(client, device, bindings)?,
        }
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
            Proof::Unknown(error) => left.push(stays(device, binding, &error)?),
            proof => {
                if let Some(pin) = wanted {
                    tell_of_other(device, binding, pin);
                }
                old.push((binding.clone(), proof));
            }
        }
    }
    unbind::remove(device, old)?;
    pc_cli::together(left)
}

/// Its slot without its token would pass for a person's: both stay until its servers answer, or until somebody names it. A slot
/// that another token names as well is that one's, as far as anybody can tell.
fn stays(device: &Device, binding: &Binding, error: &anyhow::Error) -> Result<anyhow::Error> {
    let (name, token, slot) = (&device.name, binding.token, binding.keyslot.unwrap_or_default());
    let metadata = device.metadata()?;
    let remedy = if unbind::other_name(&metadata, &[token].into(), slot).is_some() {
        format!("cryptsetup token remove --token-id {token} {name}")
    } else {
        format!("pc-unlock unbind {name} --slot {slot}")
    };
    let text = format!(
        "{name}: a binding to the file's servers is there, but token {token} and keyslot {slot} of an older one stay: {error:#}\n  \
         pc-unlock rotate {name}    (once more, when its servers answer)\n  \
         {remedy}    (when they are gone for good)"
    );
    Ok(as_lasting_as(error, text))
}

/// A new binding to the servers of one of these, the first whose keys they still vouch for, else the first, with the
/// passphrase of that very one. Whoever may write to the disk may put any token there, with servers of his own: they get
/// nothing but what that token opens already, never the passphrase of another one or the recovery key.
fn again(client: &Client, device: &Device, bindings: &[Binding]) -> Result<u32> {
    let mut last = anyhow!("it has no binding to rotate");
    let mut open = Vec::new();
    for binding in bindings {
        match (proof::of(client, device, binding), &binding.policy) {
            (Proof::Fits(passphrase, _), Ok(policy)) => {
                open.push((passphrase, policy.pin()?, known(&[policy])));
            }
            (Proof::Fits(..) | Proof::Other, _) => {
                last = anyhow!(
                    "{}\n  cryptsetup token remove --token-id {} {}    (when nobody knows it)",
                    proof::OTHER,
                    binding.token,
                    device.name
                );
            }
            (Proof::Unknown(error), _) => last = error,
        }
    }
    let vouched = |(_, pin, known): &&(_, Pin, Vec<Key>)| client.encrypt(pin, b"", false, known).is_ok();
    let one = if open.len() > 1 { open.iter().find(vouched) } else { None };
    match one.or(open.first()) {
        Some((passphrase, pin, known)) => bind::add(client, device, pin, passphrase, known),
        None => Err(last),
    }
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
