//! Rebinding to the servers' current keys and the file's present servers: new first, proven, then the old
//! ones away. A device is either done or as it was.

use anyhow::{Context, Result, anyhow};
use tang_client::jwk::Key;
use tang_client::{Client, Pin, Policy};

use crate::bind;
use crate::cryptsetup;
use crate::device::{Binding, Device};
use crate::settings::classify;

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

/// Rebinds one device. `wanted` is the file's pin; without a file each device keeps the servers it has. A binding with
/// a pin that is not of the network (a TPM, a stick) was chosen by somebody: it stays what it is, with its servers'
/// present keys; without any server there is nothing to do.
pub fn rotate(client: &Client, device: &Device, wanted: Option<&Pin>) -> Result<bool> {
    let mut changed = bind::clean(client, device)?;
    let (network, mixed): (Vec<Binding>, Vec<Binding>) = device
        .bindings()?
        .into_iter()
        .filter(|binding| binding.policy.as_ref().is_ok_and(|policy| !policy.servers().is_empty()))
        .partition(|binding| binding.policy.as_ref().is_ok_and(Policy::is_network_only));
    if network.is_empty() && mixed.is_empty() {
        return Err(anyhow!("{} has no binding to rotate\n  pc-unlock bind {0}", device.name));
    }
    for binding in mixed {
        let Ok(policy) = &binding.policy else { continue };
        changed |= rebind(client, device, std::slice::from_ref(&binding), &policy.pin()?)?;
    }
    if let Some(Ok(first)) = network.first().map(|binding| &binding.policy) {
        let own = first.pin()?;
        changed |= rebind(client, device, &network, wanted.unwrap_or(&own))?;
    }
    Ok(changed)
}

/// One binding to `pin` instead of these: the first of them that is that already, else a new one.
fn rebind(client: &Client, device: &Device, bindings: &[Binding], pin: &Pin) -> Result<bool> {
    let policies: Vec<&Policy> = bindings.iter().filter_map(|binding| binding.policy.as_ref().ok()).collect();
    let mut keep = None;
    for (binding, policy) in bindings.iter().zip(&policies) {
        if keep.is_none() && is_up_to_date(client, policy, pin)? && works(client, device, binding, policy)? {
            keep = Some(binding.token);
        }
    }
    let mut changed = keep.is_none();
    let keep = if let Some(token) = keep {
        token
    } else {
        let existing = passphrase(client, device, bindings)?;
        bind::add(client, device, pin, &existing, &known(&policies))?
    };
    for binding in bindings.iter().filter(|binding| binding.token != keep) {
        bind::remove(device, binding)?;
        changed = true;
    }
    Ok(changed)
}

fn works(client: &Client, device: &Device, binding: &Binding, policy: &Policy) -> Result<bool> {
    let passphrase = pc_run::timed(|| client.decrypt(policy)).map_err(|error| classify(&error))?;
    cryptsetup::fits(&device.path, binding.keyslot, &passphrase)
}

/// Any passphrase that the present bindings hold.
fn passphrase(client: &Client, device: &Device, bindings: &[Binding]) -> Result<tang_client::Plaintext> {
    let mut last = None;
    for binding in bindings {
        let Ok(policy) = &binding.policy else { continue };
        match pc_run::timed(|| client.decrypt(policy)) {
            Ok(passphrase) if cryptsetup::fits(&device.path, binding.keyslot, &passphrase)? => {
                return Ok(passphrase);
            }
            Ok(_) => last = Some(anyhow!("the token's passphrase does not fit its keyslot")),
            Err(error) => last = Some(classify(&error)),
        }
    }
    Err(last.unwrap_or_else(|| anyhow!("it has no binding")))
        .with_context(|| format!("opening {} with its present bindings", device.name))
}
