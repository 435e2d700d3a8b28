//! Opening and proving devices, all at once.

use std::fmt;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};
use pc_cli::{Common, Exit, log};
use pc_run::Cost;
use serde::Serialize;
use tang_client::{Client, Error, Plaintext, Policy};

use crate::device::{Binding, Device};
use crate::proof::{self, Proof};
use crate::settings::classify;
use crate::silent;
use crate::{bind, cryptsetup, lock};

/// What is to be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Make its mapper.
    Open,
    /// Show that one binding opens it, without making anything.
    Test,
    /// Show that every binding opens it, without making anything.
    Check,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The mapper was made now.
    Opened,
    /// The mapper was there.
    AlreadyOpen,
    /// The passphrase fits its slot.
    Proven,
    /// See the reason.
    Failed,
}

/// What became of one device (or, when checking, of one of its bindings).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The device.
    pub device: String,
    /// Its name below `/dev/mapper`.
    pub mapper: String,
    /// How it went.
    pub outcome: Outcome,
    /// The slot that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyslot: Option<u32>,
    /// What opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A later attempt may succeed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
    /// It is proven, but not by these of its servers: why each one gave nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// The answer of `open` and `check`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `pc.unlock.open/1`.
    pub schema: &'static str,
    /// One line per device, or per binding.
    pub devices: Vec<Line>,
    /// What it took.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What went well; what failed is told on stderr.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.devices.iter().filter(|line| line.outcome != Outcome::Failed) {
            let word = match line.outcome {
                Outcome::Opened => "opened",
                Outcome::AlreadyOpen => "already open",
                Outcome::Proven => "proven",
                Outcome::Failed => "failed",
            };
            write!(f, "{}: {word}", line.device)?;
            if let Some(slot) = line.keyslot {
                write!(f, ", keyslot {slot}")?;
            }
            if let Some(pin) = &line.pin {
                write!(f, ", {pin}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Report {
    /// The devices that failed, and why.
    pub fn failures(&self) -> Vec<(String, String)> {
        let failed = self.devices.iter().filter(|line| line.outcome == Outcome::Failed);
        failed.map(|line| (line.device.clone(), line.reason.clone().unwrap_or_default())).collect()
    }

    /// 0 when everything went well, 75 when a later attempt may do better, else 1.
    pub fn exit(&self) -> Exit {
        Exit::of_parts(self.devices.iter().map(|line| match (line.outcome, line.temporary) {
            (Outcome::Failed, true) => Exit::TryAgain,
            (Outcome::Failed, false) => Exit::Failed,
            _ => Exit::Done,
        }))
    }
}

/// Works on all devices at once.
pub fn run(common: &Common, client: &Client, devices: &[Device], task: Task) -> Report {
    let started = Instant::now();
    let broken = |device: &Device| vec![device.failed("an error in this program", false)];
    let lines = silent::at_once(devices, |device| one(common, client, device, task), broken);
    Report { schema: "pc.unlock.open/1", devices: lines.concat(), cost: Cost::since(started) }
}

impl Device {
    fn line(&self, outcome: Outcome) -> Line {
        Line {
            device: self.name.clone(),
            mapper: self.mapper.clone(),
            outcome,
            keyslot: None,
            pin: None,
            reason: None,
            temporary: false,
            missing: Vec::new(),
        }
    }

    /// A line that says why.
    pub fn failed(&self, reason: impl fmt::Display, temporary: bool) -> Line {
        Line { reason: Some(reason.to_string()), temporary, ..self.line(Outcome::Failed) }
    }

    fn failed_by(&self, error: &anyhow::Error) -> Line {
        let (text, name) = (format!("{error:#}"), format!("{} ", self.name));
        // The line begins with it.
        self.failed(text.strip_prefix(&name).unwrap_or(&text), Exit::of(error) == Exit::TryAgain)
    }
}

fn one(common: &Common, client: &Client, device: &Device, task: Task) -> Vec<Line> {
    if !device.is_present() {
        return vec![device.failed("is not plugged in", true)];
    }
    if let Err(error) = device.require_answer() {
        return vec![device.failed_by(&error)];
    }
    if task == Task::Open {
        if device.is_open() {
            return vec![device.line(Outcome::AlreadyOpen)];
        }
        if let Err(error) = device.may_be_opened() {
            return vec![device.failed_by(&error)];
        }
    }
    if task != Task::Open {
        device.tell_of_damage(device.damaged_copy());
        bind::tell_of_unfinished(device);
    }
    let bindings = match device.bindings() {
        Ok(bindings) if bindings.is_empty() => {
            let reason = format!(
                "has no clevis token: open it with `pc-unlock recover`, or bind it\n  pc-unlock bind {}",
                device.name
            );
            return vec![device.failed(reason, false)];
        }
        Ok(bindings) => bindings,
        Err(error) => return vec![device.failed_by(&error)],
    };
    if task == Task::Check {
        return std::thread::scope(|scope| {
            let prove = |binding| scope.spawn(move || prove(client, device, binding));
            let threads: Vec<_> = bindings.iter().map(prove).collect();
            let broken = |_| device.failed("an error in this program", false);
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(broken)).collect()
        });
    }
    vec![first_that_opens(common, client, device, &bindings, task)]
}

