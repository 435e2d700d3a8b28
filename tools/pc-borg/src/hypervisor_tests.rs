use super::*;
use crate::lock::Me;
use crate::stage::GuestFiles;

#[test]
fn the_job_is_as_libvirt_reads_it() {
    let me = Me { node: "node1".into(), boot_id: "b".into(), pid: 1, started_ticks: 1 };
    let files = GuestFiles { directory: "/mnt/a&b".into() };
    let job = Job {
        vm: "mail",
        work: "/w".into(),
        socket: "/run/x.sock".into(),
        scratch: files.directory.join("scratch"),
        freezer: &Freezer::of("mail", &files, me),
    };
    let text = definition(&job);
    assert!(text.contains("<server transport='unix' socket='/run/x.sock'/>"), "{text}");
    assert!(text.contains("<scratch file='/mnt/a&amp;b/scratch'/>"), "{text}");
}

/// virsh 9.0 and 11.3.
#[test]
fn what_libvirt_is_busy_with_is_read() {
    assert_eq!(job("Job type:         None        \n").unwrap(), None);
    let moving = "Job type:         Unbounded   \nOperation:        Outgoing migration\nTime elapsed:     203          ms\n";
    assert_eq!(job(moving).unwrap().as_deref(), Some("Outgoing migration"));
    assert!(job("").is_err(), "silence is no answer");
}

/// virsh 9.0, as libvirtd ends while it listens, and while there is none.
#[test]
fn a_libvirt_that_goes_is_told_from_a_guest_that_does_not_come() {
    assert!(is_cut_off("error: Disconnected from qemu:///system due to end of file"));
    assert!(is_cut_off(
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"
    ));
    assert!(!is_cut_off("error: internal error: cannot set up guest memory"));
}

#[test]
fn a_socket_is_of_one_policy_and_one_vm_and_its_path_is_short_enough() {
    assert_eq!(socket_name("daily", "mail"), "pc-borg-daily.mail.sock");
    assert_ne!(socket_name("a-b", "c"), socket_name("a", "b-c"));
    let long = "x".repeat(63);
    let name = socket_name(&long, &long);
    let directory = directory_of(99_999, &long);
    assert_eq!(directory, "/var/lib/libvirt/qemu/domain-99999-xxxxxxxxxxxxxxxxxxxx");
    assert!(directory.len() + 1 + name.len() <= 107, "{name}");
    assert_ne!(name, socket_name(&long, "mail"));
}
