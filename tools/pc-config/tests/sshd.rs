//! push over real sshds: certificates, forced command and files as `pc-trust init` and `join` lay them out.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod machine;
mod nodes;

use machine::file;
use nodes::Nodes;

const TOML: &str = "/etc/personal-cluster/cluster.toml";

#[test]
fn push_reaches_three_nodes_or_none() {
    let nodes = Nodes::new();
    assert_eq!(nodes.in_force(), [1, 1, 1]);
    all_nodes_get_it(&nodes);
    a_node_that_is_off(&nodes);
    a_host_that_no_certificate_names(&nodes);
    a_newer_file_elsewhere(&nodes);
    a_full_disk_elsewhere(&nodes);
    keys_that_are_not_open(&nodes);
    only_listed_verbs_pass(&nodes);
}

fn all_nodes_get_it(nodes: &Nodes) {
    let text = file(3, "# édité\n");
    nodes.edit("node1", TOML, &text);
    let ended = nodes.run("node1", &["pc-config", "push"], "");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "generation 2 is in force on node1, node2, node3\n"),
        "{ended:?}"
    );
    for node in ["node2", "node3"] {
        assert_eq!(nodes.sh(node, &format!("cat {TOML}")), text);
        let status = nodes.sh(node, "pc-config status");
        assert_eq!(status, format!("generation 2 is in force on {node}, signed\n"));
    }
    let again = nodes.run("node2", &["pc-config", "push"], "");
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (0, "", ""));
}

/// Pushes an edit from node1, which must change nothing anywhere; gives what was said.
fn refused(nodes: &Nodes, code: i32, text: &str) -> String {
    nodes.edit("node1", TOML, &file(3, text));
    let before = nodes.everything();
    let ended = nodes.run("node1", &["pc-config", "push"], "");
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing was changed on any node\n"), "{}", ended.stderr);
    assert_eq!(nodes.everything(), before, "{}", ended.stderr);
    ended.stderr
}

fn pushed(nodes: &Nodes, from: &str, generation: u64) -> String {
    let ended = nodes.run(from, &["pc-config", "push"], "");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(nodes.in_force(), [generation; 3]);
    ended.stderr
}

fn a_node_that_is_off(nodes: &Nodes) {
    nodes.hub("ip link set port3 down");
    let told = refused(nodes, 75, "# while node3 is off\n");
    assert!(
        told.starts_with("error: node3 cannot be reached: ssh: connect to host 10.0.0.3 port 22: "),
        "{told}"
    );
    nodes.hub("ip link set port3 up");
    pushed(nodes, "node1", 3);
}

fn a_host_that_no_certificate_names(nodes: &Nodes) {
    // Installed anew: another key and nothing of ours.
    nodes.sh(
        "node3",
        "cp -a /etc/ssh /root/ssh; rm /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/*
                       ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
    );
    nodes.start_sshd("node3");
    let told = refused(nodes, 2, "# to a stranger\n");
    assert!(
        told.contains("node3 does not prove that it is node3: ")
            && told.contains("no matching host key type"),
        "{told}"
    );
    // With the certificate of another node, which is genuine.
    nodes.sh(
        "node3",
        "rm -r /etc/ssh; cp -a /root/ssh /etc/ssh; cp -a /etc/personal-cluster/trust/ssh-host-cert.pub /root",
    );
    let other = nodes.sh(
        "node2",
        "cat /etc/ssh/ssh_host_ed25519_key; echo; cat /etc/personal-cluster/trust/ssh-host-cert.pub",
    );
    let (key, certificate) = other.split_once("\n\n").unwrap();
    nodes.edit("node3", "/etc/ssh/ssh_host_ed25519_key", &format!("{key}\n"));
    nodes.edit("node3", "/etc/personal-cluster/trust/ssh-host-cert.pub", certificate);
    nodes.start_sshd("node3");
    let told = refused(nodes, 2, "# to an impostor\n");
    assert!(told.contains("node3 does not prove that it is node3: Host key verification failed."), "{told}");
    nodes.sh(
        "node3",
        "rm -r /etc/ssh; mv /root/ssh /etc/ssh; mv /root/ssh-host-cert.pub /etc/personal-cluster/trust/",
    );
    nodes.start_sshd("node3");
    pushed(nodes, "node1", 4);
}

