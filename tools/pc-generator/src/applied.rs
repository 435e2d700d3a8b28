//! What the applied file says about this node, read as tolerantly as a boot deserves: unknown keys are a
//! newer version's, and an entry that makes no sense costs that entry only.

use std::collections::BTreeMap;

use cluster::{Brick, DevicePath, Name, Use};
use serde_json::Value;

/// What this node mounts and starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Its bricks and local volumes.
    pub bricks: Vec<Brick>,
    /// Replicated volumes, mounted on every node.
    pub volumes: Vec<Name>,
    /// Addresses of the other nodes, in the order of the file.
    pub peers: Vec<String>,
    /// VMs that this node starts; none once pacemaker is the only starter.
    pub vms: Vec<Name>,
    /// Of those, which are started before another one.
    pub after: BTreeMap<Name, Vec<Name>>,
    /// Secrets that pc-exporter is to have, of those that lie open.
    pub credentials: Vec<&'static str>,
}

/// Finds `node` in the file. `None`, with a line in `faults`, when there is nothing to go by. `[ha]` hands the VMs
/// to pacemaker when that has taken over, `ha_enabled`: until then nobody else would start them.
pub fn read(text: &str, node: &str, ha_enabled: bool, faults: &mut Vec<String>) -> Option<Want> {
    let file: Value = match serde_json::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            faults.push(format!("applied.json: {error}"));
            return None;
        }
    };
    let nodes = file.get("node").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(own) = nodes.iter().find(|entry| text_of(entry, "name") == Some(node)) else {
        faults.push(format!("applied.json: no [[node]] is called {node:?}"));
        return None;
    };
    let mut want = Want { bricks: bricks(&file, own, faults), ..Want::default() };
    for (name, volume) in entries(&file, "volume") {
        if matches!(purpose(volume), Some(Use::Vm | Use::Backup)) {
            want.volumes.extend(checked("volume", name, Name::try_from(name.to_string()), faults));
        }
    }
    let others = nodes.iter().filter(|entry| text_of(entry, "name") != Some(node));
    want.peers = others.filter_map(|entry| text_of(entry, "address")).filter_map(host).collect();
    let has_ha = file.get("ha").is_some_and(|ha| !ha.is_null());
    if !(has_ha && ha_enabled) {
        let first = nodes.first().and_then(|entry| text_of(entry, "name"));
        for (name, vm) in entries(&file, "vm") {
            if text_of(vm, "home").or(first) == Some(node) {
                want.vms.extend(checked("vm", name, Name::try_from(name.to_string()), faults));
            }
        }
    }
    want.after = after(&file, &want.vms);
    let of_exporter = |key: &str| file.get("exporter").and_then(|exporter| exporter.get(key)?.as_bool());
    for (key, secret) in [("tls", "node.key"), ("token", "exporter.token")] {
        want.credentials.extend((of_exporter(key) == Some(true)).then_some(secret));
    }
    Some(want)
}

/// Which VMs of this node come before another one of it; what is no VM of this node's is nothing that it could wait for.
fn after(file: &Value, vms: &[Name]) -> BTreeMap<Name, Vec<Name>> {
    let mut order = BTreeMap::new();
    for vm in vms {
        let section = file.get("vm").and_then(|all| all.get(vm.as_str()));
        let named = section.and_then(|own| own.get("after")?.as_array()).into_iter().flatten();
        let own = named.filter_map(|name| vms.iter().find(|vm| Some(vm.as_str()) == name.as_str()));
        let own: Vec<Name> = own.filter(|first| *first != vm).cloned().collect();
        if !own.is_empty() {
            order.insert(vm.clone(), own);
        }
    }
    order
}

fn bricks(file: &Value, own: &Value, faults: &mut Vec<String>) -> Vec<Brick> {
    let mut bricks = Vec::new();
    for (name, disks) in entries(own, "disks") {
        let Some(volume) = checked("volume", name, Name::try_from(name.to_string()), faults) else {
            continue;
        };
        let section = file.get("volume").and_then(|volumes| volumes.get(name));
        // The same default as the checked file's view has: disks of no volume are local.
        let Some(purpose) = section.map_or(Some(Use::Local), purpose) else {
            faults.push(format!("applied.json: volume {name}: unknown use, its disks are not mounted"));
            continue;
        };
        for disk in disks.as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = disk.as_str().unwrap_or_default();
            let Some(device) = checked("disk", text, DevicePath::try_from(text.to_string()), faults) else {
                continue;
            };
            bricks.push(Brick { volume: volume.clone(), purpose, device });
        }
    }
    bricks
}

