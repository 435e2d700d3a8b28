//! `pc-exporter node-exporter`: what Prometheus' own exporter of machine metrics is started with on this node.
//!
//! Its defaults listen on every interface and leave out the units that the alert rules ask for. Arguments that an
//! administrator has given it are theirs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{Common, log, refused, write_atomic};

use crate::targets;

/// Read by its unit (units/prometheus-node-exporter.service.d).
const FILE: &str = "/run/personal-cluster/node-exporter.env";
/// Where Debian's unit has its arguments from.
const DEFAULTS: &str = "/etc/default/prometheus-node-exporter";
const UNIT: &str = "prometheus-node-exporter.service";
/// Queueing a job is all that systemd is asked for.
const SYSTEMD: Duration = Duration::from_secs(30);

/// One a line: the systemd collector, which is off by default and leaves mounts out, with the units that the rules know; no
/// virtual file systems and no FUSE, as statfs(2) on a volume without quorum waits. No backslash and no quotation mark: the
/// environment file and systemd would each want their own. The `NixOS` module reads the same file.
const ARGUMENTS: &str = include_str!("../../../telemetry/node-exporter.args");

/// Writes it where it differs; with `reload` a node-exporter that runs is started with it.
pub fn run(common: &Common, reload: bool) -> Result<()> {
    let file = crate::load(common)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    let wanted = environment(targets::address(view.node)?);
    let theirs = std::fs::read_to_string(common.under_root(DEFAULTS)).is_ok_and(|text| has_arguments(&text));
    let changed = put(&common.under_root(FILE), (!theirs).then_some(&wanted))?;
    if theirs && changed {
        log::info(format_args!("ARGS of {DEFAULTS} counts, not ours"));
    }
    if changed && reload {
        for unit in systemd_jobs::request_restart(&[UNIT], SYSTEMD)? {
            log::info(format_args!("{unit} starts anew"));
        }
    }
    Ok(())
}

/// On the node's own address alone.
fn environment(address: IpAddr) -> String {
    let listen = SocketAddr::new(address, targets::NODE_EXPORTER);
    let arguments: Vec<&str> = ARGUMENTS.lines().collect();
    format!("ARGS=\"{} --web.listen-address={listen}\"\n", arguments.join(" "))
}

/// Whether a file of /etc/default gives arguments.
fn has_arguments(text: &str) -> bool {
    let last = text.lines().rev().find_map(|line| line.trim().strip_prefix("ARGS="));
    last.is_some_and(|value| !value.trim_matches(['"', '\'', ' ']).is_empty())
}

/// Has the file with this content, or none; whether it was otherwise.
fn put(path: &Path, wanted: Option<&String>) -> Result<bool> {
    let present = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if present.as_ref() == wanted {
        return Ok(false);
    }
    let Some(wanted) = wanted else {
        std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        return Ok(true);
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    write_atomic(path, wanted.as_bytes(), 0o644)?;
    log::info(format_args!("wrote {}", path.display()));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_each_for_whoever_takes_it_apart() {
        let text = environment("fd00::50".parse().unwrap());
        let inner = text.strip_prefix("ARGS=\"").and_then(|rest| rest.strip_suffix("\"\n")).unwrap();
        assert!(!inner.contains(['"', '\'', '\\', '`']), "{inner}");
        let words: Vec<&str> = inner.split(' ').collect();
        assert!(words.len() == 5 && words.iter().all(|word| word.starts_with("--")), "{words:?}");
        assert_eq!(words[4], "--web.listen-address=[fd00::50]:9100");
    }

    #[test]
    fn what_an_administrator_wrote_counts() {
        for none in ["", "# ARGS=\"--x\"\n", "ARGS=\"\"\n", "ARGS=\n", "ARGS=\"--x\"\nARGS=''\n"] {
            assert!(!has_arguments(none), "{none:?}");
        }
        for some in ["ARGS=\"--collector.ntp\"\n", "# mine\nARGS=--x\n", "ARGS=\"\\\n --x\"\n"] {
            assert!(has_arguments(some), "{some:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/node-exporter.env");
        let ours = String::from("ARGS=\"--x\"\n");
        let steps = [(None, false), (Some(&ours), true), (Some(&ours), false), (None, true), (None, false)];
        for (wanted, changed) in steps {
            assert_eq!(put(&path, wanted).unwrap(), changed);
            assert_eq!(std::fs::read_to_string(&path).ok().as_ref(), wanted);
        }
    }
}
