//! What fencing proves: that a silent node is dead, and that this one will be when it falls silent.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::log;
use pc_run::run;
use xshell::{Shell, cmd};

use crate::hypervisor::LOOK;
use crate::owner::Owner;

/// The nodes whose silence is no reason to wait, for pacemaker takes them for dead. After a move whose end nobody has noted that is not
/// enough: pacemaker forgets a failed move after two minutes, and the guest may have arrived. Then only who has left its cluster is
/// dead.
pub fn proves(owner: &Owner, by_pacemaker: bool) -> Vec<String> {
    let mut fenced = owner.fenced(by_pacemaker);
    if owner.moving_to.is_none() || fenced.is_empty() {
        return fenced;
    }
    match members() {
        Ok(members) => fenced.retain(|node| !members.contains(node)),
        Err(error) => {
            log::warning(format_args!("vm {}: no silent node counts as dead: {error:#}", owner.vm));
            fenced.clear();
        }
    }
    fenced
}

/// Nodes that pacemaker takes for members, this one among them.
fn members() -> Result<Vec<String>> {
    let sh = Shell::new().context("asking for the working directory")?;
    let names = run(cmd!(sh, "crm_node --partition")).deadline(LOOK).read();
    let names = names.context("asking pacemaker for its members")?;
    Ok(names.split_whitespace().map(String::from).collect())
}

/// `Ok` when this node is reset once nobody hears of it any more: sbd runs, and a watchdog that resets it is armed. As pc-ha asks before
/// it has the guests that run here noted as pacemaker's.
pub fn resets_this_node(root: &Path) -> Result<(), &'static str> {
    let each = |directory: &str| fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
    let word = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    if !each("proc").any(|process| word(&process.path().join("comm")) == "sbd") {
        return Err("sbd does not run");
    }
    let resets = |watchdog: &Path| {
        let options = word(&watchdog.join("options"));
        let options = u64::from_str_radix(options.trim_start_matches("0x"), 16).unwrap_or(0);
        // WDIOF_ALARMONLY of linux/watchdog.h; drivers/watchdog/mei_wdt.c, for kernels before 6.4, which show no options.
        options & 0x0400 == 0 && word(&watchdog.join("identity")) != "iamt_wdt"
    };
    let armed = |watchdog: &Path| word(&watchdog.join("state")) == "active";
    if !each("sys/class/watchdog").any(|watchdog| armed(&watchdog.path()) && resets(&watchdog.path())) {
        return Err("no watchdog that resets it is armed");
    }
    Ok(())
}
