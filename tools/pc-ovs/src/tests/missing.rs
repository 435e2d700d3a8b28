//! NICs of the file that are not on the machine.

use super::planning::{FILE, after, blank, faults, ids, wanted};
use crate::model::Link;
use crate::plan::plan;

#[test]
fn a_working_nic_is_not_given_up_for_one_that_is_not_there() {
    let mut have = after(&blank(), &plan(&wanted(FILE), &blank(), false));
    let other = wanted(&FILE.replace("eth0", "nic9"));
    let planned = plan(&other, &have, false);
    assert!(planned.steps.is_empty(), "{:?}", planned.steps);
    assert_eq!(
        faults(&planned),
        [
            "nic9 is not there, and bridge br-lan keeps eth0\n  write in nics.lan what `ip -brief link` shows, or plug it in"
        ]
    );
    assert!(planned.refusals[0].waits, "it may come later");
    assert_eq!(plan(&other, &have, true).steps, [], "nor with --take-over");
    // One of a bond is enough.
    let bond = plan(&wanted(&FILE.replace("\"eth0\"", "\"nic9\", \"eth0\"")), &have, false);
    assert_eq!((ids(&bond), faults(&bond)), (vec!["br-lan/eth0", "br-lan/bond-lan"], vec![]));
    // It was late.
    have.links.insert("nic9".into(), Link { mac: "52:54:00:00:00:09".into(), up: true, ..Link::default() });
    let planned = plan(&other, &have, false);
    assert!(planned.refusals.is_empty(), "{:?}", faults(&planned));
    assert!(ids(&planned).starts_with(&["br-lan/eth0"]) && ids(&planned).contains(&"br-lan/nic9"));
    assert!(plan(&other, &after(&have, &planned), false).steps.is_empty());
}

#[test]
fn an_uplink_that_is_left_alone_keeps_its_nic_and_its_bridge() {
    let have = after(&blank(), &plan(&wanted(FILE), &blank(), false));
    // Its NIC goes to another uplink of the file, which has to wait as well.
    let moved = FILE.replace("nics.lan = [\"eth0\"]", "nics.lan = [\"nic9\"]\nnics.wan = [\"eth0\"]")
        + "[network.out]\nuplink = \"wan\"\n";
    let planned = plan(&wanted(&moved), &have, false);
    assert!(planned.steps.is_empty(), "{:?}", planned.steps);
    assert_eq!(
        faults(&planned)[1],
        "eth0 is in bridge br-lan, which is left alone\n  correct uplink lan first"
    );
    assert!(planned.refusals.iter().all(|refusal| refusal.waits));
    // The uplink has another name, and the node's address is still on the old bridge.
    let renamed = FILE.replace("nics.lan = [\"eth0\"]", "nics.net = [\"nic9\"]");
    let planned = plan(&wanted(&renamed.replace("uplink = \"lan\"", "uplink = \"net\"")), &have, false);
    assert!(planned.steps.is_empty(), "{:?}", planned.steps);
    assert!(faults(&planned)[0].starts_with("nic9 is not there, and bridge br-lan keeps eth0"));
}
