//! Two processes joined over loopback, end to end.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Lab, chain_holds, output};

const LINKS: [(&str, &str); 13] = [
    ("usr/lib/ssl/glusterfs.pem", "/etc/personal-cluster/trust/node.crt"),
    ("usr/lib/ssl/glusterfs.key", "/run/personal-cluster/secrets/node.key"),
    ("usr/lib/ssl/glusterfs.ca", "/etc/personal-cluster/trust/ca.crt"),
    ("etc/pki/CA/cacert.pem", "/etc/personal-cluster/trust/ca.crt"),
    ("etc/pki/libvirt/servercert.pem", "/etc/personal-cluster/trust/node.crt"),
    ("etc/pki/libvirt/private/serverkey.pem", "/run/personal-cluster/secrets/node.key"),
    ("etc/pki/libvirt/clientcert.pem", "/etc/personal-cluster/trust/node.crt"),
    ("etc/pki/libvirt/private/clientkey.pem", "/run/personal-cluster/secrets/node.key"),
    ("etc/pki/qemu/ca-cert.pem", "/etc/personal-cluster/trust/ca.crt"),
    ("etc/pki/qemu/server-cert.pem", "/etc/personal-cluster/trust/node.crt"),
    ("etc/pki/qemu/server-key.pem", "/run/personal-cluster/qemu/node.key"),
    ("etc/pki/qemu/client-cert.pem", "/etc/personal-cluster/trust/node.crt"),
    ("etc/pki/qemu/client-key.pem", "/run/personal-cluster/qemu/node.key"),
];

