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

/// The unit that started a VM is put down when pacemaker takes over: the guest runs on, and the record says whose it is.
#[test]
fn what_is_handed_over_is_noted_as_pacemaker_s() {
    let cluster = cluster::parse("test", FILE).unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
    std::fs::write(root.path().join("proc/self/mountinfo"), "61 24 0:51 / /mnt/vms rw - ext4 /dev/a rw\n")
        .unwrap();
    on_site(&cluster, root.path(), "test:///default", |site| {
        let guest = site.guest("mail").unwrap();
        let store = site.store(&guest);
        drop(store.lock().unwrap());
        for (node, noted) in [("node1", true), ("node2", false)] {
            store.set_owner(&Owner::new("mail", node, None, now().unwrap())).unwrap();
            hand_over(site, &guest);
            assert_eq!(store.owner().unwrap().unwrap().pacemaker, noted, "{node}");
        }
    });
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
