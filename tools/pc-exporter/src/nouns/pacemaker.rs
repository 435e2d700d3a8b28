//! `crm_mon --output-as=xml`: nodes, resources and fencing as pacemaker sees them (`crm_mon(8)`, pacemaker's
//! `xml/api/crm_mon-*.rng`).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::metric::{Samples, families};

families! {
    QUORUM: Gauge "pc_pacemaker_quorum" [] "1 when pacemaker has a leader (DC) with quorum.";
    FENCING: Gauge "pc_pacemaker_fencing_enabled" [] "1 when lost nodes are fenced.";
    MAINTENANCE: Gauge "pc_pacemaker_maintenance_mode" [] "1 while pacemaker manages nothing.";
    ONLINE: Gauge "pc_pacemaker_node_online" ["peer"] "1 when the node is a member.";
    STANDBY: Gauge "pc_pacemaker_node_standby" ["peer"] "1 when the node may run nothing.";
    NODE_MAINTENANCE: Gauge "pc_pacemaker_node_maintenance" ["peer"] "1 when the node's resources are left alone.";
    UNCLEAN: Gauge "pc_pacemaker_node_unclean" ["peer"] "1 when the node has to be fenced before anything of it runs elsewhere.";
    ACTIVE: Gauge "pc_pacemaker_resource_active" ["resource"] "Instances of the resource that run somewhere; one that is being started, or whose last operation failed, does not.";
    STARTING: Gauge "pc_pacemaker_resource_starting" ["resource"] "Instances of the resource that are being started.";
    WANTED: Gauge "pc_pacemaker_resource_wanted" ["resource"] "1 unless somebody has told pacemaker to keep the resource stopped (pc-ha stop).";
    FAILED: Gauge "pc_pacemaker_resource_failed" ["resource"] "Instances of the resource whose last operation failed; for a moment only where the next attempt follows.";
    FAILURES: Gauge "pc_pacemaker_resource_failures" ["resource"] "Failed operations of the resource, on whatever node, that pacemaker has not forgotten yet.";
    BLOCKED: Gauge "pc_pacemaker_resource_blocked" ["resource"] "Instances of the resource that pacemaker no longer dares to touch.";
    FENCE_FAILURES: Gauge "pc_pacemaker_fencing_failures" [] "Failed fencing actions in pacemaker's history, at least: of several to the same end the newest counts.";
}

/// Instances of one resource: active, being started, failed, blocked.
type Instances = [u64; 4];

/// The whole answer. Anybody may ask it of a running cluster; it is asked by root, as the socket may be root's.
pub fn read(text: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut resources: BTreeMap<String, Instances> = BTreeMap::new();
    let mut stopped: BTreeSet<String> = BTreeSet::new();
    let mut failures: Vec<String> = Vec::new();
    let (mut leader, mut failed_fencing) = (None, 0);
    loop {
        let event = reader.read_event().context("reading crm_mon's XML")?;
        let (element, empty) = match &event {
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::End(_) => {
                open.pop();
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let parent = open.last().map_or(&b""[..], Vec::as_slice);
        match (parent, element.name().as_ref()) {
            (b"summary", b"current_dc") => leader = Some(truth(element, "with_quorum")?),
            (b"summary", b"cluster_options") => {
                samples.truth(&FENCING, &[], truth(element, "stonith-enabled")?);
                samples.truth(&MAINTENANCE, &[], truth(element, "maintenance-mode")?);
            }
            (b"nodes", b"node") => node(&mut samples, element)?,
            (b"resources" | b"group" | b"clone" | b"replica" | b"bundle", b"resource") => {
                let id = text_of(element, "id")?;
                // Absent where nobody has said anything.
                if text_of(element, "target_role")? == "Stopped" {
                    stopped.insert(id.clone());
                }
                let counts = resources.entry(id).or_default();
                for (count, so) in counts.iter_mut().zip(instance(element)?) {
                    *count += u64::from(so);
                }
            }
            (b"failures", b"failure") => failures.push(text_of(element, "op_key")?),
            (b"fence_history", b"fence_event") => {
                failed_fencing += u64::from(text_of(element, "status")? == "failed");
            }
            _ => {}
        }
        if !empty {
            open.push(element.name().as_ref().to_vec());
        }
    }
    let Some(quorum) = leader else { bail!("crm_mon's XML has no <current_dc>") };
    samples.truth(&QUORUM, &[], quorum);
    for (resource, instances) in &resources {
        for (family, count) in [&ACTIVE, &STARTING, &FAILED, &BLOCKED].into_iter().zip(instances) {
            samples.count(family, &[resource], *count);
        }
        let failed = failures.iter().filter(|key| resource_of(key, resources.keys()) == Some(resource));
        samples.count(&FAILURES, &[resource], failed.count() as u64);
        samples.truth(&WANTED, &[resource], !stopped.contains(resource));
    }
    samples.count(&FENCE_FAILURES, &[], failed_fencing);
    Ok(samples)
}

/// Whether an instance runs, is being started, has failed, is blocked. Pacemaker calls `active` what it has begun to start, and,
/// until it has stopped it, what did not start: a resource that is tried again and again would seem to run at times.
fn instance(element: &BytesStart<'_>) -> Result<[bool; 4]> {
    let (active, failed) = (truth(element, "active")?, truth(element, "failed")?);
    let starting = active && text_of(element, "role")? == "Starting";
    Ok([active && !starting && !failed, starting, failed, truth(element, "blocked")?])
}

/// Whose operation it is: a key is `RESOURCE_TASK_INTERVAL`, and the name of a resource may have a `_` as well.
fn resource_of<'a>(key: &str, resources: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let of = |resource: &&String| {
        key.strip_prefix(resource.as_str()).is_some_and(|rest| rest.starts_with('_') || rest.starts_with(':'))
    };
    resources.filter(of).max_by_key(|resource| resource.len())
}

fn node(samples: &mut Samples, element: &BytesStart<'_>) -> Result<()> {
    let name = text_of(element, "name")?;
    let states = [
        (&ONLINE, "online"),
        (&STANDBY, "standby"),
        (&NODE_MAINTENANCE, "maintenance"),
        (&UNCLEAN, "unclean"),
    ];
    for (family, key) in states {
        samples.truth(family, &[&name], truth(element, key)?);
    }
    Ok(())
}

fn text_of(element: &BytesStart<'_>, key: &str) -> Result<String> {
    let found = element.try_get_attribute(key).with_context(|| format!("reading {key}"))?;
    let value = found.map(|attribute| {
        attribute.normalized_value(XmlVersion::Explicit1_0).map(std::borrow::Cow::into_owned)
    });
    value.transpose().with_context(|| format!("reading {key}")).map(Option::unwrap_or_default)
}

/// `true`, or anything else; an attribute that an older pacemaker does not write is not true.
fn truth(element: &BytesStart<'_>, key: &str) -> Result<bool> {
    Ok(text_of(element, key)? == "true")
}

#[cfg(test)]
#[path = "pacemaker_tests.rs"]
mod tests;
