//! The rows of pacemaker's CIB that are ours, as the XML that its own tools take. Every row of ours is known by its id,
//! which begins with `pc-`, except the three options of the whole cluster that no VM is safe without.

use std::fmt::Write;

use cluster::timing::Timing;

use crate::room::MEMORY;
use crate::want::{Vm, Volume, Want};

/// Pacemaker's own set: of several, this one counts.
pub const OPTIONS: &str = "cib-bootstrap-options";
/// Where our agents lie below /usr/lib/ocf/resource.d.
pub const PROVIDER: &str = "personal-cluster";
/// Where a VM is wanted when it can choose, against how much it wants to stay: it is not moved back by itself.
const HOME: u32 = 50;
const STICKINESS: u32 = 100;
/// More than home and staying together, so that those who had to share a node part again when there is another. Not
/// forbidden: while one node is left all of them run there.
const APART: i32 = -1000;

/// One object of the CIB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Section of the configuration: `crm_config`, `resources`, `constraints`.
    pub scope: &'static str,
    /// It and what is below it.
    pub xml: String,
}

/// Resource of a VM.
pub fn vm_resource(vm: &str) -> String {
    format!("pc-vm-{vm}")
}

/// The VM of a resource.
pub fn vm_of(resource: &str) -> &str {
    resource.strip_prefix("pc-vm-").unwrap_or(resource)
}

/// Clone of a volume's probe.
pub fn volume_clone(volume: &str) -> String {
    format!("pc-clone-{volume}")
}