fn is_member(lab: &Lab, node: &str, address: &str) {
    let status = lab.run(node, &["--json", "status"]).json();
    assert_eq!(status["problems"], serde_json::json!([]), "{node}");
    assert_eq!(status["healthy"], true);
    chain_holds(lab, "node1", node, address);
    let root = lab.root(node);
    for (path, target) in LINKS {
        assert_eq!(fs::read_link(root.join(path)).unwrap(), Path::new(target), "{path}");
    }
    assert!(root.join("var/lib/glusterd/secure-access").exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for secret in ["node.key", "ssh-user.key", "corosync.authkey", "recovery-key"] {
        assert_eq!(mode(&lab.secret(node, secret)), 0o600);
        assert!(root.join(format!("etc/personal-cluster/sealed/{secret}.jwe")).exists());
    }
    assert_eq!(mode(&root.join("run/personal-cluster/secrets")), 0o700);
    assert_eq!(mode(&root.join("run/personal-cluster/qemu")), 0o750);
    assert_eq!(mode(&root.join("run/personal-cluster/qemu/node.key")), 0o640);
    assert!(!root.join("etc/personal-cluster/secrets-clear").exists());
    let host = lab.trust(node, "ssh-host-cert.pub");
    let shown = output("ssh-keygen", &["-L", "-f", host.to_str().unwrap()], b"");
    assert!(shown.contains("host certificate") && shown.contains(&format!("{node}.home.arpa")), "{shown}");
}

/// Swap of a machine: /proc/swaps, and for each device what dm-crypt's UUID is, if it is one.
fn swap(lab: &Lab, node: &str, devices: &[(&str, &str)]) {
    let put = |path: String, text: &str| {
        let path = lab.root(node).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let mut table = String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    for (device, uuid) in devices {
        table.extend(["/dev/", device, "                               partition\t999420\t\t0\t\t-2\n"]);
        put(format!("sys/class/block/{device}/dm/uuid"), uuid);
    }
    put("proc/swaps".into(), &table);
}

#[test]
fn swap_in_clear_is_named_on_the_first_evening() {
    let lab = Lab::new();
    swap(&lab, "node1", &[("sda3", ""), ("dm-1", "CRYPT-PLAIN-swap\n"), ("zram0", "")]);
    let init = lab.run("node1", &["--json", "init", lab.file().to_str().unwrap()]);
    let warning = "warning: swap /dev/sda3 is not encrypted: keys and the memory of guests end up there, where a thief \
                   reads them\n  swapoff /dev/sda3, and put dm-crypt with a random key below it (crypttab(5), option swap)\n";
    assert!(init.stderr.starts_with(warning), "{init:?}");
    assert_eq!(init.stderr.matches("swap").count(), warning.matches("swap").count(), "{init:?}");
    let joins = &init.json()["joins"];
    let token = |index: usize| joins[index]["token"].as_str().unwrap().to_string();
    let member = lab.serve("node1");
    swap(&lab, "node2", &[("vda5", "LVM-x\n")]);
    let join = lab.join("node2", &member.address, &token(0));
    assert!(
        join.code == Some(0) && join.stderr.contains("warning: swap /dev/vda5 is not encrypted"),
        "{join:?}"
    );
    swap(&lab, "node3", &[("dm-0", "CRYPT-LUKS2-0e3c-swap\n"), ("zram0", "")]);
    let join = lab.join("node3", &member.address, &token(1));
    assert!(join.code == Some(0) && !join.stderr.contains("swap"), "{join:?}");
}

#[test]
fn three_nodes() {
    let lab = Lab::new();
    let init = lab.init();
    assert_eq!(init["changed"], true);
    assert_eq!(init["recovery_key"].as_str().unwrap().len(), 71);
    assert_eq!(fs::read(lab.secret("node1", "corosync.authkey")).unwrap().len(), 256);
    is_member(&lab, "node1", "192.0.2.1");
    let member = lab.serve("node1");
    for (join, address) in [(0, "192.0.2.2"), (1, "192.0.2.3")] {
        let line = &init["joins"][join];
        let (node, token) = (line["node"].as_str().unwrap(), line["token"].as_str().unwrap());
        assert_eq!(line["command"], format!("pc-trust join 192.0.2.1 {token}"));
        let joined = lab.join(node, &member.address, token).json();
        assert_eq!(joined["ca_sha256"], init["ca_sha256"]);
        is_member(&lab, node, address);
        for same in ["corosync.authkey", "recovery-key"] {
            assert_eq!(
                fs::read(lab.secret("node1", same)).unwrap(),
                fs::read(lab.secret(node, same)).unwrap()
            );
        }
        for own in ["node.key", "ssh-user.key"] {
            assert_ne!(fs::read(lab.secret("node1", own)).unwrap(), fs::read(lab.secret(node, own)).unwrap());
        }
        let (first, copy) = (lab.trust("node1", "ca.key.jwe"), lab.trust(node, "ca.key.jwe"));
        assert_eq!(fs::read(first).unwrap(), fs::read(copy).unwrap());
        let file = lab.root(node).join("etc/personal-cluster/cluster.toml");
        assert_eq!(fs::read_to_string(file).unwrap(), common::FILE);
    }
    let log = member.end();
    assert!(log.contains("node2 joined") && log.contains("node3 joined"), "{log}");
    let calls = fs::read_to_string(lab.fake("calls")).unwrap();
    let recovery = init["recovery_key"].as_str().unwrap();
    assert!(!calls.contains(recovery) && !calls.contains("BEGIN"), "no secret in an argv: {calls}");
}

/// The largest file that the loader takes, of bytes that grow most within strings, and its signed generation.
#[test]
fn the_largest_cluster_file_is_joined() {
    let lab = Lab::new();
    let file = format!("{}# {}", common::FILE, "\"".repeat((1 << 20) - common::FILE.len() - 2));
    assert_eq!(file.len(), 1 << 20);
    fs::write(lab.file(), &file).unwrap();
    let token = lab.init()["joins"][0]["token"].as_str().unwrap().to_string();
    let content = serde_json::json!({ "file": file }).to_string();
    let generation = serde_json::json!({ "content": content }).to_string();
    assert!(generation.len() > 4_000_000);
    fs::write(lab.root("node1").join("var/lib/personal-cluster/generation.json"), &generation).unwrap();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, &token).json();
    let put = fs::read_to_string(lab.root("node2").join("etc/personal-cluster/cluster.toml")).unwrap();
    assert!(put == generation, "pc-config is given the generation, whole");
}

#[test]
fn tang_down_leaves_the_machine_as_it_was() {
    let lab = Lab::new();
    let before = lab.tree("node1");
    fs::write(lab.fake("tang-down"), "").unwrap();
    let file = lab.file();
    lab.run("node1", &["init", file.to_str().unwrap()]).refused(75, "asking http://192.0.2.9: timed out");
    assert_eq!(before, lab.tree("node1"));
    fs::remove_file(lab.fake("tang-down")).unwrap();
    let init = lab.init();
    let token = init["joins"][0]["token"].as_str().unwrap();
    let member = lab.serve("node1");
    let before = lab.tree("node2");
    fs::write(lab.fake("tang-down"), "").unwrap();
    lab.join("node2", &member.address, token).refused(75, "timed out");
    let mut after = lab.tree("node2");
    after.retain(|path, _| !path.starts_with(lab.root("node2").join("run")));
    assert_eq!(before, after);
    fs::remove_file(lab.fake("tang-down")).unwrap();
    // The token was not used up.
    lab.join("node2", &member.address, token).json();
    is_member(&lab, "node2", "192.0.2.2");
}

#[test]
fn the_first_node_is_gone_and_another_signs() {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, init["joins"][0]["token"].as_str().unwrap()).json();
    drop(member);
    let token = lab.run("node2", &["--json", "token", "node3"]).json()["token"].as_str().unwrap().to_string();
    let member = lab.serve("node2");
    lab.join("node3", &member.address, &token).json();
    is_member(&lab, "node3", "192.0.2.3");
    member.end();
}

