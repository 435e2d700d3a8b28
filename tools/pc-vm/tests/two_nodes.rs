//! A VM's life on two nodes with real libvirt daemons and QEMU: defined, started once, moved both ways, and never
//! started where it may run elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod nodes;

use nodes::Nodes;

#[test]
fn a_vm_runs_once() {
    let nodes = Nodes::new();
    defines(&nodes);
    starts_on_its_home(&nodes);
    moves_both_ways(&nodes);
    is_not_started_while_its_owner_is_silent(&nodes);
    stops(&nodes);
    forgets(&nodes);
}

/// Nobody here is systemd, so the step that needs it is filtered out, as a person would.
fn defines(nodes: &Nodes) {
    let ids = |plan: &serde_json::Value| -> Vec<String> {
        plan["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap().into()).collect()
    };
    let pc_vm = format!("{} --file $OLDPWD/cluster.toml --node n1", env!("CARGO_BIN_EXE_pc-vm"));
    for node in ["n1", "n2"] {
        assert_eq!(ids(&nodes.json(node, &["plan"])), ["mail/render", "mail/define", "listen"]);
        let pc_vm = pc_vm.replace("$OLDPWD", nodes.volume("..").to_str().unwrap()).replace("n1", node);
        nodes.sh(
            node,
            &format!(
                "{pc_vm} plan --json | jq 'del(.steps[] | select(.id == \"listen\"))' | {pc_vm} apply -"
            ),
        );
        assert_eq!(ids(&nodes.json(node, &["plan"])), ["listen"]);
        let xml = nodes.sh(node, "virsh dumpxml --inactive mail");
        assert!(xml.contains("personal-cluster/ns/vm/1"), "{xml}");
        assert_eq!(nodes.sh(node, "virsh dominfo mail | grep Autostart"), "Autostart:      disable");
    }
    nodes.expect(3, "n1", &["plan", "--exit-code"]);
}

fn starts_on_its_home(nodes: &Nodes) {
    let error = nodes.expect(2, "n2", &["start", "mail"]);
    assert!(error.contains("vm mail: its home is n1, this is n2\n  to start it"), "{error}");
    let said = nodes.expect(0, "n1", &["start", "mail"]);
    for line in ["made the disk of vm mail, 8MiB", "wrote the cloud-init seed of vm mail", "started vm mail"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(nodes.owner()["node"], "n1");
    assert!(nodes.volume("vms/mail/domain.xml").exists());
    let seen = &nodes.json("n1", &["probe", "--all"])["processes"];
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
    // Again: nothing to do, nothing said.
    assert_eq!(nodes.expect(0, "n1", &["start", "mail"]), "");
    let error = nodes.expect(2, "n2", &["start", "mail", "--here"]);
    assert!(error.contains("vm mail: runs on n1\n  to have it here: pc-vm migrate mail n2"), "{error}");
    let listed = &nodes.json("n2", &["list"])["vms"][0];
    assert_eq!((listed["state"].as_str(), listed["node"].as_str()), (Some("running"), Some("n1")));
}

fn moves_both_ways(nodes: &Nodes) {
    let error = nodes.expect(2, "n1", &["migrate", "mail", "n9"]);
    assert!(error.contains("no [[node]] is called"), "{error}");
    // From the node that runs it, then from the same node although another one runs it.
    for (from, to) in [("n1", "n2"), ("n2", "n1")] {
        let moved = nodes.json("n1", &["migrate", "mail", to]);
        assert_eq!((moved["from"].as_str(), moved["to"].as_str()), (Some(from), Some(to)));
        assert!(moved["seconds"].as_f64().unwrap() > 0.0);
        assert!(moved["downtime_ms"].is_u64(), "{moved}");
        assert_eq!(nodes.owner()["node"], to);
        assert!(nodes.owner().get("moving_to").is_none());
        assert_eq!(nodes.sh(to, "virsh domstate mail"), "running");
        assert_eq!(nodes.sh(from, "virsh domstate mail"), "shut off");
        // The definition came along unchanged.
        assert_eq!(nodes.json(to, &["plan"])["steps"].as_array().unwrap().len(), 1);
    }
    let still = nodes.json("n2", &["migrate", "mail", "n1"]);
    assert_eq!((still["from"].as_str(), still["to"].as_str()), (Some("n1"), Some("n1")));
}

fn is_not_started_while_its_owner_is_silent(nodes: &Nodes) {
    nodes.sh("n1", "kill -STOP $(cat /run/libvirtd.pid)");
    let error = nodes.expect(75, "n2", &["start", "mail", "--here"]);
    assert!(error.contains("n1 owns it and does not answer, it may still run there"), "{error}");
    assert!(error.contains("pc-vm start mail --here --owner-is-dead n1"), "{error}");
    // Dead instead of hanging: the kernel says so at once.
    nodes.sh("n1", "kill -KILL $(cat /run/libvirtd.pid)");
    let listed = &nodes.json("n2", &["list"])["vms"][0];
    assert_eq!(listed["state"], "unknown");
    // Somebody lies: QEMU's own lock on the disk is the second barrier.
    let error = nodes.expect(1, "n2", &["start", "mail", "--here", "--owner-is-dead", "n1"]);
    assert!(error.contains("lock"), "{error}");
    nodes.sh("n1", "kill -KILL $(cat /run/libvirt/qemu/mail.pid)");
    nodes.expect(0, "n2", &["start", "mail", "--here", "--owner-is-dead", "n1"]);
    assert_eq!(nodes.owner()["node"], "n2");
    nodes.sh(
        "n1",
        "rm /run/libvirtd.pid; libvirtd --listen --daemon --pid-file /run/libvirtd.pid > /dev/null 2>&1",
    );
    let error = nodes.expect(2, "n1", &["start", "mail"]);
    assert!(error.contains("runs on n2"), "{error}");
}

/// The guest is a BIOS without anything to boot: it ignores its power button.
fn stops(nodes: &Nodes) {
    nodes.expect(0, "n1", &["stop", "mail", "--here"]);
    assert_eq!(nodes.sh("n2", "virsh domstate mail"), "running");
    let said = nodes.expect(0, "n1", &["stop", "mail", "--timeout", "2"]);
    assert!(said.contains("did not stop within 2 s: pulling its plug"), "{said}");
    assert_eq!(nodes.sh("n2", "virsh domstate mail"), "shut off");
    assert_eq!(nodes.owner()["stopped"], true);
    assert_eq!(nodes.expect(0, "n1", &["stop", "mail"]), "");
    nodes.expect(0, "n1", &["start", "mail"]);
    assert_eq!(nodes.owner()["node"], "n1");
    nodes.expect(0, "n1", &["stop", "--all", "--timeout", "1"]);
    assert_eq!(nodes.sh("n1", "virsh domstate mail"), "shut off");
}

/// A VM that leaves the file leaves libvirt too; its disk stays.
fn forgets(nodes: &Nodes) {
    nodes.without_vm();
    let ids: Vec<String> = nodes.json("n1", &["plan"])["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["id"].as_str().unwrap().into())
        .collect();
    assert_eq!(ids, ["mail/forget", "listen"]);
    // Listening needs systemd, which is not here: that step fails, the other one is done all the same.
    nodes.expect(1, "n1", &["apply"]);
    assert_eq!(nodes.sh("n1", "virsh list --all --name"), "");
    assert!(nodes.volume("vms/mail/disk.img").exists());
}
