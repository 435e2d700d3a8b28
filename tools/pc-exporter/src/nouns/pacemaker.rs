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
    ACTIVE: Gauge "pc_pacemaker_resource_active" ["resource"] "Instances of the resource that are active somewhere.";
    WANTED: Gauge "pc_pacemaker_resource_wanted" ["resource"] "1 unless somebody has told pacemaker to keep the resource stopped (pc-ha stop).";
    FAILED: Gauge "pc_pacemaker_resource_failed" ["resource"] "Instances of the resource that have failed.";
    BLOCKED: Gauge "pc_pacemaker_resource_blocked" ["resource"] "Instances of the resource that pacemaker no longer dares to touch.";
    FENCE_FAILURES: Gauge "pc_pacemaker_fencing_failures" [] "Failed fencing actions in pacemaker's history.";
}

/// Instances of one resource: active, failed, blocked.
type Instances = [u64; 3];

/// The whole answer. Anybody may ask it of a running cluster; it is asked by root, as the socket may be root's.
pub fn read(text: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut resources: BTreeMap<String, Instances> = BTreeMap::new();
    let mut stopped: BTreeSet<String> = BTreeSet::new();
    let (mut leader, mut failures) = (None, 0);
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
                let instances = resources.entry(id).or_default();
                for (count, key) in instances.iter_mut().zip(["active", "failed", "blocked"]) {
                    *count += u64::from(truth(element, key)?);
                }
            }
            (b"fence_history", b"fence_event") => {
                failures += u64::from(text_of(element, "status")? == "failed");
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
        for (family, count) in [&ACTIVE, &FAILED, &BLOCKED].into_iter().zip(instances) {
            samples.count(family, &[resource], *count);
        }
        samples.truth(&WANTED, &[resource], !stopped.contains(resource));
    }
    samples.count(&FENCE_FAILURES, &[], failures);
    Ok(samples)
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
mod tests {
    use super::*;
    use crate::exposition::{Format, render};

    /// Recorded from pacemaker 2.1.5 on a CIB of three nodes: one lost, one in standby, one resource failed.
    const RECORDED: &str = include_str!("../../fixtures/crm_mon-2.1/one-node-lost.xml");

    fn lines(text: &str) -> Vec<String> {
        let rendered = render(&read(text).unwrap().0, Format::Text);
        rendered.lines().filter(|line| !line.starts_with('#')).map(str::to_string).collect()
    }

    #[test]
    fn a_lost_node_and_a_failed_resource() {
        let expected = [
            "pc_pacemaker_quorum 1",
            "pc_pacemaker_fencing_enabled 1",
            "pc_pacemaker_maintenance_mode 0",
            "pc_pacemaker_node_online{peer=\"node1\"} 1",
            "pc_pacemaker_node_online{peer=\"node2\"} 1",
            "pc_pacemaker_node_online{peer=\"node3\"} 0",
            "pc_pacemaker_node_standby{peer=\"node1\"} 0",
            "pc_pacemaker_node_standby{peer=\"node2\"} 1",
            "pc_pacemaker_node_standby{peer=\"node3\"} 0",
            "pc_pacemaker_node_maintenance{peer=\"node1\"} 0",
            "pc_pacemaker_node_maintenance{peer=\"node2\"} 0",
            "pc_pacemaker_node_maintenance{peer=\"node3\"} 0",
            "pc_pacemaker_node_unclean{peer=\"node1\"} 0",
            "pc_pacemaker_node_unclean{peer=\"node2\"} 0",
            "pc_pacemaker_node_unclean{peer=\"node3\"} 1",
            "pc_pacemaker_resource_active{resource=\"mail\"} 1",
            "pc_pacemaker_resource_active{resource=\"probe-vms\"} 1",
            "pc_pacemaker_resource_active{resource=\"web\"} 1",
            "pc_pacemaker_resource_wanted{resource=\"mail\"} 1",
            "pc_pacemaker_resource_wanted{resource=\"probe-vms\"} 1",
            "pc_pacemaker_resource_wanted{resource=\"web\"} 1",
            "pc_pacemaker_resource_failed{resource=\"mail\"} 0",
            "pc_pacemaker_resource_failed{resource=\"probe-vms\"} 0",
            "pc_pacemaker_resource_failed{resource=\"web\"} 1",
            "pc_pacemaker_resource_blocked{resource=\"mail\"} 0",
            "pc_pacemaker_resource_blocked{resource=\"probe-vms\"} 0",
            "pc_pacemaker_resource_blocked{resource=\"web\"} 0",
            "pc_pacemaker_fencing_failures 0",
        ];
        assert_eq!(lines(RECORDED), expected);
    }

    #[test]
    fn a_resource_that_somebody_has_stopped() {
        // As pacemaker 2.1.5 answers of one with the meta attribute target-role.
        let stopped = RECORDED.replacen(
            "role=\"Started\" active=\"true\"",
            "role=\"Stopped\" target_role=\"Stopped\" active=\"false\"",
            1,
        );
        let told = lines(&stopped);
        for line in [
            "pc_pacemaker_resource_active{resource=\"mail\"} 0",
            "pc_pacemaker_resource_wanted{resource=\"mail\"} 0",
            "pc_pacemaker_resource_wanted{resource=\"web\"} 1",
        ] {
            assert!(told.contains(&line.to_string()), "{line}: {told:?}");
        }
    }

    #[test]
    fn failed_fencing_is_counted_and_other_answers_are_refused() {
        // The shape of pacemaker's fence-event element (xml/api/fence-event-*.rng).
        let history = "<fence_history status=\"0\">\
            <fence_event status=\"failed\" action=\"reboot\" target=\"node3\" client=\"c\" origin=\"node1\"/>\
            <fence_event status=\"success\" action=\"reboot\" target=\"node3\" client=\"c\" origin=\"node1\"/>\
            </fence_history>";
        let text = RECORDED.replace("<failures>", &format!("{history}<failures>"));
        assert_eq!(lines(&text).last().unwrap(), "pc_pacemaker_fencing_failures 1");
        assert!(read("crm_mon: Error: cluster is not available on this node").is_err());
        assert!(read(&RECORDED[..400]).is_err());
        assert!(read("").is_err());
    }
}