#[test]
fn joining_again_takes_a_new_token_and_keeps_the_key() {
    let lab = Lab::new();
    let init = lab.init();
    let token = init["joins"][0]["token"].as_str().unwrap();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, token).json();
    lab.join("node2", &member.address, token).refused(2, "wrong, used, or expired");
    let key = fs::read(lab.secret("node2", "node.key")).unwrap();
    let certificate = fs::read(lab.trust("node2", "node.crt")).unwrap();
    lab.join("node2", &member.address, &lab.token("node2")).json();
    assert_eq!(key, fs::read(lab.secret("node2", "node.key")).unwrap());
    assert_ne!(certificate, fs::read(lab.trust("node2", "node.crt")).unwrap());
    is_member(&lab, "node2", "192.0.2.2");
}

#[test]
fn tokens_of_another_node_or_cluster_do_not_fit() {
    let lab = Lab::new();
    let init = lab.init();
    let (for2, for3) =
        (init["joins"][0]["token"].as_str().unwrap(), init["joins"][1]["token"].as_str().unwrap());
    let mut member = lab.serve("node1");
    lab.join("node2", &member.address, for3).refused(2, "wrong, used, or expired");
    let other = Lab::new();
    let stranger = other.init()["joins"][0]["token"].as_str().unwrap().to_string();
    lab.join("node2", &member.address, &stranger).refused(2, "the token was made by another cluster");
    lab.run("node2", &["join", &member.address, "abcd"]).refused(2, "13 groups of 4");
    lab.join("node2", &member.address, for2).json();
    assert_eq!(lab.run("node2", &["init", other.file().to_str().unwrap()]).code, Some(0), "a member already");
    // A member of one cluster does not wander off into another.
    let elsewhere = other.serve("node1");
    other.token("node2");
    lab.join("node2", &elsewhere.address, &other.token("node2"))
        .refused(2, "member of another cluster, home");
    assert!(member.running(), "node3's token is still good");
    // Tokens that pin the right CA and know another secret.
    let five = "wrong, used, or expired";
    for _ in 0..5 {
        lab.join("node3", &member.address, &lab.token("node2")).refused(2, five);
    }
    lab.join("node3", &member.address, for3).refused(2, five);
    assert!(member.stop().contains("node3: 5 wrong tokens"));
}

#[test]
fn unknown_nodes_get_neither_token_nor_certificate() {
    let lab = Lab::new();
    lab.run("node1", &["token", "node2"]).refused(2, "belongs to no cluster");
    lab.run("node1", &["plan"]).refused(2, "belongs to no cluster");
    lab.init();
    lab.run("node1", &["token", "node9"])
        .refused(2, "the file has node1, node2, node3\n  name one of them; a file with a new node ");
    lab.run("node1", &["token", "../../x"]).refused(2, "no [[node]] is called");
    let fresh = Lab::new();
    let file = fresh.file();
    fresh.machine("node9");
    fresh.run("node9", &["init", file.to_str().unwrap()]).refused(2, "no [[node]] is called \"node9\"");
    fs::write(&file, format!("{}# BAD\n", common::FILE)).unwrap();
    fresh.run("node1", &["init", file.to_str().unwrap()]).refused(2, "cluster.toml:1:1: BAD");
    assert!(!fresh.root("node1").join("etc/personal-cluster").exists());
}
