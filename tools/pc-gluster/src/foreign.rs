//! What the pool holds and the file does not name: reported, never touched.

use std::collections::BTreeMap;

use crate::have::Have;
use crate::pool;
use crate::want::Want;

/// Names of `peers`, `volumes` and `bricks` that are not in the file.
pub fn foreign(want: &Want, have: &Have) -> BTreeMap<&'static str, Vec<String>> {
    let volume = |name: &String| want.volumes.iter().find(|volume| volume.name == *name);
    let volumes = have.volumes.keys().filter(|name| volume(name).is_none());
    let bricks = have.volumes.iter().flat_map(|(name, info)| {
        let wanted: Option<Vec<&String>> = volume(name).map(|volume| volume.sets.iter().flatten().collect());
        let is_foreign = move |brick: &&String| wanted.as_ref().is_some_and(|wanted| !wanted.contains(brick));
        info.bricks.iter().filter(is_foreign).cloned()
    });
    BTreeMap::from([
        ("peers", pool::strangers(want, have).map(|peer| pool::name(peer).to_string()).collect()),
        ("volumes", volumes.cloned().collect()),
        ("bricks", bricks.collect()),
    ])
}