/// All rows, what others refer to first.
pub fn rows(want: &Want) -> Vec<Row> {
    let mut rows = vec![options(want)];
    for volume in &want.volumes {
        rows.push(probe(volume, want.timing));
        rows.extend(volume.absent_on.iter().map(|node| never(&volume_clone(&volume.name), node)));
    }
    for vm in &want.vms {
        rows.push(guest(vm, want.timing));
        let (resource, clone) = (vm_resource(&vm.name), volume_clone(&vm.volume));
        let constraint = |kind: &str, rest: String| Row {
            id: format!("pc-{kind}-{}", vm.name),
            scope: "constraints",
            xml: rest,
        };
        let name = &vm.name;
        rows.push(constraint(
            "order",
            format!(
                r#"<rsc_order id="pc-order-{name}" kind="Mandatory" first="{clone}" then="{resource}"/>"#
            ),
        ));
        rows.push(constraint(
            "with",
            format!(
                r#"<rsc_colocation id="pc-with-{name}" score="INFINITY" rsc="{resource}" with-rsc="{clone}"/>"#
            ),
        ));
        let home = &vm.home;
        rows.push(constraint(
            "home",
            format!(r#"<rsc_location id="pc-home-{name}" rsc="{resource}" node="{home}" score="{HOME}"/>"#),
        ));
        if vm.pinned {
            let others = want.members.iter().filter(|member| member.name != vm.home);
            rows.extend(others.map(|member| never(&resource, &member.name)));
        }
    }
    rows.extend(want.vms.iter().flat_map(after));
    rows.extend(apart(&want.vms));
    rows
}

/// A row for each VM that comes before this one. Optional: it holds where both are to be started, or stopped, at the same
/// time. One that fails, moves or is stopped by hand takes nobody along, and who cannot start keeps nobody down.
fn after(vm: &Vm) -> Vec<Row> {
    let row = |first: &String| {
        let id = format!("pc-after-{}.{first}", vm.name);
        let (first, then) = (vm_resource(first), vm_resource(&vm.name));
        let xml = format!(r#"<rsc_order id="{id}" kind="Optional" first="{first}" then="{then}"/>"#);
        Row { id, scope: "constraints", xml }
    };
    vm.after.iter().map(row).collect()
}

/// A row for each two VMs of a group. The more important one is placed first, the other one away from it.
fn apart(vms: &[Vm]) -> Vec<Row> {
    let mut vms: Vec<&Vm> = vms.iter().filter(|vm| vm.apart.is_some()).collect();
    vms.sort_by_key(|vm| (std::cmp::Reverse(vm.priority), &vm.name));
    let mut rows = Vec::new();
    for (index, second) in vms.iter().enumerate() {
        for first in vms[..index].iter().filter(|first| first.apart == second.apart) {
            let id = format!("pc-apart-{}.{}", second.name, first.name);
            let (one, other) = (vm_resource(&second.name), vm_resource(&first.name));
            let xml =
                format!(r#"<rsc_colocation id="{id}" score="{APART}" rsc="{one}" with-rsc="{other}"/>"#);
            rows.push(Row { id, scope: "constraints", xml });
        }
    }
    rows
}

fn options(want: &Want) -> Row {
    let fencing = format!("{}s", want.timing.fencing_ms / 1000);
    // Pacemaker ends a fencing that takes longer than 1.2 times this, and would never call the node dead.
    let patience = format!("{}s", (want.timing.fencing_ms / 1000 * 2).max(60));
    let mut wanted = vec![
        ("stonith-enabled", "true"),
        ("no-quorum-policy", "stop"),
        ("stonith-watchdog-timeout", &fencing),
        ("stonith-timeout", &patience),
        // A node that comes back and hears that it was declared dead resets at once: the others start its VMs already.
        ("fence-reaction", "panic"),
    ];
    wanted.retain(|(name, _)| {
        !(want.fencing_stays && name.starts_with("stonith-") && name.ends_with("timeout"))
    });
    wanted.extend(want.placement.map(|strategy| ("placement-strategy", strategy)));
    let pairs = pairs(OPTIONS, &wanted);
    Row {
        id: OPTIONS.into(),
        scope: "crm_config",
        xml: format!(r#"<cluster_property_set id="{OPTIONS}">{pairs}</cluster_property_set>"#),
    }
}

/// A name of the file is a DNS label, and none of our values holds a quote: nothing needs escaping. A label has no dot, so
/// that what is below an object never has the id of another one. Pacemaker's own set keeps to its own rule.
fn pairs(set: &str, pairs: &[(&str, &str)]) -> String {
    let dot = if set == OPTIONS { '-' } else { '.' };
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a String cannot fail.
        let _ = write!(text, r#"<nvpair id="{set}{dot}{name}" name="{name}" value="{value}"/>"#);
        text
    })
}

fn operations(id: &str, operations: &[(&str, &str, &str)]) -> String {
    let each = operations.iter().fold(String::new(), |mut text, (name, interval, timeout)| {
        let _ =
            write!(text, r#"<op id="{id}.{name}" name="{name}" interval="{interval}" timeout="{timeout}"/>"#);
        text
    });
    format!("<operations>{each}</operations>")
}

/// A mount that hangs fails within the agent's own deadline, which is below the operation's, and above what Gluster makes all
/// nodes wait when one of them dies.
fn probe(volume: &Volume, timing: Timing) -> Row {
    let name = &volume.name;
    let id = format!("pc-volume-{name}");
    let deadline = (Timing::probe_ms() / 1000).to_string();
    let timeout = format!("{}s", Timing::probe_operation_ms() / 1000);
    let parameters = pairs(&format!("{id}.parameters"), &[("volume", name), ("deadline", &deadline)]);
    // A volume comes when its disks are unlocked: asked again, for ever.
    let meta = pairs(&format!("{id}.meta"), &[("failure-timeout", "20s")]);
    let ops = [("start", "0", &*timeout), ("stop", "0", "60s"), ("monitor", &interval(timing), &timeout)];
    let ops = operations(&id, &ops);
    let clone = volume_clone(name);
    let interleave = pairs(&format!("{clone}.meta"), &[("interleave", "true")]);
    Row {
        id: clone.clone(),
        scope: "resources",
        xml: format!(
            r#"<clone id="{clone}"><meta_attributes id="{clone}.meta">{interleave}</meta_attributes><primitive id="{id}" class="ocf" provider="{PROVIDER}" type="pc-volume"><instance_attributes id="{id}.parameters">{parameters}</instance_attributes><meta_attributes id="{id}.meta">{meta}</meta_attributes>{ops}</primitive></clone>"#
        ),
    }
}

/// How often pacemaker asks.
fn interval(timing: Timing) -> String {
    format!("{}s", timing.watch_ms().div_ceil(1000))
}

fn guest(vm: &Vm, timing: Timing) -> Row {
    let id = vm_resource(&vm.name);
    let parameters = pairs(&format!("{id}.parameters"), &[("vm", &vm.name)]);
    let (priority, stickiness) = (vm.priority.to_string(), STICKINESS.to_string());
    let movable = if vm.pinned { "false" } else { "true" };
    let meta = [
        ("allow-migrate", movable),
        ("priority", &priority),
        ("resource-stickiness", &stickiness),
        ("failure-timeout", "120s"),
        ("migration-threshold", "3"),
        // A node that cannot tell whether it has the VM counts as having it, and so does the other end of a move that has failed:
        // any stop could be that of the copy that is well. It runs on, and the failure is forgotten after two minutes: the node is
        // asked again, the move is tried again. What pacemaker then knows no more pc-vm does (its fencing.rs).
        ("multiple-active", "block"),
    ];
    let meta = pairs(&format!("{id}.meta"), &meta);
    let ops = [
        // The first start copies an image.
        ("start", "0", "1200s"),
        // The guest's own three minutes, and the plug.
        ("stop", "0", "300s"),
        // It looks at /proc. A node too busy for that within seconds still runs its guests: a monitor that fails stops one.
        ("monitor", &interval(timing), "120s"),
        ("migrate_to", "0", "1800s"),
        ("migrate_from", "0", "120s"),
    ];
    let ops = operations(&id, &ops);
    let needs = pairs(&format!("{id}.utilization"), &[(MEMORY, &vm.memory_mib().to_string())]);
    Row {
        id: id.clone(),
        scope: "resources",
        xml: format!(
            r#"<primitive id="{id}" class="ocf" provider="{PROVIDER}" type="pc-vm"><instance_attributes id="{id}.parameters">{parameters}</instance_attributes><meta_attributes id="{id}.meta">{meta}</meta_attributes>{ops}<utilization id="{id}.utilization">{needs}</utilization></primitive>"#
        ),
    }
}

fn never(resource: &str, node: &str) -> Row {
    let id = format!("pc-not-{}.{node}", resource.trim_start_matches("pc-"));
    let xml = format!(r#"<rsc_location id="{id}" rsc="{resource}" node="{node}" score="-INFINITY"/>"#);
    Row { id, scope: "constraints", xml }
}
