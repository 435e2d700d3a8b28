//! Restarting what runs inside a VM. Its QEMU goes on, so it stays on its node, and pacemaker need not know.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use cluster::Node;
use pc_cli::{Exit, emit, log, refused};
use serde::Serialize;

use crate::hypervisor::QUICK;
use crate::site::{Site, tell};
use crate::virsh::Lookout;

/// How a restart was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long the guest may take to go down
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub timeout: u64,
    /// When it has not gone down by then, press its reset button: what it has not written to its disk is lost
    #[arg(long)]
    pub reset: bool,
}

/// `pc.vm.reboot/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reboot {
    /// `pc.vm.reboot/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// Where it runs.
    pub node: String,
    /// `guest`: it went down by itself; `reset`: its reset button was pressed.
    pub by: &'static str,
    /// Until it began to boot.
    pub seconds: f64,
}

impl fmt::Display for Reboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.by == "guest" { "restarted" } else { "was reset" };
        writeln!(f, "vm {} {how} on {} after {:.1} s", self.vm, self.node, self.seconds)
    }
}

/// Restarts a guest, wherever it runs, and waits until it begins to boot.
pub fn reboot(site: &Site, name: &str, options: &Options) -> Result<Exit> {
    let guest = site.guest(name)?;
    let uuid = guest.uuid();
    let Some(node) = site.nodes.runs_on(&uuid).with_context(|| format!("vm {name}"))? else {
        return Err(refused(format!(
            "vm {name}: runs nowhere, so there is nothing to restart\n  {}",
            site.start_of(name)
        )));
    };
    let there = site.nodes.of(node)?;
    if let Some(live) = there.live(&uuid, QUICK)?.filter(|live| live.state == "paused") {
        let reason = live.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        return Err(refused(format!(
            "vm {name}: is paused{reason}, and restarts nothing while it stands still\n  on {}: virsh resume {name}",
            node.name
        )));
    }
    let started = Instant::now();
    let patience = Duration::from_secs(options.timeout);
    let by = if options.timeout > 0 && goes_down(site, name, node, &uuid, patience)? {
        "guest"
    } else if options.reset {
        log::warning(format_args!("vm {name}: pressing its reset button"));
        there.reset(&uuid).with_context(|| format!("resetting vm {name}"))?;
        "reset"
    } else {
        let seconds = options.timeout;
        return Err(anyhow!(
            "vm {name} did not restart within {seconds} s, and runs on\n  \
             to lose what it has not written to its disk: pc-vm reboot {name} --reset"
        ));
    };
    log::info(format_args!("restarted vm {name}"));
    let seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let node = node.name.to_string();
    emit(site.common.json, &Reboot { schema: "pc.vm.reboot/1", vm: name.into(), node, by, seconds })?;
    Ok(Exit::Done)
}

/// Asks once: a guest that is asked again while it boots would go down again.
fn goes_down(site: &Site, name: &str, node: &Node, uuid: &str, patience: Duration) -> Result<bool> {
    let there = site.nodes.of(node)?;
    let lookout = Lookout::new(&site.nodes.uri_from_here(node)?, name, patience)?;
    tell(&format!("asking vm {name} to restart"));
    there.reboot(uuid).with_context(|| format!("asking vm {name} to restart"))?;
    lookout.wait()
}
