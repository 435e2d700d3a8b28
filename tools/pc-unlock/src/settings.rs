//! What the command line and the cluster file ask for: which devices, which servers, how much time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cluster::{Cluster, Unlock};
use pc_cli::{Common, Exit, log, refused};
use tang_client::pin::Tang;
use tang_client::url::Url;
use tang_client::{Budget, Client, Pin};

use crate::device::Device;
use crate::{keyfile, text, tpm2};

/// How long things may take.
#[derive(Debug, Clone, Copy, clap::Args)]
#[expect(clippy::struct_field_names, reason = "clap calls the flags as the fields are called")]
pub struct Times {
    /// Seconds for one server to answer [default: 2, or `PC_UNLOCK_SERVER_TIME`]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub server_time: Option<Duration>,
    /// Seconds for one attempt with all servers [default: 5, or `PC_UNLOCK_ATTEMPT_TIME`]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub attempt_time: Option<Duration>,
    /// Seconds for a disk to answer, one that sleeps too [default: 30; 2 in `status`]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub disk_time: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    if !(0.01..=3600.0).contains(&number) {
        return Err("not between 0.01 and 3600 seconds".into());
    }
    Ok(Duration::from_secs_f64(number))
}

/// A slow machine (an emulated one) sets these once, for every tool that runs this one.
fn of_environment(which: &str) -> Result<Option<Duration>> {
    let name = format!("PC_UNLOCK_{which}_TIME");
    let Some(text) = std::env::var_os(&name) else { return Ok(None) };
    let read = text.to_str().ok_or_else(|| "not UTF-8".to_string()).and_then(seconds);
    read.map(Some).map_err(|why| {
        refused(format!(
            "environment variable {name}: {text:?} is {why}\n  for example {name}=2.5, or unset {name}"
        ))
    })
}

impl Times {
    /// A client with these limits.
    pub fn client(&self) -> Client {
        Client { budget: self.budget(), other: Some(Arc::new(crate::others::Others)) }
    }

    /// One that was not asked for gives way to the other.
    fn budget(&self) -> Budget {
        let usual = Budget::default();
        match self.asked() {
            // Only where nobody can mend it is one let through that is shorter than its servers.
            (Some(server), Some(attempt)) => Budget { server, attempt: attempt.max(server) },
            (Some(server), None) => Budget { server, attempt: usual.attempt.max(server) },
            (None, Some(attempt)) => Budget { server: usual.server.min(attempt), attempt },
            (None, None) => usual,
        }
    }

    fn asked(&self) -> (Option<Duration>, Option<Duration>) {
        (
            self.server_time.or_else(|| of_environment("SERVER").ok().flatten()),
            self.attempt_time.or_else(|| of_environment("ATTEMPT").ok().flatten()),
        )
    }

    /// Refuses what cannot be meant. A service that opens the disks at boot is told, and goes on with what is usual: nobody
    /// is there to mend a typing error of last month.
    pub fn check(&self, forever: bool) -> Result<()> {
        let checked = of_environment("SERVER").and(of_environment("ATTEMPT")).and_then(|_| self.agree());
        match checked {
            Err(error) if forever => {
                log::warning(format_args!("{error:#}"));
                Ok(())
            }
            other => other,
        }
    }

    /// An attempt that ends before its first server may: one of the two is not what was meant.
    fn agree(&self) -> Result<()> {
        match self.asked() {
            (Some(server), Some(attempt)) if attempt < server => Err(refused(format!(
                "an attempt of {} s ends before the {} s of one server\n  \
                 --server-time {0}, or a longer --attempt-time (in the environment: PC_UNLOCK_SERVER_TIME, PC_UNLOCK_ATTEMPT_TIME)",
                attempt.as_secs_f32(),
                server.as_secs_f32()
            ))),
            _ => Ok(()),
        }
    }
}

/// The cluster file.
pub fn load(common: &Common) -> Result<Cluster> {
    let path = common.cluster_file();
    let loaded = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    loaded.map_err(refused)
}

