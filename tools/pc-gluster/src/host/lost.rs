//! Bricks that run and that nobody finds: this node's glusterd has lost their port.
//!
//! A start that took too long on a busy machine, or ended otherwise than glusterd expects, leaves the port 0 with it
//! (`glusterd_volume_start_glusterfs` in glusterd-utils.c); the next start finds the process ("discovered already-running
//! brick") and calls it online. Who asks where the brick is gets no answer, and `volume start force` finds nothing to do.

use super::{GLANCE, cli};
use crate::have::{Have, OwnBrick};

/// Marks them. Only a brick that runs and that this node does not reach makes it ask glusterd.
pub fn mark(have: &mut Have) {
    let Have { bricks, volumes, online, .. } = have;
    for (name, info) in volumes.iter().filter(|(_, info)| info.started) {
        let is_doubtful = |brick: &&mut OwnBrick| {
            brick.running && info.bricks.contains(&brick.address) && !online.contains(&brick.address)
        };
        let mut doubtful: Vec<_> = bricks.iter_mut().filter(is_doubtful).collect();
        if doubtful.is_empty() {
            continue;
        }
        match cli::bricks_lost(name, GLANCE) {
            Ok(lost) => doubtful.iter_mut().for_each(|brick| brick.lost = lost.contains(&brick.address)),
            Err(error) => pc_cli::log::debug(format_args!("volume {name}: {error:#}")),
        }
    }
}
