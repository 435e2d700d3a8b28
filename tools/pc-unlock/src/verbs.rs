//! One function per verb: from flags to an answer and an exit code.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use pc_cli::{Exit, log, refused};
use pc_run::Cost;
use tang_client::Client;

use crate::device::Device;
use crate::header::Trust;
use crate::open::Task;
use crate::secrets::Secrets;
use crate::status::Status;
use crate::target::Leave;
use crate::{
    Cli, HeaderVerb, Verb, bind, forever, header, lock, open, places, recover, restore, rotate, settings,
    silent, text, typed, unbind, vouched,
};

/// For a disk that is only looked at: pc-verify asks for the status, and has 3 s for everything.
const STATUS: Duration = Duration::from_secs(2);

pub fn run(cli: &Cli) -> Result<Exit> {
    log::set_verbosity(cli.common.verbose);
    // Memory holds passphrases: none of it may reach a disk as a core dump.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("forbidding core dumps")?;
    let started = Instant::now();
    let result = verb(cli);
    log::debug(Cost::since(started));
    result
}

fn verb(cli: &Cli) -> Result<Exit> {
    cli.times.check(matches!(cli.verb, Verb::Open { forever: true, .. }))?;
    let (common, client) = (&cli.common, &cli.times.client());
    match &cli.verb {
        Verb::Open { forever: true, .. } => {
            let devices = chosen(cli, &[])?;
            forever::run(common, client, &devices, &Secrets::new(common));
            Ok(Exit::Done)
        }
        Verb::Open { devices, test, .. } => work(cli, devices, if *test { Task::Test } else { Task::Open }),
        Verb::Check { servers: true, .. } => {
            let present = vouched::present(common, client, &settings::pin(common, None)?, &[]);
            let asked = bind::would_seal(client, &present);
            let ready = settings::Readiness::of(common, asked.as_ref().err())?;
            // How it ended counts, even when nobody reads the answer.
            if asked.is_err() {
                drop(pc_cli::emit_heard(common.json, &ready));
            } else {
                pc_cli::emit(common.json, &ready)?;
            }
            asked.map(|()| Exit::Done)
        }
        Verb::Check { devices, .. } => work(cli, devices, Task::Check),
        Verb::Status { exit_code } => {
            let status = Status::look(&chosen(cli, &[])?, &Secrets::new(common))?;
            pc_cli::emit(common.json, &status)?;
            Ok(Exit::of_answer(*exit_code, !status.healthy))
        }
        Verb::Bind { device, pin } => {
            let ends = typed::Ends::before_a_prompt()?;
            let pin = settings::pin(common, pin.as_deref())?;
            let device = named(cli, device)?;
            accessible(std::slice::from_ref(&device))?;
            header::change(common, &device, || {
                let present = vouched::present(common, client, &pin, &seen([&device]));
                bind::bind(client, &device, &pin, &present, || typed::passphrase(&device, ends))
            })?;
            Ok(Exit::Done)
        }
        Verb::Unbind { device, slot } => {
            let device = named(cli, device)?;
            accessible(std::slice::from_ref(&device))?;
            header::change(common, &device, || unbind::unbind(common, client, &device, *slot))?;
            Ok(Exit::Done)
        }
        Verb::Rotate { devices } => rotate_all(cli, devices),
        Verb::Adv { url, thumbprint } => {
            pc_cli::emit(common.json, &text::adv(client, url, thumbprint.as_deref())?)?;
            Ok(Exit::Done)
        }
        Verb::Decrypt => {
            pc_cli::emit_raw(&text::decrypt(client, &text::stdin_jwe()?)?)?;
            Ok(Exit::Done)
        }
        Verb::Encrypt { pin, config, trust_on_first_use } => {
            let plaintext = text::stdin("the text to encrypt")?;
            let jwe = text::encrypt(client, pin, config, *trust_on_first_use, &plaintext)?;
            pc_cli::emit_raw(jwe.to_compact().as_bytes())?;
            Ok(Exit::Done)
        }
        Verb::Seal { name, pin } => {
            own_secrets(common)?;
            let (pin, secret) = (settings::pin(common, pin.as_deref())?, text::stdin("the secret")?);
            Secrets::may_be_sealed(name, &secret)?;
            let present = vouched::present(common, client, &pin, &[]);
            Secrets::new(common).seal(client, name, &present, &secret)?;
            Ok(Exit::Done)
        }
        Verb::Unseal { names } => {
            own_secrets(common)?;
            unseal(cli, names)
        }
        Verb::Recover { devices, recovery_key_file } => {
            let devices = chosen(cli, devices)?;
            let key = recover::key(common, recovery_key_file.as_deref())?;
            ask(&devices);
            let open = |device| recover::open(common, device, &key, client.budget.attempt);
            each(devices.iter().map(|device| (device.name.as_str(), open(device))))
        }
        Verb::Header(verb) => headers(cli, client, verb),
    }
}

