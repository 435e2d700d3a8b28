//! `pc-vm reboot`, with a libvirt that takes every order and, for the event that follows, virsh or a stand-in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use scene::{NODES, Scene, UUID, running};

fn scene() -> Scene {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    scene.libvirt("n2", Some(&running("mail", UUID)));
    scene
}

/// It runs on n2, and is restarted from n1; what is waited for is the reset that libvirt tells, on that node.
#[test]
fn a_guest_restarts_where_it_runs() {
    let scene = scene();
    let root = scene.root("shared");
    let log = scene.program("virsh", "echo \"$@\" >> \"$LOG\"\necho error: pc-vm-ready >&2\nexit 0\n");
    let (exit, said) = scene.pc_vm("n1", &root, &["reboot", "mail", "--timeout", "7", "--json"]);
    assert_eq!(exit, 0, "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said[said.find('{').unwrap()..]).unwrap();
    assert_eq!(
        [&answer["schema"], &answer["vm"], &answer["node"], &answer["by"]],
        ["pc.vm.reboot/1", "mail", "n2", "guest"]
    );
    let there = scene.path("192.0.2.2.xml");
    assert_eq!(
        std::fs::read_to_string(log).unwrap(),
        format!(
            "--connect test://{} domid 'mail' ; echo --err pc-vm-ready ; event --domain 'mail' --event reboot --timeout 7\n",
            there.display()
        )
    );
}

/// The real virsh listens for a second, and the test driver tells of no reset: this guest ignores its power button.
#[test]
fn a_guest_that_does_not_restart_is_told_with_what_a_reset_would_cost() {
    let scene = scene();
    let (exit, said) = scene.pc_vm("n1", &scene.root("shared"), &["reboot", "mail", "--timeout", "1"]);
    assert_eq!(exit, 1, "{said}");
    let says = "vm mail did not restart within 1 s, and runs on\n  \
                to lose what it has not written to its disk: pc-vm reboot mail --reset\n";
    assert!(said.ends_with(says), "{said}");
}

/// Asked before anybody listens, a guest that is fast is missed, and its reset button pressed for nothing.
#[test]
fn nobody_is_asked_before_the_answer_can_be_heard() {
    let scene = scene();
    let root = scene.root("shared");
    let reboot = ["reboot", "mail", "--timeout", "7", "--reset", "-v"];
    scene.program("virsh", "echo error: no route to host >&2\nexit 1\n");
    let (exit, said) = scene.pc_vm("n1", &root, &reboot);
    assert_eq!(exit, 1, "{said}");
    assert!(said.ends_with("listening for the guest's restart: virsh: error: no route to host\n"), "{said}");
    assert!(!said.contains("asking vm mail to restart") && !said.contains("reset button"), "{said}");
    // And no longer than it takes: the guest is asked while virsh goes on listening.
    scene.program("virsh", "echo error: pc-vm-ready >&2\nsleep 1\necho event loop timed out\nexit 1\n");
    let (exit, said) = scene.pc_vm("n1", &root, &reboot);
    assert_eq!(exit, 0, "{said}");
    let asked = said.find("asking vm mail to restart").unwrap();
    assert!(said[asked..].contains("vm mail: pressing its reset button"), "{said}");
}

#[test]
fn what_cannot_restart_is_refused() {
    let scene = scene();
    let root = scene.root("shared");
    let stands_still = running("mail", UUID)
        .replace(
            "<domain type='test'>",
            "<domain type='test' xmlns:t='http://libvirt.org/schemas/domain/test/1.0'>",
        )
        .replace("</domain>", "<t:runstate>3</t:runstate></domain>");
    scene.libvirt("n2", Some(&stands_still));
    let (exit, said) = scene.pc_vm("n1", &root, &["reboot", "mail"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("restarts nothing while it stands still\n  on n2: virsh resume mail\n"), "{said}");
    scene.libvirt("n2", Some(""));
    let (exit, said) = scene.pc_vm("n1", &root, &["reboot", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says = "vm mail: runs nowhere, so there is nothing to restart\n  pc-vm start mail\n";
    assert!(said.ends_with(says), "{said}");
    // It may run where nobody answers.
    scene.libvirt("n3", None);
    let (exit, said) = scene.pc_vm("n1", &root, &["reboot", "mail"]);
    assert_eq!((exit, said.contains("it runs on no node that answers; n3: ")), (75, true), "{said}");
    let (exit, said) = scene.pc_vm("n1", &root, &["reboot", "web"]);
    assert_eq!((exit, said.contains("no [vm] is called \"web\"")), (2, true), "{said}");
}
