//! On recorded answers.

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
        "pc_pacemaker_resource_active{resource=\"web\"} 0",
        "pc_pacemaker_resource_starting{resource=\"mail\"} 0",
        "pc_pacemaker_resource_starting{resource=\"probe-vms\"} 0",
        "pc_pacemaker_resource_starting{resource=\"web\"} 0",
        "pc_pacemaker_resource_wanted{resource=\"mail\"} 1",
        "pc_pacemaker_resource_wanted{resource=\"probe-vms\"} 1",
        "pc_pacemaker_resource_wanted{resource=\"web\"} 1",
        "pc_pacemaker_resource_failed{resource=\"mail\"} 0",
        "pc_pacemaker_resource_failed{resource=\"probe-vms\"} 0",
        "pc_pacemaker_resource_failed{resource=\"web\"} 1",
        "pc_pacemaker_resource_failures{resource=\"mail\"} 0",
        "pc_pacemaker_resource_failures{resource=\"probe-vms\"} 0",
        "pc_pacemaker_resource_failures{resource=\"web\"} 1",
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

/// Recorded from pacemaker 2.1.5 on the history of a cluster in which VMs do not start: one is tried elsewhere, one has just
/// failed, one has been stopped after that; one died, one moves, one runs again.
const AGAIN: &str = include_str!("../../fixtures/crm_mon-2.1/start-again.xml");

#[test]
fn what_is_tried_again_does_not_run_between_the_attempts() {
    let told = lines(AGAIN);
    let of = |vm: &str| {
        ["active", "starting", "failed", "failures"].map(|what| {
            let start = format!("pc_pacemaker_resource_{what}{{resource=\"pc-vm-{vm}\"}} ");
            told.iter().find_map(|line| line.strip_prefix(&start)).unwrap().to_string()
        })
    };
    assert_eq!(of("starting"), ["0", "1", "0", "1"]);
    assert_eq!(of("failed"), ["0", "0", "1", "1"]);
    // Not one more of the other, whose name begins alike.
    assert_eq!(of("failed_b"), ["0", "0", "0", "1"]);
    assert_eq!(of("dead"), ["0", "0", "1", "1"]);
    assert_eq!(of("moving"), ["1", "0", "0", "0"]);
    assert_eq!(of("well"), ["1", "0", "0", "1"]);
    let volumes = "pc_pacemaker_resource_active{resource=\"pc-volume-vms\"} 3".to_string();
    assert!(told.contains(&volumes), "{told:?}");
}
