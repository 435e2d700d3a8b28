//! On what pacemaker 2.1 and corosync 3.1 really answered.

use super::*;

const MONITOR: &str = include_str!("../tests/recorded/crm_mon.xml");
const QUORUM: &str = include_str!("../tests/recorded/quorumtool.txt");

#[test]
fn pacemaker_s_answer_reads() {
    let engine = read(MONITOR).unwrap();
    assert_eq!(engine.dc.as_deref(), Some("node1"));
    assert!(!engine.maintenance && !engine.stops_all && engine.fences);
    let names: Vec<&str> = engine.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["node1", "node2", "node3"]);
    assert!(engine.nodes.iter().all(|node| node.online && !node.drained && !node.unclean));
    // Somebody's own address is none of our VMs.
    assert_eq!(engine.vms.len(), 1);
    let mail = engine.vm("pc-vm-mail").unwrap();
    assert_eq!((mail.role.as_str(), mail.nodes.as_slice()), ("Started", ["node2".to_string()].as_slice()));
    assert!(mail.managed && !mail.failed);
    assert_eq!(engine.probes.len(), 3);
    assert_eq!(engine.vms_on("node2"), ["mail"]);
    assert!(engine.vms_on("node1").is_empty());
}

#[test]
fn what_is_pending_is_not_online_and_what_is_lost_is_unclean() {
    let pending =
        MONITOR.replacen(r#"pending="false" unclean="false""#, r#"pending="true" unclean="true""#, 1);
    let engine = read(&pending).unwrap();
    assert!(!engine.nodes[0].online && engine.nodes[0].unclean);
}

#[test]
fn corosync_s_answer_reads() {
    let quorum = read_quorum(QUORUM).unwrap();
    assert_eq!(quorum, Quorum { quorate: true, votes: 1, expected: 1, needed: 1 });
    // corosync-quorumtool.c: the word behind the number, when there is no quorum.
    let lost = QUORUM
        .replace("Quorate:          Yes", "Quorate:          No")
        .replace("Expected votes:   1", "Expected votes:   3")
        .replace("Quorum:           1  ", "Quorum:           2 Activity blocked");
    assert_eq!(read_quorum(&lost).unwrap(), Quorum { quorate: false, votes: 1, expected: 3, needed: 2 });
    // corosync-quorumtool.c, show_status(): VOTEQUORUM_INFO_QDEVICE.
    assert!(!read_quorum_device(QUORUM));
    assert!(read_quorum_device(
        &QUORUM.replace("Flags:            Quorate ", "Flags:            Quorate Qdevice ")
    ));
    assert_eq!(read_members(QUORUM), ["node1"]);
    // corosync-quorumtool.c, display_nodes_data(): one more column with a quorum device, which is a row as well.
    let more = QUORUM.replace(
        "    Nodeid      Votes Name\n         1          1 node1 (local)",
        "    Nodeid      Votes    Qdevice Name\n         1          1    A,V,NMW node1 (local)\n         \
         2          1    A,V,NMW node2\n         0          1            Qdevice",
    );
    assert_ne!(more, QUORUM);
    assert_eq!(read_members(&more), ["node1", "node2", "Qdevice"]);
    assert!(read_members("").is_empty());
    assert!(read_quorum("Cannot initialize QUORUM service").unwrap_err().to_string().contains("Quorate"));
}

#[test]
fn fencing_that_failed_is_counted() {
    assert_eq!(read(MONITOR).unwrap().failed_fencing, 0);
    // The shape of pacemaker's fence-event element (xml/api/fence-event-*.rng).
    let history = "<fence_history status=\"0\">\
        <fence_event status=\"failed\" action=\"reboot\" target=\"node3\" client=\"c\" origin=\"node1\"/>\
        <fence_event status=\"success\" action=\"reboot\" target=\"node3\" client=\"c\" origin=\"node1\"/>\
        </fence_history><status ";
    assert_eq!(read(&MONITOR.replacen("<status ", history, 1)).unwrap().failed_fencing, 1);
}
