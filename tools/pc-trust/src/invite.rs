//! `token`: lets one more node in, where this member can sign for it.

use anyhow::{Result, bail};
use cluster::Cluster;
use pc_cli::{Common, Exit, refused};

use crate::lost::{self, Way};
use crate::member::Member;
use crate::paths::{COROSYNC_KEY, NODE_KEY, Paths, RECOVERY_KEY};
use crate::serve::names;
use crate::{apply, door, secrets};

/// A member that could not sign for whoever comes makes no token.
fn refuse_unable(common: &Common, paths: &Paths, member: &Member, cluster: &Cluster) -> Result<()> {
    let way = Way::new(common, &member.node, Some(cluster));
    let problems = lost::problems(paths, member, &way);
    if !problems.is_empty() {
        return Err(refused(format!("this member can let nobody in\n  {}", problems.join("\n  "))));
    }
    for name in [RECOVERY_KEY, NODE_KEY, COROSYNC_KEY] {
        secrets::read(paths, name)?.ok_or_else(|| secrets::closed(paths, name))?;
    }
    Ok(())
}

/// `pc-trust token NODE`: the text that the node's `join` wants.
pub fn token(common: &Common, node: &str) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    let member = Member::required(&paths)?;
    // The file that the service answers by; the one being edited only where nothing was applied.
    let applied = common.under_root(pc_cli::APPLIED_FILE).exists() && common.file.is_none();
    let cluster = apply::load(&Common { applied, ..common.clone() })?;
    if cluster.nodes.iter().all(|known| known.name.as_str() != node) {
        let unknown = cluster
            .view(node)
            .err()
            .map_or_else(|| format!("{node:?} is not a node's name"), |error| error.told());
        return Err(refused(format!(
            "{unknown}\n  name one of them; a file with a new node is put in force by `pc-config push FILE`"
        )));
    }
    if node == member.node {
        return Err(refused(format!(
            "{node} is this node, and a member\n  to have it join anew, run this on another member"
        )));
    }
    let own = names(&cluster, &member.node)?;
    refuse_unable(common, &paths, &member, &cluster)?;
    let issued = crate::init::join_line(&paths, &own, node)?;
    door::open(&paths, &own)?;
    let heard = pc_cli::emit_heard(common.json, &issued);
    let Err(error) = heard else { return Ok(Exit::Done) };
    // It is shown this once: a token that nobody has read must neither look like success nor open the door.
    let ended = match issued.revoke(&paths) {
        Ok(()) => "this token has ended".to_string(),
        Err(error) => format!("this token could not be ended: {error:#}"),
    };
    bail!("nobody has read the answer: {error:#}; {ended}\n  pc-trust token {node}");
}
