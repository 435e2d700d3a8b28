//! `pc-exporter monitor`: all that Prometheus and Alertmanager read on the machine that watches, out of the cluster file.
//!
//! What is written is a function of the file and of which secrets are there; where it lies is one directory, ours alone.

mod alertmanager;
mod prometheus;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::Cluster;
use pc_cli::{Common, log, refused, write_atomic};

use crate::rules;
use crate::targets::{self, Of};

/// Where it is written, as long as nobody says otherwise.
pub const DIRECTORY: &str = "/var/lib/personal-cluster/monitor";
/// What an administrator puts there: secrets, and an alertmanager.yml or rules of their own.
const OWN: &str = "/etc/personal-cluster/monitor";
/// Queueing jobs is all that systemd is asked for.
const SYSTEMD: Duration = Duration::from_secs(30);

/// The daemons, by the names of their units in Debian.
const PROMETHEUS: &str = "prometheus.service";
const ALERTMANAGER: &str = "prometheus-alertmanager.service";

/// How a daemon takes notice of another content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    /// It looks at the file by itself, or nobody does.
    None,
    /// It reads its configuration again.
    Reload(&'static str),
    /// What it was started with has changed.
    Restart(&'static str),
}

/// A file, by its path below the directory.
type Files = BTreeMap<String, (Cow<'static, str>, Notice)>;

/// Dashboards for Grafana, as in telemetry/dashboards.
const DASHBOARDS: &[(&str, &str)] = &[
    ("backup.json", include_str!("../../../../telemetry/dashboards/backup.json")),
    ("cluster.json", include_str!("../../../../telemetry/dashboards/cluster.json")),
    ("node.json", include_str!("../../../../telemetry/dashboards/node.json")),
    ("storage.json", include_str!("../../../../telemetry/dashboards/storage.json")),
    ("vm.json", include_str!("../../../../telemetry/dashboards/vm.json")),
];

/// What an administrator has put on the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "four files that are there or not")]
struct There {
    /// The cluster's CA.
    ca: bool,
    /// The token of `[exporter]`.
    token: bool,
    /// The password of `user` at the smarthost.
    password: bool,
    /// A configuration of Alertmanager instead of ours.
    alertmanager: bool,
}

impl There {
    /// By what is below `OWN`; `elsewhere`: the files are for another machine, which has its secrets.
    fn new(common: &Common, elsewhere: bool) -> There {
        let there = |name: &str| elsewhere || common.under_root(OWN).join(name).exists();
        There {
            ca: there("ca.crt"),
            token: there("exporter.token"),
            password: there("smtp.password"),
            alertmanager: !elsewhere && there("alertmanager.yml"),
        }
    }
}

/// Flags of the verb.
#[derive(Debug, clap::Args)]
pub struct Manner {
    /// Write below this directory
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    output: PathBuf,
    /// Have Prometheus and Alertmanager of this machine take up what changed
    #[arg(long)]
    reload: bool,
    /// The files are for another machine: name the secrets that it must have, whether they are here or not
    #[arg(long, conflicts_with = "reload")]
    elsewhere: bool,
}

/// Writes what differs, says what is missing, and has the daemons take notice.
pub fn run(common: &Common, file: &Cluster, manner: &Manner) -> Result<()> {
    let there = There::new(common, manner.elsewhere);
    let directory = std::path::absolute(&manner.output)
        .with_context(|| format!("finding {}", manner.output.display()))?;
    let files = files(file, there, &directory)?;
    let notices = install(&common.under_root(&directory.to_string_lossy()), &files)?;
    for line in lacking(file, there) {
        log::warning(format_args!("{line}"));
    }
    if !manner.reload {
        return Ok(());
    }
    for daemon in [PROMETHEUS, ALERTMANAGER] {
        let took = if notices.contains(&Notice::Restart(daemon)) {
            systemd_jobs::request_restart(&[daemon], SYSTEMD)?
        } else if notices.contains(&Notice::Reload(daemon)) {
            systemd_jobs::request_reload(&[daemon], SYSTEMD)?
        } else {
            continue;
        };
        for unit in took {
            log::info(format_args!("{unit} takes it up"));
        }
    }
    Ok(())
}

/// All files. `directory` is where the daemons will find them.
fn files(file: &Cluster, there: There, directory: &Path) -> Result<Files> {
    let at = directory.to_string_lossy();
    if at.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'\\$".contains(c)) {
        return Err(refused(format!(
            "{at:?}: a name that systemd would take apart in a command line\n  name another directory"
        )));
    }
    let mut files = Files::new();
    let mut add = |name: &str, text: Cow<'static, str>, notice| files.insert(name.into(), (text, notice));
    add("prometheus.yml", prometheus::configuration(file, there).into(), Notice::Reload(PROMETHEUS));
    add("prometheus.env", prometheus::environment(&at).into(), Notice::Restart(PROMETHEUS));
    let alertmanager = alertmanager::configuration(file, there);
    add("alertmanager.yml", alertmanager.into(), Notice::Reload(ALERTMANAGER));
    let own: &str = if there.alertmanager { OWN } else { &at };
    add("alertmanager.env", alertmanager::environment(own).into(), Notice::Restart(ALERTMANAGER));
    for (name, of) in [("node-exporter", Of::NodeExporter), ("pc-exporter", Of::PcExporter)] {
        add(&format!("targets/{name}.json"), targets::text(file, of)?.into(), Notice::None);
    }
    for (name, text) in rules::FILES {
        add(&format!("rules/{name}"), (*text).into(), Notice::Reload(PROMETHEUS));
    }
    for (name, text) in DASHBOARDS {
        add(&format!("dashboards/{name}"), (*text).into(), Notice::None);
    }
    Ok(files)
}

/// What the file wants and the machine lacks, each with the one thing to do.
fn lacking(file: &Cluster, there: There) -> Vec<String> {
    let guarded = file.exporter.clone().unwrap_or_default();
    let mut lines = Vec::new();
    if guarded.tls && !there.ca {
        lines.push(format!(
            "no {OWN}/ca.crt: pc-exporter of the nodes is not believed\n  copy {}/ca.crt of any node there",
            cluster::paths::TRUST
        ));
    }
    if guarded.token && !there.token {
        lines.push(format!(
            "no {OWN}/exporter.token: pc-exporter of the nodes answers nobody without it\n  \
             install -m 0640 -g prometheus token {OWN}/exporter.token"
        ));
    }
    match &file.monitor {
        _ if there.alertmanager => {}
        None => lines.push(
            "nobody is told of an alert: http://127.0.0.1:9093 shows them\n  \
             add [monitor] with mail = [\"you@example.org\"] to the cluster file"
                .into(),
        ),
        Some(monitor) if monitor.user.is_some() && !there.password => lines.push(format!(
            "no {OWN}/smtp.password: the mail server will take no alert\n  \
             install -m 0640 -g prometheus password {OWN}/smtp.password"
        )),
        Some(_) => {}
    }
    lines
}

/// Writes what differs, removes what an older version wrote and this one does not; what was done is what must be noticed.
fn install(directory: &Path, files: &Files) -> Result<Vec<Notice>> {
    let mut notices = Vec::new();
    let folders: BTreeSet<&str> = files.keys().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    for folder in &folders {
        let path = directory.join(folder);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    }
    for (name, (text, notice)) in files {
        let path = directory.join(name);
        if std::fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
            continue;
        }
        write_atomic(&path, text.as_bytes(), 0o644)?;
        log::info(format_args!("wrote {}", path.display()));
        notices.push(*notice);
    }
    for folder in folders {
        let path = directory.join(folder);
        let entries = std::fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", path.display()))?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if files.contains_key(&name) {
                continue;
            }
            std::fs::remove_file(entry.path())
                .with_context(|| format!("removing {}", entry.path().display()))?;
            log::info(format_args!("removed {}", entry.path().display()));
            if folder == "rules" {
                notices.push(Notice::Reload(PROMETHEUS));
            }
        }
    }
    Ok(notices)
}

#[cfg(test)]
mod tests;
