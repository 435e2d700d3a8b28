//! Servers that somebody bound a device to with `--pin`, beside those of the file: a rotation leaves such a binding alone. The
//! header has no place for that, a token being exactly what Clevis writes, so it is noted on the OS disk; a note that is lost
//! makes the binding one of the file's, which a rotation replaces, and says so.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cluster::view::paths;
use pc_cli::Common;
use serde_json::{Value, json};
use tang_client::pin::Tang;
use tang_client::{Pin, url};

use crate::device::{Binding, Device};

/// The servers of a pin, each in one spelling, whatever their keys are.
pub fn servers(pin: Pin) -> Pin {
    match pin {
        Pin::Tang(tang) => {
            Pin::Tang(Tang { url: url::normal(&tang.url), thumbprint: None, advertisement: None })
        }
        Pin::Sss(threshold, pins) => Pin::Sss(threshold, pins.into_iter().map(servers).collect()),
        other @ Pin::Other(..) => other,
    }
}

/// It was made from these servers.
pub fn is_of(binding: &Binding, servers: &Pin) -> bool {
    binding.policy.as_ref().is_ok_and(|policy| policy.is_of(servers))
}

/// Each one as `--pin` takes it, without its keys.
fn path(common: &Common, device: &Device) -> PathBuf {
    common.under_root(paths::STATE).join("chosen-servers").join(format!("{}.json", device.id()))
}

/// All that are noted.
pub fn noted(common: &Common, device: &Device) -> Result<Vec<Pin>> {
    let path = path(common, device);
    let reading = || {
        format!(
            "reading {}\n  without it `pc-unlock rotate` takes every binding for the file's",
            path.display()
        )
    };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    let listed: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(&text).with_context(reading)?;
    let pins = listed.iter().flatten().map(|(name, config)| Pin::parse(name, config.to_string().as_bytes()));
    pins.collect::<Result<_, _>>().with_context(reading)
}

/// Notes one more. A pin that is not only of the network is a choice by itself, and needs no note.
pub fn note(common: &Common, device: &Device, pin: &Pin) -> Result<()> {
    let (mut all, pin) = (noted(common, device)?, servers(pin.clone()));
    if !is_network_only(&pin) || all.contains(&pin) {
        return Ok(());
    }
    all.push(pin);
    write(common, device, &all)
}

/// Forgets those that no binding has, or that the file names by now.
pub fn tidy(common: &Common, device: &Device, files: &Pin) -> Result<()> {
    let all = noted(common, device)?;
    let bindings = device.bindings()?;
    let is_used = |pin: &&Pin| *pin != files && bindings.iter().any(|binding| is_of(binding, pin));
    let used: Vec<Pin> = all.iter().filter(is_used).cloned().collect();
    if used == all { Ok(()) } else { write(common, device, &used) }
}

fn write(common: &Common, device: &Device, pins: &[Pin]) -> Result<()> {
    let path = path(common, device);
    let directory = path.parent().context("the path of a note has no directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let listed: Vec<Value> = pins
        .iter()
        .map(|pin| {
            let (name, config) = pin.to_config();
            json!({ name: config })
        })
        .collect();
    pc_cli::write_atomic(&path, Value::Array(listed).to_string().as_bytes(), 0o600)
}

fn is_network_only(pin: &Pin) -> bool {
    match pin {
        Pin::Tang(_) => true,
        Pin::Sss(_, pins) => pins.iter().all(is_network_only),
        Pin::Other(..) => false,
    }
}
