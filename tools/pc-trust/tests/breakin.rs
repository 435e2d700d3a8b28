//! After a break-in: the runbook's steps (docs/runbooks/nodes.md), as far as directories can stand for machines. What pc-config does
//! with a record of the old CA is in its own tests (push.rs, `a_record_of_another_ca_is_signed_anew`).

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Answer, Lab, chain_holds, output};

const SECRETS: [&str; 4] = ["node.key", "ssh-user.key", "corosync.authkey", "recovery-key"];

fn secrets(lab: &Lab, node: &str) -> BTreeMap<&'static str, Vec<u8>> {
    SECRETS.into_iter().map(|name| (name, fs::read(lab.secret(node, name)).unwrap())).collect()
}

fn pipe(lab: &Lab, node: &str, verb: &str, text: &str) -> Answer {
    let file = lab.directory.path().join("text");
    fs::write(&file, text).unwrap();
    let stdin = fs::File::open(&file).unwrap();
    Answer::of(lab.command(node).arg(verb).stdin(stdin).output().unwrap())
}

/// The runbook's first step.
fn move_away(lab: &Lab, node: &str) {
    let root = lab.root(node);
    fs::rename(root.join("etc/personal-cluster"), root.join("etc/personal-cluster.before")).unwrap();
    let _ = fs::remove_dir_all(root.join("run/personal-cluster/trust"));
}

/// Refused as it stands, with the runbook's second step as the remedy; then that step.
fn left_over(lab: &Lab, node: &str, arguments: &[&str]) {
    let before = lab.tree(node);
    let directory = lab.root(node).join("run/personal-cluster/secrets");
    let told = format!(
        "/node.key is open and kept nowhere: it is of a cluster that this machine left\n  mv {0} {0}.before\n",
        directory.display()
    );
    lab.run(node, arguments).refused(2, &told);
    assert_eq!(before, lab.tree(node));
    fs::rename(&directory, directory.with_extension("before")).unwrap();
}

fn opens(disk: &Path, key: &Path) -> bool {
    let mut command = Command::new("cryptsetup");
    command.args(["open", "--test-passphrase", "--key-file"]).arg(key).arg(disk).stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn nothing_that_was_stolen_is_used_again() {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, init["joins"][0]["token"].as_str().unwrap()).json();
    drop(member);
    let stolen = ["node1", "node2"].map(|node| secrets(&lab, node));
    let envelope = pipe(&lab, "node2", "sign", "generation").stdout;
    assert_eq!(pipe(&lab, "node1", "verify", &envelope).code, Some(0));
    let qemu = |node: &str| fs::read(lab.root(node).join("run/personal-cluster/qemu/node.key")).unwrap();
    assert_eq!(qemu("node1"), stolen[0]["node.key"]);

    move_away(&lab, "node1");
    let file = lab.root("node1").join("etc/personal-cluster.before/cluster.toml");
    left_over(&lab, "node1", &["init", file.to_str().unwrap()]);
    let again = lab.run("node1", &["--json", "init", file.to_str().unwrap()]).json();
    for key in ["ca_sha256", "recovery_key"] {
        assert_ne!(again[key], init[key], "{key}");
    }
    let member = lab.serve("node1");
    // Not yet: it still holds, and believes in, what was stolen.
    let token = again["joins"][0]["token"].as_str().unwrap();
    lab.join("node2", &member.address, token).refused(2, "member of another cluster");
    lab.join("node3", &member.address, init["joins"][1]["token"].as_str().unwrap())
        .refused(2, "another cluster");
    move_away(&lab, "node2");
    left_over(&lab, "node2", &["join", &member.address, token]);
    lab.join("node2", &member.address, token).json();

    for (node, address, stolen) in [("node1", "192.0.2.1", &stolen[0]), ("node2", "192.0.2.2", &stolen[1])] {
        let fresh = secrets(&lab, node);
        for name in SECRETS {
            assert_ne!(fresh[name], stolen[name], "{node}: {name}");
        }
        assert_eq!(qemu(node), fresh["node.key"]);
        chain_holds(&lab, "node1", node, address);
        let status = lab.run(node, &["--json", "status"]).json();
        assert_eq!(status["healthy"], true, "{status}");
        pipe(&lab, node, "verify", &envelope).refused(2, "");
    }
    assert_eq!(secrets(&lab, "node1")["corosync.authkey"], secrets(&lab, "node2")["corosync.authkey"]);
    a_disk_gets_the_new_recovery_key(&lab, "node1", &stolen[0]["recovery-key"]);
}

/// The runbook's own lines, on a file.
fn a_disk_gets_the_new_recovery_key(lab: &Lab, node: &str, stolen: &[u8]) {
    let old = lab.root(node).join("run/personal-cluster/secrets.before/recovery-key");
    let new = lab.secret(node, "recovery-key");
    assert_eq!(fs::read(&old).unwrap(), stolen);
    let disk = lab.directory.path().join("disk");
    fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    let [disk_text, old_text, new_text] = [&disk, &old, &new].map(|path| path.to_str().unwrap());
    let stretching = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let format = ["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", old_text, disk_text];
    output("cryptsetup", &[&format[..], &stretching].concat(), b"");
    assert!(opens(&disk, &old) && !opens(&disk, &new));
    let add = ["luksAddKey", "--key-file", old_text, disk_text, new_text];
    output("cryptsetup", &[&add[..], &stretching].concat(), b"");
    assert!(opens(&disk, &new));
    output("cryptsetup", &["luksRemoveKey", disk_text, old_text], b"");
    assert!(opens(&disk, &new) && !opens(&disk, &old));
}