/// Shows that a binding's passphrase fits its slot.
pub fn prove(client: &Client, device: &Device, binding: &Binding) -> Line {
    let described = |line: Line| Line { keyslot: binding.keyslot, pin: describe(binding), ..line };
    match proof::of(client, device, binding) {
        Proof::Fits(_, slot) => Line {
            keyslot: Some(slot),
            missing: proof::tell_of_missing(client, device, binding),
            ..described(device.line(Outcome::Proven))
        },
        Proof::Other => described(device.failed(proof::OTHER, false)),
        Proof::Unknown(error) => described(device.failed_by(&error)),
    }
}

fn describe(binding: &Binding) -> Option<String> {
    binding.policy.as_ref().ok().map(Policy::describe)
}

fn recover(client: &Client, binding: &Binding) -> Result<Plaintext, Error> {
    client.decrypt(binding.policy.as_ref().map_err(Clone::clone)?)
}

/// All bindings are tried at once, the first one that gives a passphrase is used.
fn first_that_opens(
    common: &Common,
    client: &Client,
    device: &Device,
    bindings: &[Binding],
    task: Task,
) -> Line {
    let (sender, receiver) = mpsc::channel();
    for binding in bindings.iter().cloned() {
        let (client, sender) = (client.clone(), sender.clone());
        // Not a scoped thread: a slow server must not hold up a device that another binding has opened.
        std::thread::spawn(move || drop(sender.send((recover(&client, &binding), binding))));
    }
    drop(sender);
    let mut reasons = Vec::new();
    let mut temporary = false;
    for _ in bindings {
        // The wait is what counts: a server that is still silent when another binding has opened costs us nothing more.
        let Ok((passphrase, binding)) = pc_run::timed(|| receiver.recv()) else { break };
        let used = match passphrase {
            Ok(passphrase) if task == Task::Test => test(device, &binding, &passphrase),
            Ok(passphrase) => {
                // Whoever holds the device now would keep it from the next binding, too.
                match lock::opening(common, device, client.budget.attempt) {
                    Ok(_opening) => open(device, &binding, &passphrase),
                    Err(error) => return device.failed_by(&error),
                }
            }
            Err(error) => Err(classify(&error)),
        };
        match used {
            Ok((outcome, keyslot)) => {
                return Line { keyslot, pin: describe(&binding), ..device.line(outcome) };
            }
            Err(error) => {
                temporary |= Exit::of(&error) == Exit::TryAgain;
                reasons.push(format!("{error:#}"));
            }
        }
    }
    device.failed(reasons.join("; "), temporary)
}

fn test(device: &Device, binding: &Binding, passphrase: &[u8]) -> Result<(Outcome, Option<u32>)> {
    let slot = proof::slot(device, binding, passphrase)?.context(proof::OTHER)?;
    Ok((Outcome::Proven, Some(slot)))
}

fn open(device: &Device, binding: &Binding, passphrase: &[u8]) -> Result<(Outcome, Option<u32>)> {
    // Another process, which was waited for, was faster.
    if device.is_open() {
        return Ok((Outcome::AlreadyOpen, binding.keyslot));
    }
    let mut keyslot = binding.keyslot;
    // cryptsetup finds out by itself whether it fits the one that is named.
    if !binding.more.is_empty() {
        keyslot = Some(proof::slot(device, binding, passphrase)?.context(proof::OTHER)?);
    }
    // Before cryptsetup mends it; told once, for an attempt that fails is made again and again.
    let damaged = device.damaged_copy();
    match cryptsetup::open(&device.path, &device.mapper, keyslot, passphrase) {
        Ok(()) => {
            device.tell_of_damage(damaged);
            log::info(format_args!("{}: opened as /dev/mapper/{}", device.name, device.mapper));
            Ok((Outcome::Opened, keyslot))
        }
        // Another program (a person's, pc-brick's), which asks nobody, was faster.
        Err(_) if device.is_open() => Ok((Outcome::AlreadyOpen, keyslot)),
        Err(error) => Err(error),
    }
}
