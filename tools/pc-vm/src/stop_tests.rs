use super::*;
use crate::owner::Owner;
use crate::site::tests::{FILE, on_site};

/// Started again between its end and the record of it: recorded as stopped, another node would start it as well.
#[test]
fn what_runs_again_is_not_noted_as_stopped() {
    let cluster = cluster::parse("test", FILE).unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
    std::fs::write(root.path().join("proc/self/mountinfo"), "61 24 0:51 / /mnt/vms rw - ext4 /dev/a rw\n")
        .unwrap();
    on_site(&cluster, root.path(), "test:///default", |site| {
        let guest = site.guest("mail").unwrap();
        let uuid = guest.uuid();
        let hypervisor = site.nodes.local().unwrap();
        let domain = format!(
            "<domain type='test'><name>mail</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>\
         <vcpu>1</vcpu><os><type>hvm</type></os></domain>"
        );
        hypervisor.define(&domain).unwrap();
        hypervisor.create(&uuid).unwrap();
        let store = site.store(&guest);
        drop(store.lock().unwrap());
        store.set_owner(&Owner::new("mail", "node1", None, now().unwrap())).unwrap();
        release(site, &guest, &hypervisor, "node1");
        assert!(!store.owner().unwrap().unwrap().stopped);
        hypervisor.kill(&uuid).unwrap();
        release(site, &guest, &hypervisor, "node1");
        assert!(store.owner().unwrap().unwrap().stopped);
    });
}

/// The unit that started a VM is put down when pacemaker takes over, and the guest runs on; not when the machine goes down, and
/// not where pacemaker was not enabled. Whose it is, is not noted here: nothing would reset this node yet.
#[test]
fn a_guest_is_handed_over_where_pacemaker_is_the_starter_and_the_machine_stays_up() {
    let ha = "schema = \"personal-cluster/1\"\nname = \"home\"\nha = {}\n\
        [[node]]\nname = \"node1\"\naddress = \"192.168.0.50/24\"\n\
        [[node]]\nname = \"node2\"\naddress = \"192.168.0.51/24\"\n\
        [[node]]\nname = \"node3\"\naddress = \"192.168.0.52/24\"\n";
    let cluster = cluster::parse("test", ha).unwrap();
    let root = tempfile::tempdir().unwrap();
    let handed_over = |hand_over, stopping| {
        let options = Options { here: true, timeout: 1, by_pacemaker: false, at_shutdown: false, hand_over };
        on_site(&cluster, root.path(), "", |site| is_handed_over(site, &options, || stopping))
    };
    assert!(!handed_over(true, false), "pacemaker was not enabled here");
    let marker = root.path().join("var/lib/personal-cluster/ha-enabled");
    std::fs::create_dir_all(marker.parent().unwrap()).unwrap();
    std::fs::write(marker, "").unwrap();
    assert!(handed_over(true, false));
    assert!(!handed_over(true, true), "the machine goes down");
    assert!(!handed_over(false, false), "somebody asked for its end");
}

/// Taken out of the file while it runs, it can still be stopped by pacemaker, and by nobody else.
#[test]
fn what_has_left_the_file_is_stopped_by_its_uuid() {
    let cluster = cluster::parse("test", FILE).unwrap();
    let root = tempfile::tempdir().unwrap();
    on_site(&cluster, root.path(), "test:///default", |site| {
        let options = |by_pacemaker| Options {
            here: true,
            timeout: 1,
            by_pacemaker,
            at_shutdown: false,
            hand_over: false,
        };
        assert_eq!(stop(site, "old", &options(true)).unwrap(), Exit::Done);
        assert!(stop(site, "old", &options(false)).unwrap_err().is::<pc_cli::Refused>());
    });
}
