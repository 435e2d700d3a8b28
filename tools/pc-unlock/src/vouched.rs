//! Servers whose keys were rotated: the key that the file pins vouches for the present ones as long as the server keeps it.
//! Tang signs with it when it is asked by its thumbprint, but names it no longer; so it is kept here.

use std::path::PathBuf;

use anyhow::Result;
use cluster::view::paths;
use pc_cli::{Common, log};
use serde_json::Value;
use tang_client::adv::Trust;
use tang_client::jwk::Key;
use tang_client::pin::{Node, Tang};
use tang_client::{Client, Error, Pin, Policy};

use crate::settings::classify;

/// A pin by the keys that its servers have now.
#[derive(Debug, Clone)]
pub struct Present {
    /// With the advertisements of those that answered, which are asked no second time. One that did not, or whose keys
    /// nothing vouches for, stays as it was pinned.
    pub pin: Pin,
    /// Why the first of those stays so.
    missing: Option<Error>,
}

impl Present {
    fn of(pin: Pin) -> Present {
        Present { pin, missing: None }
    }

    /// What can be sealed to: every server has shown its keys.
    pub fn whole(&self) -> Result<&Pin> {
        match &self.missing {
            None => Ok(&self.pin),
            Some(error) => Err(classify(error)),
        }
    }
}

/// Asks all servers of `pin` at once. `seen` are keys of older bindings.
pub fn present(common: &Common, client: &Client, pin: &Pin, seen: &[Value]) -> Present {
    match pin {
        Pin::Sss(threshold, pins) => {
            let found: Vec<Present> = std::thread::scope(|scope| {
                let ask = |pin| move || present(common, client, pin, seen);
                let threads: Vec<_> = pins.iter().map(|pin| (pin, scope.spawn(ask(pin)))).collect();
                let join = |(pin, thread): (&Pin, std::thread::ScopedJoinHandle<'_, Present>)| {
                    thread.join().unwrap_or_else(|_| Present::of(pin.clone()))
                };
                threads.into_iter().map(join).collect()
            });
            let missing = found.iter().find_map(|present| present.missing.clone());
            Present {
                pin: Pin::Sss(*threshold, found.into_iter().map(|present| present.pin).collect()),
                missing,
            }
        }
        Pin::Tang(tang) if tang.advertisement.is_none() => match &tang.thumbprint {
            Some(pinned) => now(common, client, tang, pinned, seen),
            None => Present::of(pin.clone()),
        },
        other => Present::of(other.clone()),
    }
}

fn now(common: &Common, client: &Client, tang: &Tang, pinned: &str, seen: &[Value]) -> Present {
    let mut raw: Vec<Value> = kept(common, pinned).into_iter().chain(seen.iter().cloned()).collect();
    let known: Vec<Key> = raw.iter().filter_map(key).collect();
    let trust = Trust::PinnedOrKnown(pinned, &known);
    let mut thumbprint = pinned.to_string();
    let asked = pc_run::timed(|| client.advertisement(&tang.url, &trust));
    match &asked {
        Ok(advertisement) => {
            let listed = advertisement.payload.get("keys").and_then(Value::as_array);
            raw.extend(listed.into_iter().flatten().cloned());
            let mut signing = advertisement.signing_keys();
            if !advertisement.signing_keys().any(|key| key.is(pinned)) {
                thumbprint = signing.next().map_or(thumbprint, Key::thumbprint);
                log::warning(format_args!(
                    "{}: its keys were rotated, the pinned one vouches for them until the server removes it\n  \
                     put thumbprint = \"{thumbprint}\" into [unlock]",
                    tang.url
                ));
            }
        }
        Err(Error::Server { reason, .. }) if matches!(**reason, Error::NotTrusted { .. }) => {
            log::warning(format_args!(
                "{0}: signs with other keys than the pinned one\n  \
                 pc-unlock adv {0}    (compare with `tang-show-keys` on the server, then put that thumbprint into [unlock])",
                tang.url
            ));
        }
        // Whoever seals finds the same, and says so.
        Err(error) => log::debug(format_args!("{error}")),
    }
    keep(common, pinned, &raw);
    match asked {
        Ok(advertisement) => Present::of(Pin::Tang(Tang {
            thumbprint: Some(thumbprint),
            advertisement: Some(advertisement.jws),
            ..tang.clone()
        })),
        Err(error) => Present { pin: Pin::Tang(tang.clone()), missing: Some(error) },
    }
}

/// All keys that the servers of a policy showed when it was made.
pub fn keys(policy: &Policy) -> Vec<Value> {
    match &policy.node {
        Node::Tang(_) => {
            let listed = policy.jwe.pin().ok().and_then(|(_, node)| node.get("adv")?.get("keys")?.as_array());
            listed.cloned().unwrap_or_default()
        }
        Node::Sss(_, shares) => shares.iter().flatten().flat_map(keys).collect(),
        Node::Other(_) => Vec::new(),
    }
}

fn key(raw: &Value) -> Option<Key> {
    Key::parse("a key that was kept", raw).ok()
}

/// Its name is its thumbprint: what is not that key is not believed.
fn file(common: &Common, thumbprint: &str) -> Option<PathBuf> {
    crate::settings::check_thumbprint(thumbprint).ok()?;
    Some(common.under_root(paths::STATE).join("tang-keys").join(format!("{thumbprint}.jwk")))
}

fn kept(common: &Common, thumbprint: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(file(common, thumbprint)?).ok()?).ok()
}

/// A key that cannot be kept (not root, a full disk) is missed only after a rotation, and then the file has to name the new
/// one.
fn keep(common: &Common, thumbprint: &str, raw: &[Value]) {
    let is_it = |raw: &&Value| key(raw).is_some_and(|key| key.is(thumbprint) && key.may("verify"));
    // One that is damaged is as good as none.
    if kept(common, thumbprint).as_ref().is_some_and(|raw| is_it(&raw)) {
        return;
    }
    let Some(path) = file(common, thumbprint) else { return };
    let (Some(found), Some(directory)) = (raw.iter().find(is_it), path.parent()) else { return };
    let written = std::fs::create_dir_all(directory)
        .map_err(anyhow::Error::new)
        .and_then(|()| pc_cli::write_atomic(&path, found.to_string().as_bytes(), 0o600));
    if let Err(error) = written {
        log::debug(format_args!("keeping the key {thumbprint}: {error:#}"));
    }
}
