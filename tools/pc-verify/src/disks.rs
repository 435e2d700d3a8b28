//! `pc-unlock status` and `pc-brick status` as findings: what each disk is, and what is on it.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::told::Told;
use crate::tools::{Around, parsed};
use crate::verdict::Severity::{Problem, Warning};

/// `pc.unlock.status/1`.
pub fn unlock(answer: Value, around: Around) -> Result<Vec<Told>> {
    #[derive(Deserialize)]
    struct Unlock {
        devices: Vec<Device>,
        secrets: Vec<Secret>,
    }
    #[derive(Deserialize)]
    struct Device {
        #[serde(rename = "device")]
        path: String,
        state: String,
        reason: Option<String>,
    }
    #[derive(Deserialize)]
    struct Secret {
        name: String,
        state: String,
        reason: Option<String>,
    }
    let Unlock { devices, secrets } = parsed(answer)?;
    let mut told = Vec::new();
    let because = |reason: Option<String>| reason.map(|why| format!(" ({why})")).unwrap_or_default();
    for Device { path, state, reason } in devices {
        let look = format!("look at its cable and at dmesg; smartctl -a {path}");
        let restore = format!("pc-unlock header restore {path}");
        let (what, remedy) = match state.as_str() {
            "open" if reason.is_none() => continue,
            // The next start would find it locked.
            "open" => ("is open, and will not be after the next start", restore.as_str()),
            "missing" => ("is not there", "look at its cable and at dmesg"),
            // All that is known of it.
            "silent" => {
                let fault = format!("disk {path} does not answer");
                let remedy = "pc-unlock status --disk-time 30 (it may have slept); then look at its cable and at dmesg";
                told.push(Told::problem(fault, remedy));
                continue;
            }
            "unreadable" => ("cannot be read", look.as_str()),
            "damaged" => ("has a damaged LUKS header", restore.as_str()),
            "unbound" => ("is locked, and nothing opens it by itself", "pc-brick apply"),
            // pc-brick tells what is on it instead.
            "not_luks" if around.has("brick") => continue,
            "not_luks" => ("has no LUKS header", "pc-brick apply"),
            _ => ("is locked", "systemctl status pc-unlock.service"),
        };
        told.push(Told::problem(format!("disk {path} {what}{}", because(reason)), remedy));
    }
    for Secret { name, reason, .. } in secrets.into_iter().filter(|secret| secret.state != "open") {
        // pc-trust knows which secrets there should be, and tells the same.
        if !around.has("trust") {
            let fault = format!("secret {name} is not open{}", because(reason));
            told.push(Told::problem(fault, "systemctl status pc-unlock.service"));
        }
    }
    Ok(told)
}

/// `pc.brick.status/1`.
pub fn brick(answer: Value, around: Around) -> Result<Vec<Told>> {
    #[derive(Deserialize)]
    struct Bricks {
        bricks: Vec<Brick>,
    }
    #[derive(Deserialize)]
    struct Brick {
        disk: String,
        volume: String,
        state: String,
        problems: Vec<String>,
        #[serde(default)]
        warnings: Vec<String>,
    }
    let mut told = Vec::new();
    for Brick { disk, volume, state, problems, warnings } in parsed::<Bricks>(answer)?.bricks {
        let name = format!("disk {disk} of volume {volume}");
        let stage = match state.as_str() {
            "missing" | "locked" if around.has("unlock") => None,
            // Its problems say what is on it.
            "mounted" | "foreign" => None,
            "missing" => Some(("is not there", "look at its cable and at dmesg")),
            "locked" => Some(("is locked", "systemctl status pc-unlock.service")),
            "blank" => Some(("is not a brick yet", "pc-brick apply")),
            _ => Some(("is not mounted", "pc-brick apply")),
        };
        if let Some((what, remedy)) = stage {
            told.push(Told::problem(format!("{name} {what}"), remedy));
        }
        // What can be done about each it says itself; `apply` mends no file system.
        let remedy = if state == "foreign" { "pc-brick plan" } else { "pc-brick status" };
        told.extend(problems.iter().map(|text| Told::sentence(Problem, &format!("{name}: {text}"), remedy)));
        let look = |text: &String| Told::sentence(Warning, &format!("{name}: {text}"), "pc-brick status");
        told.extend(warnings.iter().map(look));
    }
    Ok(told)
}