fn purpose(volume: &Value) -> Option<Use> {
    serde_json::from_value(volume.get("use")?.clone()).ok()
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    value
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, entry)| (name.as_str(), entry))
}

fn checked<T>(kind: &str, text: &str, made: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    made.map_err(|fault| faults.push(format!("applied.json: {kind} {text:?}: {fault}"))).ok()
}

/// `192.168.0.50/24` without its prefix length. mount.glusterfs separates servers by colons, so an IPv6
/// address cannot be handed over; the node itself comes first anyway.
fn host(address: &str) -> Option<String> {
    let host = address.split('/').next().unwrap_or(address);
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    (!host.is_empty() && host.bytes().all(safe)).then(|| host.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> (Option<Want>, Vec<String>) {
        let mut faults = Vec::new();
        (read(text, "a", false, &mut faults), faults)
    }

    #[test]
    fn a_bad_entry_costs_only_itself() {
        let (want, faults) = read_one(
            r#"{"schema":"personal-cluster/9","later":{"x":1},
                "node":[{"name":"a","address":"10.0.0.1","rack":7,"disks":{"vms":["/dev/sdb",
                    "/dev/disk/by-id/ata-1", 7],"BAD":["/dev/disk/by-id/ata-2"],"odd":["/dev/disk/by-id/ata-3"]}},
                    {"name":"b","address":"fd00::2/64"},{"name":"c","address":"10.0.0.3/24"}],
                "volume":{"vms":{"use":"vm"},"odd":{"use":"tape"}},
                "vm":{"one":{},"two":{"home":"b"},"-bad":{}}}"#,
        );
        let want = want.unwrap();
        assert_eq!(want.bricks.iter().map(Brick::name).collect::<Vec<_>>(), ["ata-1"]);
        assert_eq!(want.peers, ["10.0.0.3"]);
        assert_eq!(want.vms.iter().map(Name::as_str).collect::<Vec<_>>(), ["one"]);
        assert_eq!(faults.len(), 5, "{faults:?}");
    }

    #[test]
    fn pacemaker_is_the_only_starter_once_it_has_taken_over() {
        let vms = |ha: &str, enabled| {
            let text = format!(r#"{{"node":[{{"name":"a"}}],"vm":{{"one":{{}}}}{ha}}}"#);
            read(&text, "a", enabled, &mut Vec::new()).unwrap().vms.len()
        };
        assert_eq!(vms(r#","ha":{}"#, true), 0);
        assert_eq!(vms(r#","ha":{}"#, false), 1, "nobody else would start it");
        assert_eq!(vms("", true), 1, "a marker that was left behind says nothing");
        assert_eq!(vms(r#","ha":null"#, true), 1);
    }

    #[test]
    fn a_vm_waits_for_those_that_its_own_node_starts() {
        let (want, faults) = read_one(
            r#"{"node":[{"name":"a"},{"name":"b"}],"vm":{
                "web":{"after":["db","far","gone","web",7]},"db":{"after":"web"},"far":{"home":"b"},"log":{"after":[]}}}"#,
        );
        let named = |name: &str| Name::try_from(name.to_string()).unwrap();
        assert_eq!(want.unwrap().after, BTreeMap::from([(named("web"), vec![named("db")])]));
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_cluster_file_is_one_line() {
        for text in ["", "{", "[]", "7", "{}", r#"{"node":7}"#, r#"{"node":[{"name":"b"}]}"#] {
            let (want, faults) = read_one(text);
            assert_eq!((want, faults.len()), (None, 1), "{text}");
        }
        let odd = r#"{"node":[{"name":"a","disks":[7]}],"volume":3,"vm":"x"}"#;
        assert_eq!(read_one(odd), (Some(Want::default()), vec![]));
    }
}