/// `pc.unlock.servers/1`: the file's servers, and whether they would take a new binding now.
#[derive(Debug, serde::Serialize)]
pub struct Readiness {
    schema: &'static str,
    threshold: u64,
    servers: Vec<String>,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Readiness {
    /// Those of the file, and why not.
    pub fn of(common: &Common, fault: Option<&anyhow::Error>) -> Result<Readiness> {
        let unlock = load(common)?.unlock;
        let (threshold, tang) =
            unlock.map_or((0, Vec::new()), |unlock| (unlock.threshold.into(), unlock.tang));
        let servers = tang.into_iter().map(|server| server.url).collect();
        let reason = fault.map(|error| format!("{error:#}"));
        Ok(Readiness { schema: "pc.unlock.servers/1", threshold, servers, ready: reason.is_none(), reason })
    }
}

/// Nothing: silence means that all is well.
impl std::fmt::Display for Readiness {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

/// The device that was named.
pub fn device(common: &Common, name: &str) -> Result<Device> {
    if name.is_empty() {
        return Err(refused("the name of a device is empty\n  pc-unlock status lists this node's"));
    }
    Ok(Device::new(common, name))
}

/// The devices that were named, else all disks of this node.
pub fn devices(common: &Common, named: &[String]) -> Result<Vec<Device>> {
    if !named.is_empty() {
        return named.iter().map(|name| device(common, name)).collect();
    }
    let cluster = load(common)?;
    let view = cluster.view(&common.node_name()?).map_err(refused)?;
    Ok(view.bricks().iter().map(|brick| Device::new(common, brick.device.as_str())).collect())
}

/// The pin for new bindings: `--pin`, else the file's `[unlock]`.
pub fn pin(common: &Common, given: Option<&str>) -> Result<Pin> {
    if let Some(json) = given {
        return parse_pin(json);
    }
    let cluster = load(common)?;
    cluster.unlock.as_ref().map(of_unlock).ok_or_else(|| {
        refused(format!(
            "{} has no [unlock]: nothing could open what is bound\n  \
             name a server: `pc-unlock adv http://ADDRESS` prints the lines to add",
            common.cluster_file().display()
        ))
    })
}

/// `{"tang": {...}}` or `{"sss": {...}}`: the pin's name and its Clevis configuration.
fn parse_pin(json: &str) -> Result<Pin> {
    let value = tang_client::json::parse("--pin", json.as_bytes()).map_err(refused)?;
    match value.as_object().map(|object| object.iter().collect::<Vec<_>>()).as_deref() {
        Some([(name, config)]) => {
            let pin = Pin::parse(name, config.to_string().as_bytes());
            let mut pin = pin.map_err(|error| refused(format!("--pin: {error}")))?;
            text::load_advertisements(&mut pin)?;
            usable(&pin, false)?;
            Ok(pin)
        }
        _ => Err(refused(
            "--pin is not an object with one member\n  for example {\"tang\": {\"url\": \"http://192.168.0.2\", \"thp\": \"...\"}}",
        )),
    }
}

/// Refuses a pin that no server could make right: found before anybody is asked. With `first_use` a server need not be
/// pinned.
pub fn usable(pin: &Pin, first_use: bool) -> Result<()> {
    match pin {
        Pin::Tang(tang) => {
            Url::parse(&tang.url).map_err(refused)?;
            if tang.advertisement.as_ref().is_some_and(|adv| !adv.is_object()) {
                return Err(refused("pin tang: adv is neither an object nor the name of a file"));
            }
            match &tang.thumbprint {
                Some(thumbprint) => check_thumbprint(thumbprint),
                None if first_use || tang.advertisement.is_some() => Ok(()),
                None => Err(refused(format!(
                    "{}\n  add \"thp\": `pc-unlock adv {}` prints it",
                    tang_client::Error::NotPinned(tang.url.clone()),
                    tang.url
                ))),
            }
        }
        Pin::Sss(_, pins) => pins.iter().try_for_each(|pin| usable(pin, first_use)),
        Pin::Other(name, config) if name == tpm2::PIN => {
            tpm2::check(config).map_err(|error| refused(format!("pin tpm2: {error:#}")))
        }
        Pin::Other(name, config) if name == keyfile::PIN => {
            let config =
                config.as_object().ok_or_else(|| refused("pin file: its configuration is no object"))?;
            keyfile::path(config).map(|_| ()).map_err(|error| refused(format!("pin file: {error:#}")))
        }
        Pin::Other(name, _) => Err(refused(format!(
            "{}\n  tang, sss, tpm2 and file are",
            tang_client::Error::UnknownPin(name.clone())
        ))),
    }
}

/// 43 characters (SHA-256), or 27 (SHA-1, which old versions show), base64url without padding.
pub fn check_thumbprint(text: &str) -> Result<()> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if [43, 27].contains(&text.len()) && text.bytes().all(safe) {
        return Ok(());
    }
    Err(refused(format!(
        "{text:?} is not a thumbprint: 43 letters, digits, - and _\n  `pc-unlock adv URL` prints it"
    )))
}

/// One server: `tang`; several: `sss` with the threshold.
fn of_unlock(unlock: &Unlock) -> Pin {
    let tang = |server: &cluster::Tang| {
        let thumbprint = Some(server.thumbprint.clone());
        Pin::Tang(Tang { url: server.url.clone(), thumbprint, advertisement: None })
    };
    match &unlock.tang[..] {
        [server] if unlock.threshold <= 1 => tang(server),
        servers => Pin::Sss(unlock.threshold.into(), servers.iter().map(tang).collect()),
    }
}

/// Other words for an error, with its exit code: 75 when a later attempt may succeed.
pub fn as_lasting_as(error: &anyhow::Error, text: String) -> anyhow::Error {
    if Exit::of(error) == Exit::TryAgain { pc_cli::try_again(text) } else { anyhow!(text) }
}

/// An error of the client with the exit code it deserves: 75 when a later attempt may succeed.
pub fn classify(error: &tang_client::Error) -> anyhow::Error {
    match error {
        tang_client::Error::Given { .. } => refused(error),
        _ if error.is_temporary() => pc_cli::try_again(error),
        _ => anyhow!("{error}"),
    }
}
