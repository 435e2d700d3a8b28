//! Members of the pool that need a person: those that the file does not name, which count for server quorum all the same
//! as glusterd knows no other pool than its own, and those that the pool turns away.

use crate::have::{self, Have};
use crate::want::{Member, Want};
use crate::xml::Peer;

/// What makes a machine the one that the pool remembers.
const RUNBOOK: &str = "docs/runbooks/nodes.md, \"A new machine for a dead one\"";

/// Members of the pool that the file does not name.
pub fn strangers<'a>(want: &'a Want, have: &'a Have) -> impl Iterator<Item = &'a Peer> {
    let named = |member: &Member, peer: &Peer| peer.names.iter().any(|name| have::is(name, member));
    have.peers.iter().filter(move |peer| !want.members.iter().any(|member| named(member, peer)))
}

/// What people call a peer.
pub fn name(peer: &Peer) -> &str {
    peer.names.first().unwrap_or(&peer.uuid)
}

/// What is wrong with the pool itself: a line each, and the remedy. A stranger that is connected gives its vote and is no fault.
pub fn faults(want: &Want, have: &Have) -> Vec<String> {
    let is_stranger = |peer: &Peer| strangers(want, have).any(|stranger| stranger == peer);
    let fault = |peer: &Peer| {
        let (name, uuid) = (name(peer), &peer.uuid);
        match (is_stranger(peer), peer.connected, peer.rejected) {
            (true, false, _) | (true, _, true) => Some(format!(
                "peer {name}: is away and not in the file, and still counts for server quorum\n  gluster peer detach {name}"
            )),
            (false, _, true) => Some(format!(
                "peer {name}: the pool rejects it: what answers there is not {uuid}, or has other volumes\n  {RUNBOOK}"
            )),
            _ => None,
        }
    };
    have.peers.iter().filter_map(fault).collect()
}