/// The devices that were named, else all disks of this node. Two whose mappers, and header backups, would have one name
/// are refused.
fn chosen(cli: &Cli, named: &[String]) -> Result<Vec<Device>> {
    let devices: Vec<_> =
        settings::devices(&cli.common, named)?.into_iter().map(|device| patient(cli, device)).collect();
    for (at, device) in devices.iter().enumerate() {
        if let Some(other) = devices.iter().take(at).find(|other| other.mapper == device.mapper) {
            return Err(refused(format!(
                "{} and {} would both be /dev/mapper/{}\n  name one at a time",
                other.name, device.name, device.mapper
            )));
        }
    }
    Ok(devices)
}

fn named(cli: &Cli, name: &str) -> Result<Device> {
    Ok(patient(cli, settings::device(&cli.common, name)?))
}

/// A disk that sleeps takes ten seconds to spin; whoever asks for the status waits for nobody who works.
fn patient(cli: &Cli, device: Device) -> Device {
    let usual = if matches!(cli.verb, Verb::Status { .. }) { STATUS } else { device.patience };
    Device { patience: cli.times.disk_time.unwrap_or(usual), ..device }
}

/// Finds out who does not answer, before each device is worked on alone: they are waited for at once, and once.
fn ask(devices: &[Device]) {
    // Whoever works on one says so.
    silent::at_once(devices, |device| drop(device.require_answer()), |_| ());
}

fn work(cli: &Cli, named: &[String], task: Task) -> Result<Exit> {
    let devices = chosen(cli, named)?;
    accessible(&devices)?;
    let report = open::run(&cli.common, &cli.times.client(), &devices, task);
    for (device, reason) in report.failures() {
        // One that says itself which device it is about says it once.
        if reason.starts_with(&device) {
            log::error(reason);
        } else {
            log::error(format_args!("{device}: {reason}"));
        }
    }
    match report.exit() {
        Exit::Done => pc_cli::emit(cli.common.json, &report).map(|()| Exit::Done),
        // How it ended counts, even when nobody reads the answer.
        exit => {
            let _ = pc_cli::emit_heard(cli.common.json, &report);
            Ok(exit)
        }
    }
}

fn unseal(cli: &Cli, names: &[String]) -> Result<Exit> {
    let secrets = Secrets::new(&cli.common);
    let names = if names.is_empty() { secrets.names()? } else { names.to_vec() };
    let outcomes = secrets.unseal_all(&cli.times.client(), &names);
    each(names.iter().map(String::as_str).zip(outcomes))
}

fn rotate_all(cli: &Cli, chosen: &[String]) -> Result<Exit> {
    let (common, client) = (&cli.common, &cli.times.client());
    // Named devices need no file: they keep the servers they have unless a file says otherwise.
    let pin = if !chosen.is_empty() && names_no_servers(common)? {
        None
    } else {
        Some(settings::pin(common, None)?)
    };
    let devices = self::chosen(cli, chosen)?;
    accessible(&devices)?;
    let secrets = Secrets::new(common);
    let names = if chosen.is_empty() { secrets.names()? } else { Vec::new() };
    let sealed = names.iter().filter_map(|name| secrets.policy(name).ok());
    let mut known = seen(&devices);
    known.extend(sealed.flat_map(|policy| vouched::keys(&policy)));
    let pin = pin.map(|pin| vouched::present(common, client, &pin, &known).pin);
    let disk =
        |device| header::change(common, device, || rotate::rotate(common, client, device, pin.as_ref()));
    let disks = devices.iter().map(|device| (device.name.as_str(), disk(device)));
    let secrets =
        names.iter().map(|name| (name.as_str(), secrets.rotate(client, name, pin.as_ref()).map(drop)));
    each(disks.chain(secrets))
}

