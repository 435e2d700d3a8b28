use super::*;

/// libvirt's own test driver: a host that exists in memory only, with one running domain called `test`.
fn test_host() -> Hypervisor {
    Hypervisor::open("test:///default", "the test host", QUICK).unwrap()
}

const UUID: &str = "32bb3f29-f1f3-8955-8093-5b31b9c88b6c";

fn xml(digest: &str) -> String {
    format!(
        "<domain type='test'><name>mail</name><uuid>{UUID}</uuid><metadata>\
         <pc:vm xmlns:pc='{}' digest='{digest}'/></metadata><memory unit='KiB'>65536</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os></domain>",
        crate::domain::NAMESPACE
    )
}

#[test]
fn a_domain_is_defined_and_started() {
    let host = test_host();
    assert_eq!(host.live(UUID, QUICK).unwrap(), None);
    host.define(&xml("one")).unwrap();
    host.define(&xml("two")).unwrap();
    let mail = |host: &Hypervisor| host.domains().unwrap().into_iter().find(|found| found.name == "mail");
    let found = mail(&host).unwrap();
    assert_eq!((found.uuid.as_str(), found.mark.as_deref(), found.active), (UUID, Some("two"), false));
    assert_eq!(found.running_mark, None);
    let others: Vec<_> = host.domains().unwrap().into_iter().filter(|found| found.mark.is_none()).collect();
    assert_eq!(others[0].name, "test");
    assert_eq!(host.live(UUID, QUICK).unwrap().unwrap().state, "shut off");
    host.create(UUID).unwrap();
    let live = host.live(UUID, QUICK).unwrap().unwrap();
    assert_eq!((live.state, live.active, live.memory_bytes), ("running", true, 64 << 20));
    // Redefined while it runs: its QEMU goes on as it was started.
    host.define(&xml("three")).unwrap();
    let found = mail(&host).unwrap();
    assert_eq!((found.mark.as_deref(), found.running_mark.as_deref()), (Some("three"), Some("two")));
    // The test driver knows no power button; pulling the plug is the same call everywhere.
    host.kill(UUID).unwrap();
    assert!(!host.live(UUID, QUICK).unwrap().unwrap().active);
    // Each was a wait for libvirt, and so an external call; other tests make theirs beside these.
    assert!(pc_run::Cost::since(std::time::Instant::now()).external_calls >= 11);
}

#[test]
fn errors_are_libvirts_own_words() {
    let error = test_host().create("00000000-0000-4000-8000-000000000000").unwrap_err().to_string();
    assert!(error.starts_with("libvirt of the test host: Domain not found"), "{error}");
    let error = Hypervisor::open("test:///no/such/file", "the test host", QUICK).unwrap_err();
    assert!(error.is::<pc_cli::TryAgain>(), "{error:#}");
}

/// A libvirtd that is stopped, or waits for a lock: the kernel still takes connections for it.
#[test]
fn a_daemon_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("libvirt-sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let uri = format!("qemu+unix:///system?socket={}&mode=legacy", socket.display());
    let error = Hypervisor::open(&uri, "this node", Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.to_string(), "connecting to libvirt of this node: no answer within 0 s");
    assert!(error.is::<pc_cli::TryAgain>());
}

#[test]
fn a_call_that_hangs_is_given_up() {
    let error = within("node9", Duration::from_millis(20), || {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    });
    assert_eq!(error.unwrap_err().to_string(), "node9: no answer within 0 s");
}
