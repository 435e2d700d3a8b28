//! What the pool holds and the file does not name: reported, never touched.

use std::collections::BTreeMap;

use crate::have::{self, Have};
use crate::want::{Member, Want};

/// Names of `peers`, `volumes` and `bricks` that are not in the file.
pub fn foreign(want: &Want, have: &Have) -> BTreeMap<&'static str, Vec<String>> {
    let is_named = |names: &[String]| {
        let is = |member: &Member| names.iter().any(|name| have::is(name, member));
        want.members.iter().any(is)
    };
    let peers = have.peers.iter().filter(|peer| !is_named(&peer.names));
    let volume = |name: &String| want.volumes.iter().find(|volume| volume.name == *name);
    let volumes = have.volumes.keys().filter(|name| volume(name).is_none());
    let bricks = have.volumes.iter().flat_map(|(name, info)| {
        let wanted: Option<Vec<&String>> = volume(name).map(|volume| volume.sets.iter().flatten().collect());
        let is_foreign = move |brick: &&String| wanted.as_ref().is_some_and(|wanted| !wanted.contains(brick));
        info.bricks.iter().filter(is_foreign).cloned()
    });
    BTreeMap::from([
        ("peers", peers.filter_map(|peer| peer.names.first().cloned()).collect()),
        ("volumes", volumes.cloned().collect()),
        ("bricks", bricks.collect()),
    ])
}