/// The keys that the servers of these devices' bindings showed.
fn seen<'a>(devices: impl IntoIterator<Item = &'a Device>) -> Vec<serde_json::Value> {
    let bindings = devices.into_iter().filter_map(|device| device.bindings().ok()).flatten();
    bindings.filter_map(|binding| binding.policy.ok()).flat_map(|policy| vouched::keys(&policy)).collect()
}

/// There is no cluster file, or one without `[unlock]`. A file that cannot be read says neither.
fn names_no_servers(common: &pc_cli::Common) -> Result<bool> {
    let path = common.cluster_file();
    let missing = || std::fs::metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if common.file.is_some() {
        return Ok(false);
    }
    Ok(missing() || settings::load(common)?.unlock.is_none())
}

/// Goes through all of them, whatever one says; all errors are told.
fn each<'a, T>(work: impl Iterator<Item = (&'a str, Result<T>)>) -> Result<Exit> {
    // One that begins with its name says it once.
    let named = |name: &str, error: anyhow::Error| match format!("{error:#}").strip_prefix(name) {
        Some(rest) if rest.starts_with([' ', ':']) => error,
        _ => error.context(name.to_string()),
    };
    let errors = work.filter_map(|(name, result)| Some(named(name, result.err()?)));
    pc_cli::together(errors).map(|()| Exit::Done)
}

/// This machine's secrets are root's; asking servers first would only make somebody wait for the refusal.
fn own_secrets(common: &pc_cli::Common) -> Result<()> {
    if common.root == std::path::Path::new("/") { pc_cli::require_root() } else { Ok(()) }
}

/// Refuses whoever may not read one of these devices, which a person can mend, before anything is asked.
fn accessible(devices: &[Device]) -> Result<()> {
    let denied = |device: &Device| {
        let denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
        matches!(device.look(), Ok(Err(error)) if denied(&error)) && !device.is_open()
    };
    let denied = silent::at_once(devices, denied, |_| false);
    match denied.iter().zip(devices).find(|(denied, _)| **denied) {
        Some((_, Device { name, .. })) => {
            Err(refused(format!("opening {name}: permission denied\n  {}", pc_cli::as_root())))
        }
        None => Ok(()),
    }
}

fn headers(cli: &Cli, client: &Client, verb: &HeaderVerb) -> Result<Exit> {
    let common = &cli.common;
    match verb {
        HeaderVerb::Backup { devices, to, recovery_key_file, new_recovery_key, overwrite_good_backup } => {
            let trust = Trust { recovery_key: *new_recovery_key, header: *overwrite_good_backup };
            let to = to.clone().map_or_else(|| header::directories(common), |directory| vec![directory]);
            let everything = devices.is_empty();
            let mut devices = chosen(cli, devices)?;
            ask(&devices);
            if everything {
                devices.retain(|device| {
                    let blank = header::is_blank(common, device, &to);
                    if blank {
                        log::warning(format_args!("{}: has no LUKS header to back up yet", device.name));
                    }
                    !blank
                });
            }
            let key = recover::key(common, recovery_key_file.as_deref())?;
            each(devices.iter().map(|device| {
                // Whoever changes the header meanwhile has made a newer backup when this one is written.
                let backed_up = lock::alone(common, device)
                    .and_then(|_alone| header::backup(common, device, &to, &key, trust));
                (device.name.as_str(), backed_up)
            }))
        }
        HeaderVerb::Restore {
            device,
            from,
            overwrite_other_device,
            yes_destroy_all_data_on_it,
            unproven_backup,
            recovery_key_file,
        } => {
            let device = named(cli, device)?;
            let key = recover::key(common, recovery_key_file.as_deref())?;
            let from = from.clone().unwrap_or_else(|| places::local(common).join(header::file_name(&device)));
            let leave = Leave {
                other_device: *overwrite_other_device,
                everything: *yes_destroy_all_data_on_it,
                unproven: *unproven_backup,
            };
            restore::restore(common, client, &device, &from, &key, leave)?;
            Ok(Exit::Done)
        }
    }
}
