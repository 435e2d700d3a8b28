//! A member that has lost a file, or holds one that is of no use: told by path, and got back as the text says.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::path::Path;

use common::{Answer, Lab, chain_holds};

/// node1 and node2, both members.
fn two() -> Lab {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, init["joins"][0]["token"].as_str().unwrap()).json();
    lab
}

/// What status tells, in one text; `healthy` and the exit code go with it.
fn told(lab: &Lab, node: &str) -> String {
    let status = lab.run(node, &["--json", "status", "--exit-code"]);
    let value: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let problems: Vec<&str> =
        value["problems"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let code = if problems.is_empty() { Some(0) } else { Some(3) };
    assert_eq!((status.code, &value["healthy"]), (code, &problems.is_empty().into()), "{status:?}");
    problems.join("\n")
}

/// The remedy as printed: a token for node1 on node2, and the join here.
fn join_again(lab: &Lab) {
    let token = lab.run("node2", &["--json", "token", "node1"]).json();
    let member = lab.serve("node2");
    lab.join("node1", &member.address, token["token"].as_str().unwrap()).json();
    assert_eq!(told(lab, "node1"), "");
    chain_holds(lab, "node2", "node1", "192.0.2.1");
    lab.token("node3");
}

#[test]
fn a_lost_ca_is_told_and_a_join_brings_it_again() {
    let lab = two();
    let whole = |name: &str| fs::read(lab.trust("node1", name)).unwrap();
    let before = [whole("ca.crt"), whole("ca.key.jwe"), whole("ssh-ca.pub")];
    let known_hosts = whole("known_hosts");
    let stranger = Lab::new();
    stranger.init();
    for (name, content) in [
        ("ca.crt", None),
        ("ca.key.jwe", None),
        ("ssh-ca.pub", None),
        ("ca.crt", Some(fs::read(stranger.trust("node1", "ca.crt")).unwrap())),
        ("ca.key.jwe", Some(fs::read(stranger.trust("node1", "ca.key.jwe")).unwrap())),
        ("ca.key.jwe", Some(Vec::new())),
        ("ssh-ca.pub", Some(Vec::new())),
        ("ssh-ca.pub", Some(b"\xff".to_vec())),
    ] {
        let path = lab.trust("node1", name);
        match &content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let shown = path.display().to_string();
        let remedy = "`pc-trust token node1` on node2 or node3, then here the `pc-trust join` that it prints";
        let problems = told(&lab, "node1");
        assert!(problems.contains(&shown) && problems.contains(remedy), "{problems}");
        assert_eq!(lab.run("node1", &["plan", "--exit-code"]).code, Some(3));
        for arguments in [&["plan"][..], &["apply"], &["init", lab.file().to_str().unwrap()]] {
            let answer = lab.run("node1", arguments);
            assert!(answer.stderr.contains(&shown) && answer.stderr.contains(remedy), "{answer:?}");
        }
        assert_eq!(known_hosts, whole("known_hosts"), "what the lost file gave is left");
        lab.run("node1", &["token", "node3"]).refused(2, &shown);
        join_again(&lab);
        assert_eq!(before, [whole("ca.crt"), whole("ca.key.jwe"), whole("ssh-ca.pub")], "{name}");
    }
}

#[test]
fn without_a_cluster_file_it_is_told_as_well() {
    let lab = two();
    fs::remove_file(lab.trust("node1", "ca.crt")).unwrap();
    fs::remove_file(lab.root("node1").join("etc/personal-cluster/cluster.toml")).unwrap();
    assert!(told(&lab, "node1").contains("`pc-trust token node1` on another member"));
}

/// Nobody trusts its CA but itself.
#[test]
fn a_node_that_is_alone_begins_anew_with_its_recovery_key() {
    let lab = Lab::new();
    let alone = common::FILE.split("[[node]]\nname = \"node2\"").next().unwrap();
    fs::write(lab.file(), alone).unwrap();
    lab.init();
    let key = fs::read(lab.secret("node1", "recovery-key")).unwrap();
    fs::remove_file(lab.trust("node1", "ca.crt")).unwrap();
    let problems = told(&lab, "node1");
    let script = problems.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    let file = lab.root("node1").join("etc/personal-cluster/cluster.toml");
    let member = lab.trust("node1", "member.json");
    let expected = [format!("rm {}", member.display()), format!("pc-trust init {}", file.display())];
    assert_eq!(script, expected, "{problems}");
    fs::remove_file(member).unwrap();
    let init = lab.run("node1", &["init", file.to_str().unwrap()]);
    assert_eq!(init.code, Some(0), "{init:?}");
    assert_eq!(told(&lab, "node1"), "");
    assert_eq!(key, fs::read(lab.secret("node1", "recovery-key")).unwrap());
    chain_holds(&lab, "node1", "node1", "192.0.2.1");
}

/// As after a boot: nothing is open. What is kept is what counts.
fn begins_anew(lab: &Lab) -> Answer {
    fs::remove_dir_all(lab.secret("node1", "recovery-key").parent().unwrap()).unwrap();
    let _ = fs::remove_file(lab.trust("node1", "member.json"));
    let init = lab.run("node1", &["init", lab.file().to_str().unwrap()]);
    fs::create_dir_all(lab.secret("node1", "recovery-key").parent().unwrap()).unwrap();
    init
}

#[test]
fn a_sealed_recovery_key_is_not_replaced_by_a_new_one() {
    let lab = Lab::new();
    lab.init();
    let key = fs::read(lab.secret("node1", "recovery-key")).unwrap();
    let init = begins_anew(&lab);
    assert_eq!(
        (init.code, fs::read(lab.secret("node1", "recovery-key")).unwrap()),
        (Some(0), key),
        "{init:?}"
    );
    // What cannot be opened stays.
    let sealed = lab.root("node1").join("etc/personal-cluster/sealed/recovery-key.jwe");
    fs::write(&sealed, "damaged").unwrap();
    let init = begins_anew(&lab);
    assert_ne!(init.code, Some(0), "{init:?}");
    assert_eq!(fs::read(&sealed).unwrap(), b"damaged");
}

/// One whose secrets lie in clear.
fn without_unlock() -> Lab {
    let lab = Lab::new();
    let (unlock, rest) = common::FILE.split_at(common::FILE.find("[[node]]").unwrap());
    write(&lab.file(), &format!("{}{rest}", &unlock[..unlock.find("[unlock]").unwrap()]));
    lab.init();
    lab
}

#[test]
fn a_recovery_key_in_clear_is_not_replaced_by_a_new_one() {
    let lab = without_unlock();
    let clear = lab.root("node1").join("etc/personal-cluster/secrets-clear/recovery-key");
    let key = fs::read(&clear).unwrap();
    fs::write(&clear, "cut").unwrap();
    let init = begins_anew(&lab);
    assert_eq!((init.code, fs::read(&clear).unwrap()), (Some(2), b"cut".to_vec()), "{init:?}");
    fs::write(&clear, &key).unwrap();
    let init = begins_anew(&lab);
    assert_eq!((init.code, fs::read(&clear).unwrap()), (Some(0), key), "{init:?}");
}

#[test]
fn certificates_that_cannot_be_read_are_issued_again() {
    let lab = Lab::new();
    lab.init();
    for (name, content) in
        [("node.crt", Some(&b"\xff"[..])), ("node.crt", None), ("ssh-user-cert.pub", Some(b""))]
    {
        let path = lab.trust("node1", name);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let problems = told(&lab, "node1");
        assert!(problems.contains("to do: renew this node's certificates"), "{problems}");
        assert_eq!(problems.contains(path.to_str().unwrap()), name == "node.crt", "{problems}");
        let apply = lab.run("node1", &["apply"]);
        assert_eq!(apply.code, Some(0), "{apply:?}");
        assert_eq!(told(&lab, "node1"), "");
        chain_holds(&lab, "node1", "node1", "192.0.2.1");
    }
}

#[test]
fn an_open_secret_that_is_cut_short_is_opened_again() {
    let lab = Lab::new();
    lab.init();
    for name in ["node.key", "ssh-user.key", "corosync.authkey", "recovery-key"] {
        let path = lab.secret("node1", name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, "").unwrap();
        let problems = told(&lab, "node1");
        assert!(
            problems.contains(path.to_str().unwrap()) && problems.contains("`pc-trust apply`"),
            "{problems}"
        );
        let apply = lab.run("node1", &["apply"]);
        assert_eq!(apply.code, Some(0), "{apply:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(told(&lab, "node1"), "");
    }
}

/// Neither open nor kept: both copies away, and a join makes a new key.
#[test]
fn a_key_that_is_nowhere_is_made_anew_by_a_join() {
    let lab = two();
    let path = lab.secret("node1", "node.key");
    fs::write(&path, "").unwrap();
    fs::remove_file(lab.root("node1").join("etc/personal-cluster/sealed/node.key.jwe")).unwrap();
    let problems = told(&lab, "node1");
    assert!(problems.contains(&format!("`rm {}`; `pc-trust token node1` on", path.display())), "{problems}");
    fs::remove_file(&path).unwrap();
    join_again(&lab);
}

#[test]
fn a_member_file_that_cannot_be_read_is_told_with_its_remedy() {
    let lab = two();
    let path = lab.trust("node1", "member.json");
    fs::write(&path, "").unwrap();
    let remedy = format!("rm {}", path.display());
    assert!(told(&lab, "node1").contains(&remedy));
    for arguments in [&["plan"][..], &["apply"], &["token", "node3"], &["init", lab.file().to_str().unwrap()]]
    {
        lab.run("node1", arguments).refused(2, &remedy);
    }
    fs::remove_file(path).unwrap();
    join_again(&lab);
}

#[test]
fn a_member_makes_no_token_for_itself() {
    let lab = two();
    lab.run("node1", &["token", "node1"]).refused(2, "node1 is this node, and a member\n  ");
    assert_eq!(lab.run("node2", &["token", "node1"]).code, Some(0));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

#[test]
fn a_clear_copy_that_is_cut_short_is_put_back_as_told() {
    let lab = without_unlock();
    let clear = lab.root("node1").join("etc/personal-cluster/secrets-clear/node.key");
    write(&clear, "");
    let problems = told(&lab, "node1");
    let command = problems.split('`').nth(1).unwrap();
    assert!(command.starts_with("install -m 600 "), "{problems}");
    let done = Answer::of(std::process::Command::new("sh").args(["-c", command]).output().unwrap());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(told(&lab, "node1"), "");
    // The open copy: out of the clear one.
    write(&lab.secret("node1", "node.key"), "");
    assert_eq!(lab.run("node1", &["apply"]).code, Some(0));
    assert_eq!(told(&lab, "node1"), "");
}