fn a_newer_file_elsewhere(nodes: &Nodes) {
    nodes.edit("node2", "/root/home.toml", &file(3, "# put on node2 alone\n"));
    nodes.sh("node2", "pc-config put /root/home.toml");
    assert_eq!(nodes.in_force(), [4, 5, 4]);
    let told = refused(nodes, 2, "# an edit of node1\n");
    assert!(told.starts_with("error: node2 has generation 5, this node 4: "), "{told}");
    // As it says; and the edit is not lost.
    let told = pushed(nodes, "node2", 5);
    assert!(
        told.contains("node1: /etc/personal-cluster/cluster.toml was edited there and never put"),
        "{told}"
    );
    assert!(nodes.sh("node1", &format!("cat {TOML}")).ends_with("# put on node2 alone\n"));
    assert!(nodes.sh("node1", &format!("cat {TOML}.edited")).ends_with("# an edit of node1\n"));
    // An older generation, signed and all, is not taken from anybody.
    let old = nodes.sh("node3", "cat /var/lib/personal-cluster/generation.json");
    nodes.edit("node1", TOML, &file(3, "# newer\n"));
    pushed(nodes, "node1", 6);
    let ended = nodes.ssh("node1", &["node3", "pc-config put --signed -"], &old);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("generation 5 is older than 6"), "{}", ended.stderr);
    assert_eq!(nodes.in_force(), [6, 6, 6]);
}

fn a_full_disk_elsewhere(nodes: &Nodes) {
    let state = "/var/lib/personal-cluster";
    let fill = format!(
        "cp -a {state} /root/kept; mount -t tmpfs -o size=64k none {state}; cp -a /root/kept/. {state}
                        cat /dev/zero > {state}/filler 2>/dev/null || true"
    );
    nodes.sh("node3", &fill);
    let told = refused(nodes, 1, "# too much for node3\n");
    assert!(told.starts_with("error: node3: ") && told.contains("No space left on device"), "{told}");
    nodes.sh("node3", &format!("umount {state}"));
    pushed(nodes, "node1", 7);
}

fn keys_that_are_not_open(nodes: &Nodes) {
    nodes.sh("node1", "mv /run/personal-cluster/secrets/ssh-user.key /run/key");
    nodes.edit("node1", TOML, &file(3, "# while locked\n"));
    let ended = nodes.run("node1", &["pc-config", "push"], "");
    assert_eq!(ended.code, 75, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .starts_with("error: this node's secrets are not open yet: /run/personal-cluster/secrets/")
    );
    // A key of nobody's in its place.
    nodes.sh("node1", "ssh-keygen -q -t ed25519 -N '' -f /run/personal-cluster/secrets/ssh-user.key");
    let told = refused(nodes, 2, "# as a stranger\n");
    assert!(
        told.contains("node2 does not let this node in: ") && told.contains("Permission denied"),
        "{told}"
    );
    nodes.sh("node1", "rm /run/personal-cluster/secrets/ssh-user.key.pub; mv /run/key /run/personal-cluster/secrets/ssh-user.key");
    pushed(nodes, "node1", 8);
}

fn only_listed_verbs_pass(nodes: &Nodes) {
    let before = nodes.everything();
    let raw = file(3, "# plain\n");
    for request in
        ["id", "sh", "pc-config put -", "pc-config put --signed -; id", "pc-config push", "pc-trust sign"]
    {
        let ended = nodes.ssh("node2", &["node1", request], &raw);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{request}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: gate: "), "{request}: {}", ended.stderr);
    }
    // A listed verb, and a file that no node signed.
    let ended = nodes.ssh("node2", &["node1", "pc-config put --signed -"], &raw);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("error: stdin: is not signed"), "{}", ended.stderr);
    assert_eq!(nodes.everything(), before);
}
